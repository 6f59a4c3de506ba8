"""Learning to generate masks: adapt the masked network to a task, see how well it does then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head, find_head
from keras_gcp.costs.counting import require_known_positions
from keras_gcp.errors import InvalidArgument
from keras_gcp.gates import kumaraswamy
from keras_gcp.gates.beta_bernoulli import positive
from keras_gcp.gates.expected_costs import ExpectedMacs
from keras_gcp.methods.stamp.episodes import Examples
from keras_gcp.methods.stamp.gated_copy import GatedCopy, State
from keras_gcp.methods.stamp.observation import Observation

ASKER = Asker("SetMaskGenerator", "It learns from tasks of some classes each, of one classifier.")

_NEVER = -1e9
"""Logit of classes that a task does not have."""


@dataclass(frozen=True)
class Settings:
    """How a generator is trained.

    Attributes:
        inner_steps: Steps of gradient descent on the support.
        inner_learning_rate: Of these.
        kl_weight: Factor of the divergence from the prior.
        macs_weight: Factor of the share of multiply-adds.
        alpha: Of the prior.
    """

    inner_steps: int
    inner_learning_rate: float
    kl_weight: float
    macs_weight: float
    alpha: float


@dataclass(frozen=True)
class EpisodeLoss:
    """What came of an episode.

    Attributes:
        loss: All of it: what is minimised.
        query: The cross-entropy on the query.
        divergence: From the prior, of all channels together.
        macs_share: Expected, of the whole network.
    """

    loss: float
    query: float
    divergence: float
    macs_share: float


class MetaTraining:
    """The two steps of an episode, compiled once for all of them where there are many.

    The generator's weights stay as they were until `write` is called.

    Args:
        model: The network.
        copy: Its gated copy.
        network: The generator, built.
        settings: How to train.

    Attributes:
        row: Present values of all trainable weights of the generator, one after the other.

    Raises:
        UnsupportedModel: the network is no classifier of one class of several, or sizes of its
            inputs are open.
    """

    def __init__(self, model: Any, copy: GatedCopy, network: Any, settings: Settings) -> None:
        self._copy, self._network, self._settings = copy, network, settings
        self._head = _head_of(model, copy)
        require_known_positions(copy.channels)
        self._macs = ExpectedMacs.of(copy.channels)
        self._state = copy.values()
        self._weights = network.trainable_variables
        # All weights in a row, so that the optimizer has one variable to move and not thirty.
        self.row = keras.Variable(
            np.concatenate([np.ravel(ops.convert_to_numpy(v)) for v in self._weights]),
            dtype="float32",
        )
        self._inner = copy.compiled(self._inner_step)
        self._outer = copy.compiled(self._outer_step)

    def step(
        self, observation: Observation, support: Examples, query: Examples
    ) -> tuple[EpisodeLoss, Any]:
        """An episode: its loss, and the gradient with respect to `row`."""
        seen = [ops.convert_to_tensor(x) for x in (observation.examples, observation.channels)]
        row = ops.convert_to_tensor(self.row)
        known, state = self._of_task(support, query), self._state
        for _ in range(self._settings.inner_steps):
            state = State(*self._inner(row, seen, *state, *known[0]))
        parts, gradient, noise = self._outer(row, seen, *state, *known[1])
        # Weights begin anew, chance goes on.
        self._state = State(self._state.trainable, self._state.fixed, noise)
        return EpisodeLoss(*map(float, ops.convert_to_numpy(parts))), gradient

    def _of_task(self, *parts: Examples) -> list[tuple[Any, ...]]:
        """`(inputs, classes, allowed)` for both parts, as tensors."""
        classes = self._head.classes
        allowed = np.isin(np.arange(classes), np.concatenate([part.y for part in parts]))
        shift = ops.convert_to_tensor(np.where(allowed, 0.0, _NEVER).astype("float32"))
        found = []
        for part in parts:
            arrays = keras_state.ordered_inputs(self._copy.model, part.x)
            inputs = [ops.convert_to_tensor(np.asarray(array)) for array in arrays]
            found.append((inputs, ops.convert_to_tensor(part.y.astype("int32")), shift))
        return found

    def write(self) -> None:
        """Gives the generator the weights that it has learned."""
        for variable, value in self._pairs(ops.convert_to_tensor(self.row)):
            variable.assign(value)

    def _pairs(self, row: Any) -> list[tuple[Any, Any]]:
        """Weights of the generator with their values out of a row."""
        bounds = np.cumsum([math.prod(v.shape) for v in self._weights])[:-1].tolist()
        parts = ops.split(row, bounds)
        return [
            (variable, ops.reshape(part, variable.shape))
            for variable, part in zip(self._weights, parts, strict=True)
        ]

    def _parameters(self, row: Any, seen: Sequence[Any]) -> Any:
        """What the generator, with some values of its weights, says of a task."""
        with keras.StatelessScope(state_mapping=self._pairs(row)):
            return self._network(*seen)

    def _loss(self, outputs: Any, classes: Any, shift: Any) -> Any:
        """Cross-entropy among the classes of the task."""
        linear = self._head.activation in ("linear", "log_softmax")
        logits = outputs if linear else ops.log(ops.maximum(outputs, 1e-7))
        logits = ops.cast(logits, "float32") + shift
        return ops.mean(keras.losses.sparse_categorical_crossentropy(classes, logits, True))

    def _inner_step(self, row: Any, seen: Any, *rest: Any) -> Any:
        """A step of gradient descent on the masked network: the state after it."""
        state, (inputs, classes, shift) = State(*rest[:3]), rest[3:]
        parameters, noise = self._parameters(row, seen), []

        def loss_of(*point: Any) -> Any:
            at_point = State(point, state.fixed, state.noise)
            outputs, changed = self._copy.run(parameters, at_point, inputs)
            noise.append(changed)
            return self._loss(outputs, classes, shift)

        loss, pullback = backend.vjp(loss_of, *state.trainable)
        rate = self._settings.inner_learning_rate
        gradients = pullback(ops.ones_like(loss))
        stepped = [
            ops.stop_gradient(weight - ops.cast(rate * gradient, weight.dtype))
            for weight, gradient in zip(state.trainable, gradients, strict=True)
        ]
        return stepped, list(state.fixed), noise[-1]

    def _outer_step(self, row: Any, seen: Any, *rest: Any) -> Any:
        """The losses of the adapted network on the query, the gradient for the generator, noise."""
        state, (inputs, classes, shift) = State(*rest[:3]), rest[3:]
        settings, noise = self._settings, []

        def losses_of(point: Any) -> Any:
            parameters = self._parameters(point, seen)
            outputs, changed = self._copy.run(parameters, state, inputs)
            noise.append(changed)
            query = self._loss(outputs, classes, shift)
            a, b = positive(ops.transpose(parameters))
            divergence = ops.sum(kumaraswamy.divergence_from_beta(a, b, settings.alpha))
            chances = self._copy.by_gate(kumaraswamy.mean(a, b))
            share = self._macs.share(self._copy.gates, chances)
            loss = query + settings.kl_weight * divergence + settings.macs_weight * share
            return [loss, query, divergence, share]

        losses, pullback = backend.vjp(losses_of, row)
        (gradient,) = pullback([ops.ones_like(losses[0]), *map(ops.zeros_like, losses[1:])])
        return ops.stop_gradient(ops.stack(losses)), gradient, noise[-1]

    def check(self, examples: Examples) -> None:
        """Refuses labels that the network has no output for.

        Raises:
            InvalidArgument: there are some.
        """
        classes = self._head.classes
        if examples.y.min() < 0 or examples.y.max() >= classes:
            raise InvalidArgument(
                f"Labels of an episode must be classes of model '{self._copy.model.name}', from 0 "
                f"to {classes - 1}. Received: {examples.y.min()} to {examples.y.max()}."
            )


def _head_of(model: Any, copy: GatedCopy) -> Head:
    head = find_head(model, copy.channels.graph, ASKER)
    if head.kind != "multi-class" or head.places:
        raise ASKER.error(
            f"{head.found} SetMaskGenerator needs one class of several for each example. "
            f"{ASKER.remedy}"
        )
    return head
