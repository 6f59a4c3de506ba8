"""Code that a `.keras` file names but does not hold, and how the file loads because of it."""

from __future__ import annotations

import json
import types
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.exporting.records import Loading
from keras_gcp.exporting.worker import in_worker

_TRAINING = "compile_config"
_LAMBDA = "__lambda__"


@dataclass(frozen=True)
class Reference:
    """Something that a file names, and that Keras may not know.

    Attributes:
        name: Under which `custom_objects` has to hold it.
        saved: Its part of the file.
        is_training: Whether only `compile` needs it.
    """

    name: str
    saved: Any
    is_training: bool

    @property
    def is_lambda(self) -> bool:
        """Whether it is in the file, as code that Keras does not trust."""
        return self.name == _LAMBDA


@dataclass(frozen=True)
class Elsewhere:
    """What was found in a process that has imported nothing but Keras.

    Attributes:
        loads: Whether the file loads there.
        loads_uncompiled: Whether it does with `compile=False`.
        unknown: Positions of the references that are not known there.
    """

    loads: bool
    loads_uncompiled: bool
    unknown: tuple[int, ...]


def loading_of(path: Path) -> Loading:
    """How the file loads, found by loading it: in this process, and in one that knows Keras only.

    Args:
        path: A `.keras` file.
    """
    references = references_in(_config_of(path))
    loads_here = _loads(path)
    if loads_here and not references:
        return Loading(_call())
    found = in_worker(elsewhere, str(path), [reference.saved for reference in references])
    if found.loads:
        return Loading(_call())
    own = [references[i] for i in found.unknown]
    names = _names(own)
    with_all = _call(names, any(one.is_lambda for one in own))
    if found.loads_uncompiled:
        return Loading(f"{_call(compiled=False)}, or to train on {with_all}", names, loads_here)
    inside = [one for one in own if not one.is_training]
    unsafe = any(one.is_lambda for one in inside)
    if len(inside) == len(own):
        return Loading(with_all, names, loads_here)
    without = _call(_names(inside), unsafe, compiled=False)
    return Loading(f"{without}, or to train on {with_all}", names, loads_here)


def load_for_comparison(model: keras.Model, path: Path) -> keras.Model:
    """The model in the file, uncompiled, with the living model's own classes and functions.

    Lambdas in it are taken as safe: this process has just written them.
    """
    own = [one for one in references_in(_config_of(path)) if not one.is_training]
    names = {one.name for one in own}
    return keras.models.load_model(
        path,
        compile=False,
        custom_objects=_objects_of(model, names),
        safe_mode=_LAMBDA not in names,
    )


def references_in(config: Mapping[str, Any]) -> list[Reference]:
    """Whatever is not of Keras by the name of its module; functions, as Keras' own have none."""
    inside = {key: value for key, value in config.items() if key != _TRAINING}
    return [
        *(Reference(name, saved, False) for name, saved in _foreign(inside)),
        *(Reference(name, saved, True) for name, saved in _foreign(config.get(_TRAINING))),
    ]


def _foreign(saved: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(saved, str) and saved in keras.saving.get_custom_objects():
        yield saved, {"class_name": "function", "module": "builtins", "config": saved}
    if isinstance(saved, dict) and (name := _foreign_name(saved)):
        yield name, saved
    for part in _parts(saved):
        yield from _foreign(part)


def _foreign_name(saved: Mapping[str, Any]) -> str | None:
    kind = saved.get("class_name")
    if kind == _LAMBDA:
        return _LAMBDA
    if "registered_name" not in saved or not isinstance(kind, str):
        return None
    if kind == "function":
        return str(saved.get("config"))
    module = str(saved.get("module"))
    is_of_keras = module == "keras" or module.startswith("keras.")
    return None if is_of_keras else str(saved["registered_name"] or kind)


def _parts(saved: Any) -> Iterable[Any]:
    if isinstance(saved, dict):
        return saved.values()
    return saved if isinstance(saved, list) else ()


def _config_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _loads(path: Path | str, **options: Any) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keras.models.load_model(path, **options)
    except Exception:  # Keras raises many types; which, says nothing about what is missing.
        return False
    return True


def _objects_of(model: keras.Model, names: set[str]) -> dict[str, Any]:
    """Of classes and functions that a living model consists of those with the given names."""
    layers = [model, *keras_state.sublayers(model)]
    values = [value for layer in layers for value in (layer, *_flat(vars(layer).values()))]
    found = [v if isinstance(v, types.FunctionType) else type(v) for v in values]
    return {name: one for one in found if (name := one.__name__) in names}


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else (value,)


def _names(references: Iterable[Reference]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.name for one in references if not one.is_lambda))


def _call(names: Iterable[str] = (), unsafe: bool = False, compiled: bool = True) -> str:
    """How to call `load_model`, as code."""
    objects = ", ".join(f"{name!r}: {name.split('>')[-1]}" for name in names)
    options = [
        *([] if compiled else ["compile=False"]),
        *([f"custom_objects={{{objects}}}"] if objects else []),
        *(["safe_mode=False"] if unsafe else []),
    ]
    return f"keras.models.load_model({', '.join(['path', *options])})"


# ---- in the worker, which has imported nothing of the user's


def elsewhere(path: str, saved: list[Any]) -> Elsewhere:
    """Loads a file, and each of the parts of it that may be unknown."""
    unknown = tuple(i for i, part in enumerate(saved) if not _is_known(part))
    return Elsewhere(_loads(path), _loads(path, compile=False), unknown)


def _is_known(saved: Any) -> bool:
    try:
        keras.saving.deserialize_keras_object(saved)
    except Exception:
        return False
    return True
