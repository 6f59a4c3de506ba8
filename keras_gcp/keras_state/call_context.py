"""What belongs to one call of a model: the same for a layer however often the model calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras.src.backend.common import global_state

_KEPT = "keras_gcp_made_once"


def once_per_call(owner: Any, name: str, make: Callable[[], Any]) -> Any:
    """What a function makes, made once while the outermost model or layer is called.

    Keras has one object for each call from the outside, from its beginning to its end; what is
    made is kept there. Code that is being compiled keeps symbols of its own trace.

    Args:
        owner: The layer that asks, from within its `call`.
        name: What it asks for.
        make: Makes it; called the first time.
    """
    context = global_state.get_global_attribute("current_call_ctx")
    if context is None:
        return make()
    kept: dict[tuple[int, str], Any] = context.__dict__.setdefault(_KEPT, {})
    key = id(owner), name
    if key not in kept:
        kept[key] = make()
    return kept[key]
