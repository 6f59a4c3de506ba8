"""`sample` means one thing: what is read as x, (x, y), inputs or batches, and what is refused."""

from __future__ import annotations

import collections
import warnings

import fitting
import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample, draw_sample

IMAGE, TABLE = (4, 4, 3), (5,)


def _model(*shapes, dtypes=(), build=list, outputs=2):
    """A model of inputs named a, b, c; never run here."""
    inputs = [
        keras.Input(shape, name=name, dtype=dtype)
        for name, shape, dtype in zip("abc", shapes, [*dtypes, None, None, None], strict=False)
    ]
    flat = [layers.Flatten()(layers.Rescaling(1.0)(x)) for x in inputs]
    joined = layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    return keras.Model(build(inputs), layers.Dense(outputs)(joined))


def _rows(shape, count=6, first=0):
    """Examples that hold their own number."""
    numbers = np.arange(first, first + count, dtype="float32")
    return np.broadcast_to(numbers.reshape(-1, *(1 for _ in shape)), (count, *shape)).copy()


IMAGES, TABLES, LABELS = _rows(IMAGE), _rows(TABLE), np.arange(6) % 2
ONE, TWO = _model(IMAGE), _model(IMAGE, TABLE)
SAME = _model(IMAGE, IMAGE)
NAMED = _model(IMAGE, TABLE, build=lambda x: {"a": x[0], "b": x[1]})
NESTED = _model(IMAGE, TABLE, IMAGE, build=lambda x: {"z": [x[0], x[1]], "y": x[2]})


def drawn(source, model, size=None):
    return draw_sample(source, size, 0, model, needs_labels=False)


def _numbers(sample, model):
    """The number of every example, from each input: all inputs have the same ones."""
    leaves = keras.tree.flatten(sample.x)
    assert [leaf.shape[1:] for leaf in leaves] == [tuple(t.shape[1:]) for t in model.inputs]
    numbers = [leaf.reshape(len(leaf), -1)[:, 0].astype(int).tolist() for leaf in leaves]
    assert all(one == numbers[0] for one in numbers)
    return numbers[0]


HELD = {
    "x": (ONE, IMAGES, None),
    "[x]": (ONE, [IMAGES], None),
    "(x,)": (ONE, (IMAGES,), None),
    "(x, y)": (ONE, (IMAGES, LABELS), LABELS),
    "[x, y]": (ONE, [IMAGES, LABELS], LABELS),
    "(x, y, weight)": (ONE, (IMAGES, LABELS, np.ones(6)), LABELS),
    "(x, None)": (ONE, (IMAGES, None), None),
    "(x, x), an autoencoder's": (ONE, (IMAGES, IMAGES), IMAGES),
    "dict": (ONE, {"a": IMAGES, "more": LABELS}, None),
    "lists of lists": (ONE, (IMAGES.tolist(), LABELS.tolist()), LABELS),
    "lists of lists, no labels": (ONE, IMAGES.tolist(), None),
    "list of images": (ONE, list(IMAGES), None),
    "images as objects": (ONE, (IMAGES.astype(object), LABELS), LABELS),
    "whole images as objects": (ONE, (np.array([*IMAGES, None], object)[:-1], LABELS), LABELS),
    "tensors": (ONE, (keras.ops.convert_to_tensor(IMAGES), LABELS), LABELS),
    "list of batches of x": (ONE, [IMAGES[:4], IMAGES[4:]], None),
    "list of batches of (x, y)": (
        ONE,
        [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])],
        LABELS,
    ),
    "tuple of batches": (ONE, ((IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])), LABELS),
    "list of four batches": (ONE, [IMAGES[:2], IMAGES[2:3], IMAGES[3:5], IMAGES[5:]], None),
    "[a, b]": (TWO, [IMAGES, TABLES], None),
    "(a, b)": (TWO, (IMAGES, TABLES), None),
    "(a, b) of one shape": (SAME, (IMAGES, IMAGES), None),
    "([a, b], y)": (TWO, ([IMAGES, TABLES], LABELS), LABELS),
    "((a, b), y, weight)": (TWO, ((IMAGES, TABLES), LABELS, np.ones(6)), LABELS),
    "{a, b}": (TWO, {"b": TABLES, "a": IMAGES}, None),
    "({a, b}, y)": (TWO, ({"b": TABLES, "a": IMAGES}, LABELS), LABELS),
    "built with a dict": (NAMED, {"b": TABLES, "a": IMAGES}, None),
    "batches of ((a, b), y)": (
        TWO,
        [((IMAGES[:3], TABLES[:3]), LABELS[:3]), ((IMAGES[3:], TABLES[3:]), LABELS[3:])],
        LABELS,
    ),
    "batches of (a, b)": (TWO, [(IMAGES[:2], TABLES[:2]), (IMAGES[2:], TABLES[2:])], None),
    "nested": (NESTED, {"y": IMAGES, "z": (IMAGES, TABLES)}, None),
    "(nested, y)": (NESTED, ({"y": IMAGES, "z": [IMAGES, TABLES]}, LABELS), LABELS),
}


@pytest.mark.parametrize("name", HELD)
def test_arrays_in_memory_are_told_apart_by_the_inputs(name):
    model, source, labels = HELD[name]
    sample = drawn(source, model)
    assert _numbers(sample, model) == list(range(6))
    np.testing.assert_array_equal(sample.y, labels)
    keras.tree.assert_same_structure(
        sample.x, model.input if len(model.inputs) > 1 else model.inputs[0]
    )


YIELDED = {
    "x": (ONE, lambda r: IMAGES[r], None),
    "(x,)": (ONE, lambda r: (IMAGES[r],), None),
    "[x, y]": (ONE, lambda r: [IMAGES[r], LABELS[r]], LABELS),
    "(x, y, weight)": (ONE, lambda r: (IMAGES[r], LABELS[r], np.ones(6)[r]), LABELS),
    "dict": (TWO, lambda r: {"b": TABLES[r], "a": IMAGES[r]}, None),
    "(dict, y)": (TWO, lambda r: ({"b": TABLES[r], "a": IMAGES[r]}, LABELS[r]), LABELS),
    "((a, b), y)": (TWO, lambda r: ((IMAGES[r], TABLES[r]), LABELS[r]), LABELS),
    "(a, b)": (TWO, lambda r: (IMAGES[r], TABLES[r]), None),
    "(nested, y)": (
        NESTED,
        lambda r: ({"y": IMAGES[r], "z": (IMAGES[r], TABLES[r])}, LABELS[r]),
        LABELS,
    ),
}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name", YIELDED)
def test_data_sets_yield_what_fit_takes(name, batched):
    model, at, labels = YIELDED[name]
    places = [slice(0, 4), slice(4, 6)] if batched else range(6)
    sample = drawn((at(place) for place in places), model)
    assert _numbers(sample, model) == list(range(6))
    np.testing.assert_array_equal(sample.y, labels)


@pytest.mark.needs_tensorflow("tf.data")
@pytest.mark.parametrize("name", [name for name in YIELDED if not name.startswith("[")])
def test_tf_data_too(name):
    import tensorflow as tf

    model, at, labels = YIELDED[name]
    sample = drawn(tf.data.Dataset.from_tensor_slices(at(slice(None))).batch(4), model)
    assert _numbers(sample, model) == list(range(6))
    np.testing.assert_array_equal(sample.y, labels)


def test_a_pydataset_of_dicts():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(2 * index, 2 * index + 2)
            return {"b": TABLES[rows], "a": IMAGES[rows]}, LABELS[rows]

    sample = drawn(Data(), TWO)
    assert sorted(_numbers(sample, TWO)) == list(range(6))


def test_a_last_axis_of_one_may_be_missing_or_too_much_as_in_fit():
    model = _model((4, 4, 1), (1,), (4,))
    grey, one, row = _rows((4, 4)), _rows(()), _rows((4, 1))
    sample = drawn([grey, one, row], model)
    assert _numbers(sample, model) == list(range(6))
    batches = drawn(((grey[i : i + 3], one[i : i + 3], row[i : i + 3]) for i in (0, 3)), model)
    assert _numbers(batches, model) == list(range(6))


def test_an_image_of_unknown_size_is_no_batch_of_rows():
    model = keras.Model(x := keras.Input((None, None, 1)), layers.GlobalAveragePooling2D()(x))
    assert drawn(iter(_rows((4, 1, 1))), model).x.shape == (6, 4, 1, 1)


def test_texts_and_whole_numbers_go_to_their_inputs():
    words = keras.Input((), dtype="string", name="words")
    ids = keras.Input((3,), dtype="int32", name="ids")
    model = keras.Model([words, ids], layers.Dense(1)(layers.Rescaling(1.0)(ids)))
    texts = np.array(["a", "bb"] * 3)
    for given in (texts, texts.astype(object), texts.tolist()):
        sample = drawn([given, _rows((3,))], model)
        assert sample.x[0].tolist() == texts.tolist()
    with pytest.raises(InvalidArgument, match="'words'.*takes texts. Received.*float32"):
        drawn([_rows(()), _rows((3,))], model)
    with pytest.raises(InvalidArgument, match="'ids'.*whole numbers.*fractions.*in the order"):
        drawn([texts, _rows((3,)) + 0.5], model)


# ------------------------------------------------------------------------------------- refused

OBJECTS = np.array([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], object)
REFUSED = {
    "two batches or (x, y)": (ONE, [IMAGES, IMAGES], r"list of 2, may be \(x, y\) or batches"),
    "three": (ONE, [IMAGES] * 3, r"may be \(x, y\) or batches.*np.concatenate"),
    "two batches of two inputs": (
        SAME,
        ((IMAGES, IMAGES), (IMAGES, IMAGES)),
        r"tuple of 2, may be \(x, y\) or batches",
    ),
    "lists of numbers": (_model((1,)), [[1], [2]], r"may be \(x, y\) or examples"),
    "lengths": (ONE, (IMAGES, IMAGES[:4]), "same number of examples. Received x: 6, y: 4"),
    "inputs swapped": (TWO, [TABLES, IMAGES], r"input 'a' expects shape \(examples, 4, 4, 3\)"),
    "x of one input": (
        TWO,
        (IMAGES, LABELS),
        r"input 'b' expects.*If this is \(x, y\): x alone has all 2",
    ),
    "three of two": (TWO, (IMAGES, TABLES, LABELS), "has 2 inputs.*Received 1 array"),
    "a list of other shapes": (
        ONE,
        [_rows(TABLE)] * 5,
        "list of 5. For the first of them: .*4, 4, 3",
    ),
    "an element of four": (ONE, iter([(IMAGES, 1, 2, 3)]), "element of the sample.*4 parts"),
    "an element of another shape": (ONE, iter([(TABLES, LABELS)]), r"4, 4, 3\).*examples, 5\)"),
    "unequal batches": (
        keras.Model(x := keras.Input((None, 3)), layers.GlobalAveragePooling1D()(x)),
        iter([_rows((4, 3)), _rows((5, 3))]),
        r"cannot be put together.*\(4, 3\).*\(5, 3\)",
    ),
    "some without labels": (ONE, iter([(IMAGES, LABELS), (IMAGES,)]), "cannot be put together"),
    "strings for numbers": (
        ONE,
        (IMAGES.astype(str), LABELS),
        r"takes numbers \(float32\).*dtype <U",
    ),
    "labels that are strings": (ONE, (IMAGES, LABELS.astype(str)), "Labels must be numbers.*<U"),
    "labels as objects": (ONE, (IMAGES, LABELS.astype(str).astype(object)), "Labels must be num"),
    "images of two sizes": (ONE, (OBJECTS, LABELS[:2]), r"Python objects \(ndarray\).*\(2,\)"),
    "images of two sizes, listed": (ONE, (list(OBJECTS), LABELS[:2]), "Received 2 arrays"),
    "ragged lists": (ONE, ([[1, 2], [3]], [0, 1]), "fit model|Received 2 arrays"),
    "an object": (ONE, ([object()], LABELS), "an object of type object where an array belongs"),
    "a set": (ONE, ({1, 2}, LABELS), "an object of type set"),
    "dates": (ONE, (IMAGES.astype("datetime64[D]"), LABELS), "takes numbers.*datetime64"),
    "records": (ONE, (np.zeros(6, [("r", "f4"), ("g", "f4")]), LABELS), "takes numbers.*'r'"),
    "nothing for an input": (TWO, {"a": IMAGES, "b": None}, "nothing for input 'b'"),
    "nothing": (ONE, [], "sample is empty"),
    "a number": (ONE, (3, 4), r"expects shape.*Received an array of shape \(\)"),
    "other keys": (TWO, {"A": IMAGES, "B": TABLES}, r"keys \['A', 'B'\].*expects.*missing"),
    "numbers as keys": (TWO, {1: IMAGES, "B": TABLES}, r"keys \['1', 'B'\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_so_shortly_and_shows_no_data(name):
    model, source, message = REFUSED[name]
    with pytest.raises(InvalidArgument, match=message) as refused:
        drawn(source, model)
    assert len(str(refused.value)) < 500


def test_many_lengths_are_not_all_listed():
    labels = [np.zeros(3)] * 1000
    with pytest.raises(InvalidArgument, match=r"x: 6, y\[0\]: 3, .*\.\.\.") as refused:
        drawn((IMAGES, labels), ONE)
    assert len(str(refused.value)) < 300


# ------------------------------------------------------------------------------ sorted data sets


def _endless(labels):
    """Batches of 8, in order of class."""
    for first in range(0, len(labels), 8):
        some = labels[first : first + 8]
        yield _rows(IMAGE, len(some)), some


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.repeat(np.arange(3), 64), r"32 examples drawn from the generator are all of one class"),
        (np.repeat(np.arange(3.0), 64)[:, None], r"of one class \(0\)"),
        (np.eye(3)[np.repeat([2, 1, 0], 64)], r"of one class \(2\).*shuffle"),
        (np.repeat(np.arange(9), 16), "of 2 of 9 classes, in order.*shuffle"),
    ],
)
def test_first_examples_of_one_class_are_said(labels, message):
    model = _model(IMAGE, outputs=9)
    with pytest.warns(UserWarning, match=message):
        drawn(_endless(labels), model, size=32)


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(64) % 3,
        np.repeat(np.arange(9), 3),  # all of them
        np.full(64, 0.7),  # a number to be predicted
        np.random.default_rng(0).integers(0, 2, (64, 4)),  # several at once
        np.zeros((64, 4, 4), int),  # of places
        None,
    ],
)
def test_other_labels_are_not(labels):
    model = _model(IMAGE, outputs=9)
    source = _endless(labels) if labels is not None else iter([_rows(IMAGE, 64)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(source, model, size=32)


def test_so_it_is_where_the_examples_only_compensate_a_cut():
    model = networks.plain()
    plan = keras_gcp.plan(model, {"channels": 0.6}, selection={"align": 1})
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    with pytest.warns(UserWarning, match="of one class.*shuffle"):
        keras_gcp.apply(model, plan, sample=iter([(images, np.zeros(32, int))]))


# ---------------------------------------------------------------- labels, where they are read


def _without_labels(criterion, **options):
    model = networks.plain()
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")
    return keras_gcp.prune(
        model, {"channels": 0.6}, criterion, x, selection={"align": 1}, **options
    )


@pytest.mark.parametrize("criterion", ["l2_norm", "compensation_aware", lambda m, c, s: _ones(c)])
def test_prune_takes_examples_without_labels(criterion):
    assert keras_gcp.count(_without_labels(criterion)).channels <= 12


def _ones(channels):
    return {path: np.ones(len(classes)) for path, classes in channels.produced.items()}


@pytest.mark.parametrize("criterion", ["taylor", "feature_relevance"])
def test_criteria_that_read_labels_ask_for_them(criterion):
    with pytest.raises(InvalidArgument, match="labels"):
        _without_labels(criterion)


def test_the_callback_takes_examples_without_labels_and_reports_no_loss_on_them(capsys):
    model = fitting.compiled(networks.plain())
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    callback = keras_gcp.GradualChannelPruning(
        x,
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(0),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=1,
    )
    model.fit(x, np.arange(32) % 4, epochs=1, verbose=0, callbacks=[callback])
    (event,) = callback.events
    assert event.removed_channels and event.loss_before is None and event.loss_after is None
    assert "channels removed" in (said := capsys.readouterr().out) and "loss on" not in said
    late = keras_gcp.GradualChannelPruning(x, {"channels": 0.4}, criterion="taylor", verbose=0)
    with pytest.raises(InvalidArgument, match="'taylor' needs labels"):
        model.fit(x, np.arange(32) % 4, epochs=1, verbose=0, callbacks=[late])


def test_a_loss_of_its_own_gets_the_inputs_as_the_user_passes_them():
    @keras.saving.register_keras_serializable("test_sample_forms")
    class Weighted(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(x["importance"]) + 0.0 * keras.ops.sum(y_pred)

    image = keras.Input((8, 8, 3), name="image")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(layers.Conv2D(6, 3)(image)))
    model = Weighted(image, layers.Dense(2)(pooled))
    model.compile("sgd", run_eagerly=True)
    x = {"image": np.zeros((8, 8, 8, 3), "float32"), "importance": np.full(8, 3.0, "float32")}
    sample = draw_sample((x, np.zeros(8)), 4, 0, model)
    assert sample.x.shape == (4, 8, 8, 3) and sorted(sample.x_of_loss) == ["image", "importance"]
    callback = keras_gcp.GradualChannelPruning(
        (x, np.zeros(8)),
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(0),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    model.fit(x, np.zeros(8), epochs=1, verbose=0, callbacks=[callback])
    assert callback.events[0].loss_before == pytest.approx(3.0)


def test_an_ordered_dict_that_keras_would_take_in_its_own_order_is_refused():
    source = collections.OrderedDict([("b", TABLES), ("a", IMAGES)])
    assert _numbers(drawn(source, TWO), TWO) == list(range(6))  # by name: built with a list
    with pytest.raises(InvalidArgument, match="Keras hands the values"):
        drawn(source, NAMED)


def test_a_sample_keeps_its_form_when_it_is_drawn_from():
    once = drawn(({"b": TABLES, "a": IMAGES}, LABELS), TWO)
    again = drawn(DrawnSample(once.x, once.y), TWO, size=3)
    assert len(_numbers(again, TWO)) == 3
