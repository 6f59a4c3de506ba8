"""Examples in an `.npz` file, by the names of its arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_gcp.cli.data.examples import Arrays, Part
from keras_gcp.errors import InvalidArgument

_INPUTS = ("x", "images", "data", "features")
_LABELS = ("y", "labels", "targets")
_TRAINING = ("train",)
_HELD_OUT = ("test", "val", "valid", "validation")


def read_npz(path: Path, input_names: Sequence[str]) -> dict[str, Part]:
    """The parts of an `.npz` file: `"train"`, `"test"`, or `"all"` where it tells none apart.

    Args:
        path: The file.
        input_names: The model's inputs, which may be the names of the arrays.

    Raises:
        InvalidArgument: it is no such file, or its arrays have other names or do not fit.
    """
    arrays = _arrays_in(path)
    parts = {
        "train": _first(arrays, _TRAINING, input_names),
        "test": _first(arrays, _HELD_OUT, input_names),
        "all": _first(arrays, ("",), input_names),
    }
    found = {name: part for name, part in parts.items() if part is not None}
    if not found:
        raise InvalidArgument(
            f"'{path}' has the arrays {', '.join(map(repr, arrays)) or 'none'}. Expected 'x' and "
            "'y', or 'x_train', 'y_train', 'x_test', 'y_test' ('images' and 'labels' are known, "
            f"too), or the names of the model's inputs: {', '.join(map(repr, input_names))}."
        )
    for part in found.values():
        _require_equal_lengths(path, part)
    return found


def _arrays_in(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise InvalidArgument(f"'{path}' holds one array. Expected what `np.savez` writes.")
            return {name: content[name] for name in content.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            f"'{path}' cannot be read as arrays: {error}. Expected what `np.savez` writes."
        ) from error


def _first(
    arrays: Mapping[str, np.ndarray], splits: Sequence[str], input_names: Sequence[str]
) -> Part | None:
    for split in splits:
        x = _inputs(arrays, split, input_names)
        if x is not None:
            names = [name for stem in _LABELS for name in _names(stem, split)]
            return Part(x, next((arrays[name] for name in names if name in arrays), None))
    return None


def _inputs(
    arrays: Mapping[str, np.ndarray], split: str, input_names: Sequence[str]
) -> Arrays | None:
    for name in (name for stem in _INPUTS for name in _names(stem, split)):
        if name in arrays:
            return arrays[name]
    by_input = {own: name for own in input_names for name in _names(own, split) if name in arrays}
    if len(by_input) < len(input_names):
        return None
    return {own: arrays[name] for own, name in by_input.items()}


def _names(stem: str, split: str) -> tuple[str, ...]:
    return (f"{stem}_{split}", f"{split}_{stem}") if split else (stem,)


def _require_equal_lengths(path: Path, part: Part) -> None:
    lengths = [len(a) if a.ndim else 0 for a in _all_arrays(part)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise InvalidArgument(
            f"The arrays of '{path}' hold {lengths} examples. Expected as many labels as inputs, "
            "and one at least."
        )


def _all_arrays(part: Part) -> list[np.ndarray]:
    inputs = list(part.x.values()) if isinstance(part.x, Mapping) else [part.x]
    return inputs if part.y is None else [*inputs, part.y]
