"""Examples out of files: an `.npz`, a folder of images, or a data set of TensorFlow Datasets."""

from keras_gcp.cli.data.examples import Examples, Part
from keras_gcp.cli.data.source import read_data

__all__ = ["Examples", "Part", "read_data"]
