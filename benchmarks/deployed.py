"""Networks whose latency the benchmarks measure, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

import keras_gcp

NETWORKS: Mapping[str, Callable[[], Any]] = {
    "resnet20": lambda: keras_gcp.models.resnet20(input_shape=(32, 32, 3)),
    "mobilenet_v2": lambda: keras.applications.MobileNetV2(weights=None, input_shape=(224, 224, 3)),
    "resnet50": lambda: keras.applications.ResNet50(weights=None, input_shape=(224, 224, 3)),
}


def build(name: str) -> Any:
    """A network by name."""
    return NETWORKS[name]()
