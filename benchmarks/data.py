"""CIFAR-10 and Imagenette for benchmarks, from the folder beside the repository.

KERAS_GCP_DATA names another folder. Without one, CIFAR-10 is what Keras downloads.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from examples.datasets import Data, load, standardised

BESIDE = Path(__file__).resolve().parents[2] / "shared"
FOLDER = Path(os.environ.get("KERAS_GCP_DATA", BESIDE / "data"))


class Missing(RuntimeError):
    """A network or its data are not on this machine."""


def cifar10(standardise: bool = False) -> Data:
    """CIFAR-10: pixels from 0 to 255, or standardised as `examples.datasets.load` does it."""
    if not (FOLDER / "unpack_cifar10.py").exists():
        return load("cifar10", standardise=standardise)
    (x, y), (x_test, y_test) = script(FOLDER, "unpack_cifar10").load_data()
    x, x_test = x.astype(np.float32), x_test.astype(np.float32)
    if standardise:
        x, x_test = standardised(x, x_test)
    y, y_test = (part.reshape(-1).astype(np.int32) for part in (y, y_test))
    return Data("cifar10", x, y, x_test, y_test, classes=10, pad=4, flip=True)


def imagenette(train: int, test: int) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The script of the images, and `x, y, x_test, y_test` as bytes at 160 pixels."""
    images = script(FOLDER, "unpack_imagenette")
    x, y, _ = images.load_part("train", str(FOLDER), train)
    x_test, y_test, _ = images.load_part("val", str(FOLDER), test)
    return images, (x, y, x_test, y_test)


def script(folder: Path, name: str) -> Any:
    """A Python file that lies beside data or networks, as a module.

    Raises:
        Missing: there is none.
    """
    existing(folder / f"{name}.py")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module(name)


def existing(path: Path) -> Path:
    """The path, if something is there.

    Raises:
        Missing: there is nothing.
    """
    if not path.exists():
        raise Missing(f"{path} is not there.")
    return path
