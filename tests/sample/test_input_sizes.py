"""Networks that leave sizes of their input open: counted and cut at a size, and kept open."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from helpers import flat_outputs, masked_by_hand, one_line, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace_at
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.evaluation.frontier_result import Frontier, FrontierPoint
from keras_gcp.selection.plan import Plan


def denoiser(size=(None, None), channels=1):
    inputs = keras.Input((*size, channels), name="photo")
    x = inputs
    for i, filters in enumerate((8, 12)):
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"bn{i}")(x))
    x = layers.Conv2D(channels, 3, padding="same", name="last")(x)
    return keras.Model(inputs, layers.Add(name="sum")([inputs, x]))


def u_net(size=(None, None)):
    inputs = keras.Input((*size, 3), name="photo")
    a = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(inputs)
    b = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(layers.MaxPooling2D()(a))
    b = layers.BatchNormalization(name="bn")(b)
    c = layers.Conv2D(8, 3, padding="same", activation="relu", name="c")(layers.MaxPooling2D()(b))
    d = layers.Concatenate()([layers.Conv2DTranspose(6, 2, strides=2, name="d")(c), b])
    e = layers.Concatenate()([layers.UpSampling2D()(d), a])
    return keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax", name="out")(e))


def cropped(size=(None,)):
    """A sequence loses 40 steps at either end, so 32 or 64 are too few."""
    inputs = keras.Input((*size, 4), name="bases")
    x = layers.Conv1D(8, 5, padding="same", activation="relu", name="a")(inputs)
    x = layers.Add()([x, layers.Conv1D(8, 5, dilation_rate=3, padding="same", name="b")(x)])
    return keras.Model(inputs, layers.Conv1D(3, 1, name="out")(layers.Cropping1D(40)(x)))


def text(size=(None,)):
    inputs = keras.Input(size, dtype="int32", name="words")
    x = layers.Embedding(20, 6, name="embedding")(inputs)
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def written_line(size=(None,)):
    """An image of any width becomes a sequence of columns."""
    inputs = keras.Input((8, *size, 1), name="line")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.Permute((2, 1, 3))(layers.MaxPooling2D()(x))
    x = layers.Dense(8, activation="relu", name="dense")(layers.Reshape((-1, 4 * 6))(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="out")(x))


def two_inputs(size=(None, None)):
    photo, facts = keras.Input((*size, 3), name="photo"), keras.Input((6,), name="facts")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(photo)
    gates = layers.Dense(8, activation="sigmoid", name="gates")(facts)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 8))(gates)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="second")(x))
    return keras.Model([photo, facts], layers.Dense(3, name="out")(x))


def video(size=(None, None, None)):
    """A model for every frame, of any number and size."""
    frame = keras.Sequential(
        [
            keras.Input((*size[1:], 3)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.Conv2D(6, 3, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(name="pool"),
        ],
        name="frame",
    )
    inputs = keras.Input((*size, 3), name="frames")
    x = layers.TimeDistributed(frame, name="each")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.GRU(4, name="gru")(x)))


def strided(size=(None, None)):
    """Sizes must be multiples of six."""
    inputs = keras.Input((*size, 3), name="photo")
    a = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="b")(layers.MaxPooling2D(6)(a))
    x = layers.Concatenate()([a, layers.UpSampling2D(6)(x)])
    return keras.Model(inputs, layers.Conv2D(1, 1, name="out")(x))


NETWORKS = {
    "denoiser": (denoiser, [(10, 12, 1)], [(7, 5, 1)]),
    "u_net": (u_net, [(16, 12, 3)], [(8, 20, 3)]),
    "cropped": (cropped, [(90, 4)], [(83, 4)]),
    "text": (text, [(9,)], [(5,)]),
    "written_line": (written_line, [(8, 14, 1)], [(8, 20, 1)]),
    "two_inputs": (two_inputs, [(8, 9, 3), (6,)], [(12, 6, 3), (6,)]),
    "video": (video, [(3, 6, 7, 3)], [(2, 8, 6, 3)]),
    "strided": (strided, [(12, 18, 3)], [(24, 6, 3)]),
}


def open_sizes(shapes):
    """The sizes that each network above leaves open, of its first input."""
    return shapes[0] if len(shapes[0]) == 1 else shapes[0][:-1]


def inputs_of(model, shapes, count=3, seed=0):
    rng = np.random.default_rng(seed)
    drawn = [
        rng.integers(0, 20, (count, *shape)).astype("int32")
        if "int" in symbol.dtype
        else rng.normal(size=(count, *shape)).astype("float32")
        for symbol, shape in zip(model.inputs, shapes, strict=True)
    ]
    return drawn if len(drawn) > 1 else drawn[0]


def built(name):
    make, shapes, others = NETWORKS[name]
    keras.utils.set_random_seed(0)
    return randomise(make()), shapes, others


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_of_open_sizes_is_cut_and_computes_what_the_masked_one_does(name, tmp_path):
    model, shapes, others = built(name)
    before = [tuple(x.shape) for x in model.inputs]
    plan = keras_gcp.plan(model, {"macs": 0.6}, selection={"align": 1}, input_shape=shapes)
    narrow = keras_gcp.apply(model, plan)
    for one in (shapes, others):
        x = inputs_of(model, one)
        (expected,) = masked_by_hand(model, plan, x)
        (actual,) = flat_outputs(narrow, x)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert keras_gcp.count(narrow, input_shape=shapes).macs == plan.after.macs
    assert plan.after.macs <= 0.6 * keras_gcp.count(model, input_shape=shapes).macs
    narrow.save(tmp_path / "narrow.keras")
    loaded = keras.models.load_model(tmp_path / "narrow.keras", compile=False)
    assert [tuple(x.shape) for x in loaded.inputs] == before
    np.testing.assert_array_equal(flat_outputs(loaded, x), flat_outputs(narrow, x))


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"written_line"}))
def test_counted_at_a_size_it_is_planned_as_its_twin_of_that_size(name):
    make, shapes, _ = NETWORKS[name]
    model, twin = make(), make(open_sizes(shapes))
    twin.set_weights(model.get_weights())
    sized = keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1}, input_shape=shapes)
    fixed = keras_gcp.plan(twin, {"macs": 0.5}, selection={"align": 1})
    assert (sized.before, sized.after) == (fixed.before, fixed.after)
    assert sized.keeps_what_is_kept_by(fixed)
    assert sized.counted_at == tuple(shapes) and not fixed.counted_at


@pytest.mark.parametrize("budget", [{"parameters": 0.5}, {"channels": 0.5}])
def test_budgets_that_need_no_size_are_met_without_one(budget):
    model = denoiser()
    plan = keras_gcp.plan(model, budget, selection={"align": 1})
    assert plan.after.macs is None and "MACs: not counted" in one_line(plan.explain())
    narrow = keras_gcp.apply(model, plan)
    assert narrow.count_params() == plan.after.parameters < model.count_params()
    assert Plan.from_json(plan.to_json()).after == plan.after
    assert "MACs" not in repr(plan)


@pytest.mark.parametrize(
    "resource", ["macs", "peak_activation_bytes", "peak_activation_bytes_int8"]
)
def test_budgets_that_need_a_size_are_refused_without_one_with_the_remedy(resource):
    with pytest.raises(UnsupportedModel, match="'conv0'.*`input_shape=.*`sample="):
        keras_gcp.plan(denoiser(), {resource: 0.5})


def test_the_sample_tells_the_size_unless_the_user_does():
    model = denoiser()
    sample = np.zeros((4, 6, 10, 1), "float32")
    of_sample = keras_gcp.plan(model, {"macs": 0.5}, "l2_norm", sample, selection={"align": 1})
    assert of_sample.counted_at == ((6, 10, 1),)
    assert "counted at an input of (6, 10, 1)" in one_line(of_sample.explain())
    assert of_sample.before.macs == keras_gcp.count(model, input_shape=(6, 10, 1)).macs
    said = keras_gcp.plan(
        model, {"macs": 0.5}, "l2_norm", sample, selection={"align": 1}, input_shape=(20, 30, 1)
    )
    assert said.before.macs == 10 * of_sample.before.macs
    assert Plan.from_json(said.to_json()).counted_at == ((20, 30, 1),)


def test_peak_memory_is_that_of_the_twin_of_that_size():
    sized = keras_gcp.plan(
        u_net(), {"peak_activation_bytes": 0.7}, selection={"align": 1}, input_shape=(16, 12, 3)
    )
    fixed = keras_gcp.plan(u_net((16, 12)), {"peak_activation_bytes": 0.7}, selection={"align": 1})
    assert sized.after.further == fixed.after.further
    narrow = keras_gcp.apply(u_net(), sized)
    assert tuple(narrow.inputs[0].shape) == (None, None, None, 3)


@pytest.mark.needs_tensorflow("it writes TFLite files")
def test_bytes_of_a_file_need_no_size(monkeypatch):
    plan = keras_gcp.plan(denoiser(), {"tflite_bytes": 0.8}, selection={"align": 1})
    assert plan.after.macs is None
    (check,) = plan.checks
    assert check.measured <= check.limit


def test_several_inputs_have_sizes_in_order_or_by_name():
    model = two_inputs()
    in_order = keras_gcp.count(model, input_shape=[(8, 9, 3), (6,)])
    assert keras_gcp.count(model, input_shape={"facts": (6,), "photo": (8, 9, 3)}) == in_order
    assert in_order == keras_gcp.count(two_inputs((8, 9)))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((32, 32), r"'photo' expects positive whole numbers that fit \(None, None, 1\)"),
        ((32, 32, 3), r"'photo'.*Received: \(32, 32, 3\)"),
        ((None, 32, 1), "'photo'"),
        ((0, 32, 1), "'photo'"),
        ((True, 32, 1), "tuple of sizes"),
        ((2.0, 32, 1), "tuple of sizes"),
        (32, "tuple of sizes such as"),
        ([(32, 32, 1), (3,)], "tuple of sizes"),
        ({"picture": (32, 32, 1)}, r"keys \['picture'\].*\['photo'\]"),
    ],
)
def test_an_input_shape_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.count(denoiser(), input_shape=shape)
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.plan(denoiser(), {"parameters": 0.5}, input_shape=shape)


def test_a_size_that_a_layer_does_not_take_is_refused_with_the_layer():
    with pytest.raises(InvalidArgument, match=r"`input_shape=\(60, 4\)`.*Cropping1D"):
        keras_gcp.plan(cropped(), {"macs": 0.5}, input_shape=(60, 4))
    sample = np.zeros((3, 60, 4), "float32")
    with pytest.raises(InvalidArgument, match=r"sample, .*\(60, 4\).*Cropping1D"):
        keras_gcp.prune(cropped(), {"macs": 0.5}, sample=(sample, sample))


def test_a_model_of_fixed_sizes_takes_no_other_one():
    model = denoiser((8, 8))
    assert keras_gcp.count(model, input_shape=(8, 8, 1)) == keras_gcp.count(model)
    with pytest.raises(InvalidArgument, match=r"fit \(8, 8, 1\)"):
        keras_gcp.count(model, input_shape=(16, 16, 1))


class OnlyOfLength(keras.layers.Layer):
    """Takes one length only, which nobody can guess."""

    def call(self, x):
        if x.shape[1] not in (None, 77):
            raise ValueError("the length must be 77")
        return x

    def compute_output_shape(self, shape):
        return shape


def test_where_no_size_is_found_the_cut_is_refused_before_anything_changes():
    inputs = keras.Input((None, 4))
    x = layers.Conv1D(8, 3, padding="same", name="conv")(OnlyOfLength()(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    plan = keras_gcp.plan(model, {"parameters": 0.6}, selection={"align": 1})
    for cut in (keras_gcp.narrow, lambda model, plan: keras_gcp.apply(model, plan)):
        with pytest.raises(UnsupportedModel, match=r"32, 64.*length must be 77.*`input_shape="):
            cut(model, plan)
    assert model.get_layer("conv").filters == 8
    sample = np.ones((3, 77, 4), "float32")
    assert keras_gcp.apply(model, plan, sample).get_layer("conv").filters < 8
    keras_gcp.narrow(model, plan, input_shape=(77, 4))
    assert model.get_layer("conv").filters < 8


def test_the_channel_structure_is_that_of_the_open_sizes_at_any_size_that_is_counted_at():
    model, shapes, others = built("written_line")
    sizes = (None, tuple(shapes), tuple(others))
    whole, small, large = (trace_at(at, model) for at in sizes)
    assert whole.coupled_count == small.coupled_count == large.coupled_count
    for index, block in whole.tensors.items():
        np.testing.assert_array_equal(block, small.tensors[index])
        np.testing.assert_array_equal(block, large.tensors[index])


# ------------------------------------------------------------------------------------- in `fit`


def fit(model, callback, epochs=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6, 8, 1)).astype("float32")
    model.compile("sgd", "mse", run_eagerly=True)
    return model.fit(x, x, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback])


def pruning(sample, budget, verbose=0, **options):
    return keras_gcp.GradualChannelPruning(
        sample,
        budget,
        keras_gcp.schedules.one_shot(1),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=verbose,
        **options,
    )


@pytest.mark.usefixtures("single_channels")
def test_fit_counts_at_the_size_of_the_sample_and_says_so(capsys):
    model = denoiser()
    x = np.ones((4, 6, 8, 1), "float32")
    callback = pruning((x, x), {"macs": 0.5}, verbose=1)
    history = fit(model, callback).history
    assert callback.original_costs["macs"] == keras_gcp.count(denoiser((6, 8))).macs
    assert history["macs_left"][0] == 1 and history["macs_left"][1] <= 0.5
    assert "counted at an input of (6, 8, 1)" in one_line(capsys.readouterr().out)
    assert callback.plan.counted_at == ((6, 8, 1),)
    assert tuple(model.inputs[0].shape) == (None, None, None, 1)


@pytest.mark.usefixtures("single_channels")
def test_fit_counts_at_the_size_that_is_given():
    callback = pruning(None, {"macs": 0.5}, input_shape=(12, 16, 1))
    history = fit(denoiser(), callback).history
    assert history["macs_left"][0] == 1 and history["macs_left"][-1] <= 0.5
    assert callback.original_costs["macs"] == keras_gcp.count(denoiser((12, 16))).macs


@pytest.mark.usefixtures("single_channels")
def test_fit_without_a_size_counts_parameters_alone(capsys):
    callback = pruning(None, {"parameters": 0.5}, verbose=1)
    history = fit(denoiser(), callback).history
    assert "macs_left" not in history and "macs" not in callback.costs
    assert history["parameters_left"][0] == 1 and history["parameters_left"][1] <= 0.5
    assert "MACs" not in capsys.readouterr().out


def test_smallest_counts_at_the_size_of_the_validation_data():
    model = denoiser()
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, 6, 8, 1)).astype("float32")
    found = keras_gcp.smallest(
        model, (x, x), 1e9, metric="loss", max_evaluations=2, selection={"align": 1}, verbose=0
    )
    assert found.plan.counted_at == ((6, 8, 1),) and 0 < found.share < 1


@pytest.mark.needs_tensorflow("TextVectorization")
def test_a_length_that_depends_on_the_data_is_named_as_such():
    words = layers.TextVectorization(20)
    words.adapt(["good film", "bad film"])
    strings = keras.Input((1,), dtype="string")
    x = layers.Embedding(20, 8)(words(strings))
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(8, 3, padding="same", name="conv")(x))
    model = keras.Model(strings, layers.Dense(2)(x))
    with pytest.raises(UnsupportedModel, match="'conv'.*`output_sequence_length`"):
        keras_gcp.plan(model, {"macs": 0.5})
    plan = keras_gcp.plan(model, {"parameters": 0.6}, selection={"align": 1})
    narrow = keras_gcp.apply(model, plan)  # Compared on words that the model knows.
    assert narrow.count_params() == plan.after.parameters


def test_a_plan_that_was_counted_at_a_size_beyond_all_memory_is_proved_at_another():
    model = denoiser()
    plan = keras_gcp.plan(model, {"parameters": 0.6}, selection={"align": 1})
    huge = dataclasses.replace(plan, counted_at=((10**9, 10**9, 1),))
    assert keras_gcp.apply(model, huge).count_params() == plan.after.parameters


def test_a_frontier_without_multiply_adds_is_saved_and_shown(tmp_path):
    points = tuple(
        FrontierPoint(share, share, None, int(100 * share), 0.5, 1, tmp_path / f"{share}.keras")
        for share in (1.0, 0.5)
    )
    frontier = Frontier("loss", False, "parameters", points)
    frontier.save(tmp_path)
    assert Frontier.load(tmp_path).points == points
    pytest.importorskip("matplotlib")
    assert frontier.plot(tmp_path / "frontier.png").exists()
