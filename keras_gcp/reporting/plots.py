"""All pictures of a report."""

from keras_gcp.reporting.file_chart import files_chart
from keras_gcp.reporting.training_chart import training_curves
from keras_gcp.reporting.width_chart import width_bars

__all__ = [
    "files_chart",
    "training_curves",
    "width_bars",
]
