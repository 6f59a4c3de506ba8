"""From a task, as it was observed, to the parameters of all gates."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import initializers, layers, ops

from keras_gcp.gates.beta_bernoulli import inverse_softplus, parameters_at
from keras_gcp.methods.stamp.set_encoder import SetEncoder

_EMBEDDING = 8
"""Learned numbers for each channel: what it is worth for any task."""


class MaskNetwork(layers.Layer):
    """The set encoder, and a head that all channels share.

    The head reads a channel's statistics, its embedding and the vector of the set, and returns what
    the channel's gate has as its two weights. It computes in float32, whatever the policy is: the
    divergence of gates needs it.

    Args:
        channels: Number of gated channels.
        width: Of the vector of a set.
        heads: Of the attention.
        hidden: Width of the head's layer between.
        initial: The expected chance of every channel at first.
    """

    def __init__(
        self, channels: int, width: int, heads: int, hidden: int, initial: float, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.channels, self.initial, self.width = channels, initial, width
        self.encoder = SetEncoder(width, heads, dtype="float32", name="encoder")
        self.hidden = layers.Dense(hidden, activation="relu", dtype="float32", name="hidden")
        at_first = np.array([inverse_softplus(one) for one in parameters_at(initial)])
        self.shape_parameters = layers.Dense(
            2,
            kernel_initializer=initializers.RandomNormal(stddev=0.01),
            bias_initializer=lambda shape, dtype=None: ops.cast(at_first, dtype),
            dtype="float32",
            name="parameters",
        )

    def build(self, examples_shape: Any, channels_shape: Any) -> None:
        self.encoder.build(examples_shape)
        self.embedding = self.add_weight(
            (self.channels, _EMBEDDING),
            initializer=initializers.RandomNormal(stddev=0.5),
            name="embedding",
        )
        self.hidden.build((None, channels_shape[-1] + _EMBEDDING + self.width))
        self.shape_parameters.build((None, self.hidden.units))

    def call(self, examples: Any, channels: Any) -> Any:
        """`(channels, 2)`, of an `Observation`'s arrays."""
        task = ops.broadcast_to(self.encoder(examples), (self.channels, self.width))
        known = [ops.cast(channels, "float32"), ops.convert_to_tensor(self.embedding), task]
        return self.shape_parameters(self.hidden(ops.concatenate(known, axis=-1)))
