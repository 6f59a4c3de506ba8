"""A penalty that parts the scales of batch normalizations in two."""

from __future__ import annotations

import fitting
import keras
import networks
import numpy as np
import pytest
from helpers import randomise

from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import PolarizationRegularizer
from keras_gcp.methods.penalties.polarization import penalized_scales, polarization


def by_hand(model, t, alpha):
    """The formula, scale by scale."""
    scales = [
        abs(float(scale))
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for scale in layer.get_weights()[0]
    ]
    mean = sum(scales) / len(scales)
    return sum(t * scale - abs(scale - alpha * mean) for scale in scales)


@pytest.mark.parametrize(("t", "alpha"), [(1.2, 1.0), (0.5, 2.0)])
def test_what_is_added_to_the_loss_is_the_formula_over_all_layers_together(t, alpha):
    model, (x, y) = randomise(networks.plain()), fitting.data(count=16)
    expected, losses = by_hand(model, t, alpha), []
    regularizer = PolarizationRegularizer(0.5, t=t, alpha=alpha)
    for callbacks in ([], [regularizer]):
        fitting.compiled(model, keras.optimizers.SGD(0.0))
        losses += model.fit(x, y, 16, 1, callbacks=callbacks, verbose=0).history["loss"]
    assert losses[1] - losses[0] == pytest.approx(0.5 * expected, rel=1e-4)
    assert regularizer.penalized == ("a_bn", "b_bn")
    assert "compute_loss" not in vars(model)


def test_by_macs_each_scale_counts_as_much_as_its_channel_costs():
    """In `plain` a channel is computed at some positions, and read at others."""
    found = {w.path: each for w, each in penalized_scales(trace(networks.plain()), by_macs=True)}
    assert np.concatenate(list(found.values())).mean() == pytest.approx(1)
    of_a, of_b = 64 * 9 * 3 + 16 * 9 * 12, 16 * 9 * 8 + 4
    np.testing.assert_allclose(found["a_bn"], found["b_bn"][0] * of_a / of_b, rtol=1e-6)


def test_small_scales_are_driven_to_0_and_large_ones_stay():
    scales = keras.Variable(np.array([0.2, 0.3, 0.4, 1.2, 1.3], "float32"))
    start = np.array(scales)
    for _ in range(60):
        step = 1e-4
        here = float(polarization(scales.value, np.ones(5), 1.2, 1.0))
        gradient = []
        for i in range(5):
            moved = np.array(scales)
            moved[i] += step
            gradient.append((float(polarization(moved, np.ones(5), 1.2, 1.0)) - here) / step)
        scales.assign(np.maximum(np.array(scales) - 0.005 * np.array(gradient), 0))
    end = np.array(scales)
    assert end[:3].max() < 0.05 and end[3:].min() > 0.8 * start[3:].min()


def test_what_it_cannot_do_is_refused():
    for arguments, told in [
        ({"strength": 0}, "`strength` of PolarizationRegularizer expects a number above 0"),
        ({"t": -1}, "`t` of PolarizationRegularizer"),
        ({"weights": "parameters"}, "`weights` of PolarizationRegularizer expects None or 'macs'"),
    ]:
        with pytest.raises(InvalidArgument, match=told):
            PolarizationRegularizer(**arguments)
    model = fitting.compiled(networks.sequence())
    with pytest.raises(UnsupportedModel, match="no batch normalization with a scale"):
        model.fit(
            np.zeros((8, 10), "int32"),
            np.zeros(8),
            verbose=0,
            callbacks=[PolarizationRegularizer()],
        )


def test_it_goes_on_while_the_network_is_cut():
    model = fitting.compiled(randomise(networks.plain()))
    pruning = fitting.pruning({"channels": 0.6}, criterion="bn_scale", sample=None)
    fitting.fit(model, [pruning, PolarizationRegularizer(1e-3)], epochs=2)
    assert len(pruning.events) == 1
