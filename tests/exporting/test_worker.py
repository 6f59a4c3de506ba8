"""Native code runs in a process of its own: what ends that one is an error in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning
from keras import layers

import keras_gcp
from keras_gcp.errors import UnsupportedModel
from keras_gcp.exporting import export, latency, worker
from keras_gcp.exporting.worker import RemoteError, WorkerDied, WorkerNotStarted, in_worker
from keras_gcp.resources import file_size

ROOT = Path(__file__).parent.parent.parent
tensorflow_only = pytest.mark.needs_tensorflow("it writes TFLite files")


class Doubled(layers.Layer):
    """A loop that no layer of Keras makes."""

    def call(self, x):
        return keras.ops.map(lambda row: row * 2.0, x)


def sequence_network(*middle, shape=(8, 3), name="sequence"):
    first = layers.Conv1D(4, 3) if len(shape) == 2 else layers.Conv2D(4, 3)
    if len(shape) == 4:
        first = layers.TimeDistributed(first)
    return keras.Sequential([keras.Input(shape), first, *middle, layers.Dense(2)], name=name)


def examples_of(model, count=4):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def test_one_process_answers_all_calls_and_sees_no_accelerator(monkeypatch):
    first = in_worker(os.getpid)
    assert in_worker(os.getpid) == first != os.getpid()
    assert in_worker(os.getenv, "CUDA_VISIBLE_DEVICES") == "-1"
    assert in_worker(os.getenv, "KERAS_BACKEND") == keras.backend.backend()
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(in_worker(np.flip, array), np.flip(array))


def test_relative_paths_start_from_the_folder_that_this_process_works_in(tmp_path, monkeypatch):
    first = in_worker(os.getpid)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        in_worker(Path("file").write_text, name)
        assert (tmp_path / name / "file").read_text() == name
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    assert in_worker(Path.read_text, tmp_path / "one" / "file") == "one"
    assert in_worker(os.getpid) == first


def test_exceptions_arrive_with_what_was_printed_and_the_process_stays():
    first = in_worker(os.getpid)
    with pytest.raises(KeyError, match="missing") as raised:
        in_worker(exec, "import os; os.write(2, b'the reason'); raise KeyError('missing')")
    assert "the reason" in raised.value.__notes__[0]
    with pytest.raises(RemoteError, match="JSONDecodeError: Expecting value") as raised:
        in_worker(json.loads, "?")
    assert (raised.value.kind, worker.in_words(raised.value)) == (
        "JSONDecodeError",
        str(raised.value),
    )
    assert in_worker(os.getpid) == first


def test_its_death_is_an_error_and_the_next_call_has_another_one(capfd):
    first = in_worker(os.getpid)
    with pytest.raises(WorkerDied, match="was ended by signal SIGABRT.*this one goes on"):
        in_worker(os.abort)
    assert in_worker(os.getpid) != first
    assert capfd.readouterr() == ("", "")


def test_files_on_which_the_interpreter_dies_are_named(tmp_path, monkeypatch):
    """No file is known that does it; so the measurement is one that dies by itself."""
    (tmp_path / "a.tflite").touch()
    monkeypatch.setattr("keras_gcp.exporting.timing._latency", os.abort)
    monkeypatch.setattr("keras_gcp.exporting.timing.in_worker", lambda dies, *_: in_worker(dies))
    with pytest.raises(UnsupportedModel, match=r"a.tflite' cannot be run.*SIGABRT"):
        latency(tmp_path / "a.tflite")


@tensorflow_only
def test_a_network_that_kills_the_converter_is_refused_with_its_loops_named(tmp_path):
    """TensorFlow 2.21 dies of a segmentation fault when it rounds loops to 8 bits."""
    model = sequence_network(
        layers.Bidirectional(layers.LSTM(2, return_sequences=True)), Doubled(name="own.loop")
    )
    with pytest.raises(UnsupportedModel) as refused:
        export(model, tmp_path, ["tflite_int8"], sample=examples_of(model))
    text = str(refused.value)
    assert "'sequence' cannot be converted to tflite_int8" in text and "SIGSEGV" in text
    for named in (
        *("'forward_lstm' (class LSTM)", "'backward_lstm' (class LSTM)"),
        *("'own.loop' (class Doubled)", "`unroll=True`", "'tflite_dynamic'", "'tflite_bytes'"),
    ):
        assert named in text
    assert list(tmp_path.iterdir()) == []


LOOPING = {
    "GRU": lambda: sequence_network(layers.GRU(3)),
    "LSTM": lambda: sequence_network(layers.LSTM(3, return_sequences=True), layers.GRU(2)),
    "SimpleRNN": lambda: sequence_network(layers.SimpleRNN(3)),
    "ConvLSTM2D": lambda: sequence_network(
        layers.ConvLSTM2D(2, 3), layers.GlobalAveragePooling2D(), shape=(3, 8, 8, 2)
    ),
    "StackedRNNCells": lambda: sequence_network(
        layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], name="StackedRNNCells")
    ),
    "Doubled": lambda: sequence_network(Doubled(name="own.loop"), layers.GlobalAveragePooling1D()),
}


@tensorflow_only
@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(LOOPING))
def test_every_layer_that_loops_is_refused_for_int8_and_nothing_else_happens(kind, tmp_path):
    model = LOOPING[kind]()
    with pytest.raises(UnsupportedModel, match=rf"SIGSEGV.*loops .*{kind}"):
        export(model, tmp_path, ["saved_model", "tflite_int8"], sample=examples_of(model))
    assert [path.name for path in tmp_path.iterdir()] == ["sequence_saved_model"]


@tensorflow_only
@pytest.mark.slow
def test_the_remedy_works_the_same_weights_unrolled(tmp_path):
    rolled = sequence_network(layers.GRU(3, name="gru"))
    unrolled = sequence_network(layers.GRU(3, unroll=True, name="gru"))
    unrolled.set_weights(rolled.get_weights())
    x = examples_of(rolled, 32)
    np.testing.assert_allclose(rolled(x), unrolled(x), atol=1e-6)
    (small,) = export(unrolled, tmp_path, ["tflite_int8"], sample=x)
    assert small.max_difference < 0.1
    (dynamic,) = export(rolled, tmp_path, ["tflite_dynamic"], sample=x)  # The other remedy.
    assert "WHILE" in dynamic.operators


@tensorflow_only
@pytest.mark.slow
@pytest.mark.parametrize("on_failure", ["raise", "skip"])
def test_a_budget_in_int8_bytes_of_such_a_network_is_refused_before_training(on_failure):
    model = sequence_network(layers.Conv1D(4, 3), layers.GRU(3, name="steps"))
    model.compile("adam", "mse")
    x = examples_of(model, 16)
    callback = keras_gcp.GradualChannelPruning(
        (x, x[:, 0, :2]),
        {"tflite_bytes_int8": 0.9},
        keras_gcp.schedules.one_shot(1),
        criterion="l2_norm",
        on_failure=on_failure,
    )
    before = model.get_weights()
    with pytest.raises(UnsupportedModel, match="SIGSEGV.*'steps'.*in a budget 'tflite_bytes'"):
        model.fit(x, x[:, 0, :2], epochs=2, verbose=0, callbacks=[callback])
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_converter_that_dies_at_an_event_is_a_skipped_event(monkeypatch):
    asked = []

    def weigh(model, kind, shapes=None):
        asked.append(kind)
        return 4000 + 4 * model.count_params() if len(asked) == 1 else in_worker(os.abort)

    monkeypatch.setattr(file_size, "converted_bytes", weigh)
    monkeypatch.setattr(worker, "prepare", lambda: None)  # Nothing that has to be imported.
    worker._end()
    monkeypatch.setattr("keras_gcp.resources.registry.require_environment", lambda budget: None)
    monkeypatch.setattr("keras_gcp.resources.require_environment", lambda budget: None)
    model = compiled(
        keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(4)]
        )
    )
    callback = pruning({"tflite_bytes": 0.8}, on_failure="skip", floor=1)
    with (
        pytest.warns(UserWarning, match="was skipped.*SIGABRT"),
        pytest.warns(UserWarning, match="budget is not met: tflite_bytes"),
    ):
        history = fit(model, [callback], examples=data(count=16))
    assert len(history.epoch) == 3 and not callback.events
    assert "WorkerDied" in callback.skipped[0].error


def test_it_ends_itself_when_idle_and_another_one_takes_its_place(monkeypatch):
    monkeypatch.setattr(worker, "IDLE", 0.1)
    worker._end()
    first = in_worker(os.getpid)
    time.sleep(0.5)
    assert in_worker(os.getpid) != first
    with pytest.raises(WorkerDied, match="ended itself twice"):
        in_worker(os._exit, 0)


def test_an_interruption_from_the_keyboard_leaves_no_answer_behind():
    first = in_worker(os.getpid)
    # What Python does at Ctrl-C; the signal itself is ignored in a shell's background jobs.
    earlier = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)  # by then it waits, on a busy machine too
        with pytest.raises(KeyboardInterrupt):
            in_worker(time.sleep, 30)
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert in_worker(os.getpid) != first


def test_where_no_process_can_be_started_it_is_said(tmp_path, monkeypatch):
    worker._end()
    with monkeypatch.context() as patch:
        patch.setattr(worker.spawn, "get_executable", lambda: "/no/such/python")
        with pytest.raises(WorkerNotStarted, match="could not be started.*/no/such/python"):
            in_worker(os.getpid)
    (tmp_path / "serving.py").write_text("raise SystemExit('forbidden here')")
    monkeypatch.setattr(worker.serving, "__file__", str(tmp_path / "serving.py"))
    with pytest.raises(WorkerNotStarted, match="It said: forbidden here"):
        in_worker(os.getpid)


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it_and_knows_the_errors_of_keras_gcp():
    code = (
        "import os; from keras_gcp.errors import InvalidArgument\n"
        "from keras_gcp.exporting.worker import in_worker; print(in_worker(os.getpid))\n"
        "raising = 'from keras_gcp.errors import *; raise InvalidArgument(1)'\n"
        "try: in_worker(exec, raising)\n"
        "except InvalidArgument: print('known')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    process, known = done.stdout.split()
    assert known == "known"
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)
