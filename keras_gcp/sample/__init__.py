"""The sample: what a user's examples mean, and which of them are held for scoring and proof."""

from keras_gcp.sample.draw import (
    SAMPLE_SIZE,
    DrawnSample,
    checked_size,
    draw_sample,
    is_data_set,
    sample_of,
)

__all__ = [
    "SAMPLE_SIZE",
    "DrawnSample",
    "checked_size",
    "draw_sample",
    "is_data_set",
    "sample_of",
]
