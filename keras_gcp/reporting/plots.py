"""All pictures of a report."""

from keras_gcp.reporting.curves import training_curves
from keras_gcp.reporting.figures import PlottingUnavailable
from keras_gcp.reporting.files import files_chart
from keras_gcp.reporting.widths import width_bars

__all__ = [
    "PlottingUnavailable",
    "files_chart",
    "training_curves",
    "width_bars",
]
