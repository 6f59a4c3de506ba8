"""Which data sets there are, and where they come from. Imports no Keras: help lists their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and which augmentation leaves its classes alone."""

    classes: int
    pad: int
    flip: bool
    keras_module: str | None = None
    cache_files: tuple[str, ...] = ()  # below Keras's cache, as Keras names them


SOURCES = {
    "digits": Source(classes=10, pad=1, flip=False),
    "fashion_mnist": Source(
        classes=10,
        pad=2,
        flip=False,
        keras_module="fashion_mnist",
        cache_files=tuple(
            f"datasets/fashion-mnist/{part}-ubyte.gz"
            for part in ("train-images-idx3", "train-labels-idx1")
            + ("t10k-images-idx3", "t10k-labels-idx1")
        ),
    ),
    "cifar10": Source(
        classes=10,
        pad=4,
        flip=True,
        keras_module="cifar10",
        cache_files=("datasets/cifar-10-batches-py-target_archive (cifar-10-python.tar.gz)",),
    ),
    "cifar100": Source(
        classes=100,
        pad=4,
        flip=True,
        keras_module="cifar100",
        cache_files=("datasets/cifar-100-python-target_archive (cifar-100-python.tar.gz)",),
    ),
}


def names() -> tuple[str, ...]:
    """Names that `load` knows."""
    return tuple(SOURCES)
