"""A fit prints short lines: one before training, one when an event begins, two when it is done."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp.formatting import LINE
from tests import networks
from tests.fitting import compiled, fit, pruning


def long_names():
    """Names that are longer than a line, and differ in their middle."""
    x = inputs = keras.Input((8, 8, 3), name="pixels")
    for i in range(3):
        name = f"{'stage_of_the_network_' * 3}block_{i}_{'with_a_convolution_' * 2}of_filters"
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


NETWORKS = {
    "long names": long_names,
    **{name: networks.ALL[name] for name in ("plain", "residual", "nested", "squeeze_excite")},
}


SHORT = {"plain", "residual", "squeeze_excite"}
"""Nothing in these is as long as in the two others, so their lines are looked at more seldom."""


def printed(model, capsys, **options):
    callback = pruning(
        {"channels": 0.6, "parameters": 0.9}, keras_gcp.schedules.linear(1, 2), **options
    )
    fit(compiled(model, run_eagerly=True), [callback], epochs=3)
    return callback, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SHORT else []) for name in NETWORKS],
)
def test_no_printed_line_is_longer_than_that_of_a_terminal(name, capsys):
    callback, lines = printed(NETWORKS[name](), capsys, verbose=2)
    assert len(callback.events) == 2 and len(lines) > 20
    assert [line for line in lines if len(line) > LINE] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_no_line_of_an_explanation_is_longer(name):
    model = NETWORKS[name]()
    plan = keras_gcp.plan(model, {"channels": 0.6, "parameters": 0.9}, selection={"align": 1})
    text = "\n".join(
        [plan.explain(), keras_gcp.trace(model).explain(), str(keras_gcp.count(model))]
    )
    assert [line for line in text.splitlines() if len(line) > LINE] == []


def test_before_training_stands_one_line_and_at_every_event_three(capsys):
    schedule = keras_gcp.schedules.linear(1, 2)
    callback = pruning({"channels": 0.6}, schedule, verbose=1)
    fit(compiled(networks.plain(), run_eagerly=True), [callback], epochs=3)
    outlook, *events, savings = capsys.readouterr().out.splitlines()[:8]
    assert outlook == (
        "pruning to channels 60 %, epochs 1, 2 · 20/24 prunable · anchored: classifier"
    )
    assert savings.startswith("pruning: 2 events took")
    for number, (begin, went, took) in enumerate(zip(*[iter(events[:6])] * 3, strict=True)):
        event = callback.events[number]
        assert begin.startswith(f"event {number + 1} of 2, before epoch {event.epoch}: ")
        assert went.startswith(f"  {event.removed_channels} channels removed · ")
        assert re.match(rf"  event {number + 1} of 2: [\d.]+ m?s · loss on the sample ", took)


def test_that_an_event_begins_is_said_before_it_does_anything(capsys):
    model, said = compiled(networks.plain(), run_eagerly=True), []

    def scores(model, channels, sample):
        said.extend(capsys.readouterr().out.splitlines())
        return {path: np.arange(len(c), dtype=float) for path, c in channels.produced.items()}

    options = {"criterion": scores, "verbose": 1}
    fit(model, [pruning({"channels": 0.6}, keras_gcp.schedules.one_shot(1), **options)], epochs=2)
    assert said[-1] == "event 1 of 1, before epoch 1: scoring and cutting"


@pytest.mark.parametrize("verbose", [1, 2])
def test_stages_are_told_on_request_only(verbose, capsys):
    callback, lines = printed(networks.plain(), capsys, verbose=verbose)
    assert sum("surgery" in line for line in lines[:-2]) == (verbose == 2) * len(callback.events)
    assert ("stays because" in " ".join(lines)) == (verbose == 2)


def test_within_an_epoch_the_line_of_the_progress_bar_is_ended_first(capsys):
    schedule = keras_gcp.schedules.one_shot(1, unit="step")
    model = compiled(networks.plain(), run_eagerly=True)
    x, y = np.zeros((8, *model.input_shape[1:])), np.zeros(8, int)
    callback = pruning({"channels": 0.6}, schedule, verbose=1)
    model.fit(x, y, batch_size=2, epochs=1, callbacks=[callback], verbose=1)
    assert any(line.startswith("event 1 of 1") for line in capsys.readouterr().out.splitlines())
