"""A training in a process of its own, which can kill itself at chosen moments (test_crashes.py)."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

EPOCHS = 6


def train(folder: Path, result: Path, moment: tuple[Any, ...] = ()) -> None:
    """Trains with backups, goes on where the last process was killed, and saves the outcome.

    Args:
        folder: Of the backups.
        result: Text file; becomes the weights, optimizer variables and history, bit by bit.
        moment: When to be killed: `("event", n)` inside the n-th event of this process, after
            surgery; `("write", n, share)` inside its n-th backup, when a share of the file is
            written; `("moved", n)` right after the n-th has been moved into place. Empty: never.
    """
    import keras
    import networks
    import numpy as np
    from fitting import compiled, data

    import keras_gcp

    if moment:
        _arm(*moment)
    keras.utils.set_random_seed(5)
    model = compiled(networks.flatten_dense(), keras.optimizers.Adam(1e-2), run_eagerly=False)
    x, y = data(count=96)
    callback = keras_gcp.GradualChannelPruning(
        (x, y),
        {"channels": 0.5},
        keras_gcp.schedules.linear(1, 4),
        selection={"align": 1},
        backup_dir=folder,
        verbose=0,
    )
    started = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: result.with_suffix(".started").touch()
    )
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[callback, started],
    )
    values = [*model.weights, *model.optimizer.variables]
    bits = [np.ascontiguousarray(keras.ops.convert_to_numpy(v)).tobytes().hex() for v in values]
    unfinished = result.with_suffix(".tmp")
    unfinished.write_text("\n".join([*bits, repr(history.history)]))
    unfinished.rename(result)


def train_and_tell(folder: Path, result: Path, told: Path) -> None:
    """Trains, and writes down with which words it is refused, if it is."""
    from keras_gcp.errors import BackupFailed

    try:
        train(folder, result)
    except BackupFailed as error:
        told.write_text(str(error))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(kind: str, number: int, share: float = 0.0) -> None:
    """Lets this process die at its n-th event or backup."""
    import keras_gcp.surgery.cut
    import keras_gcp.training.backup.folder

    module, name = {
        "event": (keras_gcp.surgery.cut, "verify_narrow"),
        "write": (keras_gcp.training.backup.folder, "_write"),
        "moved": (keras_gcp.training.backup.folder, "_force_names_to_disk"),
    }[kind]
    original = getattr(module, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < number:
            return original(*args, **kwargs)
        if kind == "write":
            file, backup = args
            whole = io.BytesIO()
            original(whole, backup)
            file.write(whole.getvalue()[: int(share * whole.tell())])
            file.flush()
        _kill()

    setattr(module, name, counted)
