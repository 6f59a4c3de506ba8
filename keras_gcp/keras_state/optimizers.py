"""The optimizers of a model, and what they keep for each weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_gcp.keras_state.devices import strategy_scope


def optimizers_of(model: Any) -> list[Any]:
    """The optimizer a model was compiled with, and others that its own `train_step` may use."""
    held: list[Any] = []
    for value in vars(model).values():
        several = value.values() if isinstance(value, dict) else value
        held.extend(several if isinstance(value, dict | list | tuple) else [value])
    optimizers = [one for one in held if isinstance(one, keras.optimizers.Optimizer)]
    return list({id(one): one for one in optimizers}.values())  # Some are held twice.


def optimizer_chain(optimizer: Any) -> Iterator[Any]:
    """The optimizer, then those it wraps: `LossScaleOptimizer` one, `MultiOptimizer` many."""
    if optimizer is None:
        return
    yield optimizer
    wrapped = [getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())]
    for inner in wrapped:
        yield from optimizer_chain(inner)


def _optimizer_parts(model: Any) -> list[Any]:
    """The optimizers of a model, and those they wrap."""
    return [part for one in optimizers_of(model) for part in optimizer_chain(one)]


def optimizer_variables(model: Any) -> list[Any]:
    """All variables of a model's optimizers and of those they wrap, each once, in a fixed order."""
    variables = (v for part in _optimizer_parts(model) for v in part.variables)
    return list({id(v): v for v in variables}.values())


def optimizer_slots(optimizer: Any) -> list[tuple[Any, Any]]:
    """Pairs (model variable, slot variable) of one built optimizer."""
    followed = optimizer._trainable_variables
    pairs: list[tuple[Any, Any]] = []
    for name, value in vars(optimizer).items():
        if name in ("_variables", "_trainable_variables") or not isinstance(value, list | tuple):
            continue
        if len(value) != len(followed):
            continue
        pairs.extend(
            (variable, slot)
            for variable, slot in zip(followed, value, strict=True)
            if isinstance(slot, keras.Variable)
        )
    return pairs


def factored_slots(optimizer: Any) -> list[tuple[Any, Any, Any]]:
    """Adafactor's means over the last axis, and over the last but one, of each weight with both.

    Returns:
        Triples (model variable, `r` of its shape without the last axis, `c` of its shape without
        the last axis but one).
    """
    if not isinstance(optimizer, keras.optimizers.Adafactor) or not optimizer.built:
        return []
    slots = zip(optimizer._trainable_variables, optimizer._r, optimizer._c, strict=True)
    return [(v, r, c) for v, r, c in slots if r is not None and len(v.shape) > 1]


def unsliceable_slots(optimizer: Any) -> list[Any]:
    """Optimizer variables that are neither scalars nor follow from the weight's shape."""
    strange: list[Any] = []
    for part in optimizer_chain(optimizer):
        if not part.built:
            continue
        sliceable = {id(s) for v, s in optimizer_slots(part) if tuple(s.shape) == tuple(v.shape)}
        sliceable |= {id(slot) for _, *slots in factored_slots(part) for slot in slots}
        strange.extend(v for v in part._variables if id(v) not in sliceable and len(v.shape) > 0)
    inner = {id(v) for part in optimizer_chain(optimizer) for v, _ in optimizer_slots(part)}
    return [v for v in strange if id(v) not in inner]


def unknown_to_optimizer(model: Any) -> list[Any]:
    """Trainable weights that none of the model's optimizers was built for."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    parts = _optimizer_parts(model)
    known = {id(v) for part in parts if part.built for v in part._trainable_variables}
    return [v for v in model.trainable_variables if id(v) not in known]


def build_optimizer(model: Any) -> None:
    """Makes the optimizer's slots now; `fit` would do the same at the first step."""
    with strategy_scope(model):
        for part in optimizer_chain(model.optimizer):
            if not part.built:
                part.build(model.trainable_variables)


def reset_slots(model: Any) -> None:
    """Lets the model's optimizers forget all gradients; their steps and learning rates go on."""
    for optimizer in optimizers_of(model):
        if not optimizer.built:
            continue
        fresh = type(optimizer).from_config(optimizer.get_config())
        with strategy_scope(model):
            fresh.build(list(optimizer._trainable_variables))
        parts = zip(optimizer_chain(optimizer), optimizer_chain(fresh), strict=True)
        for part, new in parts:
            pairs = zip(optimizer_slots(part), optimizer_slots(new), strict=True)
            for (_, slot), (_, value) in pairs:
                slot.assign(value)
