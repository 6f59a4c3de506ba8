"""Numbers, choices and names that a user wrote."""

from __future__ import annotations

import fractions
import pathlib

import keras
import networks
import numpy as np
import pytest

import keras_gcp
from keras_gcp import schedules, validation
from keras_gcp.errors import InvalidArgument
from keras_gcp.selection import Selection


@pytest.mark.parametrize(
    "value, plain",
    [
        (3, 3),
        (np.int64(3), 3),
        (np.uint8(200), 200),
        (np.array(3), 3),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.float16(0.25), 0.25),
        (np.array(0.5), 0.5),
        (fractions.Fraction(1, 4), 0.25),
    ],
)
def test_numbers_of_every_kind_become_plain_ones(value, plain):
    found = validation.number(value)
    assert found == plain and type(found) is type(plain)


@pytest.mark.parametrize(
    "value", [None, True, np.bool_(True), "3", 1j, [3], np.ones(1), fractions.Fraction(10**400)]
)
def test_what_is_no_number_is_none(value):
    assert validation.number(value) is None


def test_a_float_is_no_integer_and_nan_lies_nowhere():
    assert validation.integer(2.0) is None and validation.integer(np.float32(2)) is None
    assert validation.between(float("nan"), 0, 1) is None
    assert validation.between(10**400, 0, 1e308) is None


def test_a_list_of_numbers_has_nothing_else_in_it():
    assert validation.numbers_in(np.array([0.5, 1], "float32")) == [0.5, 1.0]
    assert validation.numbers_in([0.5, None]) is None and validation.numbers_in(0.5) is None


# ---- through the public functions


def test_numpy_scalars_mean_what_the_plain_numbers_mean():
    model = networks.plain()
    plain = keras_gcp.plan(
        model, {"macs": 0.5}, selection={"align": 4, "floor": 0.25, "cap": 8}, seed=3
    )
    numpy = keras_gcp.plan(
        model,
        {"macs": np.float32(0.5)},
        selection={"align": np.int64(4), "floor": np.float32(0.25), "cap": {"*": np.uint8(8)}},
        seed=np.int64(3),
    )
    assert numpy.to_json() == plain.to_json()
    limit = {"macs": keras_gcp.absolute(np.int64(plain.after.macs))}
    assert keras_gcp.plan(model, limit, selection={"align": 4}).after.macs <= plain.after.macs


def test_schedules_and_settings_keep_plain_numbers_so_that_a_restart_finds_the_same_words():
    made = schedules.linear(np.int64(1), np.int32(5), np.uint8(2))
    assert made == schedules.linear(1, 5, 2) and repr(made).count("np.") == 0
    assert schedules.on_plateau("loss", np.int64(3), np.float32(0), np.float32(0.5)) == (
        schedules.on_plateau("loss", 3, 0.0, 0.5)
    )
    assert keras_gcp.Distillation(np.float32(0.5), np.int64(2)) == keras_gcp.Distillation(0.5, 2.0)
    assert keras_gcp.timed(np.float32(0.5), np.int64(2)) == keras_gcp.timed(0.5, 2)
    assert Selection(np.int64(8), {"a": np.float32(0.5)}) == Selection(8, {"a": 0.5})
    assert isinstance(Selection(floor=np.int64(4)).floor, int)


def test_a_schedule_with_a_million_events_is_refused_before_they_are_listed():
    with pytest.raises(InvalidArgument, match="more than 1,000,000 events.*larger `every`"):
        schedules.linear(0, 10**12, unit="step")
    with pytest.raises(InvalidArgument, match="larger `every`"):
        schedules.channels_every(1, 1, 10**12)


@pytest.mark.parametrize("nothing", [None, (), [], "no"])
def test_where_a_list_is_optional_none_lists_nothing(nothing):
    model = networks.plain()
    if nothing == "no":
        with pytest.raises(InvalidArgument, match="`exclude` names layer 'no'"):
            keras_gcp.plan(model, {"macs": 0.5}, exclude=nothing)
        return
    plan = keras_gcp.plan(model, {"macs": 0.5}, exclude=nothing)
    assert plan.to_json() == keras_gcp.plan(model, {"macs": 0.5}).to_json()
    keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, exclude=nothing, reset=nothing)


def test_a_layer_in_exclude_is_refused_with_its_name():
    model = networks.plain()
    with pytest.raises(InvalidArgument, match="expects names of layers.*Write its name .*'a_conv'"):
        keras_gcp.plan(model, {"macs": 0.5}, exclude=[model.get_layer("a_conv")])
    with pytest.raises(InvalidArgument, match="expects names of layers.*Received: 5"):
        keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, exclude=5)


@pytest.mark.parametrize("setting", ["align", "floor", "cap"])
def test_a_setting_for_a_layer_that_stays_is_refused(setting):
    with pytest.raises(InvalidArgument, match=f"`{setting}` names layer 'classifier'.*all stay"):
        keras_gcp.plan(networks.plain(), {"macs": 0.5}, selection={setting: {"classifier": 2}})


@pytest.mark.parametrize("path", ["", "\0", b"x", 5, pathlib.Path])
def test_what_is_no_path_is_refused_with_the_argument(path):
    with pytest.raises(InvalidArgument, match="`backup_dir` expects a path"):
        keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, backup_dir=path)
    with pytest.raises(InvalidArgument, match="`cache_dir` expects a path"):
        keras_gcp.timed(0.5, cache_dir=path)


def test_a_single_callback_to_reset_is_refused_with_the_list():
    stopping = keras.callbacks.EarlyStopping()
    with pytest.raises(InvalidArgument, match="`reset` expects 'auto' or a list"):
        keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, reset=stopping)
