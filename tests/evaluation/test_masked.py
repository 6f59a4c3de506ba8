"""A masked model is worth what the cut model is worth."""

from __future__ import annotations

import keras
import networks
import numpy as np
import patterns
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise

import keras_gcp
from keras_gcp.backend import inference
from keras_gcp.channels.trace import trace
from keras_gcp.classification.metrics import Metric, metric_for
from keras_gcp.costs.counting import prunable_groups
from keras_gcp.evaluation.masked_model import MaskedModel
from keras_gcp.sample import DrawnSample
from keras_gcp.selection.planning import keep_of


class Outputs:
    """A metric that keeps what it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, batches):
        parts = [keras.tree.flatten(outputs) for _, _, outputs in batches]
        self.seen = [
            np.concatenate([keras.ops.convert_to_numpy(part[i]) for part in parts])
            for i in range(len(parts[0]))
        ]
        return 0.0


def sample_for(model, batch=7):
    x = inputs_for(model, batch)
    return DrawnSample(x, np.zeros(batch, "int32"))


BUILDERS = {
    builder.__name__: builder
    for builder in (
        networks.residual,
        networks.concatenated_with_itself,
        networks.grouped,
        networks.siamese,
        networks.sequential,
        patterns.group_normalised,  # Its layers compile for the candidate alone.
    )
}


@pytest.mark.parametrize("name", BUILDERS)
def test_masked_outputs_are_those_of_the_cut_model_and_of_masking_by_hand(name):
    model = randomise(BUILDERS[name]())
    channels, sample, outputs = trace(model), sample_for(model), Outputs()
    before = model.get_weights()
    plans = [random_plan(model, seed=seed) for seed in (0, 1)]
    metric = Metric("outputs", True, "", outputs)
    with MaskedModel(channels, sample, metric, batch_size=4) as masked:
        for plan in plans:
            masked.value(keep_of(plan, channels))
            by_hand = masked_by_hand(model, plan, sample.x)
            for actual, expected in zip(outputs.seen, by_hand, strict=True):
                np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    cut = keras_gcp.apply(model, plans[-1])
    for actual, expected in zip(outputs.seen, flat_outputs(cut, sample.x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_masked_loss_is_that_of_the_cut_model(model, data):
    sample = DrawnSample(*data)
    metric = metric_for("loss", model, sample)
    channels, plan = trace(model), random_plan(model, seed=4)
    with MaskedModel(channels, sample, metric, batch_size=32) as masked:
        value = masked.value(keep_of(plan, channels))
        whole = masked.value(np.ones(channels.coupled_count, bool))
    cut = keras_gcp.apply(model, plan)
    cut.compile(loss="sparse_categorical_crossentropy")
    assert value == pytest.approx(cut.evaluate(*data, verbose=0), rel=1e-5)
    assert abs(value - whole) > 0.01


@pytest.mark.not_on("torch", "nothing is compiled there")
def test_other_channels_need_no_new_compilation(model, data, monkeypatch):
    traces = []
    packed = inference.keras_state.pack_inputs
    monkeypatch.setattr(
        inference.keras_state, "pack_inputs", lambda *a: traces.append(1) or packed(*a)
    )
    sample, channels = DrawnSample(*data), trace(model)
    metric = metric_for("accuracy", model, sample)
    traces.clear()
    keeps = [keep_of(random_plan(model, seed=seed), channels) for seed in range(2)]
    for group in prunable_groups(channels):  # Other weights are zeroed for each of them.
        keeps.append(~np.isin(np.arange(channels.coupled_count), group.coupled[:2]))
    # The last batch is a short one.
    with MaskedModel(channels, sample, metric, batch_size=36) as masked:
        values = {masked.value(keep) for keep in keeps}
        assert masked.evaluations == len(keeps)
    assert len(traces) == 1
    assert len(values) > 1
