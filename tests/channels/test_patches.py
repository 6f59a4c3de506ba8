"""Patches: what a kernel is multiplied with."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_gcp.channels.patches import some_places
from keras_gcp.channels.products import products_of

CASES = {
    "3x3 same": ((9, 7, 3), lambda: layers.Conv2D(4, 3, padding="same")),
    "3x3 valid": ((9, 7, 3), lambda: layers.Conv2D(4, 3)),
    "strided same": ((9, 8, 3), lambda: layers.Conv2D(4, (3, 2), strides=2, padding="same")),
    "even kernel": ((8, 8, 2), lambda: layers.Conv2D(4, 4, padding="same")),
    "dilated": ((9, 9, 3), lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same")),
    "1x1": ((5, 5, 3), lambda: layers.Conv2D(4, 1)),
    "one dimension": ((12, 3), lambda: layers.Conv1D(4, 5, strides=2)),
    "causal": ((12, 3), lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal")),
    "three dimensions": ((5, 4, 6, 2), lambda: layers.Conv3D(3, (3, 2, 3), padding="same")),
    "dense": ((6,), lambda: layers.Dense(5)),
}


@pytest.mark.parametrize("name", CASES)
def test_windows_times_kernel_is_what_the_layer_computes(name):
    shape, make = CASES[name]
    layer = make()
    layer.build((None, *shape))
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    (product,) = products_of(layer, shape[:-1])
    places = some_places((len(x), *product.counts), entries=1)
    assert len(places[0]) == y[..., 0].size
    rows = product.rows(x, places)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    computed = rows @ kernel.reshape(-1, kernel.shape[-1])
    np.testing.assert_allclose(computed, y.reshape(computed.shape), rtol=1e-4, atol=1e-5)


def test_layers_that_sum_over_no_channels_have_no_windows():
    grouped = layers.Conv2D(4, 3, groups=4)
    grouped.build((None, 8, 8, 4))
    assert products_of(grouped, (8, 8)) is None
    assert products_of(layers.ReLU(), (8, 8)) is None


def test_a_choice_of_places_is_the_same_every_time_and_without_repetition():
    first, again = (np.stack(some_places((100, 32, 32), entries=10)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 4096) and np.unique(first, axis=1).shape == first.shape


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("entries", [9, 4608, 9216, 30_000])
def test_rows_of_many_entries_stay_within_memory_and_are_never_few(entries, thorough):
    rows = len(some_places((200, 32, 32), entries, thorough)[0])
    assert rows >= 4096 and rows * entries <= max(2**27, 4096 * entries)
