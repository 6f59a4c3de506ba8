"""What one channel more costs at the margin, against finite differences and networks built anew."""

from __future__ import annotations

import functools
import itertools

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, full_widths, prunable_groups


def stencil(function, at, place):
    """The derivative by finite differences: exact for polynomials up to the fourth degree."""

    def beside(distance):
        moved = at.copy()
        moved[place] += distance
        return function(moved)

    return (beside(-2) - 8 * beside(-1) + 8 * beside(1) - beside(2)) / 12


@pytest.mark.parametrize(
    "name",
    [
        # Tied over additions and concatenations, with depthwise and grouped convolutions.
        *("residual", "concatenation", "depthwise", "grouped"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in networks.ALL
            if name not in ("residual", "concatenation", "depthwise", "grouped")
        ),
    ],
)
def test_the_derivative_is_that_of_finite_differences_for_every_group(name):
    channels = trace(networks.ALL[name]())
    cost_model, full = build_cost_model(channels), full_widths(channels)
    places = [full, full + 3, np.maximum(full - 2, 2)]
    for resource, kept in itertools.product(("macs", "parameters"), places):
        found = cost_model.derivative(resource, kept)
        for place in range(len(kept)):
            expected = stencil(functools.partial(cost_model.cost, resource), kept, place)
            assert found[place] == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_channels_count_the_layers_that_produce_them():
    channels = trace(networks.residual())
    cost_model, full = build_cost_model(channels), full_widths(channels)
    found = cost_model.derivative("channels", full)
    assert found.tolist() == [
        sum(member.multiplicity for member in g.members) for g in prunable_groups(channels)
    ]


def built(stem, inner, expansion):
    """A stem tied to a block by an addition, a depthwise layer, and a dense layer."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(stem, 3, name="stem")(inputs)
    y = layers.Conv2D(inner, 3, padding="same", name="inner")(x)
    y = layers.Conv2D(stem, 3, padding="same", name="outer")(y)
    x = layers.Add()([x, y])
    x = layers.Conv2D(expansion, 1, name="expansion")(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5)(x))


def test_the_derivative_is_what_networks_built_one_channel_wider_and_narrower_cost():
    widths = (6, 5, 9)
    channels = trace(built(*widths))
    names = [group.name for group in prunable_groups(channels)]
    assert names == ["stem", "inner", "expansion"]
    found = build_cost_model(channels).derivative("macs", full_widths(channels))
    for place, slope in enumerate(found.tolist()):
        wider, narrower = (
            [width + sign * (at == place) for at, width in enumerate(widths)] for sign in (1, -1)
        )
        macs = [keras_gcp.count(built(*one)).macs for one in (wider, narrower)]
        assert slope == (macs[0] - macs[1]) / 2
