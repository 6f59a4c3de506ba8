"""Layers of Keras that hand their input through at inference; some of them do not in training."""

from __future__ import annotations

from keras import layers

INERT: tuple[type, ...] = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
