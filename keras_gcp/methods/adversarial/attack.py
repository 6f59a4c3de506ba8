"""Projected gradient ascent: inputs near given ones, for which a model's loss is large.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018
(arXiv 1706.06083), section 2.1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.validation import between, layer_names, number, require_integer

Tensors = tuple[Any, ...]

Gradients = Callable[[Tensors], Sequence[Any]]
"""Derivatives of the loss with regard to the attacked inputs, at some values of them."""


@dataclass(frozen=True)
class Attack:
    """How far an attack may go, and how.

    Attributes:
        epsilon: Greatest change of any number of an input.
        step: Change of it in one step.
        steps: Number of steps.
        clip: Least and greatest value of inputs; None: any value is valid.
        inputs: Names of the inputs to be changed; none: the only one of floating-point numbers.
    """

    epsilon: float
    step: float
    steps: int
    clip: tuple[float, float] | None
    inputs: tuple[str, ...] = ()


def checked_attack(
    epsilon: Any, step: Any, steps: Any, clip: Any, inputs: Any, *, least_epsilon: float = 0.0
) -> Attack:
    """An attack, from what a user wrote.

    Args:
        epsilon: See `Attack`.
        step: Likewise; None is a quarter of `epsilon`.
        steps: Likewise.
        clip: Likewise.
        inputs: Likewise; None: none is named.
        least_epsilon: The smallest `epsilon` that is allowed.

    Raises:
        InvalidArgument: one of them is malformed.
    """
    radius = between(epsilon, least_epsilon, sys.float_info.max)
    if radius is None:
        wanted = "of at least 0" if not least_epsilon else "above 0"
        raise InvalidArgument(
            f"`epsilon` expects a number {wanted}, the greatest change of an input, such as 8/255 "
            f"for inputs between 0 and 1. Received: {epsilon!r}."
        )
    length = radius / 4 if step is None else between(step, 0.0, sys.float_info.max)
    if length is None or (step is not None and not length):
        raise InvalidArgument(
            "`step` expects a number above 0, the change of an input in one step of the attack, "
            f"such as epsilon/4, which None is. Received: {step!r}."
        )
    return Attack(
        radius,
        length,
        require_integer("steps", steps, least=1),
        _checked_range(clip),
        layer_names("inputs", inputs),
    )


def _checked_range(clip: Any) -> tuple[float, float] | None:
    if clip is None:
        return None
    pair = list(clip) if isinstance(clip, list | tuple) else []
    found = [number(one) for one in pair]
    if len(found) != 2 or None in found or not found[0] < found[1]:  # type: ignore[operator]
        raise InvalidArgument(
            "`clip` expects the least and the greatest value of inputs, such as (0, 1) or "
            f"(0, 255), or None where any value is valid. Received: {clip!r}."
        )
    return float(found[0]), float(found[1])  # type: ignore[arg-type]


def attacked_inputs(model: Any, attack: Attack, asker: str) -> tuple[int, ...]:
    """Positions, in `model.inputs`, of the inputs to be changed.

    Args:
        model: The model.
        attack: The attack.
        asker: Who attacks, for messages.

    Raises:
        InvalidArgument: a name is that of no input, of one of whole numbers, or there are several
            inputs of floating-point numbers and none is named.
        UnsupportedModel: the model has no graph, no loss, or no input that can be changed.
    """
    keras_state.require_functional(model)
    if not backend.has_loss(model):
        raise InvalidArgument(
            f"Model '{model.name}' is not compiled with a loss, which {asker} raises. Call "
            "`model.compile(optimizer, loss)` before."
        )
    names = [symbol.name for symbol in model.inputs]
    unknown = [name for name in attack.inputs if name not in names]
    if unknown:
        raise InvalidArgument(
            f"`inputs` of {asker} names {unknown[0]!r}, which is no input of model "
            f"'{model.name}'. Expected names of {names}."
        )
    can = {name for name, symbol in zip(names, model.inputs, strict=True) if _can_change(symbol)}
    fixed = [name for name in attack.inputs if name not in can]
    if fixed or not can:
        kinds = ", ".join(
            f"'{x.name}' ({'sparse ' if x.sparse else ''}{x.dtype})"
            for x in model.inputs
            if x.name not in can and (not fixed or x.name in fixed)
        )
        raise UnsupportedModel(
            f"{asker} changes inputs a little along gradients, and the loss has none with regard "
            f"to the inputs {kinds} of model '{model.name}'. Expected dense inputs of "
            "floating-point numbers."
        )
    if len(can) > 1 and not attack.inputs:
        raise InvalidArgument(
            f"Model '{model.name}' has {len(can)} inputs of floating-point numbers: "
            f"{[name for name in names if name in can]}. Say which ones {asker} may change: "
            "`inputs=[...]`."
        )
    chosen = attack.inputs or can
    return tuple(at for at, name in enumerate(names) if name in chosen)


def _can_change(symbol: Any) -> bool:
    return keras.backend.is_float_dtype(symbol.dtype) and not getattr(symbol, "sparse", False)


def excess(x: Tensors, clip: tuple[float, float]) -> Any:
    """By how much values lie outside of their range, at most; negative where none does."""
    low, high = clip
    found = [ops.maximum(low - ops.min(part), ops.max(part) - high) for part in x]
    return ops.max(ops.stack([ops.cast(one, "float32") for one in found]))


def require_inside(found: float, attack: Attack, asker: str) -> None:
    """Refuses inputs whose `excess` over the range that the attack was told is no mere rounding.

    Raises:
        InvalidArgument: they lie further out.
    """
    assert attack.clip is not None
    if found <= 1e-5 * (attack.clip[1] - attack.clip[0]):
        return
    raise InvalidArgument(
        f"Inputs lie up to {found:.4g} outside of `clip={attack.clip}`, which {asker} takes for "
        "the range of valid inputs. Pass the range that they have, with `epsilon` and `step` in "
        "their unit (`clip=(0, 255), epsilon=8, step=2`), scale them, or pass `clip=None` where "
        "any value is valid."
    )


def started(x: Tensors, noise: Tensors, attack: Attack) -> Tensors:
    """Where an attack starts: at some differences to inputs, within the ball and the range."""
    return _projected([part + by for part, by in zip(x, noise, strict=True)], x, attack)


def ascend(gradients: Gradients, x: Tensors, start: Tensors, attack: Attack) -> Tensors:
    """Inputs within the ball and the range, after signed steps along the gradients.

    Args:
        gradients: Derivatives of the loss.
        x: The inputs to be changed.
        start: What `started` gave for them.
        attack: The attack.

    Returns:
        Inputs that differ from `x` by `epsilon` at most. A value of `x` that lies outside of the
        range goes no further out.
    """

    def move(_: Any, parts: Tensors) -> Tensors:
        directions = [_direction(one) for one in gradients(parts)]
        moved = [part + attack.step * way for part, way in zip(parts, directions, strict=True)]
        return _projected(moved, x, attack)

    return tuple(ops.fori_loop(0, attack.steps, move, start))


def _projected(parts: Sequence[Any], x: Tensors, attack: Attack) -> Tensors:
    """The nearest values within the ball around the inputs, and within the range."""
    return tuple(
        ops.clip(part, *_bounds(centre, attack)) for part, centre in zip(parts, x, strict=True)
    )


def _bounds(x: Any, attack: Attack) -> tuple[Any, Any]:
    least, most = x - attack.epsilon, x + attack.epsilon
    if attack.clip is None:
        return least, most
    low, high = attack.clip
    return ops.maximum(least, ops.minimum(x, low)), ops.minimum(most, ops.maximum(x, high))


def _direction(gradient: Any) -> Any:
    # In float16 a gradient may overflow, as those of weights may; then nothing is known of it.
    return ops.where(ops.isnan(gradient), ops.zeros_like(gradient), ops.sign(gradient))


def loss_gradients_in(
    model: Any,
    x: Any,
    y: Any,
    sample_weight: Any,
    places: Sequence[int],
    values: Callable[[], AbstractContextManager[Any]],
) -> Gradients:
    """The derivatives of a batch's loss with regard to inputs, with the model at inference.

    So normalizations use their moving statistics and leave them alone, and nothing is dropped. The
    loss is the compiled one, weights of examples and of outputs included, without penalties.

    Args:
        model: The model.
        x: The batch, as `fit` has it.
        y: Labels.
        sample_weight: Weights of examples, or None.
        places: Positions of the inputs to differentiate by.
        values: Scope with the values of variables.
    """
    inputs = keras_state.ordered_inputs(model, x)
    # Where steps are not compiled, JAX has arrays here, which a model does not take with tensors.
    others = [one if ops.is_tensor(one) else ops.convert_to_tensor(one) for one in inputs]

    def loss_at(*parts: Any) -> Any:
        replaced = list(others)
        for place, part in zip(places, parts, strict=True):
            replaced[place] = part
        with values():
            y_pred = model(keras_state.packed_inputs(model, replaced), training=False)
            changed = replaced_in(x, inputs, places, parts)
            loss = backend.loss_of_outputs(model, changed, y, y_pred, sample_weight)
            # In float16 small gradients vanish without it, as those of weights do.
            return loss if model.optimizer is None else model.optimizer.scale_loss(loss)

    def gradients(parts: Tensors) -> Sequence[Any]:
        loss, pullback = backend.vjp(loss_at, *parts)
        return pullback(ops.ones_like(loss))

    return gradients


def as_floats(model: Any, inputs: Sequence[Any], places: Sequence[int]) -> Tensors:
    """The inputs to be changed, in the type that the model takes them in."""
    return tuple(
        ops.cast(ops.convert_to_tensor(inputs[place]), model.inputs[place].dtype)
        for place in places
    )


def replaced_in(x: Any, inputs: Sequence[Any], places: Sequence[int], parts: Sequence[Any]) -> Any:
    """A batch with other values for some inputs, in the structure that it has.

    Args:
        x: The batch.
        inputs: Its parts, in the order of the model's inputs.
        places: Which of them.
        parts: Their new values.
    """
    new = {id(inputs[place]): part for place, part in zip(places, parts, strict=True)}
    return keras.tree.map_structure(lambda leaf: new.get(id(leaf), leaf), x)
