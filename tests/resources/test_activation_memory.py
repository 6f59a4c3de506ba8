"""Peak memory: worked out by hand, derived once more slowly, and TFLite's own arena."""

from __future__ import annotations

from collections import Counter

import arena
import keras
import networks
import numpy as np
import pytest
from helpers import random_plan
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, count_map, full_widths, prunable_groups
from keras_gcp.errors import UnsupportedModel
from keras_gcp.exporting.runtime import operators
from keras_gcp.resources import counted
from keras_gcp.resources.inference_steps import steps_of
from keras_gcp.resources.tflite_files import write_file

FLOAT, INT8 = "peak_activation_bytes", "peak_activation_bytes_int8"


def peak(model, resource=FLOAT):
    """What a model needs."""
    return count_map(trace(model), counted([resource])).cost(resource)


def peak_by_reference_counts(model, inputs_stay=False):
    """Executes the steps, and lets go of every tensor that nobody will read any more."""
    channels = trace(model)
    steps = steps_of(channels)
    renamed = {}
    for call in channels.graph.calls:  # layers that do nothing at inference
        if not any(call is step.call or call in step.parts for step in steps):
            source = call.inputs[0].index
            renamed[call.outputs[0].index] = renamed.get(source, source)
    size = {x.index: 4 * int(np.prod(x.shape[1:])) for x in channels.graph.inputs}
    for step in steps:
        size.update({x.index: 4 * int(np.prod(x.shape[1:])) for x in step.writes})
    pending = Counter(index for step in steps for index in step.reads)
    pending.update(renamed.get(x.index, x.index) for x in channels.graph.outputs)
    held = {x.index for x in channels.graph.inputs}
    pending.update(held if inputs_stay else ())
    largest = 0
    for step in steps:
        held |= {x.index for x in step.writes}
        largest = max(largest, sum(size[index] for index in held))
        pending.subtract(step.reads)
        held = {index for index in held if pending[index] > 0}
    return largest


def test_a_chain_needs_the_input_and_the_output_of_its_largest_layer():
    # 8x8x3 -> 8x8x8 (normalization and ReLU are part of it) -> 4x4x12 -> 12 -> 4
    assert peak(networks.plain()) == 4 * max(
        8 * 8 * 3 + 8 * 8 * 8, 8 * 8 * 8 + 4 * 4 * 12, 4 * 4 * 12 + 12, 12 + 4
    )


def test_a_shortcut_stays_in_memory_until_it_is_added():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    y = layers.Conv2D(16, 1, name="wide")(x)
    y = layers.Conv2D(4, 1, name="b")(y)
    model = keras.Model(inputs, layers.Add()([x, y]))
    assert peak(model) == 4 * 64 * (4 + 16 + 4)


def test_an_int8_file_needs_a_quarter():
    model = networks.residual()
    assert peak(model) == 4 * peak(model, INT8)


def test_integers_keep_their_size_in_an_int8_file():
    inputs = keras.Input((1000,), dtype="int32")
    x = layers.Embedding(20, 1, name="embedding")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))
    assert peak(model, INT8) == 4 * 1000 + 1000
    assert peak(model) == 4 * 1000 + 4 * 1000


def test_layers_that_do_nothing_at_inference_need_nothing():
    def build(dropout):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(6, 3)(inputs)
        x = layers.SpatialDropout2D(0.5)(x) if dropout else x
        x = layers.Conv2D(4, 3)(layers.Dropout(0.5)(x) if dropout else x)
        return keras.Model(inputs, x)

    assert peak(build(True)) == peak(build(False)) == 4 * (8 * 8 * 3 + 6 * 6 * 6)


def test_a_normalization_is_part_of_a_convolution_only_right_after_it():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    other = layers.ReLU(name="before")(x)
    y = layers.BatchNormalization(name="bn")(x)  # The convolution's output is read twice.
    channels = trace(keras.Model(inputs, layers.Add()([other, y])))
    assert [step.call.path for step in steps_of(channels)][1:3] == ["before", "bn"]


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_the_peak_is_what_reference_counting_finds(name):
    model = networks.ALL[name]()
    if any("int" in x.dtype for x in model.inputs):
        pytest.skip("the slow derivation knows floats only")
    assert peak(model) == peak_by_reference_counts(model)


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_the_wide_network_predicts_the_peak_of_the_narrow_one(name):
    model = networks.ALL[name]()
    channels = trace(model)
    plan = random_plan(model, share=0.6)
    cost_model = build_cost_model(channels, counted([FLOAT]))
    kept = np.array(
        [
            plan.layers[group.members[0].path][
                np.isin(channels.produced[group.members[0].path], group.coupled)
            ].sum()
            // max(1, group.members[0].multiplicity)
            for group in prunable_groups(channels)
        ]
    )
    assert cost_model.cost(FLOAT, kept) == peak(keras_gcp.apply(model, plan))


@pytest.mark.parametrize("name", ["concatenation", "squeeze_excite", "grouped"])
def test_no_width_makes_the_peak_smaller_by_growing(name):
    model = networks.ALL[name]()
    channels = trace(model)
    cost_model = build_cost_model(channels, counted([FLOAT]))
    rng, full = np.random.default_rng(0), full_widths(channels)
    for _ in range(50):
        kept = rng.integers(1, full + 1)
        larger = np.minimum(kept + rng.integers(0, 3, len(full)), full)
        assert cost_model.cost(FLOAT, kept) <= cost_model.cost(FLOAT, larger)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_budget_on_the_peak_is_met_and_no_block_could_come_back(share):
    model = networks.residual()
    plan = keras_gcp.plan(model, {FLOAT: share}, selection={"align": 1, "floor": 1})
    narrow = keras_gcp.apply(model, plan)
    limit = share * peak(model)
    assert peak(narrow) == plan.after.further[FLOAT] <= limit
    channels = trace(model)
    cost_model = build_cost_model(channels, counted([FLOAT]))
    groups = prunable_groups(channels)
    kept = np.array([plan.layers[group.members[0].path].sum() for group in groups])
    for i, group in enumerate(groups):
        if kept[i] < len(group.coupled):
            larger = kept + (np.arange(len(groups)) == i)
            assert cost_model.cost(FLOAT, larger) > limit


def test_unknown_sizes_are_refused_with_the_layer():
    inputs = keras.Input((None, 4))
    x = layers.Conv1D(8, 3, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    with pytest.raises(UnsupportedModel, match="'first'.*`input_shape="):
        keras_gcp.plan(model, {FLOAT: 0.5, "channels": 0.5}, selection={"align": 1})


@pytest.mark.parametrize(
    "padding, size, strides, taken_over",
    [
        (((0, 1), (0, 1)), 16, 2, True),
        (1, 16, 1, True),
        (1, 15, 2, True),
        (1, 16, 2, False),
        (2, 16, 1, False),
    ],
)
@pytest.mark.needs_tensorflow("it writes TFLite files")
def test_padding_that_a_convolution_does_itself_is_no_step(
    padding, size, strides, taken_over, tmp_path
):
    inputs = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(padding)(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3, strides=strides)(x))
    assert (len(steps_of(trace(model))) == 1) == taken_over
    write_file(model, tmp_path / "model.tflite")
    assert ("PAD" not in operators(tmp_path / "model.tflite")) == taken_over


@pytest.mark.needs_tensorflow("it writes TFLite files")
@pytest.mark.parametrize(
    "name",
    [
        "residual",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("plain", "depthwise", "squeeze_excite")
        ),
    ],
)
def test_the_arena_of_tflite_is_as_large(name, tmp_path):
    """TFLite never overwrites inputs; else it needs what is counted, to the byte."""
    model = networks.ALL[name]()
    write_file(model, tmp_path / "model.tflite")
    assert arena.arena_bytes(tmp_path / "model.tflite") == peak_by_reference_counts(model, True)


def repeated(frames=4, inside=(8, 6)):
    """A model for the frames of a film, and what its tensors need."""
    parts = [layers.Conv2D(n, 3, padding="same", activation="relu") for n in inside]
    model = keras.Sequential([keras.Input((8, 8, 3)), *parts, layers.Flatten()])
    inputs = keras.Input((frames, 8, 8, 3))
    x = layers.TimeDistributed(model, name="each_frame")(layers.Rescaling(2.0)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def test_a_repeated_model_needs_its_own_tensors_for_one_step_at_a_time():
    frame, first, second = 64 * 3, 64 * 8, 64 * 6
    assert peak(repeated()) == 4 * (4 * frame + 4 * second + first + second)
    # What enters, or leaves, is copied once more: where that is most, it counts.
    assert peak(repeated(inside=(1, 1))) == 4 * (4 * frame + 4 * frame)
    assert peak(repeated(inside=(4, 16))) == 4 * (4 * 64 * 16 + 4 * 64 * 16)


@pytest.mark.needs_tensorflow("it writes TFLite files")
@pytest.mark.parametrize("inside", [(8, 6), (1, 1), (4, 16)])
def test_the_arena_of_a_repeated_model_is_as_large(inside, tmp_path):
    model = repeated(inside=inside)
    write_file(model, tmp_path / "model.tflite")
    actual, inputs = arena.arena_bytes(tmp_path / "model.tflite"), 4 * 4 * 64 * 3
    assert peak(model) <= actual <= peak(model) + inputs + 128  # TFLite keeps inputs, and aligns.
