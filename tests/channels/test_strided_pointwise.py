"""Strided 1x1 convolutions keep 16 input channels where oneDNN would corrupt memory below that."""

from __future__ import annotations

import keras
import pytest
from helpers import one_line
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace


def shortcut(stride=2, size=1):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", name="wide")(inputs)
    x = layers.Conv2D(6, size, strides=stride, name="shortcut")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def least(model):
    (group,) = [g for g in trace(model).groups if g.members[0].path == "wide"]
    return group.least


@pytest.fixture
def onednn_on(monkeypatch):
    """On a machine without a GPU, whatever this one has."""
    if keras.config.backend() == "torch":
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with torch.backends.mkldnn.flags(enabled=True):
            yield
        return
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        monkeypatch.setattr(tf.config, "list_physical_devices", lambda *kind: [])
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    yield


@pytest.mark.needs_tensorflow("the limit is TensorFlow's")
def test_on_tensorflow_without_a_gpu_sixteen_channels_stay(onednn_on, monkeypatch):
    assert least(shortcut()) == 16
    assert least(shortcut(stride=1)) == least(shortcut(size=3)) == 1
    assert "strided 1x1 convolutions" in one_line(
        keras_gcp.plan(shortcut(), {"macs": 0.7}).explain()
    )
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert least(shortcut()) == 1


@pytest.mark.not_on("tensorflow", "the limit is PyTorch's")
@pytest.mark.not_on("jax", "the limit is PyTorch's")
def test_on_pytorch_onednn_decides(onednn_on):
    import torch

    assert least(shortcut()) == 16
    with torch.backends.mkldnn.flags(enabled=False):
        assert least(shortcut()) == 1
