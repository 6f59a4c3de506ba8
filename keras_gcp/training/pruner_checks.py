"""What is checked of every callback that cuts, when its training begins."""

from __future__ import annotations

from typing import Any

from keras_gcp import keras_state
from keras_gcp.training.fit_checks import (
    check_can_be_cut,
    check_fit_runs,
    check_known_to_optimizer,
)
from keras_gcp.training.other_callbacks import (
    callbacks_to_reset,
    check_only_pruner,
    check_other_callbacks,
    other_callbacks_of,
)


def check_pruner(pruner: Any) -> tuple[Any, ...]:
    """Checks that a callback may cut its model in the fit that begins.

    Returns:
        The callbacks of the fit whose memory a cut makes worthless.

    Raises:
        InvalidArgument: another callback cuts as well, or cannot go together with a cut.
        UnsupportedModel: the model, its optimizer or the fit is not one to be pruned in.
    """
    model = pruner.model
    check_only_pruner(model, pruner)
    check_fit_runs(model)
    keras_state.require_functional(model)
    check_other_callbacks(other_callbacks_of(pruner))
    to_reset = callbacks_to_reset(pruner, "auto")
    check_known_to_optimizer(model)
    check_can_be_cut(model)
    return to_reset
