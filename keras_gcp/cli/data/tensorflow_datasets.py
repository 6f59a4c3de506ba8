"""A data set of TensorFlow Datasets, by its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gcp.cli.data.examples import Part
from keras_gcp.cli.data.images import Size
from keras_gcp.errors import InvalidArgument, in_short
from keras_gcp.extras import imported, require

PREFIX = "tfds:"
_HELD_OUT = ("test", "validation")


def read_tfds(name: str, size: Size | None, most: int) -> dict[str, Part]:
    """The first examples of its train and its test (or validation) split.

    Args:
        name: As `tensorflow_datasets.load` takes it.
        size: Height, width and channels of the model's input, to which images are resized; None
            where the model does not take images.
        most: Examples to read of each part.

    Raises:
        MissingPackage: the package is not installed.
        InvalidArgument: it cannot load the data set.
    """
    needing = f"`--data {PREFIX}{name}` needs"
    others = ", or pass an .npz file or a folder of images"
    require(["tensorflow_datasets"], needing, others)
    tfds = imported("tensorflow_datasets", needing)
    try:
        builder = tfds.builder(name)
        builder.download_and_prepare()
        held_out = next((one for one in _HELD_OUT if one in builder.info.splits), None)
        wanted = {"train": "train", "test": held_out} if held_out else {"train": "train"}
        return {part: _part(tfds, builder, split, size, most) for part, split in wanted.items()}
    except Exception as error:  # It raises what it likes, and what its downloads raise.
        raise InvalidArgument(
            f"tensorflow-datasets cannot load '{name}': {in_short(error)}"
        ) from error


def _part(tfds: Any, builder: Any, split: str, size: Size | None, most: int) -> Part:
    # A slice ("train[:2000]") would be refused where there are fewer.
    loaded = builder.as_dataset(split=split, as_supervised=True).take(most)
    pairs = list(tfds.as_numpy(loaded))
    x = np.stack([_fitted(np.asarray(image), size) for image, _ in pairs])
    return Part(x, np.array([label for _, label in pairs]))


def _fitted(image: np.ndarray, size: Size | None) -> np.ndarray:
    if size is None or image.ndim != 3 or image.shape == size or image.shape[2] not in (1, 3):
        return image
    Image = imported("PIL.Image", "Resizing images needs")
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    resized = picture.convert("L" if size[2] == 1 else "RGB").resize((size[1], size[0]))
    return np.asarray(resized, np.uint8).reshape(size)
