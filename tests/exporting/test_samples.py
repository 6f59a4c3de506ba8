"""Examples to compare on: real ones in the right order, or seeded random ones."""

from __future__ import annotations

import numpy as np

from keras_gcp.exporting.samples import Examples, examples_for


def test_dictionaries_and_lists_end_in_the_order_of_the_models_inputs(forked, pair):
    by_name = examples_for(forked, pair, 32)
    by_order = examples_for(forked, [pair["y_left"], pair["x_right"]], 32)

    for a, b, name in zip(by_name.arrays, by_order.arrays, ("y_left", "x_right"), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, pair[name])


def test_random_examples_are_the_same_every_time(plain):
    (first,), (second,) = (examples_for(plain, None, 32).arrays for _ in range(2))

    assert first.shape == (32, 8, 8, 3)
    np.testing.assert_array_equal(first, second)


def test_samples_are_cast_to_the_input_type(plain):
    examples = examples_for(plain, np.zeros((3, 8, 8, 3), "uint8"), 32)

    assert examples.arrays[0].dtype == np.float32
    assert examples.source == "sample"


def test_examples_are_spread_over_the_whole_sample():
    examples = Examples((np.arange(100),), "sample")

    assert examples.spread(4).arrays[0].tolist() == [0, 33, 66, 99]
    assert len(examples.spread(1000)) == 100


def test_labels_are_not_looked_at(plain, images):
    y = np.arange(len(images)) % 4
    for sample in ((images, y), [(images[:24], y[:24]), (images[24:], y[24:])]):
        examples = examples_for(plain, sample, 32)

        np.testing.assert_array_equal(examples.arrays[0], images)
        assert examples.source == "sample"
