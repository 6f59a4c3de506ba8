"""Images in a folder: a subfolder for each class, in the order of the alphabet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_gcp.cli.data.examples import Part
from keras_gcp.errors import InvalidArgument
from keras_gcp.extras import imported

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"))
_SPLITS = {"train": "train", "test": "test", "val": "test", "valid": "test", "validation": "test"}

Size = tuple[int, int, int]
"""Height, width and channels."""


def read_images(folder: Path, size: Size, most: int) -> dict[str, Part]:
    """The images of a folder, as integers from 0 to 255 in the size of the model's input.

    A folder of `train` and `test` (or `val`) holds the classes of each part.

    Args:
        folder: The folder.
        size: Height, width and channels; images are resized without regard to their shape.
        most: Images to read of each part, evenly spread.

    Raises:
        InvalidArgument: there are no images, or one cannot be read.
    """
    below = _folders_in(folder)
    if below and all(one.name in _SPLITS for one in below):
        return {_SPLITS[one.name]: _part(one, _folders_in(one), size, most) for one in below}
    return {"all": _part(folder, below, size, most)}


def _part(folder: Path, classes: Sequence[Path], size: Size, most: int) -> Part:
    files = [
        (file, index)
        for index, one in enumerate(classes)
        for file in sorted(one.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise InvalidArgument(
            f"There are no images in '{folder}'. Expected a subfolder for each class, with "
            f"{', '.join(sorted(SUFFIXES))} files in it."
        )
    kept = np.unique(np.linspace(0, len(files) - 1, most).round().astype(int))
    chosen = [files[i] for i in kept] if len(files) > most else files
    x = np.stack([read_image(file, size) for file, _ in chosen])
    return Part(x, np.array([index for _, index in chosen], np.int64))


def read_image(file: Path, size: Size) -> np.ndarray:
    """One image, `size` as given, integers from 0 to 255."""
    Image = imported("PIL.Image", "Reading images needs")
    height, width, channels = size
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise InvalidArgument(
            f"The model takes {channels} channels. Expected 1, 3 or 4 for images of a folder."
        )
    try:
        with Image.open(file) as image:
            resized = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
    except OSError as error:
        raise InvalidArgument(f"The image '{file}' cannot be read: {error}.") from error
    return np.asarray(resized, np.uint8).reshape(size)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
