"""How good a model is with fewer channels: masked group by group, cut while training, or searched.

The functions here train, cut and measure; what they return is plain data in
`keras_gcp.evaluation.frontier_result` and `keras_gcp.evaluation.sensitivity_result`.
"""

from keras_gcp.evaluation.frontier import frontier
from keras_gcp.evaluation.sensitivity import sensitivity
from keras_gcp.evaluation.smallest import smallest
from keras_gcp.evaluation.smallest_result import Smallest, Trial

__all__ = ["Smallest", "Trial", "frontier", "sensitivity", "smallest"]
