"""The other callbacks of the same fit: which they are, and what a cut makes worthless to them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument

# Pruning callbacks that Keras has handed a model for the fit that is about to begin.
_PRUNERS: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def register_pruner(model: Any, callback: Any) -> None:
    """Notes that a fit hands its model to a pruning callback; Keras does so before it begins."""
    if model is not None:
        known = [ref for ref in _PRUNERS.get(model, []) if ref() not in (None, callback)]
        _PRUNERS[model] = [*known, weakref.ref(callback)]


def check_only_pruner(model: Any, callback: Any) -> None:
    """Refuses a fit with two pruning callbacks."""
    pruners = [ref() for ref in _PRUNERS.pop(model, [])]
    others = [one for one in pruners if one is not None and one is not callback]
    if others:
        names = ", ".join(type(one).__name__ for one in [callback, *others])
        raise InvalidArgument(
            f"Model '{model.name}' is being trained with {len(others) + 1} pruning callbacks "
            f"({names}); each would cut what the other has counted. Pass only one to `fit`."
        )


def check_other_callbacks(other_callbacks: Sequence[Any]) -> None:
    """Refuses callbacks that cannot go together with a model that changes its shapes.

    Raises:
        InvalidArgument: one of the fit's other callbacks is such.
    """
    for one in other_callbacks:
        if isinstance(one, keras.callbacks.BackupAndRestore):
            raise InvalidArgument(
                f"{type(one).__name__} keeps weights without their architecture: after an "
                "interruption it would load those of a narrow model into the full-width one and "
                "fail. Expected it to be left out; use "
                "`GradualChannelPruning(backup_dir=...)`, which restores the widths, the weights, "
                "the optimizer and the schedule's position together."
            )


def callbacks_to_reset(pruner: Any, reset: Any) -> tuple[Any, ...]:
    """The callbacks whose memory a cut makes worthless.

    Args:
        pruner: The pruning callback of the fit that is beginning.
        reset: What the user asked for.

    Raises:
        InvalidArgument: the user's list lacks one that would put weights from before a cut into the
            narrow model.
    """
    other_callbacks = other_callbacks_of(pruner)
    if isinstance(reset, str):
        return tuple(one for one in other_callbacks if _remembers_best(one))
    left_out = [
        one
        for one in other_callbacks
        if getattr(one, "restore_best_weights", False) and all(one is not other for other in reset)
    ]
    if left_out:
        raise InvalidArgument(
            f"{type(left_out[0]).__name__}(restore_best_weights=True) would put weights from "
            "before a cut into the narrow model, where they do not fit. Expected it in `reset`, so "
            "that it forgets them at a cut; `reset='auto'`, the default, does that by itself."
        )
    return tuple(reset)


def other_callbacks_of(callback: Any) -> list[Any]:
    """The other callbacks of the fit that a callback takes part in.

    Keras tells no callback of the others; but they all are in one list.
    """
    found: dict[int, Any] = {}
    for holder in gc.get_referrers(callback):
        if isinstance(holder, list) and all(
            isinstance(one, keras.callbacks.Callback) for one in holder
        ):
            found.update((id(one), one) for one in holder if _in_the_same_fit(one, callback))
    return list(found.values())


def _in_the_same_fit(one: Any, callback: Any) -> bool:
    """A fit hands all its callbacks one and the same `params`; lists of earlier fits may linger."""
    return one is not callback and one.model is callback.model and one.params is callback.params


def _remembers_best(callback: Any) -> bool:
    stops_early = isinstance(callback, keras.callbacks.EarlyStopping)
    return stops_early or getattr(callback, "save_best_only", False)  # two kinds of checkpoints


def reset_memory(callbacks: Sequence[Any]) -> None:
    """Makes callbacks forget their best model: its weights no longer fit."""
    for callback in callbacks:
        callback.best = None
        if hasattr(callback, "best_weights"):
            callback.best_weights = None
        if hasattr(callback, "wait"):
            callback.wait = 0
