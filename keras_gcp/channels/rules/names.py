"""Names of the operations of `keras.ops` that treat every element by itself."""

FUNCTIONS = (
    "Abs Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cast Cbrt Ceil Celu Clip "
    "ConvertToTensor Copy Cos Cosh Deg2rad Elu Erf Erfc Erfinv Exp Exp2 Expm1 Fabs Floor Gelu "
    "HardShrink HardSigmoid HardSilu HardTanh Isfinite Isinf Isnan LeakyRelu Log Log10 Log1p "
    "Log2 LogSigmoid LogicalNot NanToNum Negative OnesLike Rad2deg ReLU Reciprocal Relu Relu6 "
    "Round Rsqrt SaturateCast Selu Sigmoid Sign Silu Sin Sinc Sinh SoftShrink Softplus "
    "Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus StopGradient Tan Tanh "
    "TanhShrink Threshold Trunc ZerosLike"
).split()
"""Functions of one number: activations, arithmetic, tests, changes of type."""

OPERATORS = (
    "Add Arctan2 BitwiseAnd BitwiseOr BitwiseXor Divide DivideNoNan Equal FloorDivide Fmax "
    "Fmin Fmod Greater GreaterEqual Heaviside Hypot Less LessEqual Logaddexp Logaddexp2 "
    "LogicalAnd LogicalOr LogicalXor Maximum Minimum Mod Multiply NotEqual Power Subtract "
    "TrueDivide Where"
).split()
"""Functions of two or three numbers."""
