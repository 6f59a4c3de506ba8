"""Image classification data for the examples: standardised arrays and augmented batches.

data = load("digits", scale=2, seed=0)
model.fit(batches(data, batch_size=64), validation_data=(data.x_test, data.y_test))
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from examples.sources import SOURCES, Source, names

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

DIGITS_TEST_SIZE = 500


class DatasetUnavailable(RuntimeError):
    """A data set is neither in Keras's cache nor could it be downloaded."""


@dataclass(frozen=True)
class Data:
    """A data set that fits into memory.

    Attributes:
        name: one of `names()`.
        x_train, x_test: float32 images, `(n, height, width, channels)`.
        y_train, y_test: int32 class indices, `(n,)`.
        classes: number of classes.
        pad: pixels by which augmentation may shift an image in each direction.
        flip: whether augmentation may mirror an image left to right.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    pad: int
    flip: bool

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of an image."""
        return self.x_train.shape[1:]

    def take(self, train: int | None = None, test: int | None = None) -> Data:
        """The same data, cut to the first `train` and `test` images (None: all of them)."""
        return replace(
            self,
            x_train=self.x_train[:train],
            y_train=self.y_train[:train],
            x_test=self.x_test[:test],
            y_test=self.y_test[:test],
        )

    def hold_out(self, count: int) -> tuple[Data, tuple[np.ndarray, np.ndarray]]:
        """The same data without the last `count` training images, and these."""
        if not 0 < count < len(self.x_train):
            raise ValueError(
                f"Of {len(self.x_train)} training images {count} cannot be held out. Expected at "
                "least one, and one that remains."
            )
        rest = replace(self, x_train=self.x_train[:-count], y_train=self.y_train[:-count])
        return rest, (self.x_train[-count:], self.y_train[-count:])


def load(name: str, *, seed: int = 0, scale: int = 2, standardise: bool = True) -> Data:
    """Loads a data set.

    `digits` are scikit-learn's 1,797 real handwritten digits, inside its package; the others are
    downloaded by Keras once and then taken from its cache.

    Args:
        name: one of `names()`.
        seed: of the stratified split of `digits` into 1,297 and 500 images; the other sets have
            an official split.
        scale: each pixel of `digits` becomes `scale` x `scale` pixels, so 2 gives 16 x 16 images.
        standardise: whether to shift and scale each image channel to mean 0 and standard deviation
            1 over the training images. Otherwise pixels stay as published, from 0 to 16 (`digits`)
            or 255.

    Raises:
        ValueError: there is no such data set, or `scale` is not positive.
        DatasetUnavailable: no network and nothing in the cache; says where to put the files.
    """
    if name not in SOURCES:
        raise ValueError(f"Unknown data set {name!r}. Expected one of: {', '.join(names())}.")
    source = SOURCES[name]
    if source.keras_module is None:
        arrays, pad = _digits(seed, scale), source.pad * scale
    else:
        arrays, pad = _downloaded(name, source), source.pad
    x_train, y_train, x_test, y_test = arrays
    x_train, x_test = _as_images(x_train), _as_images(x_test)
    if standardise:
        x_train, x_test = standardised(x_train, x_test)
    return Data(
        name=name,
        x_train=x_train,
        y_train=y_train.reshape(-1).astype(np.int32),
        x_test=x_test,
        y_test=y_test.reshape(-1).astype(np.int32),
        classes=source.classes,
        pad=pad,
        flip=source.flip,
    )


def standardised(x_train: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images with mean 0 and standard deviation 1 of each channel, over the training images."""
    mean = x_train.mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    deviation = x_train.std(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    return (x_train - mean) / deviation, (x_test - mean) / deviation


def batches(
    data: Data, batch_size: int = 128, *, augment: bool = True, seed: int = 0
) -> AugmentedBatches:
    """Shuffled training batches of a data set, augmented as its images allow."""
    return AugmentedBatches(
        data.x_train,
        data.y_train,
        batch_size,
        pad=data.pad if augment else 0,
        flip=data.flip and augment,
        seed=seed,
    )


class AugmentedBatches(keras.utils.PyDataset):
    """Shuffled batches of randomly shifted and mirrored images, for any Keras backend.

    Everything is drawn from `(seed, epoch, batch)`, so a run can be repeated exactly, with any
    number of workers.

    Args:
        x: images, `(n, height, width, channels)`.
        y: labels, `(n, ...)`.
        batch_size: images per batch; the last batch may be smaller.
        pad: largest shift in pixels, in each direction; zeros come in at the border.
        flip: whether to mirror half of the images left to right.
        seed: of order, shifts and mirroring.
        **kwargs: of `keras.utils.PyDataset`, such as `workers`.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int,
        *,
        pad: int = 0,
        flip: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(x) != len(y) or not len(x):
            raise ValueError(f"Expected one label per image, got {len(x)} images, {len(y)} labels.")
        if batch_size < 1 or pad < 0:
            raise ValueError(f"batch_size={batch_size} or pad={pad} is too small.")
        self._x, self._y = x, y
        self._batch_size, self._pad, self._flip, self._seed = batch_size, pad, flip, seed
        self._epoch = 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        return -(-len(self._x) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        rng = np.random.default_rng((self._seed, self._epoch, index + 1))
        images = self._x[chosen]
        if self._pad:
            images = shift(images, self._pad, rng)
        if self._flip:
            images = mirror(images, rng)
        return images, self._y[chosen]

    def on_epoch_end(self) -> None:
        """Shuffles again and draws other shifts for the next epoch."""
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        # Index 0 belongs to the order, index 1 and up to the batches.
        return np.random.default_rng((self._seed, self._epoch, 0)).permutation(len(self._x))


def shift(images: np.ndarray, pad: int, rng: np.random.Generator) -> np.ndarray:
    """Moves each image by up to `pad` pixels, zeros coming in: a random crop of the padded one."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    top, left = rng.integers(0, 2 * pad + 1, size=(2, count, 1, 1))
    rows = top + np.arange(height).reshape(1, -1, 1)
    columns = left + np.arange(width).reshape(1, 1, -1)
    return padded[np.arange(count).reshape(-1, 1, 1), rows, columns]


def mirror(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors each image left to right with probability one half."""
    flipped = rng.random((len(images), 1, 1, 1)) < 0.5
    return np.where(flipped, images[:, :, ::-1], images)


def _digits(seed: int, scale: int) -> Arrays:
    if not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale={scale!r} was given. Expected an integer of 1 or more.")
    # Here rather than above: the other data sets do not need scikit-learn.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.repeat(scale, axis=1).repeat(scale, axis=2)
    x_train, x_test, y_train, y_test = train_test_split(
        images,
        digits.target,
        test_size=DIGITS_TEST_SIZE,
        stratify=digits.target,
        random_state=seed,
    )
    return x_train, y_train, x_test, y_test


def _downloaded(name: str, source: Source) -> Arrays:
    load_data: Callable[[], Any] = getattr(keras.datasets, str(source.keras_module)).load_data
    try:
        (x_train, y_train), (x_test, y_test) = load_data()
    except Exception as error:  # Keras raises a bare Exception where a download fails
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        places = "\n".join(f"  {home / file}" for file in source.cache_files)
        raise DatasetUnavailable(
            f"Keras could not load the data set {name!r}: {error}\n"
            "Without a network, put what Keras would have downloaded here and try again "
            f"(in brackets: the published file's name):\n{places}"
        ) from error
    if keras.config.image_data_format() == "channels_first" and x_train.ndim == 4:
        x_train, x_test = x_train.transpose(0, 2, 3, 1), x_test.transpose(0, 2, 3, 1)
    return x_train, y_train, x_test, y_test


def _as_images(x: np.ndarray) -> np.ndarray:
    """Float32 with a channel axis, which grey images lack."""
    return (x if x.ndim == 4 else x[..., np.newaxis]).astype(np.float32)
