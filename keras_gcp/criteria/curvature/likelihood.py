"""What an output predicts: the distribution of labels whose surprise its loss measures.

| output's last function | loss | distribution |
|---|---|---|
| softmax | any of classes, or none | `"categorical"`, of probabilities |
| log_softmax | likewise | `"categorical"`, of their logarithms |
| none | a categorical cross-entropy, or none and two numbers or more | `"categorical"`, of logits |
| sigmoid | not of quantities | `"bernoulli"`, of probabilities |
| none | a binary cross-entropy, or none and one number | `"bernoulli"`, of logits |
| anything | of quantities | `"gaussian"` |
| another one | none | `"gaussian"` |
| anything | another one, such as the user's own | what the labels are: `"given"` |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import losses, ops

from keras_gcp import backend
from keras_gcp.classification.head import BINARY_LOSSES, CATEGORICAL_LOSSES, last_function
from keras_gcp.classification.labels import REGRESSION_LOSSES, losses_by_output
from keras_gcp.graph import Graph

CATEGORICAL, BERNOULLI, GAUSSIAN, GIVEN = "categorical", "bernoulli", "gaussian", "given"

_LEAST_PROBABILITY = 1e-7

_CATEGORICAL = CATEGORICAL_LOSSES | {losses.kl_divergence}


@dataclass(frozen=True)
class Likelihood:
    """The distribution that one output predicts.

    Attributes:
        kind: `"categorical"` (a class at every place), `"bernoulli"` (yes or no for every number),
            `"gaussian"` (numbers), or `"given"`: only the labels tell.
        form: `"probabilities"`, `"logarithms"` or `"logits"`, of the first two.
        weight: The share of this output in the loss.
    """

    kind: str
    form: str = "logits"
    weight: float = 1.0

    def noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """What decides the labels of one example, whose output has this shape."""
        if self.kind == CATEGORICAL:
            return rng.random(shape[:-1], np.float32)
        if self.kind == BERNOULLI:
            return rng.random(shape, np.float32)
        return rng.standard_normal(shape, np.float32)

    def surprise(self, output: Any, noise: Any) -> Any:
        """Loss of drawn labels, summed over examples, whose gradients have its curvature.

        Places and numbers of one example are drawn independently, and a mean over n of them bends
        1/n as much as the sum: so what is summed here is divided by the root of n.

        Args:
            output: What the model predicts, `(examples, ...)`.
            noise: As `noise`, for all examples.
        """
        output = ops.cast(output, "float32")
        if self.kind == CATEGORICAL:
            loss, count = self._of_classes(output, noise), _numbers(output) // output.shape[-1]
        elif self.kind == BERNOULLI:
            loss, count = self._of_answers(output, noise), _numbers(output)
        else:  # The mean of squares bends 2 / n.
            loss, count = ops.sum(output * noise) * np.sqrt(2.0), _numbers(output)
        return loss * float(np.sqrt(self.weight / max(count, 1)))

    def _of_classes(self, output: Any, noise: Any) -> Any:
        logarithms = {
            "probabilities": lambda: ops.log(ops.maximum(output, _LEAST_PROBABILITY)),
            "logarithms": lambda: output,
            "logits": lambda: ops.log_softmax(output, axis=-1),
        }[self.form]()
        below = ops.cumsum(ops.stop_gradient(ops.exp(logarithms)), axis=-1)
        passed = ops.cast(below <= ops.expand_dims(noise, -1), "int32")
        classes = ops.minimum(ops.sum(passed, axis=-1), output.shape[-1] - 1)
        drawn = ops.one_hot(classes, output.shape[-1], dtype="float32")
        return -ops.sum(drawn * logarithms)

    def _of_answers(self, output: Any, noise: Any) -> Any:
        if self.form == "logits":
            drawn = ops.cast(noise < ops.sigmoid(ops.stop_gradient(output)), "float32")
            return ops.sum(ops.softplus(output) - drawn * output)
        inside = ops.clip(output, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        drawn = ops.cast(noise < ops.stop_gradient(inside), "float32")
        return -ops.sum(drawn * ops.log(inside) + (1 - drawn) * ops.log(1 - inside))


def likelihoods_of(model: Any, graph: Graph) -> list[Likelihood]:
    """The distribution of every output of a model; those with no loss, if others have one, weigh 0.

    Args:
        model: The model.
        graph: Its calls.
    """
    places = range(len(graph.outputs))
    if not backend.has_loss(model):
        return [_likelihood(graph, place, None, 1.0) for place in places]
    own = type(model).compute_loss is not keras.Model.compute_loss
    found = None if own else losses_by_output(model)
    if found is None:
        return [Likelihood(GIVEN) for _ in places]
    return [_likelihood(graph, place, *one) for place, one in zip(places, found, strict=True)]


def _likelihood(graph: Graph, place: int, loss: Any, weight: float) -> Likelihood:
    if weight == 0.0:
        return Likelihood(GAUSSIAN, weight=0.0)
    function, shape = last_function(graph, place), graph.outputs[place].shape
    if loss in REGRESSION_LOSSES:
        return Likelihood(GAUSSIAN, weight=weight)
    if loss is not None and loss not in _CATEGORICAL | BINARY_LOSSES:
        return Likelihood(GIVEN, weight=weight)
    if function in ("softmax", "log_softmax"):
        return Likelihood(CATEGORICAL, _FORMS[function], weight)
    if function == "sigmoid":
        return Likelihood(BERNOULLI, "probabilities", weight)
    if function != "linear":
        return Likelihood(GAUSSIAN if loss is None else GIVEN, weight=weight)
    several = len(shape) == 2 and (shape[-1] or 0) > 1
    if loss in _CATEGORICAL or (loss is None and several):
        return Likelihood(CATEGORICAL, "logits", weight)
    if loss in BINARY_LOSSES:
        return Likelihood(BERNOULLI, "logits", weight)
    return Likelihood(GAUSSIAN, weight=weight)


_FORMS = {"softmax": "probabilities", "log_softmax": "logarithms"}


def _numbers(output: Any) -> int:
    """Numbers in the output of one example."""
    return int(np.prod([int(size) for size in output.shape[1:]], dtype=np.int64))


def needs_labels(likelihoods: Sequence[Likelihood]) -> bool:
    """Whether some output's distribution is told by the labels only."""
    return any(one.kind == GIVEN for one in likelihoods)
