"""Peak memory of activations, in the order in which the network is executed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.cost_model import Products
from keras_gcp.costs.counting import Axes
from keras_gcp.graph import Tensor
from keras_gcp.resources.cost_functions import Peak
from keras_gcp.resources.inference_steps import lifetimes, steps_of


@dataclass(frozen=True)
class PeakActivations:
    """The largest sum of bytes of the tensors that one example needs at the same time.

    At a step of the execution order these are its inputs, its outputs, and all that later steps
    still read; steps are those of `keras_gcp.resources.inference_steps`. No operation works in
    place, and buffers that a kernel needs for itself are not counted.

    Attributes:
        name: Its name in a budget.
        float_bytes: Bytes of a floating-point number: 4, or 1 in an int8 file. Mixed precision
            counts as 4, as it is exported in 32 bits.
    """

    name: str
    float_bytes: int

    def function(self, channels: ChannelMap, axes: Axes) -> Peak:
        """The peak as a function of the sizes of the axes."""
        steps = steps_of(channels)
        tensors, lives = lifetimes(steps, channels)
        terms = []
        for x in tensors:
            factor, varying = axes.of_tensor(channels.tensors[x.index], x.shape)
            terms.append((factor * self._bytes(x), varying))
        pairs = [(i, t) for t, (a, b) in enumerate(lives) for i in range(a, b + 1)]
        return Peak(
            tensors=Products.of(terms),
            steps=np.array([i for i, _ in pairs], np.int64),
            live=np.array([t for _, t in pairs], np.int64),
            count=len(steps),
            names=tuple(step.call.path for step in steps),
        )

    def _bytes(self, x: Tensor) -> int:
        if "float" in x.dtype:
            return self.float_bytes
        return 1 if x.dtype == "bool" else np.dtype(x.dtype).itemsize
