"""By how much the loss rises when a channel leaves and its readers are refitted without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.products import Product
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.curvature import (
    Gate,
    likelihoods_of,
    needs_labels,
    second_moments,
)
from keras_gcp.criteria.falling import falling
from keras_gcp.criteria.greedy import greedy_order
from keras_gcp.criteria.read_rows import blocks_of, is_product, joined_rows, products_read
from keras_gcp.criteria.readers import (
    Reader,
    readers_of,
    readers_with_inputs,
    require_readers,
)
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Call
from keras_gcp.sample import DrawnSample

RIDGE = 0.03
"""Variance that every input has for itself, as a share of its own: what few rows seem to say of
many inputs is worth less, and a channel that is dead as trained stays dead."""

_LEAST_CURVATURE = 1e-6
"""Directions of the outputs that bend the loss less, as a share of the first one, are left out."""

_LARGEST_SHARE = 0.99
"""Beyond it the last channel of a layer would outweigh all others in sums of scores."""


@dataclass(frozen=True)
class LossAware:
    """Predicted rise of the loss, in its own units, if a channel leaves.

    Of the channels that a layer reads, removing a set K and refitting the kernel W on the others
    changes the loss by about

        1/2 tr(G W^T (S - S_{:R} S_RR^-1 S_{R:}) W),

    where R are those that stay, S is the covariance of the layer's inputs (patches of a
    convolution) and G the second moment of the loss's gradient at its outputs, summed over their
    places: a second-order estimate with Kronecker factors. Labels are drawn from the model's own
    prediction, so none are needed, except where a loss of the user's own says nothing about what
    an output means. Channels are ordered greedily, the most valuable first, and a channel's score
    is what is lost besides if it leaves after all behind it have left; of several readers the
    sum. A second-order estimate holds for small changes only. So where a share r of all that a
    layer hears would be lost, the estimate is divided by (1 - r)^2.

    Scores are comparable over the whole network, and worth dividing by costs. They belong with
    `compensation="least_squares"`, and their sum over a plan's removed channels is the plan's
    `predicted_loss`.

    Layers whose inputs are multiplied with a kernel in another way than place by place (recurrent
    layers, attention, einsums) score a channel by the second-order change of the loss if the
    weights that read it vanish, without a refit.

    Sources: Hassibi and Stork, "Second Order Derivatives for Network Pruning", 1993; Martens and
    Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015; Grosse
    and Martens, "A Kronecker-factored Approximate Fisher Matrix for Convolution Layers", 2016;
    Wang et al., "EigenDamage", 2019; Kurtic et al., "ZipLM", 2023. The greedy order is that of
    `"compensation_aware"` (arXiv 2108.13728); the division by (1 - r)^2 is ours, chosen by
    measurement (docs/decisions.md).

    Args:
        examples: At most so many examples are used; for covariances, half of them.
        draws: How many labels are drawn for each of them.
        batch_size: Examples per pass; bounds the memory.

    Example:

    ```python
    plan = keras_gcp.plan(model, {"macs": 0.5}, criterion="loss_aware", sample=x)
    print(plan.predicted_loss)
    ```
    """

    examples: int = 512
    draws: int = 1
    batch_size: int = 64

    name: ClassVar[str] = "loss_aware"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "none"
    ranking: ClassVar[str] = "score_per_cost"
    predicts_loss: ClassVar[bool] = True

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises without labels where only they tell, or without readers."""
        assert sample is not None  # `criteria.check` asks for it.
        require_readers(self.name, channels)
        if needs_labels(likelihoods_of(model, channels.graph)) and sample.y is None:
            raise InvalidArgument(
                "Criterion 'loss_aware' needs labels here: the model is compiled with a loss that "
                "does not tell what distribution its outputs describe. Expected sample=(x, y); or "
                "take criterion='compensation_aware', which needs none."
            )

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        few = sample.spread(keras_state.whole_batches(model, self.examples))
        tapped, gates = _places(channels)
        moments = second_moments(channels, tapped, gates, few, self.draws, self.batch_size)
        losses = np.zeros(channels.coupled_count)
        for gate in gates:
            coupled = channels.weights[id(gate.variable)].axes[gate.axis]
            np.add.at(losses, coupled, moments.gates[gate.key] / 2)
        for reader, x in readers_with_inputs(model, channels, few, self.examples // 2):
            products = products_read(reader, x)
            if products is not None:
                moment = moments.outputs[id(reader.call)]
                coupled, own = _losses(reader, products, x, moment)
                np.add.at(losses, coupled, own)
        return {path: losses[channels.produced[path]] for path in prunable_layers(channels)}


def _places(channels: ChannelMap) -> tuple[list[Call], list[Gate]]:
    """Calls that are read off as products, and the weights of the other readers."""
    calls: dict[int, Call] = {}
    gates: dict[tuple[int, int], Gate] = {}
    for reader in readers_of(channels):
        if is_product(reader):
            calls[id(reader.call)] = reader.call
        else:
            gate = Gate(reader.weight.variable, reader.axis)
            gates[gate.key] = gate
    return list(calls.values()), list(gates.values())


def _losses(
    reader: Reader, products: Sequence[Product], x: np.ndarray, moment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(coupled, losses)` of the channels that a reader reads.

    Args:
        reader: The reader.
        products: Its products.
        x: What it reads.
        moment: Second moment of the gradients at its outputs.
    """
    kernel = ops.convert_to_numpy(reader.weight.variable).astype(np.float64)
    rows, _ = joined_rows(reader, products, x)
    deviations = np.sqrt(np.einsum("re,re->e", rows, rows) / len(rows))
    rows /= np.where(deviations > 0, deviations, 1)
    root = _root(moment)
    matrix = np.concatenate([one.matrix(kernel) @ root[one.outputs] for one in products])
    own, blocks = blocks_of(reader, products)
    picked, gains = greedy_order(rows, deviations[:, None] * matrix, blocks, RIDGE)
    losses = np.zeros(len(own))
    losses[picked] = falling(_with_growing_error(gains / 2))
    return own, losses


def _root(moment: np.ndarray) -> np.ndarray:
    """R with `R R^T` = the moment, without directions in which nothing happens."""
    values, turn = np.linalg.eigh(moment)
    seen = values > _LEAST_CURVATURE * max(float(values[-1]), 1e-30)
    root: np.ndarray = turn[:, seen] * np.sqrt(values[seen])
    return root


def _with_growing_error(gains: np.ndarray) -> np.ndarray:
    """Gains of channels, the best first, so that large cuts cost more than small ones promise.

    If a channel and all behind it leave, a share r of the whole is lost, and what that costs is
    taken as 1 / (1 - r)^2 of the estimate. What comes out are the differences between one channel
    and the next.
    """
    lost = np.cumsum(gains[::-1])[::-1]
    share = np.minimum(lost / max(float(lost[0]), 1e-30), _LARGEST_SHARE)
    costs = lost / np.square(1 - share)
    differences: np.ndarray = costs - np.append(costs[1:], 0.0)
    return differences
