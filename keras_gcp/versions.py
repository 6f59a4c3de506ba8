"""Which versions of Keras this package works with; checked when it is imported.

A cut changes private state of Keras (`keras_gcp.keras_state` tells which, and why), so the version
matters more than usual. One that is too old is refused. One newer than those tested is let in with
a warning if the private state is still there, and refused with what is missing if it is not. What
is too old is known before Keras is imported; the rest when `keras_gcp.keras_state` is.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from importlib import metadata
from types import CodeType
from typing import Any

from keras_gcp.errors import UnsupportedKeras

OLDEST = (3, 12)
"""The first minor version that is supported."""

NEWEST = (3, 15)
"""The last minor version that the tests ran with (`make test-versions`)."""

PRIVATE_STATE = {
    "keras.Variable": "_value _shape",
    "keras.KerasTensor": "_shape",
    "keras.Operation": "_auto_config _inbound_nodes _outbound_nodes",
    "keras.layers.InputLayer": "_batch_shape",
    "keras.layers.Layer": (
        "_build_shapes_dict _flatten_layers _layers _metrics _non_trainable_variables "
        "_seed_generators _tracker _trainable_variables"
    ),
    "keras.layers.Lambda": "_output_shape",
    "keras.layers.MultiHeadAttention": "_key_dense _output_dense _query_dense _value_dense",
    "keras.Sequential": "_functional",
    "keras.Model": (
        "_aggregate_additional_loss _compile_loss _initial_epoch compute_loss "
        "make_train_function predict_function test_function train_function"
    ),
    "keras.src.trainers.compile_utils.CompileLoss": "_user_loss_weights",
    "keras.src.models.functional.Functional": (
        "_inputs _inputs_struct _nodes_by_depth _outputs _outputs_struct"
    ),
    "keras.src.ops.node.Node": "_keras_history arguments input_tensors is_input operation",
    "keras.src.ops.symbolic_arguments.SymbolicArguments": "args kwargs",
    "keras.src.utils.tracking.DotNotTrackScope": "",
    "keras.src.backend.common.global_state.get_global_attribute": "",
    "keras.src.random.seed_generator.global_seed_generator": "",
    "keras.src.backend.common.masking.set_keras_mask": "_keras_mask",
    "keras.optimizers.Optimizer": (
        "_exclude_from_weight_decay _trainable_variables _trainable_variables_indices _var_key "
        "_variables"
    ),
    "keras.optimizers.Adafactor": "_c _r",
}
"""What `keras_gcp.keras_state` needs from Keras: classes and functions, and names in their code."""


def check_installed() -> None:
    """Refuses a Keras that is too old by what pip knows of it, without importing it.

    Raises:
        UnsupportedKeras: the version is too old.
    """
    try:
        found = metadata.distribution("keras")
    except metadata.PackageNotFoundError:  # Not installed by pip; `check_keras` looks at it.
        return
    _refuse_old(found.version, str(found.locate_file("keras")))


def check_keras() -> None:
    """Refuses a Keras that this package cannot work with; warns of one that it does not know.

    Raises:
        UnsupportedKeras: the version is too old, or newer than tested and different inside.
    """
    import keras

    folder = next(iter(keras.__path__), "an unknown folder")
    _refuse_old(keras.__version__, folder)
    if minor_version(keras.__version__) <= NEWEST:
        return
    tested = f"keras>={_shown(OLDEST)},<{_shown((NEWEST[0], NEWEST[1] + 1))}"
    missing = list(missing_state())
    if missing:
        raise UnsupportedKeras(
            f"Keras {keras.__version__} (in {folder}) is newer than the versions that keras_gcp "
            f"was tested with, {_shown(OLDEST)} to {_shown(NEWEST)}, and is different inside. "
            f"Expected, but not found: {', '.join(missing)}. Install a tested version, pip "
            f'install "{tested}", or a newer keras_gcp: pip install --upgrade keras-gcp'
        )
    warnings.warn(
        f"Keras {keras.__version__} is newer than the versions that keras_gcp was tested with, "
        f"{_shown(OLDEST)} to {_shown(NEWEST)}. What it needs of Keras is there, and every cut is "
        f'verified as always. For a tested version: pip install "{tested}"',
        stacklevel=2,
    )


def minor_version(text: str) -> tuple[int, int]:
    """Major and minor number of a version such as "3.15.1" or "3.16.0.dev2026"."""
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None:
        raise UnsupportedKeras(
            f"Expected a Keras version such as {_shown(NEWEST)}.0. Received: {text!r}."
        )
    return int(numbers[1]), int(numbers[2])


def missing_state(needed: dict[str, str] = PRIVATE_STATE) -> Iterator[str]:
    """What of the private state is not to be found in the installed Keras.

    Nothing is built for it: a variable would start the backend, and take its memory, at import.
    Instead the code of a class is searched for the names of the attributes it keeps.
    """
    for address, names in needed.items():
        try:
            owner = _found(address)
        except (AttributeError, ImportError):
            yield address
            continue
        known = set(_names_in(owner))
        yield from (f"{address}.{name}" for name in names.split() if name not in known)


def _found(address: str) -> Any:
    module, _, name = address.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _names_in(owner: Any) -> Iterator[str]:
    """Attributes of a class, or names in the code of a function or of a class's methods."""
    parts = [owner]
    if isinstance(owner, type):
        yield from dir(owner)
        parts = [member for base in owner.__mro__ for member in vars(base).values()]
    for part in parts:
        for form in (part, getattr(part, "fget", None), getattr(part, "__wrapped__", None)):
            code = getattr(getattr(form, "__func__", form), "__code__", None)
            if code is not None:
                yield from _names_in_code(code)


def _names_in_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in_code(constant)
        elif isinstance(constant, str):
            yield constant


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _refuse_old(version: str, folder: str) -> None:
    if minor_version(version) < OLDEST:
        raise UnsupportedKeras(
            f"keras_gcp works with Keras {_shown(OLDEST)} and newer (tested up to "
            f"{_shown(NEWEST)}). Found: Keras {version}, in {folder}. Install another "
            f'one: pip install --upgrade "keras>={_shown(OLDEST)}"'
        )
