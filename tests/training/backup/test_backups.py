"""Backups: files whole or not at all, and a training that goes on as if it had not been killed."""

import contextlib
import copy
import errno
import functools
import json
import os
import random
import shutil
import warnings
import zipfile

import fitting
import keras
import networks
import numpy as np
import pytest
from fitting import compiled, data, pruning, slots_of, weights_of
from storage.test_locks import holder_of

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import BackupFailed, InvalidArgument
from keras_gcp.storage.locks import NoLocks
from keras_gcp.training.backup import saved_state
from keras_gcp.training.backup.folder import Backup, BackupFolder
from keras_gcp.training.backup.memories import memories_for
from keras_gcp.training.backup.saved_state import SavedIdentity
from keras_gcp.training.backup.state import check_identity

fit = functools.partial(fitting.fit, examples=data(count=32))  # two steps an epoch


def a_backup(number=0):
    return Backup({"number": number}, {"a": np.arange(6.0).reshape(2, 3) + number})


@pytest.fixture
def folder(tmp_path):
    folder = BackupFolder(tmp_path / "backups")
    for number in range(4):
        folder.write(number, a_backup(number))
    return folder


# ---- files


def test_the_last_two_backups_are_kept_and_the_newest_is_read(folder):
    assert [path.name for path in folder.files()] == ["backup-000003.zip", "backup-000002.zip"]
    newest = folder.newest()
    assert newest.state == {"number": 3}
    np.testing.assert_array_equal(newest.arrays["a"], a_backup(3).arrays["a"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint32", "bool", "int64"])
def test_arrays_come_back_bit_by_bit(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.dtype(dtype))
    folder = BackupFolder(tmp_path / "backups")
    folder.write(1, Backup({}, {"a": values, "b": values[0, 0]}))
    read = folder.newest().arrays
    assert read["a"].dtype == values.dtype and read["a"].tobytes() == values.tobytes()
    assert read["b"].shape == () and read["b"].tobytes() == values[0, 0].tobytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_backup_that_was_cut_off_is_passed_over_for_the_one_before(folder, share):
    newest = folder.files()[0]
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    with pytest.warns(UserWarning, match=r"'backup-000003.zip' \(.*'backup-000002.zip' is used"):
        assert folder.newest().state == {"number": 2}


def test_no_damaged_byte_of_a_backup_goes_unnoticed_or_stops_the_one_before(folder):
    newest = folder.files()[0]
    content = newest.read_bytes()
    expected = a_backup(3)
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        newest.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = folder.newest()
        number = read.state["number"]
        assert number in (2, 3)  # 3: bytes that mean nothing, such as the time of the file
        np.testing.assert_array_equal(read.arrays["a"], a_backup(number).arrays["a"])
    assert expected.state == {"number": 3}


def test_if_all_backups_are_damaged_nothing_is_guessed(folder):
    for path in folder.files():
        path.write_bytes(b"")
    with pytest.raises(BackupFailed, match=r"None of the backups .* Delete the folder"):
        folder.newest()


def test_a_backup_of_another_format_is_refused_by_its_number(folder):
    for path in folder.files():
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        (state,) = [name for name in content if name.endswith(".json")]
        content[state] = json.dumps({**json.loads(content[state]), "format": 1})
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with pytest.raises(BackupFailed, match="format 1, expected 2: another version of keras_gcp"):
        folder.newest()


def test_a_full_disk_leaves_the_backups_before(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupFailed, match=r"No space left.*still there: backup-000003.zip"):
        folder.write(4, a_backup(4))
    assert folder.newest().state == {"number": 3}
    assert not list(folder.path.glob("*.tmp"))


def test_what_a_killed_process_left_unfinished_is_removed_and_other_files_stay(folder):
    (folder.path / "unfinished-1.tmp").write_bytes(b"half")
    (folder.path / "notes.txt").write_text("mine")
    folder.write(4, a_backup(4))
    assert not list(folder.path.glob("*.tmp"))
    folder.clear()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_goes_with_the_last_backup(folder):
    folder.clear()
    assert not folder.path.exists()
    assert folder.newest() is None


@pytest.mark.parametrize("path", ["", "gs://bucket/backups", 5, b"backups", ["backups"], "a\0b"])
def test_paths_that_are_no_folders_are_refused_at_once(path):
    with pytest.raises(InvalidArgument, match="`backup_dir` expects"):
        pruning(backup_dir=path)


@pytest.mark.parametrize("on_failure", ["raise", "skip"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_first_epoch(tmp_path, on_failure):
    (tmp_path / "file").write_text("")
    begun = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    with pytest.raises(InvalidArgument, match=r"cannot be written to .*file/backups.*can be made"):
        callback = pruning(backup_dir=tmp_path / "file" / "backups", on_failure=on_failure)
        fit(compiled(networks.plain()), [callback, watch])
    assert not begun


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def read_only(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("keras_gcp.storage.locks.os.open", read_only)
    with pytest.raises(InvalidArgument, match="Read-only file system"):
        BackupFolder(tmp_path / "b").claim()


def test_another_process_keeps_its_folder_and_is_named(folder):
    folder.clear()
    path = folder.path
    path.mkdir()
    with holder_of(path / "in-use.lock") as process:
        (path / "backup-000007.zip").write_bytes(b"the other's")
        (path / f"unfinished-{process.pid}.tmp").write_bytes(b"the other's, half")
        theirs = sorted(path.iterdir())
        ours = BackupFolder(path)
        with pytest.raises(BackupFailed, match=rf"process {process.pid} on .*of its own"):
            ours.claim()
        with pytest.raises(BackupFailed, match=f"process {process.pid} on "):
            ours.write(1, a_backup(1))
        ours.clear()
        assert sorted(path.iterdir()) == theirs
        process.kill()
        process.wait()
        ours.write(8, a_backup(8))  # Nobody writes it any more.
    names = {file.name for file in path.iterdir()}
    assert names == {"backup-000007.zip", "backup-000008.zip", "in-use.lock"}


def test_where_there_are_no_locks_it_is_said_and_only_ones_own_unfinished_files_go(
    tmp_path, monkeypatch
):
    def none_here(path):
        raise NoLocks("[Errno 37] No locks available")

    monkeypatch.setattr("keras_gcp.training.backup.folder.lock", none_here)
    folder = BackupFolder(tmp_path)
    (tmp_path / "unfinished-1.tmp").write_bytes(b"of a process that may live")
    with pytest.warns(UserWarning, match="has no locks.*no other training has the same"):
        folder.write(1, a_backup(1))
    folder.write(2, a_backup(2))
    folder.clear()
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished-1.tmp"]


def test_a_folder_that_was_removed_meanwhile_is_made_again(folder):
    shutil.rmtree(folder.path)
    folder.write(9, a_backup(9))
    assert folder.newest().state == {"number": 9}


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="which is a file"):
        pruning(backup_dir=tmp_path / "file")


# ---- a training killed and started again


class Killed(BaseException):
    """Ends a fit as abruptly as an exception can."""


class KillAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self._epoch, self._batch, self._now = epoch, batch, None

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._now, batch) == (self._epoch, self._batch):
            raise Killed


def build(optimizer="adam", run_eagerly=True):
    """A network with dropout, so random states count, too."""
    keras.utils.set_random_seed(5)
    return compiled(networks.flatten_dense(), optimizer, run_eagerly=run_eagerly)


def train(
    folder=None, kill=None, epochs=6, other_callbacks=(), before=(), fit_options=None, **options
):
    """One training, perhaps killed at (epoch, batch); model, callback and history."""
    options.setdefault("schedule", keras_gcp.schedules.linear(1, 3))
    model = build(options.pop("optimizer", "adam"), options.pop("run_eagerly", True))
    callback = pruning(
        options.pop("budget", {"channels": 0.5}),
        criterion=options.pop("criterion", "feature_relevance"),
        backup_dir=folder,
        **options,
    )
    callbacks = [*before, callback, *other_callbacks, *([KillAt(*kill)] if kill else [])]
    if kill:
        with pytest.raises(Killed):
            fit(model, callbacks, epochs=epochs)
        return model, callback, None
    history = fit(model, callbacks, epochs=epochs, **(fit_options or {}))
    return model, callback, history.history


@pytest.fixture(scope="module")
def uninterrupted():
    model, callback, history = train()
    return weights_of(model), slots_of(model), callback, history


def assert_equal_arrays(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def without_seconds(events):
    return [{**event.to_dict(), "seconds": None} for event in events]


@pytest.mark.parametrize(
    "kill",
    [(0, 1), (2, 0), *(pytest.param(kill, marks=pytest.mark.slow) for kill in ((1, 0), (4, 1)))],
    ids=str,
)
def test_a_resumed_training_ends_bit_equal_to_an_uninterrupted_one(kill, uninterrupted, tmp_path):
    weights, slots, callback, history = uninterrupted
    train(tmp_path / "b", kill)
    model, resumed, its_history = train(tmp_path / "b")
    assert_equal_arrays(weights_of(model), weights)
    assert_equal_arrays(slots_of(model), slots)
    assert its_history == history  # of all epochs, those before the restart included
    assert resumed.plan.to_json() == callback.plan.to_json()
    assert without_seconds(resumed.events) == without_seconds(callback.events)
    assert not (tmp_path / "b").exists()  # A training that ends removes its backups.


def test_a_training_of_traced_steps_is_resumed_bit_equal(tmp_path):
    """With the optimizer state as it was, though all is traced again in the new process."""
    options = {
        "schedule": keras_gcp.schedules.one_shot(1),
        "criterion": "l2_norm",
        "run_eagerly": False,
        "epochs": 3,
    }
    expected, _, history = train(**options)
    train(tmp_path / "b", (2, 0), **options)
    model, _, its_history = train(tmp_path / "b", **options)
    assert_equal_arrays(weights_of(model), weights_of(expected))
    assert_equal_arrays(slots_of(model), slots_of(expected))
    assert its_history == history


@pytest.mark.slow
def test_a_training_may_be_killed_again_and_again(uninterrupted, tmp_path):
    for kill in [(1, 1), (2, 1), (2, 0), (5, 1)]:
        train(tmp_path / "b", kill)
    model, _, history = train(tmp_path / "b")
    assert_equal_arrays(weights_of(model), uninterrupted[0])
    assert history == uninterrupted[3]


def test_a_killed_training_with_events_within_epochs_ends_bit_equal(tmp_path):
    schedule = keras_gcp.schedules.linear(2, 8, 3, unit="step")
    options = {"schedule": schedule, "criterion": "l2_norm"}
    expected, callback, _ = train(**options)
    train(tmp_path / "b", (3, 0), **options)
    model, resumed, _ = train(tmp_path / "b", **options)
    assert_equal_arrays(weights_of(model), weights_of(expected))
    assert [e.step for e in resumed.events] == [e.step for e in callback.events] == [2, 5, 8]


KINDS_OF_EVENTS = {
    "plateaus, guarded and distilled": {
        "schedule": keras_gcp.schedules.on_plateau("loss", 1, min_delta=9.0, share=0.4, until=4),
        "guard": keras_gcp.AccuracyGuard(data(seed=1), 0.9),
        "distillation": keras_gcp.Distillation(),
    },
    "put together": {
        "schedule": keras_gcp.schedules.function(
            lambda t: {0.25: 0.01, 0.5: 0.5, 0.75: 0.99, 1.0: 1.0}[t],
            begin=1,
            end=4,
            min_step=0.1,
        ),
    },
    "refused": {
        "schedule": keras_gcp.schedules.linear(1, 4),
        "guard": keras_gcp.AccuracyGuard(data(seed=1), 0.3),
    },
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The budget is not met")
@pytest.mark.parametrize("name", sorted(KINDS_OF_EVENTS))
def test_every_kind_of_event_is_resumed_bit_equal(name, tmp_path, monkeypatch):
    options = KINDS_OF_EVENTS[name]
    if name == "refused":  # A network knows as much as it has weights.
        wide = build().count_params()
        share_left = lambda metric, model, *arguments: model.count_params() / wide  # noqa: E731
        monkeypatch.setattr("keras_gcp.training.measurements.value_of", share_left)
    expected, callback, history = train(**options)
    for kill in [(2, 0), (3, 1), (5, 0)]:
        train(tmp_path / "b", kill, **options)
    model, resumed, its_history = train(tmp_path / "b", **options)
    assert_equal_arrays(weights_of(model), weights_of(expected))
    assert_equal_arrays(slots_of(model), slots_of(expected))
    assert its_history == history
    assert without_seconds(resumed.events) == without_seconds(callback.events)
    assert resumed.skipped == callback.skipped
    assert len(callback.events) + len(callback.skipped) >= 2
    assert name != "refused" or callback.skipped


class ShuffledAtEpochBegin(keras.utils.PyDataset):
    """Draws the order of an epoch from NumPy's global random state when the epoch begins."""

    order = np.arange(48)  # Keras looks at a batch before.

    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = data()
        rows = self.order[16 * index : 16 * (index + 1)]
        return x[rows], y[rows]

    def on_epoch_begin(self):
        self.order = np.random.permutation(48)


@pytest.mark.slow
def test_a_data_set_that_shuffles_by_numpys_random_state_is_resumed_bit_equal(tmp_path):
    def start(kill=None, folder=tmp_path / "b"):
        model = build()
        callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 3), backup_dir=folder)
        with contextlib.suppress(Killed):
            callbacks = [callback, *([KillAt(*kill)] if kill else [])]
            model.fit(ShuffledAtEpochBegin(), epochs=5, verbose=0, callbacks=callbacks)
        return weights_of(model)

    expected = start(folder=None)
    start((3, 1))
    assert_equal_arrays(start(), expected)


def test_without_a_seed_the_sample_and_random_scores_are_those_from_before(tmp_path):
    def start(kill=None):
        model = build()
        callback = keras_gcp.GradualChannelPruning(
            keras_gcp.Sample(data(count=48), size=16),
            {"channels": 0.5},
            keras_gcp.schedules.linear(1, 3),
            criterion="random",
            selection={"align": 1},
            backup_dir=tmp_path / "b",
            verbose=0,
        )
        killing = [KillAt(*kill)] if kill else []
        with contextlib.suppress(Killed):
            fit(model, [callback, *killing], epochs=4)
        return callback

    first, second = start((2, 0)), start()
    assert second._pruned.seed == first._pruned.seed
    np.testing.assert_array_equal(first._run.sample.x, second._run.sample.x)
    assert first._run.settings.scorer == second._run.settings.scorer


@pytest.mark.slow
def test_random_numbers_drawn_after_the_restart_are_those_of_the_uninterrupted_run(tmp_path):
    class Draw(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            drawn[epoch] = (random.random(), np.random.rand(), float(keras.random.uniform(())))

    drawn = {}
    train(other_callbacks=[Draw()])
    expected, drawn = drawn, {}
    train(tmp_path / "b", (3, 1), other_callbacks=[Draw()])
    drawn.clear()
    train(tmp_path / "b", other_callbacks=[Draw()])
    assert drawn == {epoch: expected[epoch] for epoch in (3, 4, 5)}


@pytest.mark.parametrize(
    "first", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["before", "behind"]
)
def test_other_callbacks_remember_what_they_knew(first, tmp_path):
    """Early stopping waits on, and restores the best weights from before the restart."""
    best_is_3 = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(quality=1.0 if epoch == 3 else 0.0)
    )

    def other_callbacks():
        return [
            keras.callbacks.EarlyStopping(
                "quality", mode="max", patience=3, restore_best_weights=True
            ),
            keras.callbacks.ReduceLROnPlateau("quality", mode="max", patience=1, factor=0.5),
        ]

    results = []
    for kills in ([], [(5, 1)]):
        for kill in [*kills, None]:
            mine = other_callbacks()
            before = [best_is_3, *(mine if first else [])]
            behind = [] if first else mine
            options = {"before": before, "other_callbacks": behind, "criterion": "l2_norm"}
            model, _, history = train(tmp_path / "b", kill, 9, **options)
        results.append((weights_of(model), history, mine[0].best_epoch, mine[0].stopped_epoch))
    assert results[0][2:] == (3, 6)  # Best before the restart, and stopped after it.
    assert_equal_arrays(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


@pytest.mark.slow
def test_swapped_ema_weights_are_not_swapped_twice(tmp_path):
    def options():
        return {
            "optimizer": keras.optimizers.Adam(1e-2, use_ema=True),
            "before": [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        }

    expected, *_ = train(**options())
    train(tmp_path / "b", (4, 1), **options())
    model, *_ = train(tmp_path / "b", **options())
    assert_equal_arrays(weights_of(model), weights_of(expected))


@pytest.mark.slow
def test_a_fit_that_follows_in_the_same_process_starts_where_it_says(tmp_path):
    train(tmp_path / "b", (3, 1))
    model, *_ = train(tmp_path / "b")
    epochs = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    fit(model, [watch], epochs=2)
    assert epochs == [0, 1]


def test_savings_and_skipped_events_are_known_after_the_restart(tmp_path, monkeypatch):
    def fail(*args):
        monkeypatch.undo()
        raise RuntimeError("made by the test")

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    with pytest.warns(UserWarning, match="skipped"):
        train(tmp_path / "b", (4, 1), on_failure="skip")
    _, callback, _ = train(tmp_path / "b", on_failure="skip")
    assert [skipped.epoch for skipped in callback.skipped] == [1]
    assert callback.savings.wide_step_seconds is not None
    assert callback.savings.events_seconds > sum(
        sum(event.seconds.values()) for event in callback.events
    )


DIFFERENCES = {
    "budget": ({"budget": {"channels": 0.4}}, r"budget: channels <= 50.0%.* there"),
    "schedule": ({"schedule": keras_gcp.schedules.linear(1, 4)}, r"schedule: epochs \{1"),
    "criterion": ({"criterion": "l2_norm"}, "criterion: feature_relevance there, l2_norm here"),
    "align": ({"align": 2}, "align: 1 there, 2 here"),
    "floor": ({"floor": 2}, "floor: .* there, 2 here"),
    "cap": ({"cap": {"hidden": 4}}, r"cap: None there, \{'hidden': 4\} here"),
    "ranking": ({"ranking": "score_per_cost"}, "ranking: score there, score_per_cost here"),
    "normalize": ({"normalize": "rank"}, r"normalize: \w+ there, rank here"),
    "evenness": ({"evenness": 1}, r"evenness: \d\.\d+ there, 1\.0 here"),
    "exclude": ({"exclude": ["hidden"]}, r"exclude: \[\] there, \['hidden'\] here"),
    "sample_size": (
        {"sample": keras_gcp.Sample(data(), size=16)},
        "sample_size: 512 there, 16 here",
    ),
    "min_step": (
        {"schedule": keras_gcp.schedules.linear(1, 3, min_step=0.0)},
        r"min_step: 0.03 there, 0.0 here",
    ),
    "distillation": (
        {"distillation": keras_gcp.Distillation()},
        r"distillation: None there, Distillation",
    ),
    "optimizer": ({"optimizer": "sgd"}, "optimizer: Adam there, SGD here"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a training that was killed in epoch 3."""
    folder = tmp_path_factory.mktemp("killed") / "b"
    train(folder, (3, 1))
    return folder


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_the_backup_of_another_plan_is_refused_with_the_difference_named(name, killed):
    options, message = DIFFERENCES[name]
    with pytest.raises(InvalidArgument, match=f"belongs to another training: .*{message}"):
        train(killed, **options)
    assert len(BackupFolder(killed).files()) == 2


@pytest.mark.parametrize(
    ("name", "as_then", "otherwise"), [("normalize", "norm", "mean"), ("evenness", "0.0", "0.5")]
)
def test_a_backup_that_does_not_have_a_setting_is_one_from_before(name, as_then, otherwise):
    older = SavedIdentity({"align": "1"}, [])
    now = {"align": "1", name: as_then}
    check_identity(older, {"settings": now, "weights": []}, "folder")
    message = f"another training: {name}: {as_then} there, {otherwise} here"
    with pytest.raises(InvalidArgument, match=message):
        check_identity(older, {"settings": {**now, name: otherwise}, "weights": []}, "folder")


class LastOnesMatter:
    """A criterion without a name, whose `repr` is its address in memory."""

    def __call__(self, model, channels, sample):
        return {path: np.arange(1.0, len(c) + 1) for path, c in channels.produced.items()}


@pytest.mark.slow
def test_a_criterion_of_ones_own_is_the_same_one_after_the_restart(tmp_path):
    train(tmp_path / "b", (3, 1), criterion=LastOnesMatter())
    _, callback, _ = train(tmp_path / "b", criterion=LastOnesMatter())
    assert len(callback.events) == 3
    train(tmp_path / "b", (3, 1), criterion=LastOnesMatter())
    with pytest.raises(InvalidArgument, match="criterion: LastOnesMatter there, l2_norm here"):
        train(tmp_path / "b", criterion="l2_norm")


def test_the_backup_of_another_model_is_refused_with_the_weight_named(killed):
    model = compiled(networks.plain(), "adam")
    callback = pruning(
        {"channels": 0.5},
        keras_gcp.schedules.linear(1, 3),
        criterion="feature_relevance",
        backup_dir=killed,
    )
    with pytest.raises(InvalidArgument, match=r"model: weight '.*' \(.*there, '.*' \(.*here"):
        fit(model, [callback], epochs=6)
    assert trace(model).widths() == trace(networks.plain()).widths()


def test_layers_that_keras_has_numbered_otherwise_are_named_with_what_to_do(tmp_path):
    def start():
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3)])
        model.add(keras.layers.GlobalAveragePooling2D())
        model.add(keras.layers.Dense(4, activation="softmax"))
        callback = pruning(schedule=keras_gcp.schedules.one_shot(2), backup_dir=tmp_path / "b")
        with contextlib.suppress(Killed):
            fit(compiled(model), [callback, KillAt(1, 1)])

    start()
    with pytest.raises(InvalidArgument, match=r"conv2d_\d/kernel.*`keras.utils.clear_session\(\)`"):
        start()
    keras.utils.clear_session()


def test_a_fit_that_ends_before_the_backup_is_refused(killed):
    with (
        pytest.warns(UserWarning, match="only 33% of the way"),
        pytest.raises(InvalidArgument, match="before its epoch 3 .* this fit has 2 epochs only"),
    ):
        train(killed, epochs=2)


def test_another_sample_is_told(killed, tmp_path):
    shutil.copytree(killed, tmp_path / "b")
    with pytest.warns(UserWarning, match="The sample is not the one from before"):
        train(tmp_path / "b", sample=data(seed=9))


def test_a_model_cut_otherwise_in_the_same_process_is_refused(tmp_path):
    model = build()
    options = {"criterion": "l2_norm", "backup_dir": tmp_path / "b"}
    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 3), **options)
    with pytest.raises(Killed):
        fit(model, [callback, KillAt(2, 1)], epochs=6)  # The backup is older than the second cut.
    with pytest.raises(InvalidArgument, match="Build the model again"):
        fit(model, [callback], epochs=6)


@pytest.mark.slow
def test_the_same_model_and_callback_resume_where_no_cut_lies_between(tmp_path, uninterrupted):
    model = build()
    options = {"criterion": "feature_relevance", "backup_dir": tmp_path / "b"}
    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 3), **options)
    with pytest.raises(Killed):
        fit(model, [callback, KillAt(4, 1)], epochs=6)
    fit(model, [callback], epochs=6)
    assert_equal_arrays(weights_of(model), uninterrupted[0])


def test_a_disk_that_is_full_ends_or_goes_on_as_the_user_chose(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("keras_gcp.training.backup.folder._write", full)
    with pytest.raises(BackupFailed, match="before epoch 1 cannot be written.*No space left"):
        train(tmp_path / "b")
    with pytest.warns(UserWarning, match="No space left.*The training continues"):
        _, callback, _ = train(tmp_path / "b", on_failure="skip")
    assert len(callback.events) == 3


def test_a_backup_is_a_zip_file_of_numpy_arrays_and_json(killed):
    with zipfile.ZipFile(BackupFolder(killed).files()[0]) as archive:
        names = archive.namelist()
    assert "state.json" in names and "model-0.npy" in names and "optimizer-0.npy" in names


# ---- backups that nobody has written like this


NOT_ITS_TYPE = {str: 5, dict: [], list: {}, int: "1", float: "1", type(None): {}}


def places_in(value, path=()):
    """Every value in plain data, with the keys and indices that lead to it."""
    yield path, value
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(entry, (*path, key))


def changed(state, path, value=None, drop=False):
    state = copy.deepcopy(state)
    owner = state
    for key in path[:-1]:
        owner = owner[key]
    if drop:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return state


def test_every_field_that_is_missing_or_of_another_type_is_named_with_the_file(killed):
    backup = BackupFolder(killed).newest()
    saved_state.read(backup)
    tried = 0
    for path, value in places_in(backup.state):
        free = (
            path[:1] == ("other_callbacks",) and "values" in path[:-1]
        )  # seen to by the callbacks
        if not path or free or (isinstance(path[-1], int) and path[-1] > 1):
            continue
        changes = [changed(backup.state, path, NOT_ITS_TYPE[type(value)])]
        if isinstance(path[-1], str) and path[-2:-1] not in (("settings",), ("widths",)):
            changes.append(changed(backup.state, path, drop=True))
            changes.append(changed(backup.state, (*path[:-1], "not_known"), 1))
        for state in changes:
            with pytest.raises(InvalidArgument, match=r"backup-000003.zip'") as refused:
                saved_state.read(Backup(state, backup.arrays, backup.path))
            assert str(path[0]) in str(refused.value) or "not_known" in str(refused.value)
            tried += 1
    assert tried > 150


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("position",), [-1, 0, 0], "position has the epoch -1"),
        (("scheduler", "values"), ["much"], "scheduler.values has 'much'"),
        (("plan",), "{}", "plan: Not a plan"),
        (("random", "python"), [3, [1, 2], None], "random: "),
        (("random", "numpy", 0), "PCG64", "random: "),
        (("events", 0, "seconds"), {"lunch": 1.0}, r"events\[0\]: `seconds` of an event"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_fields_of_the_right_type_that_mean_nothing_are_named(killed, path, value, message):
    backup = BackupFolder(killed).newest()
    state = changed(backup.state, path, value)
    with pytest.raises(InvalidArgument, match=message):
        saved_state.read(Backup(state, backup.arrays, backup.path))


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("model-1", None, "'model-1' is missing"),
        ("numpy-random", None, "'numpy-random' is missing"),
        ("numpy-random", np.arange(3), "random: "),
        ("optimizer-0", np.array(["a"]), "'optimizer-0' is of <U1, expected numbers"),
    ],
)
def test_arrays_that_are_missing_or_no_numbers_are_named(killed, name, array, message):
    backup = BackupFolder(killed).newest()
    arrays = {key: value for key, value in backup.arrays.items() if key != name}
    arrays |= {} if array is None else {name: array}
    with pytest.raises(InvalidArgument, match=message):
        saved_state.read(Backup(backup.state, arrays, backup.path))


def test_a_file_never_names_the_attribute_that_is_set(killed):
    backup = BackupFolder(killed).newest()
    (number,) = [i for i, m in enumerate(backup.state["other_callbacks"]) if m["kind"] == "History"]
    path = ("other_callbacks", number, "values")

    def restored(*change, **options):
        state = changed(backup.state, *change, **options)
        saved = saved_state.read(Backup(state, backup.arrays, backup.path))
        return memories_for([keras.callbacks.History()], saved)

    ((_, attributes),) = restored((*path, "on_epoch_end"), "print")
    assert sorted(attributes) == ["epoch", "history"]
    with pytest.raises(InvalidArgument, match=r"backup-000003.zip' lacks .*History.epoch"):
        restored((*path, "epoch"), drop=True)
    with pytest.raises(InvalidArgument, match=r"History.epoch is 5, expected list"):
        restored((*path, "epoch"), 5)


def test_a_training_is_refused_with_the_field_named_before_anything_is_put_back(killed, tmp_path):
    shutil.copytree(killed, tmp_path / "b")
    with zipfile.ZipFile(BackupFolder(killed).files()[0]) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(content["state.json"])
    del state["state"]["events"]
    with zipfile.ZipFile(tmp_path / "b" / "backup-000003.zip", "w") as archive:
        for name, data_of_it in content.items():
            archive.writestr(name, json.dumps(state) if name == "state.json" else data_of_it)
    model = build()
    before = weights_of(model)
    with pytest.raises(InvalidArgument, match=r"/b/backup-000003.zip' .*: events is missing"):
        fit(model, [pruning({"channels": 0.5}, backup_dir=tmp_path / "b")])
    assert_equal_arrays(weights_of(model), before)
