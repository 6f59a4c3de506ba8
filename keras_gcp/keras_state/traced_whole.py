"""Graphs in which every operation can be seen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def traced_whole() -> Iterator[None]:
    """Lets TensorFlow's graphs have all operations in themselves, none in a function of its own.

    Keras puts grouped convolutions into functions that XLA compiles, for TensorFlow cannot compute
    them on every CPU. Converters that know nothing of XLA cannot look into these.
    """
    module: Any = importlib.import_module("keras.src.backend.tensorflow.nn")
    before = module.tf
    module.tf = _WithoutFunctions(before)
    try:
        yield
    finally:
        module.tf = before


class _WithoutFunctions:
    """The module `tensorflow`, whose `function` leaves functions as they are."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    @staticmethod
    def function(*functions: Callable[..., Any], **_: Any) -> Any:
        return functions[0] if functions else lambda function: function
