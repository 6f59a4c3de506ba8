"""Latency as a resource: the table of layers, its cache, and the real measurement in the end."""

from __future__ import annotations

import json
import os

import arena
import keras
import networks
import numpy as np
import patterns
import pytest
from helpers import one_line
from keras import layers

import keras_gcp
from keras_gcp import resources
from keras_gcp.channels.trace import trace
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.counting import build_cost_model, full_widths
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.resources import latency as latency_resource
from keras_gcp.resources.inference_steps import steps_of
from keras_gcp.resources.layer_times import LayerTimes
from keras_gcp.resources.single_layer import one_call
from keras_gcp.resources.time_cache import TimeCache, fingerprint

tensorflow_only = pytest.mark.needs_tensorflow("it writes TFLite files")


def small():
    """Two convolutions and a classifier."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="a")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x), name="small")


# ---- the cache


def test_a_time_is_measured_once_and_kept_for_the_next_process(tmp_path):
    asked = []
    machine = {"processor": "a", "threads": "1"}
    cache = TimeCache(tmp_path / "new", machine)
    for _ in range(2):
        assert cache.get("conv", lambda: asked.append(1) or 2.5) == 2.5
    cache.save()
    assert TimeCache(tmp_path / "new", machine).get("conv", lambda: asked.append(1) or 9.0) == 2.5
    assert len(asked) == 1


def test_another_machine_has_another_file(tmp_path):
    first, second = (TimeCache(tmp_path, {"processor": name}) for name in "ab")
    first.get("conv", lambda: 1.0)
    first.save()
    assert first.path != second.path
    assert second.get("conv", lambda: 2.0) == 2.0


def test_what_a_process_killed_while_writing_has_left_is_removed(tmp_path):
    cache = TimeCache(tmp_path, {"processor": "a"})
    left, being_written = (tmp_path / f"{cache.path.stem}{name}.tmp" for name in "xy")
    for path in (left, being_written):
        path.write_text("{")
    os.utime(left, (0, 0))
    cache.get("conv", lambda: 1.0)
    cache.save()
    assert sorted(tmp_path.iterdir()) == sorted([being_written, cache.path])


def test_two_processes_do_not_lose_each_others_times(tmp_path):
    first, second = (TimeCache(tmp_path, {"processor": "a"}) for _ in range(2))
    first.get("one", lambda: 1.0)
    second.get("two", lambda: 2.0)
    first.save()
    second.save()
    times = json.loads(first.path.read_text())["milliseconds"]
    assert times == {"one": 1.0, "two": 2.0}


def test_times_that_cannot_be_kept_are_good_all_the_same_and_it_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    cache = TimeCache(tmp_path / "file" / "folder", {"processor": "a"})
    assert cache.get("conv", lambda: 1.5) == 1.5
    with pytest.warns(UserWarning, match="cannot be kept in .*Not a directory.*KERAS_GCP_CACHE"):
        cache.save()
    assert cache.get("conv", lambda: 9.0) == 1.5


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"machine": 3}', "\x00"])
def test_a_damaged_file_is_measured_anew(tmp_path, content):
    cache = TimeCache(tmp_path, {"processor": "a"})
    cache.path.write_text(content)
    cache = TimeCache(tmp_path, {"processor": "a"})
    assert cache.get("conv", lambda: 1.5) == 1.5
    cache.save()
    assert TimeCache(tmp_path, {"processor": "a"}).get("conv", lambda: 9.0) == 1.5


@tensorflow_only
def test_the_fingerprint_tells_threads_and_runtimes_apart():
    assert fingerprint(1) != fingerprint(2)
    assert set(fingerprint(1)) == {"processor", "cpus", "threads", "runtime", "method"}


# ---- settings


def test_timed_says_how_it_is_measured():
    budget = Budget.parse({"latency_ms": keras_gcp.timed(0.6, threads=2)})
    assert budget.timing.threads == 2
    assert budget.limits_at({"latency_ms": 10.0}) == {"latency_ms": 6.0}
    assert str(budget) == "latency_ms <= 60.0% of the original (2 threads)"
    plain = Budget.parse({"latency_ms": keras_gcp.absolute(2.5)})
    assert plain.timing.threads == 1
    assert str(plain) == "latency_ms <= 2.5"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: keras_gcp.timed(1.5), "between 0 and 1"),
        (lambda: keras_gcp.timed(0.5, threads=0), "integer of at least 1.*0"),
        (lambda: keras_gcp.timed(0.5, threads=True), "integer of at least 1.*True"),
        (lambda: Budget.parse({"macs": keras_gcp.timed(0.5)}), "'macs'.*'latency_ms' only"),
        (lambda: Budget.parse({"latency": 0.5}), "'latency'.*'latency_ms'"),
    ],
)
def test_bad_settings_are_refused_with_what_was_expected(make, words):
    with pytest.raises(InvalidArgument, match=words):
        make()


# ---- the table of layers


def test_equal_layers_of_different_networks_share_their_times():
    def keys(model):
        channels = trace(model)
        everything = np.ones(channels.coupled_count, bool)
        return [one_call(step.call, channels, everything).key for step in steps_of(channels)]

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="other", kernel_initializer="zeros")(inputs)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    other = keras.Model(inputs, layers.Dense(4)(x))
    first, second = keys(small()), keys(other)
    assert first[0] == second[0]
    assert set(first[1:]).isdisjoint(second[1:])


EACH = [
    pytest.param(name, marks=pytest.mark.not_on("torch", "it has no slices that run backwards"))
    if name == "preprocessed"
    else name
    for name in sorted({**networks.ALL, **patterns.ALL}.keys() - {"sequence"})
]


@pytest.mark.parametrize("name", EACH)
def test_every_layer_by_itself_writes_what_it_writes_in_the_narrow_network(name):
    model = {**networks.ALL, **patterns.ALL}[name]()
    channels = trace(model)
    keep = np.ones(channels.coupled_count, bool)
    for group in channels.groups:
        if group.anchored is None and len(group.coupled) > group.least:
            keep[group.coupled[max(group.least, len(group.coupled) // 2) :]] = False
    for step in steps_of(channels):
        single = one_call(step.call, channels, keep)
        outputs = single.function(
            *(keras.ops.zeros(shape, dtype) for shape, dtype in single.shapes)
        )
        for y, x in zip(keras.tree.flatten(outputs), step.call.outputs, strict=True):
            block = keep[channels.tensors[x.index]]
            expected = [
                int(np.moveaxis(block, axis, 0).reshape(size, -1)[:, 0].sum()) if size > 1 else n
                for axis, (size, n) in enumerate(zip(block.shape, x.shape[1:], strict=True))
            ]
            assert list(y.shape) == [1, *expected], step.call.path


@tensorflow_only
def test_a_layer_is_measured_along_what_enters_and_what_leaves(tmp_path):
    """The stopwatch adds up the bytes of all tensors, which grow with every width."""
    model = small()
    channels = trace(model)
    asked = []

    def stopwatch(path, threads):
        asked.append(threads)
        return arena.tensor_bytes(path) / 1000

    cache = TimeCache(tmp_path, {"processor": "a"})
    times = LayerTimes(channels, cache, 2, stopwatch)
    measured = {step.call.path: times.measured(step) for step in steps_of(channels)}
    assert set(asked) == {2}
    assert [len(measured[path].sides) for path in ("a", "pool", "classifier")] == [1, 1, 1]
    (side,) = measured["a"].sides  # the image that enters has no channels that could go
    np.testing.assert_array_equal(side.curve.sizes, [1, 4, 8])
    assert (np.diff(side.curve.shares) > 0).all()
    count = len(asked)
    again = LayerTimes(channels, cache, 2, stopwatch)
    for step in steps_of(channels):
        again.measured(step)
    assert len(asked) == count


@tensorflow_only
def test_a_layer_of_a_repeated_model_takes_its_time_at_every_step():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Flatten()(layers.Conv2D(8, 3, name="conv")(image)), name="m")
    inputs = keras.Input((5, 8, 8, 3))
    x = layers.TimeDistributed(model, name="each")(inputs)
    channels = trace(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    times = LayerTimes(channels, TimeCacheOf(1.0), 1, lambda path, threads: 3.0)
    measured = {step.call.path: times.measured(step) for step in steps_of(channels)}
    assert measured["each/m/conv"].milliseconds == 5 * (3.0 - 1.0)
    assert measured["each/steps"].milliseconds == measured["each"].milliseconds == 3.0 - 1.0
    (side,) = measured["each/m/conv"].sides
    assert side.curve.sizes.max() == 8


@tensorflow_only
def test_a_layer_that_cannot_be_timed_alone_is_named():
    class Odd(layers.Layer):
        def get_config(self):
            return {**super().get_config(), "nonsense": 1}

        def call(self, x):
            return x + 1.0

    inputs = keras.Input((8, 8, 3))
    x = Odd(name="odd")(layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    channels = trace(model)
    times = LayerTimes(channels, TimeCacheOf(1.0), 1, lambda path, threads: 1.0)
    (step,) = [step for step in steps_of(channels) if step.call.path == "odd"]
    with pytest.raises(UnsupportedModel, match="'odd'.*Odd.*by itself"):
        times.measured(step)


class TimeCacheOf:
    """Knows nothing and keeps nothing."""

    def __init__(self, overhead):
        self._overhead = overhead

    def get(self, key, measure):
        return self._overhead if key == "no layer" else measure()


# ---- the resource


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Times that follow from the files alone: bytes of all tensors, in thousands."""
    from keras_gcp.resources import layer_times

    def compared(paths, threads, **settings):
        from keras_gcp.exporting.timing import Latency, LatencyComparison

        times = [arena.tensor_bytes(path) / 1000 for path in paths]
        latencies = tuple(
            Latency(p, t, t, t, threads, 1, "none") for p, t in zip(paths, times, strict=True)
        )
        speedups = tuple(times[0] / t for t in times)
        return LatencyComparison(latencies, speedups, tuple((s, s) for s in speedups), 1)

    def stopwatch(path, threads):
        return arena.tensor_bytes(path) / 1000

    monkeypatch.setattr(latency_resource, "compare_latency", compared)
    monkeypatch.setattr(latency_resource, "runs_for", lambda *arguments: 1)
    monkeypatch.setattr(layer_times.LayerTimes.__init__, "__defaults__", (stopwatch,))
    monkeypatch.setenv("KERAS_GCP_CACHE", str(tmp_path))
    return tmp_path


@tensorflow_only
@pytest.mark.slow
def test_the_original_is_predicted_as_measured_and_the_candidate_measured(quick):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, activation="relu", name="a"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(4, name="classifier"),
        ]
    )
    plan = keras_gcp.plan(model, {"latency_ms": 0.6}, selection={"align": 1, "floor": 1})
    (check,) = plan.checks
    assert check.limit == pytest.approx(0.6 * plan.before.further["latency_ms"])
    assert 0.9 * check.limit <= check.measured <= check.limit
    assert plan.after.further["latency_ms"] == check.measured
    (resource,) = resources.of_budget(Budget.parse({"latency_ms": 0.6}), trace(model))
    assert plan.before.further["latency_ms"] == pytest.approx(resource.original_ms)
    assert list(quick.glob("latency-*.json"))
    assert "latency_ms of the real file" in one_line(plan.explain())


@tensorflow_only
def test_a_narrower_model_is_predicted_with_the_times_of_the_original(quick):
    model = small()
    channels = trace(model)
    (resource,) = resources.of_budget(Budget.parse({"latency_ms": 0.5}), channels)
    wide = build_cost_model(channels, [resource])
    plan = keras_gcp.plan(model, {"channels": 0.5}, selection={"align": 1})
    narrow = keras_gcp.apply(model, plan)
    own = trace(narrow)
    cost = build_cost_model(own, [resource]).cost("latency_ms", full_widths(own))
    assert cost == wide.cost("latency_ms", full_widths(own))
    assert cost < wide.cost("latency_ms", full_widths(channels))


@tensorflow_only
@pytest.mark.slow
def test_a_latency_budget_is_met_by_a_real_measurement(tmp_path):
    model = keras_gcp.models.build("resnet8", input_shape=(32, 32, 3))
    budget = {"latency_ms": keras_gcp.timed(0.6, threads=1, cache_dir=tmp_path)}
    plan = keras_gcp.plan(model, budget)
    (check,) = plan.checks
    assert check.measured <= check.limit
    assert check.measured >= 0.8 * check.limit
    paths = []
    for name, one in (("wide", model), ("narrow", keras_gcp.apply(model, plan))):
        paths.append(keras_gcp.export(one, tmp_path / name, ["tflite"])[0].path)
    from keras_gcp.exporting import compare_latency

    assert 1 / compare_latency(paths).speedups[1] < 0.7
