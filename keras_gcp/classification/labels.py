"""Labels, as the compiled loss reads them: checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import losses

from keras_gcp import backend, keras_state
from keras_gcp.errors import InvalidArgument, in_short
from keras_gcp.sample import DrawnSample

REGRESSION_LOSSES = frozenset(
    {
        losses.cosine_similarity,
        losses.huber,
        losses.log_cosh,
        losses.mean_absolute_error,
        losses.mean_absolute_percentage_error,
        losses.mean_squared_error,
        losses.mean_squared_logarithmic_error,
        losses.poisson,
    }
)
"""Losses of quantities."""

_OF_OUTPUT_SHAPE = REGRESSION_LOSSES | {
    losses.binary_crossentropy,
    losses.binary_focal_crossentropy,
    losses.categorical_crossentropy,
    losses.categorical_focal_crossentropy,
    losses.categorical_hinge,
    losses.hinge,
    losses.kl_divergence,
    losses.squared_hinge,
}
"""Losses that compare labels and outputs number by number."""

_OF_CLASSES = frozenset(
    {
        losses.categorical_crossentropy,
        losses.categorical_focal_crossentropy,
        losses.categorical_hinge,
    }
)

_EXAMPLES = 2


@dataclass(frozen=True)
class _Output:
    """One output: its name, its shape, the loss on it and that loss's settings."""

    name: str
    shape: tuple[int | None, ...]
    loss: Any
    settings: Mapping[str, Any]


def loss_function(loss: Any) -> tuple[Any, dict[str, Any]]:
    """What a loss is, whichever way it was written, and its settings.

    Returns:
        The function of Keras for `"mse"`, `keras.losses.MeanSquaredError()` and
        `keras.losses.mean_squared_error`; the class of a loss that has none; a function of one's
        own as it is.
    """
    if isinstance(loss, str):
        loss = losses.get(loss)
    if isinstance(loss, losses.Loss):
        return getattr(loss, "fn", type(loss)), loss.get_config()
    return loss, {}


def losses_by_output(model: Any) -> list[tuple[Any, float]] | None:
    """For every output the loss on it, as `loss_function` tells it, and what it weighs.

    Returns:
        An output without a loss has None, and weighs 0. None if only Keras knows which is whose.
    """
    names = _output_names(model)
    found = _one_for_each(model.loss, names)
    weights = _by_output(keras_state.loss_weights(model), names)
    if found is None or weights is None or not len(found) == len(weights) == len(names):
        return None
    return [
        (None, 0.0) if loss is None else (loss_function(loss)[0], 1.0 if w is None else float(w))
        for loss, w in zip(found, weights, strict=True)
    ]


def check_targets(model: Any, sample: DrawnSample | None, of: str = "the sample") -> None:
    """Refuses labels that the compiled loss cannot read.

    Losses of Keras: the labels' number, shape and, where they are classes, every value. Any loss,
    one of the user's own too, is run once on two examples.

    Args:
        model: The model. Without a compiled loss there is nothing to check.
        sample: Examples; None, or without labels: nothing to check either.
        of: Whose labels these are, for messages.

    Raises:
        InvalidArgument: they do not fit.
    """
    if sample is None or not backend.has_loss(model):
        return
    if all(leaf is None for leaf in keras.tree.flatten(sample.y)):
        return
    if type(model).compute_loss is keras.Model.compute_loss:
        for output, labels in _paired(model, sample.y, of):
            _check_pair(output, labels, model, of)
    _try_loss(model, sample, of)


def _try_loss(model: Any, sample: DrawnSample, of: str) -> None:
    few = keras.tree.map_structure(
        lambda leaf: None if leaf is None else leaf[:_EXAMPLES], (sample.x_of_loss, sample.y)
    )
    try:
        backend.sample_loss(model, *few)
    except Exception as error:
        shapes = [leaf.shape for leaf in keras.tree.flatten(sample.y) if leaf is not None]
        raise InvalidArgument(
            f"The loss of model '{model.name}' fails on {_EXAMPLES} examples of {of}, whose labels "
            f"have shape {', '.join(map(str, shapes))}: {in_short(error)}. Expected labels as "
            "`fit` gets them."
        ) from error


# -------------------------------------------------------------------------- which is whose


def _paired(model: Any, y: Any, of: str) -> list[tuple[_Output, np.ndarray]]:
    """Outputs that have a loss, each with its labels; empty if only Keras knows which is whose.

    Raises:
        InvalidArgument: labels are missing for some output that has a loss.
    """
    names = _output_names(model)
    found, labels = _one_for_each(model.loss, names), _one_for_each(y, names)
    if found is None or labels is None or len(found) != len(names):
        return []
    wanted = [place for place, loss in enumerate(found) if loss is not None]
    if len(labels) == len(wanted) < len(names):  # Keras takes labels of these outputs alone, too.
        labels = [dict(zip(wanted, labels, strict=True)).get(place) for place in range(len(names))]
    labels = [*labels, *[None] * (len(names) - len(labels))]
    missing = [names[place] for place in wanted if labels[place] is None]
    if missing or len(labels) > len(names):
        given = sum(one is not None for one in labels)
        raise InvalidArgument(
            f"Model '{model.name}' is compiled with losses on {len(wanted)} outputs "
            f"({', '.join(names[place] for place in wanted)}), and {of} has labels for {given}"
            f"{'; missing: ' + ', '.join(missing) if missing else ''}. Expected one array of "
            "labels for each, as `fit` gets them."
        )
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    return [
        (_Output(names[place], shapes[place], *loss_function(found[place])), labels[place])
        for place in wanted
    ]


def _output_names(model: Any) -> list[str]:
    return list(getattr(model, "output_names", ())) or [t.name for t in model.outputs]


def _one_for_each(values: Any, names: Sequence[str]) -> list[Any] | None:
    """`_by_output`; with a single output there is nothing to tell apart, however it is wrapped."""
    if len(names) == 1:
        return list(keras.tree.flatten(values))
    return _by_output(values, names)


def _by_output(values: Any, names: Sequence[str]) -> list[Any] | None:
    """Losses or labels in the order of the outputs; None if they have another structure."""
    if isinstance(values, Mapping):
        known = set(values) <= set(names)
        return [values.get(name) for name in names] if known else None
    if isinstance(values, list | tuple):
        return None if any(isinstance(one, Mapping | list | tuple) for one in values) else [*values]
    if hasattr(values, "shape"):  # One array of labels for several outputs.
        return [values]
    return [values] * len(names)


# -------------------------------------------------------------------------------- one pair


def _check_pair(output: _Output, labels: np.ndarray, model: Any, of: str) -> None:
    if output.loss is losses.sparse_categorical_crossentropy:
        if output.settings.get("axis", -1) in (-1, len(output.shape) - 1):
            _check_classes(output, labels, model, of)
    elif output.loss in _OF_OUTPUT_SHAPE:
        _check_shape(output, labels, model, of)


def _check_classes(output: _Output, labels: np.ndarray, model: Any, of: str) -> None:
    places, classes = output.shape[1:-1], output.shape[-1]
    given = labels.shape[1:]
    if len(given) == len(places) + 1 and given[-1] == 1:
        labels, given = labels[..., 0], given[:-1]
    if not _fits(given, places):
        hint = ""
        if _fits(given, output.shape[1:]):
            hint = (
                " Rows with one column per class belong to 'categorical_crossentropy'; for the "
                "present loss pass `y.argmax(axis=-1)`."
            )
        raise _misfit(output, labels, model, of, f"shape {_shown(places)}", labels.shape, hint)
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    wrong = (whole != labels) | (whole < 0)
    if classes is not None:
        wrong |= whole >= classes
    ignored = output.settings.get("ignore_class")
    if ignored is not None:
        wrong &= labels != ignored
    if wrong.any():
        expected = f"whole numbers from 0{'' if classes is None else f' to {classes - 1}'}"
        received = (
            f"{labels[wrong][0].item()!r} and the like for {int(wrong.sum())} of {labels.size}"
        )
        raise _misfit(output, labels, model, of, expected, received)


def _check_shape(output: _Output, labels: np.ndarray, model: Any, of: str) -> None:
    given, expected = labels.shape[1:], output.shape[1:]
    # As Keras does: an axis of one number at the end may be there or not.
    same = len(given) == len(expected)
    shorter = len(given) + 1 == len(expected) and expected[-1] == 1 and _fits(given, expected[:-1])
    longer = len(given) == len(expected) + 1 and given[-1] == 1 and _fits(given[:-1], expected)
    broadcast = output.loss not in _OF_CLASSES
    if shorter or longer or (same and _fits(given, expected, broadcast)):
        return
    hint = ""
    if output.loss in _OF_CLASSES and _fits(given, expected[:-1]):
        hint = (
            " The index of the class belongs to 'sparse_categorical_crossentropy'; for the "
            "present loss pass `keras.utils.to_categorical(y)`."
        )
    raise _misfit(output, labels, model, of, f"shape {_shown(expected)}", labels.shape, hint)


def _fits(given: Sequence[int], expected: Sequence[int | None], broadcast: bool = False) -> bool:
    return len(given) == len(expected) and all(
        size is None or size == own or (broadcast and 1 in (size, own))
        for size, own in zip(expected, given, strict=True)
    )


def _misfit(
    output: _Output,
    labels: np.ndarray,
    model: Any,
    of: str,
    expected: str,
    received: object,
    hint: str = "",
) -> InvalidArgument:
    name = getattr(output.loss, "__name__", "")
    whose = f"'{output.name}' of model '{model.name}'" if len(model.outputs) > 1 else ""
    return InvalidArgument(
        f"The labels of {of} do not fit the loss '{name}'"
        f"{f' on output {whose}' if whose else f' of model {model.name!r}'}, whose output has "
        f"shape {output.shape}. Expected {expected}. Received {received}.{hint}"
    )


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join(['examples', *map(str, shape)])}{'' if shape else ','})"
