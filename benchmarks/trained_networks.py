"""Trained networks with their data, for benchmarks of what a cut does to them.

Networks and images lie beside the repository, or in the folders that KERAS_GCP_TRAINED and
KERAS_GCP_DATA name; KERAS_GCP_RESNET20 names the file of that network. Small networks on
scikit-learn's digits are trained here, in seconds, and kept in a cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import digits_networks
from benchmarks.data import BESIDE, Missing, cifar10, existing, imagenette, script
from benchmarks.data import FOLDER as DATA

FOLDER = Path(os.environ.get("KERAS_GCP_TRAINED", BESIDE / "models"))
OWN = Path(__file__).parent / "networks"
"""Networks that were trained by these benchmarks, and are kept with them."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and its data.

    Attributes:
        build: Makes the compiled model; its first metric is what counts.
        x_sample: Images to draw a sample from.
        y_sample: Their labels.
        x_test: Images to measure on.
        y_test: Their labels.
    """

    build: Callable[[], Any]
    x_sample: np.ndarray
    y_sample: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def resnet8() -> keras.Model:
    """MLPerf Tiny's ResNet-8, 87.19 % on the test images of CIFAR-10; not compiled."""
    return keras.models.load_model(existing(FOLDER / "resnet8_cifar10.h5"), compile=False)


def efficientnet_lite0(classes: int) -> Any:
    """ImageNet's EfficientNet-Lite0 at 160 pixels, with ten or a thousand logits; not compiled."""
    path = existing(FOLDER / "efficientnet_lite0_imagenet.keras")
    network, size = script(FOLDER, "efficientnet_lite0"), (160, 160, 3)
    model = keras.models.load_model(path, compile=False)
    if classes != 10:
        return network.resize_input(model, size)
    index = script(DATA, "unpack_imagenette").IMAGENET_INDEX
    return network.select_classes(model, index, size)


def _compiled(model: Any, from_logits: bool = False) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


def _resnet8(limit: int | None) -> Trained:
    found = cifar10()
    x_test, y_test = found.x_test[:limit], found.y_test[:limit]
    return Trained(lambda: _compiled(resnet8()), found.x_train, found.y_train, x_test, y_test)


def _resnet20(limit: int | None) -> Trained:
    """Trained by these benchmarks for 8 epochs: standardised images."""
    path = _resnet20_path()
    found = cifar10(standardise=True)

    def build() -> Any:
        return _compiled(keras.models.load_model(path, compile=False))

    x_test, y_test = found.x_test[:limit], found.y_test[:limit]
    return Trained(build, found.x_train, found.y_train, x_test, y_test)


def _resnet20_path() -> Path:
    name = "resnet20_cifar10.keras"
    if "KERAS_GCP_RESNET20" in os.environ:
        return existing(Path(os.environ["KERAS_GCP_RESNET20"]))
    places = [folder / name for folder in (FOLDER, OWN) if (folder / name).exists()]
    if not places:
        raise Missing(f"{name} is neither in {FOLDER} nor in {OWN}.")
    return places[0]


def _efficientnet(limit: int | None, classes: int) -> Trained:
    """ImageNet's EfficientNet-Lite0 at 160 pixels, best of ten logits or of a thousand."""
    images, (x, y, x_test, y_test) = imagenette(1000, limit or 2000)

    def build() -> Any:
        return _compiled(efficientnet_lite0(classes), from_logits=True)

    if classes != 10:
        y, y_test = images.IMAGENET_INDEX[y], images.IMAGENET_INDEX[y_test]
    return Trained(build, images.preprocess(x), y, images.preprocess(x_test), y_test)


def _vww(limit: int | None) -> Trained:
    """MLPerf Tiny's MobileNet for visual wake words: how often its own answers stay the same."""

    def build() -> Any:
        return _compiled(_load_vww())

    model = build()
    _, (x, _, x_test, _) = imagenette(1000, limit or 2000)
    x, x_test = (_at_96(part) for part in (x, x_test))
    y, y_test = (
        model.predict(part, batch_size=100, verbose=0).argmax(axis=-1) for part in (x, x_test)
    )
    return Trained(build, x, y, x_test, y_test)


class _OldDepthwise(keras.layers.DepthwiseConv2D):
    """As an old Keras saved it, with an entry that the present one does not know."""

    def __init__(self, *arguments: Any, groups: int = 1, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)


def _load_vww() -> Any:
    known = {"DepthwiseConv2D": _OldDepthwise}
    path = existing(FOLDER / "vww_96.h5")
    old = keras.models.load_model(path, compile=False, custom_objects=known)

    def plain(layer: Any) -> Any:
        if isinstance(layer, _OldDepthwise):
            return keras.layers.DepthwiseConv2D.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    model = keras.models.clone_model(old, clone_function=plain)
    model.set_weights(old.get_weights())
    return model


def _at_96(images: np.ndarray) -> np.ndarray:
    resized = [
        keras.ops.convert_to_numpy(keras.ops.image.resize(part.astype(np.float32), (96, 96)))
        for part in np.array_split(images, max(1, len(images) // 200))
    ]
    return np.concatenate(resized) / 255.0


def _digits(name: str, limit: int | None) -> Trained:
    x, y, x_test, y_test = digits_networks.data()

    def build() -> Any:
        return _compiled(digits_networks.trained(name))

    return Trained(build, x, y, x_test[:limit], y_test[:limit])


NETWORKS: Mapping[str, Callable[[int | None], Trained]] = {
    "resnet8": _resnet8,
    "resnet20": _resnet20,
    "lite0_10": lambda limit: _efficientnet(limit, 10),
    "lite0_1000": lambda limit: _efficientnet(limit, 1000),
    "vww": _vww,
    **{name: (lambda limit, name=name: _digits(name, limit)) for name in digits_networks.NETWORKS},
}
"""Name to the network with its data; the argument bounds the test images."""
