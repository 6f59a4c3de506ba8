"""How good a model is with fewer channels: masked group by group, cut while training, or searched.

The functions here train, cut and measure; what they return is plain data in `keras_gcp.frontiers`
and `keras_gcp.sensitivities`.
"""

from keras_gcp.evaluation.measuring import sensitivity
from keras_gcp.evaluation.searching import smallest
from keras_gcp.evaluation.training import frontier
from keras_gcp.evaluation.trials import Smallest, Trial

__all__ = ["Smallest", "Trial", "frontier", "sensitivity", "smallest"]
