"""Model files, read back: those of Keras 3, and `.h5` files of Keras 2."""

from keras_gcp.reading.model_files import read_model

__all__ = ["read_model"]
