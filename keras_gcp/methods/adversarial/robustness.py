"""How often a classifier is right on the worst examples that an attack finds near given ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.classification.accuracy import right_answers
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import find_head
from keras_gcp.methods.adversarial.attack import (
    Attack,
    as_floats,
    ascend,
    attacked_inputs,
    checked_attack,
    excess,
    loss_gradients_in,
    replaced_in,
    require_inside,
    started,
)
from keras_gcp.sample.draw import DrawnSample, draw_sample
from keras_gcp.validation import require_integer, require_seed

_NAME = "robust_accuracy"
_ASKER = Asker(f"`{_NAME}`", "Look at the loss of such a model under attack instead.")


def robust_accuracy(
    model: Any,
    x: Any,
    y: Any,
    epsilon: float,
    step: float | None = None,
    steps: int = 20,
    *,
    restarts: int = 1,
    clip: tuple[float, float] | None = (0.0, 1.0),
    inputs: Any = None,
    seed: int | None = 0,
    batch_size: int = backend.DEFAULT_BATCH_SIZE,
) -> float:
    """The share of examples that a classifier gets right, and whatever the attack makes of them.

    The attack is that of `AdversarialTraining`: projected gradient ascent on the compiled loss, of
    the model at inference, from random starts. An example counts as right if the model is right on
    it and on what every restart ends with. It bounds the true robustness from above: another
    attack may find what this one did not. Nothing of the model changes.

    Args:
        model: A classifier, compiled with its loss; of one class of several, of two classes, of
            several at once, or of a class at every place, of which each counts by itself.
        x: Examples, as `fit` takes them. All are used.
        y: Their labels.
        epsilon: Greatest change of any number of an input, in its unit. 0: plain accuracy.
        step: Change in one step of the attack; None: a quarter of `epsilon`.
        steps: Steps of the attack.
        restarts: How often it starts anew, at another random point.
        clip: Least and greatest value of valid inputs; None: any value is valid.
        inputs: Names of the inputs that may be changed; see `AdversarialTraining`.
        seed: Seed of the random starts; None draws one.
        batch_size: Examples per batch; bounds the memory.

    Returns:
        A share in [0, 1].

    Raises:
        InvalidArgument: an argument is malformed, the model has no loss, or examples lie outside of
            `clip`, or labels do not fit the classifier.
        UnsupportedModel: the model is no classifier, or has no input of floating-point numbers.

    Warns:
        UserWarning: for some examples the loss has no gradient, so they were not attacked. Where
            a softmax rounds to exactly 1, JAX and PyTorch have none: let the model give logits, and
            compile with `from_logits=True`.

    Example:

    ```python
    robust = keras_gcp.methods.robust_accuracy(model, x_test, y_test, epsilon=8 / 255)
    ```
    """
    attack = checked_attack(epsilon, step, steps, clip, inputs)
    restarts = require_integer("restarts", restarts, least=1)
    batch_size = require_integer("batch_size", batch_size, least=1)
    seed = require_seed(seed)
    places = attacked_inputs(model, attack, f"`{_NAME}`")
    head = find_head(model, keras_state.read_graph(model), _ASKER)
    sample = draw_sample((x, y), None, 0, model)
    _check_range(model, sample, attack, places)
    (outputs,) = keras.tree.flatten(backend.predict(model, sample.x, batch_size))
    right, counted = right_answers(head, sample.y, outputs, _ASKER)
    right = right & counted
    random, unmoved = np.random.default_rng(seed), np.zeros(len(sample), bool)
    for _ in range(restarts):
        rows = np.flatnonzero(_any_right(right))
        if not len(rows):
            break
        found, stayed = _attacked(model, sample.rows(rows), attack, places, random, batch_size)
        worst = np.array(outputs)
        worst[rows] = found
        right &= right_answers(head, sample.y, worst, _ASKER)[0]
        unmoved[rows] = stayed
    if attack.epsilon:
        _warn_of_unmoved(unmoved & _any_right(right))
    return float(right.sum() / counted.sum())


def _any_right(right: np.ndarray) -> np.ndarray:
    """For each example, whether any of its answers is right."""
    return np.any(right.reshape(len(right), -1), axis=1)


def _check_range(model: Any, sample: DrawnSample, attack: Attack, places: Sequence[int]) -> None:
    if attack.clip is None:
        return
    ordered = keras_state.ordered_inputs(model, sample.x)
    found = float(excess(tuple(np.asarray(ordered[at]) for at in places), attack.clip))
    require_inside(found, attack, f"`{_NAME}`")


def _attacked(
    model: Any,
    sample: DrawnSample,
    attack: Attack,
    places: Sequence[int],
    random: np.random.Generator,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What the model says to attacked examples, and which of these never moved from the start."""
    ordered = keras_state.ordered_inputs(model, sample.x)
    noise = [
        random.uniform(-attack.epsilon, attack.epsilon, np.shape(ordered[at])).astype(
            model.inputs[at].dtype
        )
        for at in places
    ]

    def attacked(weights: Sequence[Any], given: Any, y: Any) -> Any:
        x, start = given
        inputs = keras_state.ordered_inputs(model, x)
        clean = as_floats(model, inputs, places)

        def values() -> Any:
            return backend.with_weights(model, weights)

        gradients = loss_gradients_in(model, x, y, None, places, values)
        begun = started(clean, tuple(start), attack)
        found = ascend(gradients, clean, begun, attack)
        changed = replaced_in(x, inputs, places, found)
        with values(), backend.without_gradients():
            outputs = model(keras_state.pack_inputs(model, changed), training=False)
        return keras.tree.flatten(outputs)[0], _equal_rows(begun, found)

    batches = backend.over_batches(attacked, model, (sample.x, noise), sample.y, batch_size)
    parts = [[ops.convert_to_numpy(part) for part in found] for found, _ in batches]
    outputs, stayed = (np.concatenate(group)[: len(sample)] for group in zip(*parts, strict=True))
    return outputs, stayed


def _equal_rows(one: Sequence[Any], other: Sequence[Any]) -> Any:
    """For each example, whether all of its parts are equal."""
    equal = [
        ops.all(ops.equal(a, b), axis=tuple(range(1, len(a.shape))))
        for a, b in zip(one, other, strict=True)
    ]
    return ops.all(ops.stack(equal), axis=0)


def _warn_of_unmoved(unmoved: np.ndarray) -> None:
    if unmoved.any():
        warnings.warn(
            f"For {int(unmoved.sum()):,} of {len(unmoved):,} examples the loss has no gradient "
            "with regard to the inputs, so they were not attacked, and count as robust. Where a "
            "softmax or a sigmoid is as good as 1 this is so with probabilities: let the model "
            "give logits, and compile with a loss of `from_logits=True`.",
            stacklevel=3,
        )
