"""How good a model is with fewer channels: masked group by group, cut while training, or searched;
and how any models and files compare.

The functions here train, cut and measure; what they return is plain data in the files beside them
that end in `_result`.
"""

from keras_gcp.evaluation.comparison import compare
from keras_gcp.evaluation.frontier import frontier
from keras_gcp.evaluation.sensitivity import sensitivity
from keras_gcp.evaluation.smallest import smallest
from keras_gcp.evaluation.smallest_result import Smallest, Trial

__all__ = ["Smallest", "Trial", "compare", "frontier", "sensitivity", "smallest"]
