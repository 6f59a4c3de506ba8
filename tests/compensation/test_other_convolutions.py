"""Kernels of grouped, separable and transposed convolutions are refitted like plain ones."""

import keras
import numpy as np
import pytest
from helpers import randomise
from keras import layers
from reading_convolutions import READERS, examples, network

import keras_gcp


def without(model, *removed):
    """A plan that removes some channels of the first convolution."""

    def criterion(model, channels, sample):
        return {"before": np.where(np.isin(np.arange(8), removed), 0.0, 1.0)}

    share = 1 - len(removed) / 8
    plan = keras_gcp.plan(model, {"channels": share}, criterion, selection={"align": 1})
    assert np.flatnonzero(~np.isin(np.arange(8), plan.kept("before"))).tolist() == [*removed]
    return plan


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("kind", READERS)
def test_a_refitted_kernel_comes_nearer_to_the_wide_one_than_a_bias_does(kind):
    model, x, others = network(kind), examples(kind), examples(kind, seed=1)
    plan = without(model, 1, 3, 5, 7)
    wide = outputs(model, others)
    away = {}
    for method in (None, "fold", "least_squares"):
        sample = None if method is None else x
        narrow = keras_gcp.apply(model, plan, sample, compensation=method)
        away[method] = float(np.square(outputs(narrow, others) - wide).mean() / wide.var())
    assert away["least_squares"] < 0.96 * min(away["fold"], away[None])


@pytest.mark.parametrize("kind", READERS)
def test_what_a_copy_did_the_other_one_does(kind, monkeypatch):
    """But for the ridge, which keeps kernels near to what they were, nothing changes."""
    monkeypatch.setattr("keras_gcp.compensation.paired_pass._PairedPass.ridge", 1e-9)
    model = network(kind, copies=[(0, 1), (4, 5)])
    x, others = examples(kind), examples(kind, seed=1)
    narrow = keras_gcp.apply(model, without(model, 1, 5), x)
    np.testing.assert_allclose(outputs(narrow, others), outputs(model, others), atol=1e-4)


def test_rows_that_are_not_what_the_layer_reads_change_no_kernel(monkeypatch):
    def mistaken(geometry, x, places):
        size = (len(places[0]), int(np.prod(geometry.sizes)) * x.shape[-1])
        return np.random.default_rng(0).normal(size=size).astype("float32")

    monkeypatch.setattr("keras_gcp.channels.patches.PatchGeometry.rows", mistaken)
    model, x = network("transposed"), examples("transposed")
    plan = without(model, 1, 3)
    folded = keras_gcp.apply(model, plan, x, compensation="fold")
    refitted = keras_gcp.apply(model, plan, x, compensation="least_squares")
    for a, b in zip(folded.get_weights(), refitted.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.needs_tensorflow("other backends compute all that channels_last do")
@pytest.mark.parametrize("kind", ["separable", "grouped"])
def test_so_it_does_with_channels_first(kind):
    keras.config.set_image_data_format("channels_first")
    try:
        inputs = keras.Input((3, 10, 9))
        x = layers.SeparableConv2D(8, 1, activation="relu", name="before")(inputs)
        reader = READERS[kind][1]()
        model = randomise(keras.Model(inputs, reader(x)))
    finally:
        keras.config.set_image_data_format("channels_last")
    rng = np.random.default_rng(0)
    whole, own = rng.normal(size=(64, 3, 1, 1)), rng.normal(size=(64, 3, 10, 9))
    x, others = np.split((whole + 0.4 * own).astype("float32"), 2)
    plan = without(model, 1, 5)
    wide = keras_gcp.backend.predict(model, others)
    folded, refitted = (
        keras_gcp.backend.predict(keras_gcp.apply(model, plan, x, compensation=method), others)
        for method in ("fold", "least_squares")
    )
    assert np.square(refitted - wide).sum() < 0.96 * np.square(folded - wide).sum()
