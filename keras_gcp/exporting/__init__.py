"""Files of a model that load without keras_gcp, each proved equal to it, and their latency."""

from keras_gcp.exporting.exporter import export
from keras_gcp.exporting.formats import FORMATS
from keras_gcp.exporting.records import ExportedFile, ExportedFiles
from keras_gcp.exporting.timing import Latency, LatencyComparison, compare_latency, latency

__all__ = [
    "FORMATS",
    "ExportedFile",
    "ExportedFiles",
    "Latency",
    "LatencyComparison",
    "compare_latency",
    "export",
    "latency",
]
