"""What `--data` means for a model: where examples are, and what is done to them first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp.cli.data.examples import Arrays, Examples, Part
from keras_gcp.cli.data.images import Size, read_images
from keras_gcp.cli.data.npz import read_npz
from keras_gcp.cli.data.tensorflow_datasets import PREFIX, read_tfds
from keras_gcp.cli.options import DataOptions
from keras_gcp.errors import InvalidArgument

MOST_IMAGES = 2000
"""Of each part of a folder or of TensorFlow Datasets, unless `--max-examples` says otherwise."""


def read_data(
    options: DataOptions, model: Any, shape: tuple[int, ...] | None = None
) -> Examples | None:
    """The examples of `--data` for a model; None where there is no such option.

    Args:
        options: The options.
        model: A Keras model.
        shape: The size of its input, where the model leaves it open.

    Raises:
        InvalidArgument: they cannot be read, or an option cannot.
    """
    mean = _numbers("--pixel-mean", options.pixel_mean, 0.0)
    std = _numbers("--pixel-std", options.pixel_std, 1.0)
    if options.data is None:
        return None
    changes = options.pixel_mean is not None or options.pixel_std is not None
    parts = {
        name: _fitted(part.spread(options.max_examples), model, (mean, std) if changes else None)
        for name, part in _parts(options, model, shape).items()
    }
    train = parts.get("train") or parts.get("all") or parts["test"]
    test = parts.get("test") or parts.get("all") or parts["train"]
    words = f"{len(train):,} examples"
    if test is not train:
        words += f", and {len(test):,} to measure with"
    return Examples(train, test, test is not train, words)


def _parts(options: DataOptions, model: Any, shape: tuple[int, ...] | None) -> dict[str, Part]:
    source, most = str(options.data), options.max_examples or MOST_IMAGES
    if source.startswith(PREFIX):
        size = _image_size(model, shape)
        return read_tfds(source.removeprefix(PREFIX), size, most)
    path = Path(source)
    if path.is_dir():
        size = _image_size(model, shape)
        if size is None:
            raise InvalidArgument(
                f"`--data {source}` is a folder, for images of one input. The model takes "
                f"{_inputs_in_words(model)}; where it leaves its size open, pass `--input-shape`."
            )
        return read_images(path, size, most)
    if not path.exists():
        raise InvalidArgument(
            f"`--data {source}`: there is no such file. Expected an .npz file, a folder with a "
            f"subfolder of images for each class, or {PREFIX}NAME."
        )
    if path.suffix != ".npz":
        raise InvalidArgument(
            f"`--data {source}` is a {path.suffix or 'nameless'} file. Expected an .npz file, a "
            f"folder of images, or {PREFIX}NAME."
        )
    return read_npz(path, [tensor.name for tensor in model.inputs])


def _image_size(model: Any, shape: tuple[int, ...] | None) -> Size | None:
    size = shape or tuple(model.inputs[0].shape[1:])
    if len(model.inputs) != 1 or len(size) != 3 or None in size:
        return None
    return size[0], size[1], size[2]


def _inputs_in_words(model: Any) -> str:
    return ", ".join(f"'{tensor.name}' {tuple(tensor.shape[1:])}" for tensor in model.inputs)


def _fitted(part: Part, model: Any, pixels: tuple[np.ndarray, np.ndarray] | None) -> Part:
    """With the axis that grey images lack, and normalized pixels."""
    if isinstance(part.x, Mapping):
        if pixels:
            raise InvalidArgument("`--pixel-mean` and `--pixel-std` are for models of one input.")
        return part
    x, rank = part.x, len(model.inputs[0].shape)
    if x.ndim == rank - 1 and model.inputs[0].shape[-1] == 1:
        x = x[..., np.newaxis]
    return replace(part, x=x if pixels is None else _normalized(x, *pixels))


def _normalized(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Arrays:
    for flag, values in (("--pixel-mean", mean), ("--pixel-std", std)):
        if len(values) not in (1, x.shape[-1]):
            raise InvalidArgument(
                f"`{flag}` has {len(values)} numbers. Expected one, or one for each of the "
                f"{x.shape[-1]} channels."
            )
    return (x.astype(np.float32) - mean) / std


def _numbers(flag: str, text: str | None, default: float) -> np.ndarray:
    try:
        values = [default] if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not np.isfinite(values).all() or (flag.endswith("std") and 0 in values):
        kind = "numbers other than 0" if flag.endswith("std") else "numbers"
        raise InvalidArgument(
            f"`{flag}` expects {kind} with commas, such as 127.5 or 0.5,0.4,0.3. "
            f"Received: {text!r}."
        )
    return np.array(values, np.float32)
