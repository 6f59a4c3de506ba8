"""Resources that need more than counting weights: bytes of a file, memory, milliseconds."""

from keras_gcp.resources.calibration import Calibrated, calibrated
from keras_gcp.resources.registry import counted, of_budget, require_environment

__all__ = ["Calibrated", "counted", "of_budget", "require_environment", "calibrated"]
