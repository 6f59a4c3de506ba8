"""What stands between the last function of a classifier and its output, by class name. Pure data.

Not the rules of relevance: what a head is follows from its output alone, for every criterion.
A test holds these names beside those rules.
"""

from __future__ import annotations

from keras_gcp.channels.declared import declaration_of
from keras_gcp.graph import Call

_MOVING = frozenset(
    "AdaptiveAveragePool AdaptiveAveragePooling1D AdaptiveAveragePooling2D "
    "AdaptiveAveragePooling3D AdaptiveMaxPool AdaptiveMaxPooling1D AdaptiveMaxPooling2D "
    "AdaptiveMaxPooling3D Amax Amin AveragePool AveragePooling1D AveragePooling2D "
    "AveragePooling3D BroadcastTo Cast CenterCrop CropImages Cropping1D Cropping2D Cropping3D "
    "DepthToSpace Dropout ExamplesAsSteps ExpandDims Flatten Flip GetItem GlobalAveragePooling1D "
    "GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D "
    "GlobalMaxPooling3D Glu Identity Logsumexp Max MaxPool MaxPooling1D MaxPooling2D MaxPooling3D "
    "Mean Min Moveaxis Pad PadImages Permute Repeat RepeatVector Reshape Resize Resizing Roll "
    "SpaceToDepth Split Squeeze StepsAsExamples Sum Swapaxes Take Tile Transpose Unstack "
    "UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D".split()
)

_FUNCTIONS = frozenset(
    "Abs Absolute ActivityRegularization AlphaDropout Arccos Arccosh Arcsin Arcsinh Arctan Arctanh "
    "Cbrt Ceil Celu Clip ConvertToTensor Copy Cos Cosh Deg2rad DropPath ELU Elu Erf Erfc Erfinv "
    "Exp Exp2 Expm1 Fabs Floor GaussianDropout GaussianNoise Gelu GroupNormalization "
    "HGNetV2LearnableAffineBlock HardShrink HardSilu HardTanh LayerNormalization LayerScale "
    "LayerScale2d LeakyReLU LeakyRelu Log Log10 Log1p Log2 LogSigmoid Masking NanToNum Negative "
    "Normalization Normalize PReLU RMSNormalization Rad2deg RandomBrightness RandomContrast "
    "RandomFlip RandomRotation RandomTranslation RandomZoom ReLU Relu Relu6 RmsNorm2d Round "
    "SaturateCast Selu Sign Silu Sin Sinc Sinh SoftShrink Softplus Softsign SparsePlus "
    "SparseSigmoid SpatialDropout1D SpatialDropout2D SpatialDropout3D Sqrt Square Squareplus "
    "StochasticDepth StopGradient Tan Tanh TanhShrink Threshold Trunc UnitNormalization".split()
)

# With a constant as the other operand; with a second tensor it is not a function of one.
_FUNCTIONS_WITH_CONSTANT = frozenset(
    "Add Divide DivideNoNan Fmax Fmin Maximum Minimum Multiply Power Subtract TrueDivide".split()
)


def moves_values(call: Call) -> bool:
    """Whether a call only moves, selects or averages values, and so leaves what they mean."""
    return type(call.operation).__name__ in _MOVING


def is_function(call: Call) -> bool:
    """Whether a call computes each value from another one, by a function without weights."""
    name = type(call.operation).__name__
    if name in _FUNCTIONS_WITH_CONSTANT:
        return len(call.inputs) == 1
    return name in _FUNCTIONS or declaration_of(call.operation) is not None
