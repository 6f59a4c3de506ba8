"""GraSP: which weights, and how much of each layer, the flow of gradients needs from the start.

Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
2020 (arXiv 2002.07376). As a criterion for channels it is `criterion="gradient_flow"`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.targets import targets_of
from keras_gcp.costs.counting import prunable_groups
from keras_gcp.criteria.gradient_flow import TEMPERATURE, require_temperature, weight_scores
from keras_gcp.criteria.hessian_gradient import find_classes, kernels_of
from keras_gcp.criteria.weights import kernels, operations_by_path
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample.draw import draw_sample
from keras_gcp.validation import between, require_integer

_ASKER = Asker("GraSP", "It compares the classes of a classifier; train another model without it.")


def gradient_flow_scores(
    model: Any, x: Any, y: Any, temperature: float = TEMPERATURE, *, batch_size: int = 256
) -> dict[str, np.ndarray]:
    """GraSP's score of every single weight: `S = -theta * H g`.

    Removing the weight changes the squared norm of the gradient by about 2 S. The paper prunes the
    weights with the greatest S, over the whole network.

    Args:
        model: A classifier, softmax or logits, that has not been trained.
        x: Some examples of each class, as `fit` takes them; the authors take ten. All are used.
        y: Their classes, as integers or one-hot.
        temperature: What logits are divided by.
        batch_size: Most examples per pass; bounds the memory.

    Returns:
        Path of each kernel (`variable.path`) to the scores of its weights, an array of its shape.
        Kernels of convolutions, dense layers and embeddings; no biases, no normalizations.

    Raises:
        InvalidArgument: an argument is malformed, or examples or labels do not fit the model.
        UnsupportedModel: the model is no classifier of one class of several.

    Example:

    ```python
    scores = keras_gcp.methods.gradient_flow_scores(model, x, y)
    threshold = np.quantile(np.concatenate([s.ravel() for s in scores.values()]), 0.1)
    masks = {path: s <= threshold for path, s in scores.items()}  # a tenth of all weights stays
    ```
    """
    channels = trace(model)
    found = _scores(channels, x, y, temperature, batch_size)
    return {variable.path: found[id(variable)] for variable in kernels_of(channels)}


def gradient_flow_shares(
    model: Any,
    x: Any,
    y: Any,
    keep: float = 0.1,
    *,
    temperature: float = TEMPERATURE,
    batch_size: int = 256,
) -> dict[str, float]:
    """How much of each layer GraSP keeps, for `keras_gcp.Selection(ranking=...)`.

    Of all weights the share `keep` with the least scores stays; a layer of which the share p of the
    weights stays gets the number sqrt(p), since a layer has the share p of its weights if it, and
    the layer that it reads, have the share sqrt(p) of their channels. So GraSP only says how wide
    layers are; which channels these are, any criterion says.

    Args:
        model: As for `gradient_flow_scores`.
        x: Likewise.
        y: Likewise.
        keep: Share of all weights, in (0, 1).
        temperature: What logits are divided by.
        batch_size: Most examples per pass.

    Returns:
        Producing layer to a number in (0, 1]: layers with channels that may be pruned.

    Example:

    ```python
    shares = keras_gcp.methods.gradient_flow_shares(model, x, y)
    selection = keras_gcp.Selection(ranking=shares)
    small = keras_gcp.prune(model, {"macs": 0.5}, "random", selection=selection)
    ```
    """
    share = between(keep, 0.0, 1.0)
    if not share or share == 1:
        raise InvalidArgument(
            f"`keep` expects a share of all weights in (0, 1). Received: {keep!r}."
        )
    channels = trace(model)
    scores = _scores(channels, x, y, temperature, batch_size)
    threshold = np.quantile(np.concatenate([one.ravel() for one in scores.values()]), share)
    operations = operations_by_path(channels)
    layers = [member.path for group in prunable_groups(channels) for member in group.members]
    shares = {}
    for path in dict.fromkeys(layers):
        own = [scores[id(w.variable)] for w, _ in kernels(channels, path, operations[path])]
        kept = sum(int((one <= threshold).sum()) for one in own)
        shares[path] = float(np.sqrt(max(kept, 1) / sum(one.size for one in own)))
    return shares


def _scores(
    channels: ChannelMap, x: Any, y: Any, temperature: Any, batch_size: Any
) -> dict[int, np.ndarray]:
    temperature = require_temperature(temperature)
    batch_size = require_integer("batch_size", batch_size, least=2)
    head = find_classes(channels.model, channels, _ASKER)
    sample = draw_sample((x, y), None, 0, channels.model)
    classes = targets_of(head, sample.y, _ASKER).classes
    return weight_scores(channels, sample.x, classes, temperature, batch_size)
