"""Every callback that Keras ships works through events of pruning, or is refused at once.

In both orders in the list, the fast tests mostly in one: what stands behind the pruning callback
sees the narrow model at the beginning of an epoch, and the costs in the logs at its end.
"""

from __future__ import annotations

import csv
import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path

import keras
import networks
import numpy as np
import pytest
from fitting import ONE_STEP, Watch, compiled, data, fit, pruning, slots_of, weights_of
from helpers import flat_outputs

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument

EPOCHS, EVENTS, LAST_EVENT = 5, [1, 3], 3
COSTS = {"macs_left", "parameters_left", "channels_left"}

in_both_orders = pytest.mark.parametrize(
    "behind",
    [pytest.param(False, id="before", marks=pytest.mark.slow), pytest.param(True, id="behind")],
)


@dataclass
class Training:
    """A training with two events."""

    model: keras.Model
    pruner: keras_gcp.GradualChannelPruning
    history: dict
    watch: Watch


def train(other_callbacks, behind, reset="auto", **options):
    """A training in which other_callbacks stand before or behind the pruning callback."""
    model = compiled(networks.sequential(), run_eagerly=True)
    schedule = keras_gcp.schedules.linear(*EVENTS, every=2)
    pruner = pruning({"channels": 0.5}, schedule, reset=reset)
    watch = Watch()
    order = [pruner, *other_callbacks] if behind else [*other_callbacks, pruner]
    history = fit(model, [*order, watch], EPOCHS, ONE_STEP, **options)
    assert [event.epoch for event in pruner.events] == EVENTS[: len(pruner.events)]
    assert all(event.removed_channels for event in pruner.events)
    return Training(model, pruner, history.history, watch)


# ---- one check for each callback that has nothing to do with shapes


def csv_logger(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.csv"
    yield keras.callbacks.CSVLogger(path)
    done, behind = yield
    with path.open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], done.history["loss"])
    assert set(rows[0]) >= COSTS if behind else not COSTS & set(rows[0])


def history_callback(tmp_path, monkeypatch, capsys):
    callback = keras.callbacks.History()
    yield callback
    _, behind = yield
    assert callback.epoch == list(range(EPOCHS))
    assert set(callback.history) >= COSTS if behind else not COSTS & set(callback.history)


def lambdas(tmp_path, monkeypatch, capsys):
    seen = []
    yield keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("begin", epoch)),
        on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"]) > 0),
        on_epoch_end=lambda epoch, logs: seen.append(("end", set(logs) >= COSTS)),
    )
    _, behind = yield
    one_epoch = [True, ("end", behind)]
    assert seen == [entry for epoch in range(EPOCHS) for entry in [("begin", epoch), *one_epoch]]


def learning_rate_scheduler(tmp_path, monkeypatch, capsys):
    yield keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    done, _ = yield
    rates = [0.1 / (epoch + 1) for epoch in range(EPOCHS)]
    np.testing.assert_allclose(done.history["learning_rate"], rates, rtol=1e-6)
    assert float(done.model.optimizer.learning_rate) == pytest.approx(rates[-1])


def progress_bar(tmp_path, monkeypatch, capsys):
    yield keras.callbacks.ProgbarLogger()
    _, behind = yield
    printed = capsys.readouterr().out
    assert f"Epoch {EPOCHS}/{EPOCHS}" in printed and "accuracy" in printed
    assert ("channels_left: 0.5" in printed) == behind


def reduce_on_plateau(tmp_path, monkeypatch, capsys):
    # A figure that never gets better, so that the rate falls after every epoch but the first.
    yield keras.callbacks.ReduceLROnPlateau("learning_rate", mode="max", factor=0.5, patience=1)
    done, _ = yield
    rates = [0.05, 0.05, 0.025, 0.0125, 0.00625]
    np.testing.assert_allclose(done.history["learning_rate"], rates, rtol=1e-6)
    assert float(done.model.optimizer.learning_rate) == pytest.approx(0.003125)


def remote_monitor(tmp_path, monkeypatch, capsys):
    requests = pytest.importorskip("requests")
    sent = []
    monkeypatch.setattr(requests, "post", lambda url, json, headers: sent.append(json))
    yield keras.callbacks.RemoteMonitor("http://localhost:1", send_as_json=True)
    _, behind = yield
    sent = [json.loads(json.dumps(one)) for one in sent]
    assert [one["epoch"] for one in sent] == list(range(EPOCHS))
    assert all((set(one) >= COSTS) == behind for one in sent)


def tensor_board(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    yield keras.callbacks.TensorBoard(
        tmp_path, histogram_freq=1, write_graph=True, write_images=True, update_freq=1
    )
    done, behind = yield
    written = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    tags = set(written.Tags()["tensors"])
    kernels = [f"plain_sequential/{name}/kernel/histogram" for name in "ab"]
    for tag in ("epoch_loss", *kernels):
        assert [event.step for event in written.Tensors(tag)] == list(range(EPOCHS))
    for number, tag in ((0, kernels[0]), (6, kernels[1])):
        for weights, event in zip(done.watch.weights, written.Tensors(tag), strict=True):
            counts = tensor_util.make_ndarray(event.tensor_proto)[:, 2]
            assert counts.sum() == weights[number].size  # histogram of the narrow kernel
    assert ("epoch_macs_left" in tags) == behind


def terminate_on_nan(tmp_path, monkeypatch, capsys):
    yield keras.callbacks.TerminateOnNaN()
    done, _ = yield
    assert len(done.history["loss"]) == EPOCHS


UNCONCERNED = {
    "CSVLogger": csv_logger,
    "History": history_callback,
    "LambdaCallback": lambdas,
    "LearningRateScheduler": learning_rate_scheduler,
    "ProgbarLogger": progress_bar,
    "ReduceLROnPlateau": reduce_on_plateau,
    "RemoteMonitor": remote_monitor,
    "TensorBoard": tensor_board,
    "TerminateOnNaN": terminate_on_nan,
}
TESTED_BELOW = {
    "BackupAndRestore",
    "EarlyStopping",
    "ModelCheckpoint",
    "OrbaxCheckpoint",
    "SwapEMAWeights",
}
BASE_CLASSES = {"Callback", "CallbackList"}


def test_every_callback_of_keras_is_decided_on():
    shipped = {
        name
        for name, value in inspect.getmembers(keras.callbacks, inspect.isclass)
        if issubclass(value, keras.callbacks.Callback)
    }
    assert shipped == {*UNCONCERNED, *TESTED_BELOW, *BASE_CLASSES}
    page = (Path(__file__).resolve().parents[2] / "docs" / "callbacks.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert rows == shipped - BASE_CLASSES


# What the callback sees depends on the order; the fast tests try both with what writes it down.
BOTH_ORDERS = [
    pytest.param(
        name,
        behind,
        id=f"{name}-{'behind' if behind else 'before'}",
        marks=[] if behind or name == "CSVLogger" else [pytest.mark.slow],
    )
    for name in UNCONCERNED
    for behind in (False, True)
]


@pytest.mark.parametrize(("name", "behind"), BOTH_ORDERS)
def test_callbacks_that_keep_no_weights_go_on(name, behind, tmp_path, monkeypatch, capsys):
    steps = UNCONCERNED[name](tmp_path, monkeypatch, capsys)
    callback = next(steps)
    assert type(callback) is getattr(keras.callbacks, name)
    next(steps)
    done = train([callback], behind, verbose=2 if name == "ProgbarLogger" else 0)
    assert len(done.pruner.events) == 2
    with pytest.raises(StopIteration):
        steps.send((done, behind))


@in_both_orders
def test_they_go_together_in_one_compiled_training(behind, tmp_path):
    other_callbacks = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "loss", save_best_only=True),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.TerminateOnNaN(),
    ]
    averaging = keras.optimizers.SGD(0.05, use_ema=True)
    model = compiled(networks.sequential(), averaging, run_eagerly=False)
    pruner = pruning({"channels": 0.5})
    fit(model, [pruner, *other_callbacks] if behind else [*other_callbacks, pruner])
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert trace(loaded).widths() == trace(model).widths() == pruner.plan.widths()


def test_training_that_stops_before_the_last_event_says_that_the_budget_is_not_met():
    class Diverge(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.set_weights([w * np.nan for w in self.model.get_weights()])

    with pytest.warns(UserWarning, match=r"budget is not met.*1 had not come when"):
        done = train([keras.callbacks.TerminateOnNaN(), Diverge()], behind=True)
    assert len(done.history["loss"]) == 3


# ---- callbacks that keep weights


@in_both_orders
def test_early_stopping_restores_exactly_the_weights_of_the_best_epoch_since_the_last_cut(behind):
    # With mode="max" and a falling loss the best epoch is the first one since the last cut.
    early = keras.callbacks.EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)
    done = train([early], behind)
    assert early.best_epoch == LAST_EVENT
    assert early.best == done.history["loss"][LAST_EVENT]
    for now, then in zip(weights_of(done.model), done.watch.weights[LAST_EVENT], strict=True):
        np.testing.assert_array_equal(now, then)


@in_both_orders
def test_checkpoints_of_whole_models_load_with_the_width_of_their_epoch(behind, tmp_path):
    x, _ = data(seed=2)
    expected, parameters = [], []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            expected.extend(flat_outputs(self.model, x))
            parameters.append(self.model.count_params())

    every = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "loss", mode="max", save_best_only=True
    )
    done = train([every, best, Record()], behind)
    assert parameters[0] > parameters[1] == parameters[2] > parameters[3] == parameters[4]
    assert parameters[4] == done.pruner.plan.after.parameters
    for name, epoch in [*((str(epoch + 1), epoch) for epoch in range(EPOCHS)), ("best", 3)]:
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        assert loaded.count_params() == parameters[epoch]
        np.testing.assert_array_equal(*flat_outputs(loaded, x), expected[epoch])


@in_both_orders
def test_checkpoints_of_weights_fit_the_architecture_of_their_epoch_and_no_other(behind, tmp_path):
    every = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True, save_best_only=False
    )
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5",
        "loss",
        mode="max",
        save_weights_only=True,
        save_best_only=True,
    )
    done = train([every, best], behind)
    original = networks.sequential()

    done.model.load_weights(tmp_path / "best.weights.h5")
    for now, then in zip(weights_of(done.model), done.watch.weights[LAST_EVENT], strict=True):
        np.testing.assert_array_equal(now, then)
    with pytest.raises(ValueError, match=r"objects could not be loaded|expected .*shape"):
        done.model.load_weights(tmp_path / "1.weights.h5")
    original.load_weights(tmp_path / "1.weights.h5")
    narrow = keras_gcp.apply(original, done.pruner.plan)
    narrow.load_weights(tmp_path / f"{EPOCHS}.weights.h5")
    for now, then in zip(weights_of(narrow), done.watch.weights[-1], strict=True):
        np.testing.assert_array_equal(now, then)


def test_figures_to_beat_are_forgotten_at_a_cut_where_asked_for_or_where_files_are_kept(tmp_path):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", mode="max", patience=9)
    left_alone = keras.callbacks.ReduceLROnPlateau("loss", mode="max", patience=9)
    done = train([plateau, left_alone], behind=True, reset=[plateau])
    assert plateau.best == max(done.history["loss"][LAST_EVENT:])
    assert left_alone.best == max(done.history["loss"]) > plateau.best

    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.keras", "loss", save_best_only=True, initial_value_threshold=0.0
    )
    train([best], behind=False)
    assert not (tmp_path / "1.keras").exists() and (tmp_path / "2.keras").exists()


@in_both_orders
def test_orbax_checkpoints_of_the_best_model_are_those_since_the_last_cut(behind, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    best = keras.callbacks.OrbaxCheckpoint(
        tmp_path / "orbax", "loss", mode="max", save_best_only=True, save_on_background=False
    )
    done = train([best], behind)
    assert best.best == done.history["loss"][LAST_EVENT]
    done.model.load_weights(tmp_path / "orbax")
    for now, then in zip(weights_of(done.model), done.watch.weights[LAST_EVENT], strict=True):
        np.testing.assert_array_equal(now, then)


@in_both_orders
def test_backup_and_restore_is_refused_before_training(behind, tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model = compiled(networks.sequential(), run_eagerly=True)
    pruner, before = pruning(), weights_of(model)
    refused = [pruner, backup] if behind else [backup, pruner]
    with pytest.raises(InvalidArgument, match=r"BackupAndRestore.*`.*backup_dir=...\)`"):
        fit(model, refused)
    for then, now in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(then, now)
    assert not list(tmp_path.rglob("*.h5"))

    fit(model, [pruner])  # The list of before is still there, but of no concern.
    assert len(pruner.events) == 1 and len(refused) == 2


# ---- averaged weights


def ema():
    return keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.5)


class InTheEvent(keras.callbacks.Callback):
    """The weights that were trained, just before and just after the event before epoch 1."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 0:
            self.before = weights_of(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == 1 and batch == 0:
            self.weights, self.slots = weights_of(self.model), slots_of(self.model)


@pytest.mark.parametrize(
    ("on_epoch", "behind"),
    [
        pytest.param(False, True, id="in_validation-behind"),
        pytest.param(True, False, id="on_epoch-before"),
        # Each half of these is in one of the above.
        pytest.param(False, False, id="in_validation-before", marks=pytest.mark.slow),
        pytest.param(True, True, id="on_epoch-behind", marks=pytest.mark.slow),
    ],
)
def test_swapped_averages_are_cut_with_the_weights_and_training_goes_on(behind, on_epoch):
    def swap():
        return keras.callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)

    model = compiled(networks.sequential(), ema(), run_eagerly=True)
    pruner, event = pruning(), InTheEvent()
    order = [pruner, swap()] if behind else [swap(), pruner]
    options = {"examples": ONE_STEP, "validation_data": data(seed=1)}
    history = fit(model, [*order, event], **options).history

    # The weights in training were cut, not their averages: only rounding by the swap is left.
    kept = pruner.plan.kept("a")
    assert len(kept) < 8
    np.testing.assert_allclose(event.weights[0], event.before[0][..., kept], atol=1e-6)

    fresh = compiled(keras.Sequential.from_config(model.get_config()), ema(), run_eagerly=True)
    fresh.set_weights(event.weights)
    fresh.optimizer.build(fresh.trainable_variables)
    for variable, value in zip(fresh.optimizer.variables, event.slots, strict=True):
        variable.assign(value)
    of_fresh = fit(fresh, [swap()], initial_epoch=1, **options).history
    assert history["val_loss"][1:] == of_fresh["val_loss"]
    for ours, theirs in zip(weights_of(model), weights_of(fresh), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x, y = data(seed=1)
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(x, y, verbose=0)[0], rel=1e-5)


# ---- callbacks of one's own


class Looks(keras.callbacks.Callback):
    """Holds on to layers, weights and a part of the model, and runs model and part."""

    def on_train_begin(self, logs=None):
        self.layers = list(self.model.layers)
        self.kernel = self.model.get_layer("a").kernel
        self.part = keras.Model(self.model.inputs, self.model.get_layer("bn").output)
        self.widths = []

    def on_epoch_begin(self, epoch, logs=None):
        self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()
        assert self.widths[-1] == (self.kernel.shape[-1],) * 2 == (self.layers[0].filters,) * 2

    def _look(self):
        x, y = data(seed=3)
        maps = self.part.predict(keras.tree.pack_sequence_as(self.part.input, [x]), verbose=0)
        np.testing.assert_array_equal(self.model.predict(x, verbose=0).shape, (len(x), 4))
        loss, _ = self.model.evaluate(x, y, verbose=0)
        by_hand = keras.losses.sparse_categorical_crossentropy(y, *flat_outputs(self.model, x))
        assert loss == pytest.approx(float(np.mean(keras.ops.convert_to_numpy(by_hand))), rel=1e-4)
        self.widths.append((maps.shape[-1], self.part.output.shape[-1]))


@in_both_orders
def test_callbacks_that_hold_on_to_layers_and_submodels_see_the_narrow_ones(behind):
    model, looks = compiled(networks.sequential()), Looks()
    pruner = pruning({"channels": 0.7})
    fit(model, [pruner, looks] if behind else [looks, pruner], epochs=2)
    narrow = trace(model).widths()["a"]
    assert narrow < 8
    at_the_event = narrow if behind else 8
    assert [width for width, _ in looks.widths] == [8, 8, at_the_event, narrow]


def test_layers_that_a_callback_unfreezes_without_compiling_are_named_at_the_next_event():
    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.get_layer("a").trainable = True

    model = networks.sequential()
    model.get_layer("a").trainable = False
    with pytest.raises(InvalidArgument, match=r"does not know.*/a/kernel.*model\.compile"):
        fit(compiled(model), [pruning(), Unfreeze()], examples=ONE_STEP)
    assert model.get_layer("a").filters == 8
