"""What the user's own compiled code still holds of a model that has been cut.

A `tf.function` captures variables, a `jax.jit` bakes in what it saw, an optimizer of PyTorch has a
list of parameters. None of them looks at the model again, so they would train what is no longer
part of it, with a falling loss and without an error.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from typing import Any

import keras


def retire(values: Sequence[Any]) -> None:
    """Makes variables of TensorFlow that a cut has replaced unusable; their memory goes, too.

    Code that was compiled for them fails with an error about a shape when it is called again: the
    first kernel that it reads has no elements. (Destroying them would not do: compiled code shares
    their ownership.)

    Args:
        values: Values of `keras.Variable`s as they were before.
    """
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    for value in values:
        for copy in getattr(value, "values", [value]):  # one for each device
            if isinstance(copy, tf.Variable):
                with tf.init_scope(), tf.device(copy.device):
                    tf.raw_ops.AssignVariableOp(
                        resource=copy.handle, value=tf.zeros([0], copy.dtype), validate_shape=False
                    )


def backend_values(model: Any) -> list[Any]:
    """The backend's own tensors of a model's variables."""
    return [variable._value for variable in model.variables]


def notice_cut(model: Any, before: Sequence[Any]) -> None:
    """Lets the user's own code notice, outside of `fit`, that a model has been cut.

    JAX compiles its functions again, and finds that state from before does not fit. Optimizers of
    PyTorch that hold old parameters are named in a warning.

    Args:
        model: The model.
        before: What `backend_values` gave before.
    """
    framework = keras.config.backend()
    if framework == "jax":
        import jax

        jax.clear_caches()
    elif framework == "torch":
        kept = set(map(id, backend_values(model)))
        _warn_of_torch_optimizers({id(value) for value in before} - kept)


def _warn_of_torch_optimizers(replaced: set[int]) -> None:
    import torch

    kinds = torch.optim.Optimizer
    for one in [x for x in gc.get_objects() if issubclass(type(x), kinds)]:
        old = [p for group in one.param_groups for p in group["params"] if id(p) in replaced]
        if old:
            kind = type(one).__name__
            warnings.warn(
                f"torch.optim.{kind} holds {len(old)} parameters that the model no longer has, and "
                f"would change nothing. Create it again: torch.optim.{kind}(model.parameters(), "
                "...).",
                stacklevel=4,
            )
