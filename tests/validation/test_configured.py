"""Settings read like the call that made them, and go into a dict and back."""

from __future__ import annotations

import json

import pytest

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import InvalidArgument

EXAMPLES = (None, None)

CALLS = {
    "linear(begin=2, end=8, every=2)": schedules.linear(2, 8, 2),
    "cubic(begin=100, end=400, every=100, unit='step')": schedules.cubic(100, 400, 100, "step"),
    "cosine(begin=1, end=5, min_step=0.0)": schedules.cosine(1, 5, min_step=0),
    "one_shot(at=3)": schedules.one_shot(3),
    "channels_every(every=21, channels=120, until=150)": schedules.channels_every(21, 120, 150),
    "on_plateau(monitor='loss', patience=3, mode='min')": schedules.on_plateau("loss", 3),
    "Selection()": keras_gcp.Selection(),
    "Selection(align=8, floor={'*': 0.2})": keras_gcp.Selection(align=8, floor={"*": 0.2}),
    "Compensation(method='fold', recalibrate=False)": keras_gcp.Compensation("fold", False),
    "Distillation(temperature=2.0)": keras_gcp.Distillation(temperature=2),
    "Budget(limits={'macs': 0.5, 'parameters': absolute(200.0)})": keras_gcp.Budget(
        {"macs": 0.5, "parameters": keras_gcp.absolute(200)}
    ),
    "Sample(..., size=9)": keras_gcp.Sample(EXAMPLES, size=9),
    "AccuracyGuard(..., max_drop=0.02)": keras_gcp.AccuracyGuard(EXAMPLES, 0.02),
}


@pytest.mark.parametrize("text", CALLS)
def test_settings_read_like_the_call_that_made_them(text):
    assert repr(CALLS[text]) == text


@pytest.mark.parametrize("text", [text for text in CALLS if "..." not in text])
def test_settings_go_into_a_dict_and_back(text):
    made = CALLS[text]
    config = made.get_config()
    if "absolute" not in text:
        config = json.loads(json.dumps(config))
    assert type(made).from_config(config) == made


def test_a_function_is_shown_by_its_name_and_never_by_its_address():
    def half(t):
        return t

    assert repr(schedules.function(half, 1, 4)) == "function(shape=half, begin=1, end=4)"
    lambdas = schedules.function(lambda t: t, 1, 4)
    assert "0x" not in repr(lambdas)
    assert type(lambdas).from_config(lambdas.get_config()) == lambdas


def test_the_callback_shows_its_settings_and_no_data():
    callback = keras_gcp.GradualChannelPruning(
        [[1.0]] * 1000, {"macs": 0.5}, schedules.linear(1, 3), selection={"align": 8}, seed=3
    )
    assert repr(callback) == (
        "GradualChannelPruning(..., budget=Budget(limits={'macs': 0.5}), "
        "schedule=linear(begin=1, end=3), selection=Selection(align=8), seed=3)"
    )
    config = callback.get_config()
    again = type(callback)(**config)
    assert repr(again) == repr(callback) and again.get_config() == config


@pytest.mark.parametrize(
    "kind, config",
    [
        (keras_gcp.Selection, {"alin": 8}),
        (keras_gcp.Compensation, {"method": "fold", "more": 1}),
        (type(schedules.linear(1, 2)), {"begin": 1, "finish": 2}),
        (keras_gcp.Distillation, None),
    ],
)
def test_unknown_arguments_in_a_dict_are_refused_with_the_known_ones(kind, config):
    with pytest.raises(InvalidArgument, match=f"{kind.__name__} expects a dict with some of '"):
        kind.from_config(config)


@pytest.mark.parametrize("config", [{"align": 0}, {"ranking": "best"}, {"prior": 3}])
def test_values_in_a_dict_are_checked(config):
    with pytest.raises(InvalidArgument, match=f"`{next(iter(config))}` expects"):
        keras_gcp.Selection.from_config(config)
