"""Networks from the wild: each is pruned amid a training, saved, and loaded elsewhere."""

from __future__ import annotations

import functools

import keras
import numpy as np
import patterns
import pytest
from fitting import AtBeginning
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise

import keras_gcp
from keras_gcp.channels.trace import trace

# PyTorch has no slices that run backwards.
NOT_HERE = {"preprocessed"} if keras.config.backend() == "torch" else set()
NOT_TRAINED = [
    pytest.mark.not_on("torch", "without oneDNN it cannot train convolutions of one channel")
]
NAMES = sorted(set(patterns.ALL) - NOT_HERE)

OFTEN = (
    "convnext film mixer nested_deep pyramid_detector shufflenet tagger transformer two_inputs unet"
).split()
"""One of every kind of wiring: these are trained and saved in the fast tests too."""

OFTEN_ELSE_SLOW = [
    pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in NAMES
]

LONG = [
    pytest.param(
        name,
        marks=[
            *(NOT_TRAINED if name in ("attention_by_cbam", "inception") else []),
            *([] if name in OFTEN else [pytest.mark.slow]),
        ],
    )
    for name in NAMES
]

LOAD = """
import sys
import keras
import numpy as np

for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".keras")
    with np.load(path + ".npz") as data:
        inputs = [data[f"in{i}"] for i in range(sum(name.startswith("in") for name in data))]
        expected = [data[f"out{i}"] for i in range(len(data) - len(inputs))]
    inputs = keras.tree.pack_sequence_as(model.input, inputs) if len(inputs) > 1 else inputs[0]
    for y, e in zip(keras.tree.flatten(model(inputs, training=False)), expected, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y), e, rtol=1e-5, atol=1e-6)
print("loaded", len(sys.argv) - 1)
"""


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a / scale, b / scale, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def cut():
    """`(model, plan, narrow)` of a pattern; made once, and left as they are by the tests."""

    @functools.cache
    def made(name):
        model = randomise(patterns.ALL[name]())
        plan = random_plan(model)
        return model, plan, keras_gcp.apply(model, plan)

    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_narrow_network_is_the_masked_one(name, cut):
    model, plan, narrow = cut(name)
    inputs = inputs_for(model)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs))
    counted = keras_gcp.count(narrow)
    assert (counted.macs, counted.parameters) == (plan.after.macs, plan.after.parameters)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_followed_but_what_is_known_to_stay(name):
    channels = trace(patterns.ALL[name]())
    assert not channels.refusals
    expected = "output|input|single channel|works on images"
    for group in channels.groups:
        if group.anchored is not None:
            assert any(word in group.anchored for word in expected.split("|")), group


@pytest.mark.parametrize("name", OFTEN_ELSE_SLOW)
def test_half_of_the_multiply_adds_can_go(name):
    model = patterns.ALL[name]()
    before = keras_gcp.count(model).macs
    assert (
        keras_gcp.count(keras_gcp.prune(model, {"macs": 0.5}, selection={"align": 1})).macs
        <= before / 2
    )


@pytest.mark.parametrize("name", LONG)
def test_every_weight_trains_on_behind_a_cut_in_the_midst_of_fit(name):
    model = patterns.ALL[name]()
    x = inputs_for(model, 8)
    y = [np.full_like(y, 0.1) for y in flat_outputs(model, x)]
    y = keras.tree.pack_sequence_as(model.output, y) if len(y) > 1 else y[0]
    model.compile("adam", "mse", run_eagerly=True)
    pruning = keras_gcp.GradualChannelPruning(
        None,
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(1),
        "l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    after = AtBeginning(1)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[pruning, after])
    assert pruning.events[0].removed_channels > 0
    trainable = {id(w) for w in model.trainable_variables}
    assert not [
        w.path
        for w, then in zip(model.weights, after.weights, strict=True)
        if id(w) in trainable and np.array_equal(w, then)
    ]


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["convnext", "resnext", "siamese_towers", "split_csp", "unet"])
def test_a_mixed_precision_network_is_cut_like_the_same_in_float32(name, policy):
    """Half precision hides small mistakes, so weights are compared, and their layers' policies."""
    model = randomise(patterns.ALL[name]())
    keras.config.set_dtype_policy(policy)
    mixed = patterns.ALL[name]()
    keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    narrow = keras_gcp.apply(model, random_plan(model))
    narrow_mixed = keras_gcp.apply(mixed, random_plan(mixed))
    for one, other in zip(narrow.weights, narrow_mixed.weights, strict=True):
        assert one.path.split("/")[-1] == other.path.split("/")[-1] and other.dtype == "float32"
        np.testing.assert_array_equal(one, other)
    wide, narrow = (
        {layer.name: layer.dtype_policy.name for layer in one._flatten_layers() if layer.weights}
        for one in (mixed, narrow_mixed)
    )
    assert narrow == wide and policy in wide.values()


@pytest.mark.parametrize(
    "names", [OFTEN, pytest.param(NAMES, marks=pytest.mark.slow)], ids=["often", "all"]
)
def test_narrow_networks_load_and_compute_the_same_without_keras_gcp(
    names, cut, tmp_path, without_keras_gcp
):
    stems = []
    for name in names:
        _, _, narrow = cut(name)
        inputs = inputs_for(narrow, 3)
        stem = str(tmp_path / name)
        narrow.save(f"{stem}.keras")
        arrays = {f"in{i}": x for i, x in enumerate(keras.tree.flatten(inputs))}
        arrays |= {f"out{i}": y for i, y in enumerate(flat_outputs(narrow, inputs))}
        np.savez(f"{stem}.npz", **arrays)
        stems.append(stem)
    assert f"loaded {len(names)}" in without_keras_gcp(LOAD, *stems)
