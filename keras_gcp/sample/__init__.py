"""The sample: what a user's examples mean, and which of them are held for scoring and proof."""

from keras_gcp.sample.draw import DrawnSample, classes_of, draw_sample, is_data_set, sample_of
from keras_gcp.sample.request import SAMPLE_SIZE, Sample, checked_size

__all__ = [
    "SAMPLE_SIZE",
    "DrawnSample",
    "Sample",
    "checked_size",
    "classes_of",
    "draw_sample",
    "is_data_set",
    "sample_of",
]
