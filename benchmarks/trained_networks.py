"""Trained networks that lie beside the repository, or in the folder KERAS_GCP_TRAINED names."""

from __future__ import annotations

import os
from pathlib import Path

import keras

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "models"
FOLDER = Path(os.environ.get("KERAS_GCP_TRAINED", _BESIDE))


def resnet8() -> keras.Model:
    """MLPerf Tiny's ResNet-8, 87.19 % on the test images of CIFAR-10; not compiled."""
    return keras.models.load_model(FOLDER / "resnet8_cifar10.h5", compile=False)
