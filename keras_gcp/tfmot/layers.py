"""What tfmot and the way to it know: tables of layers, operations and activations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BRIDGED = frozenset(
    [
        *"Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose".split(),
        *"DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Dense Embedding".split(),
        *"BatchNormalization LayerNormalization Activation ReLU LeakyReLU ELU PReLU".split(),
        *"Softmax Add Subtract Multiply Average Maximum Minimum Concatenate".split(),
        *"Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout".split(),
        *"AlphaDropout GaussianNoise ActivityRegularization Identity Rescaling".split(),
        *"Flatten Reshape Permute RepeatVector".split(),
        *(
            f"{kind}{rank}D"
            for kind in (
                *"ZeroPadding Cropping UpSampling MaxPooling AveragePooling".split(),
                *"GlobalMaxPooling GlobalAveragePooling".split(),
            )
            for rank in (1, 2, 3)
        ),
    ]
)
"""Layers of Keras 3 that tf_keras has, too, by the same name and with the same meaning."""

RENAMED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"LeakyReLU": MappingProxyType({"negative_slope": "alpha"})}
)
"""Settings that bear another name in tf_keras."""

ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in (
                *"linear relu relu6 sigmoid tanh softmax elu selu softplus softsign".split(),
                *"exponential gelu mish".split(),
            )
        },
        "silu": "swish",
    }
)
"""Activations of both, and their names in tf_keras. `hard_sigmoid` means another function there."""

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in "Add Subtract Multiply Maximum Minimum Softmax".split()},
        "Concatenate": "Concatenate",
        "Relu": "ReLU",
        "Relu6": "ReLU",
        "Sigmoid": "Activation",
        "Tanh": "Activation",
        "Silu": "Activation",
    }
)
"""Operations of `keras.ops`, and the layers that stand for them."""

SETTINGS_OF_OPERATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"Softmax": ("axis",), "Concatenate": ("axis",)}
)
FIXED_SETTINGS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "Relu6": {"max_value": 6.0},
        "Sigmoid": {"activation": "sigmoid"},
        "Tanh": {"activation": "tanh"},
        "Silu": {"activation": "swish"},
    }
)

SPARSIFIED: Mapping[str, str] = MappingProxyType(
    {
        **{name: "kernel" for name in "Conv1D Conv2D Conv3D Conv2DTranspose Dense".split()},
        "Conv3DTranspose": "kernel",
        "SeparableConv1D": "pointwise_kernel",
        "SeparableConv2D": "pointwise_kernel",
        "Embedding": "embeddings",
    }
)
"""Layers of which tfmot sets weights to zero, and which; depthwise kernels are not among them."""

SPARSIFIED_2_BY_4: Mapping[str, str] = MappingProxyType({"Conv2D": "kernel", "Dense": "kernel"})
"""The same for two zeros in four: tfmot counts along the axis of input channels of these."""

CLUSTERED: Mapping[str, str] = MappingProxyType({**SPARSIFIED, "Conv1DTranspose": "kernel"})
"""Layers of which tfmot shares weights, and which."""

QUANTIZED = frozenset(
    [
        *"Conv2D DepthwiseConv2D Conv2DTranspose Dense ReLU LeakyReLU Softmax Activation".split(),
        *"Add Concatenate Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D".split(),
        *"ActivityRegularization Flatten Permute Reshape UpSampling2D MaxPooling2D".split(),
        *"AveragePooling1D AveragePooling2D ZeroPadding1D ZeroPadding2D".split(),
        *"Cropping1D Cropping2D Cropping3D".split(),
        *(f"Global{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3)),
    ]
)
"""Layers for which tfmot knows what a device rounds; batch normalization see `NORMALIZED`."""

NORMALIZED = frozenset({"Conv2D", "DepthwiseConv2D", "Dense"})
"""Layers that batch normalization may follow there: a device computes both as one."""

QUANTIZED_ACTIVATIONS = frozenset("linear relu sigmoid tanh softmax gelu swish".split())
"""By their names in tf_keras."""
