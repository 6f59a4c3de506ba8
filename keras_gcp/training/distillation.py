"""Distillation: a pruned model learns from itself as it was before the first cut."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head, find_head, last_function
from keras_gcp.classification.targets import targets_of
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Graph
from keras_gcp.sample import DrawnSample
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.training.changed_loss import check_tells_training
from keras_gcp.validation import between
from keras_gcp.validation.configured import Configured

_PROBABILITIES = ("softmax",)
_LOGITS = ("linear", "log_softmax")  # Logarithms of probabilities are logits, up to a constant.
_LEAST_PROBABILITY = 1e-7

_ASKER = Asker("`distillation`", "Leave `distillation` out.")


@dataclass(frozen=True, repr=False)
class Distillation(Configured):
    """From the first cut on, `fit` minimises (1 - w) loss + w T^2 KL(teacher, student).

    The teacher is the model as it was just before the first cut, frozen; the student is the model
    that gets narrower. KL is the Kullback-Leibler divergence of their class probabilities, both
    softened by the temperature: `softmax(logits / T)`. Penalties on weights count in full.

    Each step runs the teacher, too: once forwards, at full width.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015
    (arXiv 1503.02531), section 2: the factor T^2 keeps both terms' gradients comparable.

    Args:
        weight: w, above 0 and at most 1.
        temperature: T, above 0; above 1 it shows more of how the teacher tells wrong classes apart.

    Raises:
        InvalidArgument: a number is out of its range.

    Example:

    ```python
    pruning = keras_gcp.GradualChannelPruning(
        (x_train, y_train), {"macs": 0.5}, distillation=keras_gcp.Distillation(temperature=2.0)
    )
    ```
    """

    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        weight = between(self.weight, 0.0, 1.0)
        temperature = between(self.temperature, 0.0, sys.float_info.max)
        if not weight:
            raise InvalidArgument(
                "`weight` of Distillation expects a number above 0 and at most 1. "
                f"Received: {self.weight!r}."
            )
        if not temperature:
            raise InvalidArgument(
                "`temperature` of Distillation expects a positive number. "
                f"Received: {self.temperature!r}."
            )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "temperature", temperature)


class Teacher:
    """A frozen copy of a model, and the loss of learning from it.

    Args:
        settings: Weight and temperature.
        model: The model before the first cut.
        graph: Its calls.
        labels: Those of the sample; None if there are none.

    Raises:
        UnsupportedModel: the model has no softmax or logits over classes, cannot be copied, or
            computes a loss of its own that does not say when it trains.
    """

    def __init__(
        self, settings: Distillation, model: Any, graph: Graph, labels: Any = None
    ) -> None:
        gives_probabilities = _check_head(model, graph, labels)
        _check_states(model)
        check_tells_training(model, "`distillation`")
        self._settings = settings
        self._divergence = _Divergence(settings.temperature, gives_probabilities)
        with keras_state.strategy_scope(model):
            self._copy = copy_model(model)
        self._copy.trainable = False
        self._used = False
        self.is_ready = False
        """Whether it has the weights it is to teach."""

    @property
    def weights(self) -> list[Any]:
        """The variables that a backup has to hold."""
        return list(self._copy.weights)

    def take(self, values: Sequence[Any]) -> None:
        """Takes the weights to teach."""
        self._copy.set_weights(values)
        self.is_ready = True

    def attach(self, model: Any) -> None:
        """Lets the running fit learn from this teacher."""
        self._used = False
        keras_state.set_training_loss(model, self._loss)

    def detach(self, model: Any) -> None:
        """Leaves the model as if there had been no teacher."""
        keras_state.take_back_training_loss(model)

    def is_attached(self, model: Any) -> bool:
        """Whether the model learns from a teacher."""
        return keras_state.has_training_loss(model)

    def check_step(self, model: Any, sample: DrawnSample | None) -> None:
        """`check_used` before training, where the step is a user's own and can be looked at."""
        if sample is None or type(model).train_step is keras.Model.train_step:
            return
        count = keras_state.whole_batches(model, 2)
        few = keras.tree.map_structure(lambda leaf: leaf[:count], (sample.x, sample.y))
        with keras_state.watched_loss(model) as asked:
            known = backend.trace_train_step(model, *few)
        if known and not asked:
            raise UnsupportedModel(_unused(model))

    def check_used(self, model: Any) -> None:
        """Refuses to go on if a training step did not ask for the loss.

        Raises:
            UnsupportedModel: the model has a `train_step` that computes its loss in another way.
        """
        if self.is_attached(model) and not self._used:
            raise UnsupportedModel(_unused(model))

    def _loss(self, loss: Any, penalties: list[Any], x: Any, y_pred: Any, weights: Any) -> Any:
        self._used = True
        share, temperature = self._settings.weight, self._settings.temperature
        flat_weights = keras.tree.flatten(weights)
        divergence = self._divergence(
            self._outputs(x),
            keras.tree.flatten(y_pred)[0],
            sample_weight=flat_weights[0] if flat_weights else None,
        )
        total = (1 - share) * loss + share * temperature**2 * ops.cast(divergence, loss.dtype)
        for penalty in penalties:  # Only the data's part of the loss is shared with the teacher.
            total = total + share * ops.cast(penalty, loss.dtype)
        return total

    def _outputs(self, x: Any) -> Any:
        """What the teacher says, as numbers without derivatives."""
        values = backend.frozen_weights(self._copy)
        state = list(zip(self._copy.weights, values, strict=True))
        with keras.StatelessScope(state_mapping=state), backend.without_gradients():
            outputs = self._copy(keras_state.pack_inputs(self._copy, x), training=False)
        return ops.stop_gradient(keras.tree.flatten(outputs)[0])


class _Divergence(keras.losses.Loss):
    """KL(teacher, student) of softened probabilities, for every example or place."""

    def __init__(self, temperature: float, gives_probabilities: bool) -> None:
        super().__init__(name="distillation")
        self._temperature, self._gives_probabilities = temperature, gives_probabilities

    def call(self, y_true: Any, y_pred: Any) -> Any:
        teacher, student = self._softened(y_true), self._softened(y_pred)
        return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    def _softened(self, outputs: Any) -> Any:
        if self._gives_probabilities:
            outputs = ops.log(ops.clip(outputs, _LEAST_PROBABILITY, 1.0))
        return ops.log_softmax(outputs / self._temperature, axis=-1)


def _check_head(model: Any, graph: Graph, labels: Any) -> bool:
    """Whether the model gives probabilities, rather than logits."""
    head = find_head(model, graph, _ASKER)
    function = last_function(graph)
    if head.kind != "multi-class" or function not in (*_PROBABILITIES, *_LOGITS):
        raise UnsupportedModel(
            f"`distillation` needs one class of several, by softmax or logits. {head.found} Leave "
            "`distillation` out."
        )
    if head.told == "shape":
        _check_labels(head, labels)
    if head.ignored is not None:
        raise UnsupportedModel(
            f"`distillation` does not know the loss's `ignore_class={head.ignored}`: the teacher "
            "has answers for those places, too. Give them the sample weight 0, or leave "
            "`distillation` out."
        )
    return function in _PROBABILITIES


def _check_labels(head: Head, labels: Any) -> None:
    """Refuses linear outputs that nothing calls classes: colours would be taken for logits."""
    try:
        targets_of(head, labels, _ASKER)
    except InvalidArgument as error:
        raise UnsupportedModel(
            "`distillation` needs one class of several, and neither the last activation nor the "
            f"loss says that the outputs, of shape {head.shape}, are logits over classes, nor do "
            "the sample's labels. Compile with a categorical cross-entropy, pass a sample with "
            "labels that are classes, or leave `distillation` out."
        ) from error


def _check_states(model: Any) -> None:
    stateful = keras_state.stateful_layers(model)
    if stateful:
        names = ", ".join(f"'{layer.name}' (class {type(layer).__name__})" for layer in stateful)
        raise UnsupportedModel(
            "`distillation` does not go with layers that go on where the last batch ended: "
            f"{names}. The teacher would start again with each batch, but the model not. Build "
            "them with `stateful=False`, or leave `distillation` out."
        )


def _unused(model: Any) -> str:
    return (
        f"`train_step` of model '{model.name}' (class {type(model).__name__}) does not "
        "call `self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)`, "
        "so it does not learn from the teacher. Call that method there, as Keras' own "
        "`train_step` does, or leave `distillation` out."
    )
