"""Reports on a pruned model, from plain numbers and names: text, pictures, one HTML page."""

from keras_gcp.formatting import table
from keras_gcp.reporting.html import write_report
from keras_gcp.reporting.plots import (
    files_chart,
    training_curves,
    width_bars,
)

__all__ = [
    "files_chart",
    "table",
    "training_curves",
    "width_bars",
    "write_report",
]
