"""Cuts that do not hurt: what removed channels did is given to those that stay.

- Constants (what a removed channel adds for every image) go into the bias of the layer that read
  it, or into the mean of the normalization after that.
- Kernels that read removed channels are refitted by least squares on the channels that stay.
- Means and variances of normalizations follow the change of their inputs.
"""

from keras_gcp.compensation.noise import free_to_choose, makes_up_for_examples
from keras_gcp.compensation.paired_pass import compensated
from keras_gcp.compensation.settings import (
    AUTO,
    METHODS,
    NO_COMPENSATION,
    Compensation,
    is_auto,
    parse,
)

__all__ = [
    "AUTO",
    "METHODS",
    "NO_COMPENSATION",
    "Compensation",
    "compensated",
    "free_to_choose",
    "is_auto",
    "makes_up_for_examples",
    "parse",
]
