"""Costs: a mapping by resource, in which unknown multiply-adds are missing."""

import keras
import pytest
from keras import layers

import keras_gcp
from keras_gcp.costs.costs import Costs


def open_model():
    """Leaves the size of its images open."""
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def test_costs_are_a_mapping_by_resource():
    costs = Costs(10, 4, 2, {"tflite_bytes": 99.0}, activation_macs=3)
    assert dict(costs) == {"macs": 10, "parameters": 4, "channels": 2, "tflite_bytes": 99.0}
    assert costs == {"macs": 10, "parameters": 4, "channels": 2, "tflite_bytes": 99.0}
    assert costs != Costs(10, 4, 1, {"tflite_bytes": 99.0})
    assert (len(costs), costs["tflite_bytes"], costs.activation_macs) == (4, 99.0, 3)
    with pytest.raises(KeyError, match="latency_ms"):
        costs["latency_ms"]


def test_unknown_multiply_adds_are_missing():
    counted = keras_gcp.count(open_model())
    assert counted.macs is None and counted.cost("macs") is None
    assert "macs" not in counted and counted["parameters"] == 122
    assert str(counted).endswith("\nparameters: 122\nchannels: 4")
    sized = keras_gcp.count(open_model(), input_shape=(6, 6, 3))
    assert sized["macs"] == sized.cost("macs") == sized.macs == 16 * 27 * 4 + 8
    assert str(sized).endswith("\nmacs: 1,736\nparameters: 122\nchannels: 4")
