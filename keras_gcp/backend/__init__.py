"""What differs between TensorFlow, JAX and PyTorch: derivatives and compilation.

Nothing outside this package imports a framework for mathematics. The framework is the one that
Keras runs on (`keras.config.backend()`).
"""

from keras_gcp.backend.dispatch import compiled, forget_gradients, vjp, without_gradients
from keras_gcp.backend.inference import COMPILE_FROM, has_loss, loss_gradients, predict, sample_loss

__all__ = [
    "COMPILE_FROM",
    "compiled",
    "forget_gradients",
    "has_loss",
    "loss_gradients",
    "predict",
    "sample_loss",
    "vjp",
    "without_gradients",
]
