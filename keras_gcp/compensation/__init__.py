"""Cuts that do not hurt: what removed channels did is given to those that stay.

- Constants (what a removed channel adds whatever the image is) go into the bias behind it, or
  into the mean of the normalization behind.
- Kernels that read removed channels are refitted by least squares on the channels that stay.
- Means and variances of normalizations follow the change of their inputs.
"""

from keras_gcp.compensation.paired_pass import compensated
from keras_gcp.compensation.settings import AUTO, NO_COMPENSATION, Compensation, parse

__all__ = ["AUTO", "NO_COMPENSATION", "Compensation", "compensated", "parse"]
