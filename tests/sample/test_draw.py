"""The sample: drawn once, checked at once."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for

from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample, draw_sample


@pytest.fixture(scope="module")
def model():
    return networks.plain()  # (8, 8, 3) to 4 classes


def _arrays(examples=40, classes=4):
    """Images whose first pixel tells their number."""
    x = np.zeros((examples, 8, 8, 3), "float32")
    x[:, 0, 0, 0] = np.arange(examples)
    return x, np.arange(examples) % classes


def _numbers(sample):
    return sample.x[:, 0, 0, 0].astype(int)


# ---------------------------------------------------------------------------------- arrays


def test_all_examples_in_order_without_a_size(model):
    x, y = _arrays()
    for size in (None, 40, 1000):
        sample = draw_sample((x, y), size, 0, model)
        np.testing.assert_array_equal(sample.x, x)
        np.testing.assert_array_equal(sample.y, y)
        assert len(sample) == 40


def test_the_same_seed_draws_the_same_examples_and_another_seed_others(model):
    first, again, other = (draw_sample(_arrays(), 12, seed, model) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(_numbers(first), _numbers(other))


@pytest.mark.parametrize("one_hot", [False, True])
def test_every_class_keeps_its_share_and_labels_stay_with_their_images(model, one_hot):
    x, y = _arrays()
    y = np.sort(y)
    labels = np.eye(4)[y] if one_hot else y
    sample = draw_sample((x, labels), 8, 3, model)
    drawn = sample.y.argmax(axis=1) if one_hot else sample.y
    assert np.bincount(drawn).tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(drawn, y[_numbers(sample)])
    assert len(set(_numbers(sample))) == 8


def test_labels_that_are_no_classes_are_drawn_too(model):
    x, _ = _arrays()
    sample = draw_sample((x, np.linspace(0, 1, 40)), 10, 0, model)
    np.testing.assert_allclose(sample.y, np.linspace(0, 1, 40)[_numbers(sample)])


def test_several_inputs_as_list_or_dict_stay_together():
    siamese = networks.siamese()
    left, right = inputs_for(siamese, 10)
    y = np.arange(10) % 2
    listed = draw_sample(([left, right], y), 4, 0, siamese)
    named = draw_sample(({"right": right, "left": left}, y), 4, 0, siamese)
    rows = [int(np.flatnonzero((left == image).all(axis=(1, 2, 3)))[0]) for image in listed.x[0]]
    np.testing.assert_array_equal(listed.x[1], right[rows])
    np.testing.assert_array_equal(named.x[0], listed.x[0])  # in the order of the model's inputs


def test_labels_may_be_a_python_list_and_a_weight_is_ignored(model):
    x, _ = _arrays(4)
    assert draw_sample((x, [0, 1, 2, 3], np.ones(4)), None, 0, model).y.tolist() == [0, 1, 2, 3]


def test_a_sample_is_a_source_too(model):
    sample = draw_sample(DrawnSample(*_arrays()), 5, 0, model)
    assert len(sample) == 5


def test_labels_may_be_missing_where_none_are_needed(model):
    x, _ = _arrays(4)
    assert draw_sample(x, None, 0, model, needs_labels=False).y is None
    with pytest.raises(InvalidArgument, match="no labels"):
        draw_sample(x, None, 0, model)
    with pytest.raises(InvalidArgument, match="no labels"):
        draw_sample((x, None), None, 0, model)


# -------------------------------------------------------------------------------- data sets


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


def test_pydataset_is_drawn_in_random_order(model):
    data = Batches(*_arrays(), 7)
    sample, again, other = (draw_sample(data, 20, seed, model) for seed in (5, 5, 6))
    assert len(sample) == 20
    np.testing.assert_array_equal(sample.y, _numbers(sample) % 4)
    np.testing.assert_array_equal(sample.x, again.x)
    assert not np.array_equal(_numbers(sample), _numbers(other))
    assert sorted(_numbers(draw_sample(data, None, 0, model))) == list(range(40))


@pytest.mark.needs_tensorflow("tf.data")
@pytest.mark.parametrize("batch", [None, 6])
def test_tf_data_batched_or_not(model, batch):
    import tensorflow as tf

    x, y = _arrays()
    data = tf.data.Dataset.from_tensor_slices((x, y, np.ones(40)))
    data = data if batch is None else data.batch(batch)
    sample = draw_sample(data, 10, 0, model)
    assert _numbers(sample).tolist() == list(range(10))
    assert sample.y.tolist() == y[:10].tolist()
    assert len(draw_sample(data, None, 0, model)) == 40


@pytest.mark.needs_tensorflow("tf.data")
def test_an_endless_data_set_needs_a_size(model):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(_arrays()).batch(4).repeat()
    assert len(draw_sample(data, 50, 0, model)) == 50
    with pytest.raises(InvalidArgument, match="endless"):
        draw_sample(data, None, 0, model)


def test_a_plain_generator_of_batches(model):
    x, y = _arrays()
    sample = draw_sample(((x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)), 20, 0, model)
    assert _numbers(sample).tolist() == list(range(20))


# ----------------------------------------------------------------------------------- checks


def _spoiled(**changes):
    x, y = _arrays()
    parts = {"x": x, "y": y.astype("float32")}
    parts.update(changes)
    return parts["x"], parts["y"]


_NAN_IMAGES = _arrays()[0]
_NAN_IMAGES[[3, 5], 1, 1, 1] = [np.nan, np.inf]
_NAN_LABELS = np.where(np.arange(40) == 7, np.nan, 0.0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            _spoiled(x=np.zeros((40, 8, 9, 3))),
            r"input '.*' expects shape \(examples, 8, 8, 3\).*"
            r"\(examples, 8, 9, 3\)",
        ),
        (_spoiled(x=np.zeros((40, 192))), r"\(examples, 192\)"),
        (_spoiled(x=[np.zeros((40, 8, 8, 3))] * 2), r"has 1 input \(.*Received 2 arrays"),
        (_spoiled(x={"picture": np.zeros((40, 8, 8, 3))}), "keys.*picture.*missing"),
        (_spoiled(y=np.zeros(39)), "same number of examples.*x: 40, y: 39"),
        (_spoiled(x=_NAN_IMAGES), "NaN or infinite values in 2 of 40 examples"),
        (_spoiled(y=_NAN_LABELS), "labels of 1 of 40 examples"),
        ((np.zeros((0, 8, 8, 3)), np.zeros(0)), "no examples"),
        (iter([]), "empty"),
        ("images/", "pair of arrays"),
        (7, "pair of arrays.*int"),
    ],
)
def test_what_does_not_fit_is_named(model, source, message):
    with pytest.raises(InvalidArgument, match=message):
        draw_sample(source, None, 0, model)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "ten"])
def test_the_size_must_be_a_positive_integer(model, size):
    with pytest.raises(InvalidArgument, match="positive integer"):
        draw_sample(_arrays(), size, 0, model)


def test_unknown_sizes_of_the_model_fit_any_image():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    assert len(draw_sample((np.zeros((3, 5, 9, 3)), np.zeros(3)), None, 0, model)) == 3
