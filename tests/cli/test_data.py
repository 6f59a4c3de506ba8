"""`--data` reads what it says: arrays by name, folders of images, TensorFlow Datasets."""

from __future__ import annotations

import importlib.util
import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from keras_gcp.cli.data import read_data
from keras_gcp.cli.options import DataOptions
from keras_gcp.errors import InvalidArgument


def model_of(*shapes, names=("x_in", "other")):
    inputs = [keras.Input(shape, name=name) for shape, name in zip(shapes, names, strict=False)]
    flat = [keras.layers.Flatten()(x) for x in inputs]
    x = flat[0] if len(flat) == 1 else keras.layers.Concatenate()(flat)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


MODEL = model_of((4, 4, 1))
X, Y = np.arange(160, dtype=np.uint8).reshape(10, 4, 4, 1), np.arange(10) % 2


@pytest.mark.parametrize(
    ("names", "held_out"),
    [
        (("x", "y"), False),
        (("images", "labels"), False),
        (("x_train", "y_train"), False),
        (("x_train", "y_train", "x_test", "y_test"), True),
        (("x_train", "y_train", "x_val", "y_val"), True),
        (("train_images", "train_labels", "test_images", "test_labels"), True),
        (("x_in", "y"), False),
    ],
)
def test_arrays_are_known_by_their_names(tmp_path, names, held_out):
    arrays = dict(zip(names, (X[:6], Y[:6], X[6:], Y[6:]), strict=False))
    np.savez(tmp_path / "d.npz", **arrays)
    found = read_data(DataOptions(data=str(tmp_path / "d.npz")), MODEL)
    x = found.train.x["x_in"] if isinstance(found.train.x, dict) else found.train.x
    np.testing.assert_array_equal(x, X[:6])
    np.testing.assert_array_equal(found.train.y, Y[:6])
    assert found.held_out == held_out
    np.testing.assert_array_equal(found.test.y, Y[6:] if held_out else Y[:6])


def test_several_inputs_are_known_by_their_names(tmp_path):
    np.savez(tmp_path / "d.npz", x_in=X, other=X[:, 0], y=Y)
    found = read_data(DataOptions(data=str(tmp_path / "d.npz")), model_of((4, 4, 1), (4, 1)))
    assert set(found.train.x) == {"x_in", "other"} and len(found.train) == 10


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"pictures": X}, "has the arrays 'pictures'.*'x_train'.*'x_in'"),
        ({"x": X, "y": Y[:3]}, r"hold \[10, 3\] examples"),
        ({"x": X[:0]}, "one at least"),
        ({"x": np.array([{"a": 1}], object)}, "cannot be read as arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, told):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InvalidArgument, match=told):
        read_data(DataOptions(data=str(tmp_path / "d.npz")), MODEL)


def test_pixels_are_normalized_and_examples_spread_over_the_file(tmp_path):
    np.savez(tmp_path / "d.npz", x=X[..., 0], y=Y)  # Grey images without an axis for it.
    options = DataOptions(
        data=str(tmp_path / "d.npz"), pixel_mean="100", pixel_std="50", max_examples=3
    )
    found = read_data(options, MODEL)
    np.testing.assert_allclose(found.train.x, (X[[0, 4, 9]].astype(float) - 100) / 50, rtol=1e-6)
    with pytest.raises(InvalidArgument, match="`--pixel-std` expects numbers other than 0"):
        read_data(DataOptions(data="d.npz", pixel_std="0"), MODEL)
    with pytest.raises(InvalidArgument, match="`--pixel-mean` has 3 numbers.*1 channels"):
        read_data(DataOptions(data=str(tmp_path / "d.npz"), pixel_mean="1,2,3"), MODEL)


@pytest.fixture
def images(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        for index, name in enumerate(("cat", "dog")):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (6, 5), (50 * index, 0, i)).save(folder / f"{i}.png")
    return tmp_path / "images"


def test_a_folder_has_a_class_in_each_subfolder_and_may_have_splits(images):
    model = model_of((4, 4, 3))
    found = read_data(DataOptions(data=str(images)), model)
    assert found.train.x.shape == (8, 4, 4, 3) and found.held_out
    np.testing.assert_array_equal(found.train.y, [0] * 4 + [1] * 4)
    assert (found.train.x[..., 0].max(axis=(1, 2)) == [0] * 4 + [50] * 4).all()
    alone = read_data(DataOptions(data=str(images / "val"), max_examples=2), model)
    np.testing.assert_array_equal(alone.test.y, [0, 1])
    assert not alone.held_out


def test_folders_that_do_not_fit_are_refused(images, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="no images in.*subfolder for each class"):
        read_data(DataOptions(data=str(tmp_path / "empty")), MODEL)
    with pytest.raises(InvalidArgument, match=r"'x_in' \(4,\)"):
        read_data(DataOptions(data=str(images)), model_of((4,)))
    (images / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InvalidArgument, match=r"0\.png' cannot be read"):
        read_data(DataOptions(data=str(images)), model_of((4, 4, 3)))


class Builder:
    """What a builder of TensorFlow Datasets does, without the package."""

    def __init__(self, name):
        self.info = types.SimpleNamespace(splits={})

    def download_and_prepare(self):
        self.info.splits = {"train": range(5), "test": range(2)}

    def as_dataset(self, split, as_supervised):
        assert as_supervised
        labels = self.info.splits[split]
        return tf_data([(np.full((6, 6, 1), label, np.uint8), label) for label in labels])


def tf_data(pairs):
    return types.SimpleNamespace(take=lambda most: pairs[:most])


def test_a_data_set_of_tfds_is_read_by_its_name(monkeypatch):
    module = types.ModuleType("tensorflow_datasets")
    module.builder, module.as_numpy = Builder, iter
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    found = read_data(DataOptions(data="tfds:made"), MODEL)
    assert found.train.x.shape == (5, 4, 4, 1) and found.held_out and len(found.test) == 2
    np.testing.assert_array_equal(found.train.y, range(5))
    assert len(read_data(DataOptions(data="tfds:made", max_examples=3), MODEL).train) == 3
    module.builder = lambda name: 1 / 0
    with pytest.raises(InvalidArgument, match="cannot load 'made': ZeroDivisionError"):
        read_data(DataOptions(data="tfds:made"), MODEL)


_MADE = """
import numpy as np
import tensorflow_datasets as tfds

class Made(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image, label = tfds.features.Image(shape=(6, 6, 1)), tfds.features.ClassLabel(num_classes=5)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(5), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for label in range(count):
            yield label, {"image": np.full((6, 6, 1), label, np.uint8), "label": label}
"""


@pytest.mark.slow
def test_the_package_itself_reads_a_small_data_set(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="comes with the tfds extra")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    exec(_MADE, {})
    found = read_data(DataOptions(data="tfds:made"), MODEL)
    assert found.train.x.shape == (5, 4, 4, 1) and len(found.test) == 2
    assert sorted(found.train.y) == list(range(5))
