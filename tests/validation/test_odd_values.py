"""Whatever is passed to a public argument: it is taken, or an error of our own says what is wrong.

A raw TypeError or AttributeError from somewhere inside is never what a user sees. The arguments are
read from the signatures, so a new one is tried, too.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import inspect
import pathlib
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import KerasGCPError
from keras_gcp.evaluation.frontier_result import FrontierPoint


class Incomparable:
    """Neither comparable nor hashable."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("compared")


def odd_values():
    """Made again each time: some can be used only once."""
    return [
        *(None, True, False, 0, 1, -1, 3, 0.5, 2.5, -0.5, 1e300, 10**30, 10**400),
        *(float("inf"), float("nan"), 1j, fractions.Fraction(1, 2), decimal.Decimal("0.5")),
        *("", "x", "auto", "first", "\0", "ä" * 10, b"x", ..., NotImplemented),
        *((), [], {}, set(), [None], [1], ["nowhere"], [[]], range(3), iter([1])),
        *({"a": 1}, {1: 2}, {"macs": "x"}, {"macs": None}, {"macs": [1]}, {"*": np.ones(2)}),
        *(np.float32(0.5), np.float16(0.25), np.int64(3), np.uint8(2), np.bool_(True)),
        *(np.array(0.5), np.array(3), np.ones(2), np.zeros(0), np.array("x"), np.array([None])),
        *(np.array(["first"]), np.datetime64("2020-01-01"), datetime.timedelta(1)),
        *(object(), int, layers.Dense, layers.Dense(3), keras.Sequential(), Incomparable()),
        *(lambda *anything: None, keras.callbacks.History(), pathlib.Path("x")),
    ]


def tiny(width=6):
    inputs = keras.Input((4,))
    x = layers.Dense(width, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="last")(x))


def a_frontier():
    points = [FrontierPoint(1.0, 1.0, 9, 9, 0.5, 1, pathlib.Path("full.keras"))]
    return keras_gcp.Frontier("accuracy", True, "macs", tuple(points))


@pytest.fixture(scope="module")
def given():
    """What the other arguments are, by their names."""
    model, compiled = tiny(), tiny()
    compiled.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True
    )
    x, y = np.ones((8, 4), "float32"), np.arange(8) % 3
    return {
        "model": model,
        "compiled": compiled,
        "plan": keras_gcp.plan(model, {"macs": 0.7}),
        "plan of another": keras_gcp.plan(tiny(width=8), {"macs": 0.7}),
        "examples": (x, y),
        "x": x,
        "y": y,
    }


def call_plan(given, **one):
    if one.keys() & {"seed", "sample_size"}:
        one.update(criterion="random", sample=given["examples"])
    return keras_gcp.plan(**{"model": given["model"], "budget": {"macs": 0.7}, **one})


def call_callback(given, **one):
    common = {"sample": given["examples"], "budget": {"macs": 0.7}}
    return keras_gcp.GradualChannelPruning(**{**common, **one})


def call_prune(given, **one):
    budget = {"macs": keras_gcp.absolute(1)}  # Impossible, so nothing is made in vain.
    return keras_gcp.prune(**{"model": given["model"], "budget": budget, **one})


def call_apply(given, **one):
    common = {"plan": given["plan of another"], "model": given["model"]}
    return keras_gcp.apply(**{**common, **one})


def call_narrow(given, **one):
    common = {"plan": given["plan of another"], "model": given["model"]}
    return keras_gcp.narrow(**{**common, **one})


def call_sensitivity(given, **one):
    data = given["examples"] if one.keys() & {"metric", "mode"} else 5
    common = {"model": given["compiled"], "data": data, "verbose": 0}
    return keras_gcp.sensitivity(**{**common, "shares": (0.5,), **one})


def call_smallest(given, **one):
    data = given["examples"] if one.keys() & {"metric", "mode"} else 5
    common = {"model": given["compiled"], "at_least": 2.0, "data": data}
    return keras_gcp.smallest(**{**common, "verbose": 0, **one})


def call_frontier(given, **one):
    model = given["compiled" if one.keys() & {"metric", "mode", "directory"} else "model"]
    data = given["examples"]
    common = {"model": model, "data": data, "validation_data": 5, "directory": "x", "verbose": 0}
    return keras_gcp.frontier(**{**common, **one})


def call_export(given, **one):
    common = {"model": given["model"], "directory": "exported", "formats": ["keras"]}
    return keras_gcp.export(**{**common, **one})


def call_compare(given, **one):
    data = given["examples"] if one.keys() & {"metric", "mode"} else 5
    common = {"models_or_files": [given["compiled"]], "data": data, "verbose": 0}
    return keras_gcp.compare(**{**common, "measure_latency": False, **one})


def call_relevance(given, **one):
    common = {"model": given["model"], "x": given["x"], "y": given["y"]}
    return keras_gcp.relevance_scores(**{**common, **one})


def with_given(function, **common):
    return lambda given, **one: function(**{**common, **one})


CALLS = {
    keras_gcp.plan: call_plan,
    keras_gcp.GradualChannelPruning: call_callback,
    keras_gcp.prune: call_prune,
    keras_gcp.apply: call_apply,
    keras_gcp.narrow: call_narrow,
    keras_gcp.sensitivity: call_sensitivity,
    keras_gcp.smallest: call_smallest,
    keras_gcp.frontier: call_frontier,
    keras_gcp.export: call_export,
    keras_gcp.compare: call_compare,
    keras_gcp.relevance_scores: call_relevance,
    keras_gcp.count: lambda given, **one: keras_gcp.count(**{"model": given["model"], **one}),
    keras_gcp.trace: lambda given, **one: keras_gcp.trace(**{"model": given["model"], **one}),
    keras_gcp.flatten: lambda given, **one: keras_gcp.flatten(**{"model": given["model"], **one}),
    keras_gcp.absolute: with_given(keras_gcp.absolute),
    keras_gcp.timed: with_given(keras_gcp.timed, limit=0.5),
    keras_gcp.Distillation: with_given(keras_gcp.Distillation),
    keras_gcp.Plan.from_json: with_given(keras_gcp.Plan.from_json),
    keras_gcp.Plan.kept: lambda given, layer: given["plan"].kept(layer),
    keras_gcp.Plan.then: lambda given, later: given["plan"].then(later),
    keras_gcp.Frontier.best: lambda given, within: a_frontier().best(within),
    keras_gcp.Frontier.load: with_given(keras_gcp.Frontier.load),
    keras_gcp.Sensitivity.from_dict: with_given(keras_gcp.Sensitivity.from_dict),
    schedules.linear: with_given(schedules.linear, begin=1, end=3),
    schedules.cubic: with_given(schedules.cubic, begin=1, end=3),
    schedules.cosine: with_given(schedules.cosine, begin=1, end=3),
    schedules.function: with_given(schedules.function, shape=lambda t: t, begin=1, end=3),
    schedules.one_shot: with_given(schedules.one_shot, at=1),
    schedules.channels_every: with_given(schedules.channels_every, every=1, channels=1, until=3),
    schedules.on_plateau: with_given(schedules.on_plateau),
    schedules.default: with_given(schedules.default),
    keras_gcp.models.resnet8: with_given(keras_gcp.models.resnet8, width=1),
}

NOT_TRIED = {
    "self",
    # Passed on, as they are, to other functions that are tried themselves.
    *("selection", "pruning_options", "options"),
}


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__qualname__)
def test_odd_values_are_taken_or_refused_with_an_error_of_our_own(
    function, given, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # Some are paths.
    # Looking through all objects of a process takes a tenth of a second each time.
    monkeypatch.setattr("keras_gcp.keras_state.sharing._living_models", lambda: [])
    arguments = [name for name in inspect.signature(function).parameters if name not in NOT_TRIED]
    raw = []
    for name in arguments:
        for value in odd_values():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    CALLS[function](given, **{name: value})
                except KerasGCPError as error:
                    assert str(error)
                except Exception as error:
                    raw.append(f"{name}={value!r:.60}: {type(error).__name__}: {error}"[:200])
    assert not raw, "\n".join(raw)


def test_unknown_keywords_are_refused_with_the_known_ones(given, tmp_path):
    data = given["examples"]
    with pytest.raises(KerasGCPError, match="Selection expects .*'align'.*'algn'"):
        keras_gcp.smallest(given["compiled"], data, 0.5, selection={"algn": 8})
    with pytest.raises(KerasGCPError, match=r"does not take \['budget'\].*GradualChannelPruning"):
        keras_gcp.frontier(given["compiled"], data, data, tmp_path, budget={"macs": 0.5})
