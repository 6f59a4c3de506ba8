"""The examples' data: standardised, stratified, reproducible, augmented as promised."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from examples import datasets


def test_digits_have_the_documented_sizes_and_range():
    data = datasets.load("digits")
    assert data.x_train.shape == (1_297, 16, 16, 1)
    assert data.x_test.shape == (500, 16, 16, 1)
    assert data.input_shape == (16, 16, 1)
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int32
    assert data.classes == 10
    assert abs(data.x_train.mean()) < 1e-4
    assert abs(data.x_train.std() - 1) < 1e-4


def test_scale_repeats_every_pixel():
    small = datasets.load("digits", scale=1, standardise=False)
    large = datasets.load("digits", scale=3, standardise=False)
    assert large.input_shape == (24, 24, 1)
    for row in range(3):
        for column in range(3):
            assert np.array_equal(large.x_test[:, row::3, column::3], small.x_test)
    assert (small.x_train.min(), small.x_train.max()) == (0, 16)


def test_split_follows_the_seed_and_keeps_the_shares_of_the_classes():
    first, again, other = (datasets.load("digits", scale=1, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.y_test, other.y_test)
    for data in (first, other):
        train = np.bincount(data.y_train) / len(data.y_train)
        test = np.bincount(data.y_test) / len(data.y_test)
        assert np.abs(train - test).max() < 0.002


def published(shape, labels_shape):
    rng = np.random.default_rng(0)

    def load_data():
        images = [rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (40, 20)]
        labels = [rng.integers(0, 10, (n, *labels_shape), dtype=np.uint8) for n in (40, 20)]
        return tuple(zip(images, labels, strict=True))

    return load_data


@pytest.mark.parametrize(
    ("name", "shape", "labels_shape", "expected"),
    [
        ("fashion_mnist", (28, 28), (), (28, 28, 1)),
        ("cifar10", (32, 32, 3), (1,), (32, 32, 3)),
        ("cifar100", (32, 32, 3), (1,), (32, 32, 3)),
    ],
)
def test_keras_data_sets_are_standardised_per_channel_by_the_training_images(
    name, shape, labels_shape, expected, monkeypatch
):
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", published(shape, labels_shape))
    data = datasets.load(name)
    assert data.input_shape == expected
    assert data.y_train.shape == (40,)
    np.testing.assert_allclose(data.x_train.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(data.x_train.std(axis=(0, 1, 2), dtype=np.float64), 1, atol=1e-5)
    assert np.abs(data.x_test.mean(axis=(0, 1, 2))).max() > 1e-4  # not by its own statistics


def test_missing_network_is_explained(monkeypatch, tmp_path):
    def load_data():
        raise Exception("URL fetch failure on somewhere: None -- no route")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    place = re.escape(f"{tmp_path}/datasets/cifar-10-batches-py-target_archive")
    with pytest.raises(datasets.DatasetUnavailable, match=f"(?s)no route.*{place}"):
        datasets.load("cifar10")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"name": "mnist"}, "mnist.*digits"), ({"name": "digits", "scale": 0}, "scale=0")],
)
def test_unknown_data_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(**arguments)


def test_take_cuts_both_parts():
    data = datasets.load("digits", scale=1).take(train=30, test=20)
    assert (len(data.x_train), len(data.y_train)) == (30, 30)
    assert (len(data.x_test), len(data.y_test)) == (20, 20)


def test_every_epoch_has_every_image_once_in_another_order():
    x = np.arange(10, dtype=np.float32).reshape(-1, 1, 1, 1)
    dataset = datasets.AugmentedBatches(x, np.arange(10), 4)
    epochs = []
    for _ in range(2):
        labels = np.concatenate([dataset[index][1] for index in range(len(dataset))])
        images = np.concatenate([dataset[index][0] for index in range(len(dataset))])
        assert sorted(labels) == list(range(10))
        assert np.array_equal(images.reshape(-1), labels)
        epochs.append(labels.tolist())
        dataset.on_epoch_end()
    assert epochs[0] != epochs[1]


def test_batches_repeat_with_the_seed_and_change_with_epoch_and_seed():
    data = datasets.load("digits").take(train=64)
    first, again = (datasets.batches(data, 32, seed=3) for _ in range(2))
    again[1]  # the order of requests does not matter
    assert np.array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first[0][0], datasets.batches(data, 32, seed=4)[0][0])
    before = first[0][0]
    first.on_epoch_end()
    assert not np.array_equal(before, first[0][0])


def test_without_augmentation_images_are_untouched():
    data = datasets.load("digits").take(train=8)
    images, labels = datasets.batches(data, 8, augment=False)[0]
    order = [np.flatnonzero((data.x_train == image).all(axis=(1, 2, 3)))[0] for image in images]
    assert sorted(order) == list(range(8))
    assert np.array_equal(data.y_train[order], labels)


def test_shift_moves_images_within_the_pad_and_fills_with_zeros():
    rng = np.random.default_rng(0)
    images = 1 + rng.random((300, 5, 6, 2))
    moved = datasets.shift(images, 2, rng)
    offsets = set()
    for image, result in zip(images, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        found = {
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(padded[top : top + 5, left : left + 6], result)
        }
        assert len(found) == 1
        offsets |= found
    assert len(offsets) == 25  # every shift occurs


def test_mirror_flips_about_half_of_the_images():
    rng = np.random.default_rng(0)
    images = rng.random((400, 3, 4, 1))
    mirrored = datasets.mirror(images, rng)
    flipped = [np.array_equal(a[:, ::-1], b) for a, b in zip(images, mirrored, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(images, mirrored, strict=True)]
    assert np.logical_xor(flipped, kept).all()
    assert 150 < sum(flipped) < 250


def test_only_the_cifar_sets_are_mirrored(monkeypatch):
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", published((32, 32, 3), (1,)))
    assert datasets.load("cifar10").flip
    assert not datasets.load("digits").flip


def test_a_model_fits_on_the_batches():
    data = datasets.load("digits", scale=1)
    model = keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(datasets.batches(data, 64), epochs=3, verbose=0)
    assert model.evaluate(data.x_test, data.y_test, verbose=0)[1] > 0.8


def test_mismatched_labels_are_refused():
    with pytest.raises(ValueError, match="3 images, 2 labels"):
        datasets.AugmentedBatches(np.zeros((3, 4, 4, 1)), np.zeros(2), 1)


def test_held_out_images_are_training_images_that_are_not_trained_on():
    data = datasets.load("digits", scale=1)
    rest, (x, y) = data.hold_out(97)
    assert len(rest.x_train) == len(rest.y_train) == 1_200
    assert np.array_equal(np.concatenate([rest.x_train, x]), data.x_train)
    assert np.array_equal(np.concatenate([rest.y_train, y]), data.y_train)
    assert rest.x_test is data.x_test
    with pytest.raises(ValueError, match="1297 cannot be held out"):
        data.hold_out(1_297)
