"""What differs between TensorFlow, JAX and PyTorch: derivatives and compilation.

Nothing outside this package imports a framework for mathematics. The framework is the one that
Keras runs on (`keras.config.backend()`).
"""

from keras_gcp.backend.dispatch import (
    compiled,
    forget_gradients,
    forget_shapes,
    random_state,
    runs_eagerly,
    set_random_state,
    vjp,
    without_gradients,
)
from keras_gcp.backend.inference import (
    has_loss,
    loss_gradients,
    predict,
    sample_loss,
    worth_compiling,
)

__all__ = [
    "compiled",
    "forget_gradients",
    "forget_shapes",
    "has_loss",
    "loss_gradients",
    "predict",
    "random_state",
    "runs_eagerly",
    "sample_loss",
    "set_random_state",
    "vjp",
    "without_gradients",
    "worth_compiling",
]
