"""What is read from a file is what was counted of the model that is in it."""

from __future__ import annotations

import helpers
import networks
import pytest

from keras_gcp import resources
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import count_map
from keras_gcp.exporting import export
from keras_gcp.exporting.file_graph import FileCall, FileGraph, FileTensor
from keras_gcp.exporting.onnx_graph import read_onnx
from keras_gcp.exporting.tflite_graph import read_tflite
from keras_gcp.resources.tflite_files import as_if_trained, write_file

PEAK = ("peak_activation_bytes", "peak_activation_bytes_int8")
SPLIT_UP = {"squeeze_excite", "autoencoder", "sequence"}
"""Their files have more operations, so more is in memory at the same time."""


def slow_but(*fast):
    marks = {name: [] if name in fast else [pytest.mark.slow] for name in networks.ALL}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


@pytest.mark.needs_tensorflow("it writes TFLite files")
@pytest.mark.parametrize("network", slow_but("residual", "autoencoder"))
def test_a_tflite_file_costs_what_its_model_does(network, tmp_path):
    model = as_if_trained(networks.ALL[network]())
    counted = count_map(trace(model), resources.counted(PEAK))
    write_file(model, tmp_path / "net.tflite")
    found = read_tflite(tmp_path / "net.tflite").costs()

    assert (found.macs, found.unknown) == (counted.macs, "")
    assert counted.weights <= found.parameters <= counted.parameters  # Normalizations are folded.
    assert found.peak_bytes >= counted.cost(PEAK[0])
    assert network in SPLIT_UP or found.peak_bytes == counted.cost(PEAK[0])


@pytest.mark.slow
@pytest.mark.needs_tensorflow("it writes TFLite files")
@pytest.mark.parametrize("kind", ["tflite_float16", "tflite_dynamic", "tflite_int8"])
def test_numbers_of_fewer_bits_are_as_many(kind, tmp_path):
    model = as_if_trained(networks.ALL["residual"]())
    counted = count_map(trace(model), resources.counted(PEAK))
    write_file(model, tmp_path / "net.tflite", kind)
    found = read_tflite(tmp_path / "net.tflite").costs()

    assert found.macs == counted.macs
    assert counted.weights <= found.parameters <= counted.parameters
    assert found.peak_bytes == counted.cost(PEAK[kind == "tflite_int8"])


@pytest.mark.needs_tensorflow("it writes ONNX files")
@pytest.mark.parametrize("network", slow_but("depthwise"))
def test_an_onnx_file_costs_what_its_model_does(network, tmp_path):
    model = as_if_trained(networks.ALL[network]())
    counted = count_map(trace(model))
    (file,) = export(model, tmp_path, ["onnx"], helpers.inputs_for(model, batch=32))
    found = read_onnx(file.path).costs()

    assert (found.macs, found.unknown) == (counted.macs, "")
    assert counted.weights <= found.parameters <= counted.parameters + 10  # Some constants.
    assert found.peak_bytes > 0


def graph(*calls, tensors):
    return FileGraph(dict(enumerate(tensors)), tuple(calls), (0,), (len(tensors) - 1,))


def tensor(*shape):
    return FileTensor("x", shape, "float32", 4)


def test_the_peak_is_what_lives_at_the_same_time():
    tensors = [tensor(1, 10), tensor(1, 20), tensor(1, 5), tensor(1, 5)]
    straight = graph(
        *(FileCall("A", (i,), (i + 1,)) for i in range(3)),
        tensors=tensors,
    )
    assert straight.costs().peak_bytes == 4 * (10 + 20)
    shortcut = graph(
        FileCall("A", (0,), (1,)),
        FileCall("A", (1,), (2,)),
        FileCall("A", (0, 2), (3,)),
        tensors=tensors,
    )
    assert shortcut.costs().peak_bytes == 4 * (10 + 20 + 5)


def test_what_cannot_be_counted_is_named():
    costs = graph(FileCall("WHILE", (0,), (1,), None), tensors=[tensor(1, 3), tensor(None, 3)])
    found = costs.costs()
    assert (found.macs, found.peak_bytes) == (None, None)
    assert "WHILE" in found.unknown and "open" in found.unknown


def test_costs_are_those_of_one_example():
    batch = graph(FileCall("A", (0,), (1,), 80), tensors=[tensor(4, 3), tensor(4, 3)])
    assert (batch.costs().macs, batch.costs().peak_bytes) == (20, 24)
