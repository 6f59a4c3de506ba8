"""`fold_bwcp`: a plain narrow model of one with batch whitening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.comparison import example_count, random_inputs
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.costs.counting import build_cost_model, prunable_groups
from keras_gcp.criteria.silence import own_weights, where_read
from keras_gcp.errors import InvalidArgument, UnsupportedModel, VerificationFailed
from keras_gcp.methods.whitening.arithmetic import in_groups
from keras_gcp.methods.whitening.layer import BatchWhitening
from keras_gcp.methods.whitening.sites import (
    KERNEL_AXES,
    WhiteningSite,
    normalizations,
    site_of,
)
from keras_gcp.pruning.one_shot import narrow
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import candidates_of, plan_of
from keras_gcp.surgery.model_copy import exchanged_copy
from keras_gcp.surgery.verify import outputs_of, verify_narrow

_EVERY_WIDTH = Selection(align=1, floor=1)


def fold_bwcp(model: Any) -> Any:
    """The plain, narrow model that a model made by `bwcp` is in inference.

    Whitening is folded into the convolutions and dense layers that make the channels, every
    `BatchWhitening` becomes a `BatchNormalization` again, under its name, and channels that are
    closed, that is, zero wherever they are read, are cut. Channels that are tied by an addition
    leave together, once every term is closed; until then a closed term has gamma and beta 0. The
    result is compared with the model on random inputs. It needs no keras_gcp to be loaded.

    A layer of which all is closed keeps the least number of channels that it can have.

    Args:
        model: A model of `bwcp`, trained or not, as it is now; it stays as it is.

    Returns:
        A new plain `keras.Model`, not compiled.

    Raises:
        InvalidArgument: the model has no `BatchWhitening` layer.
        UnsupportedModel: such a layer does not follow a layer that it can be folded into.
        VerificationFailed: the result does not compute what the model computes.

    Example:

    ```python
    small = keras_gcp.methods.fold_bwcp(training)
    small.save("small.keras")
    ```
    """
    keras_state.require_functional(model)
    wide = trace_as_planned(model)
    sites = _sites(wide)
    exchanged = {id(one.layer): _normalization_for(one.layer) for one in sites.values()}
    plain = exchanged_copy(model, exchanged)
    channels = trace_as_planned(plain)
    folded = {path: (one, exchanged[id(one.layer)]) for path, one in sites.items()}
    producers = {call.path: call.operation for call in channels.graph.calls}
    for site, normalization in folded.values():
        _fold(site, normalization, producers[site.producer.path])
    plan = _plan(channels, folded)
    if plan.removed_channels:
        narrow(plain, plan, compensation=None)
    _verify(plain, wide)
    return plain


def _sites(channels: ChannelMap) -> dict[str, WhiteningSite]:
    calls = normalizations(channels, BatchWhitening)
    if not calls:
        raise InvalidArgument(
            f"Model '{channels.model.name}' has no BatchWhitening layer, so there is nothing to "
            "fold. Expected a model that `keras_gcp.methods.bwcp` has made."
        )
    found = {}
    for path, own in calls.items():
        site = site_of(own, channels)
        if isinstance(site, str):
            raise UnsupportedModel(
                f"Layer '{path}' (class BatchWhitening) cannot be folded: {site}. Expected it "
                "directly behind a convolution or dense layer that nothing else reads."
            )
        found[path] = site
    return found


# ---- whitening becomes normalization


def _normalization_for(layer: BatchWhitening) -> Any:
    return keras.layers.BatchNormalization(
        axis=layer.axis,
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        gamma_regularizer=layer.gamma_regularizer,
        beta_regularizer=layer.beta_regularizer,
        name=layer.name,
        dtype=layer.dtype_policy,
    )


@dataclass(frozen=True, eq=False)
class _State:
    """A whitening in inference, with 64 bits.

    Attributes:
        matrix: `(channels, channels)`: what the convolution is multiplied with.
        gamma: Of the normalization after it, `(channels,)`, as all that follow.
        beta: Likewise.
        mean: Likewise.
        variance: Likewise.
    """

    matrix: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def _state_of(layer: BatchWhitening) -> _State:
    """What stands in the convolution, and what the normalization after it has.

    `S (gamma (x - mean) / sigma + beta)` is `x' - A mean + S beta` of `x' = A x`, with
    `A = S diag(gamma / sigma)`. So the convolution makes x', and the normalization has to divide
    by what it multiplies with. Of all such pairs it takes what the whitened channels have:
    `|gamma|` of their group as deviation; then training can go on from there. Where each channel
    is by itself, nothing has to be folded, and its statistics stay.
    """
    root, gamma, beta, mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(one), np.float64)
        for one in (
            layer.moving_whitening,
            layer.gamma,
            layer.beta,
            layer.moving_mean,
            layer.moving_variance,
        )
    )
    is_open = layer.open_channels()
    whitening = _on_diagonal(root, layer.channels)
    shift = is_open * (whitening @ beta)
    if layer.shape_of_groups[1] == 1:
        scale = is_open * np.diagonal(whitening) * gamma
        return _State(np.eye(layer.channels), scale, shift, mean, variance)
    matrix = whitening * (gamma / np.sqrt(variance + layer.epsilon))
    spread = _variance_by_group(layer, gamma)
    scale = is_open * np.sqrt(spread + layer.epsilon)
    return _State(matrix, scale, shift, matrix @ mean, spread)


def _on_diagonal(blocks: np.ndarray, channels: int) -> np.ndarray:
    count, width, _ = blocks.shape
    whole = np.zeros((count, width, count, width))
    for number, block in enumerate(blocks):
        whole[number, :, number] = block
    return whole.reshape(count * width, count * width)[:channels, :channels]


def _variance_by_group(layer: BatchWhitening, gamma: np.ndarray) -> np.ndarray:
    grouped = np.asarray(keras.ops.convert_to_numpy(in_groups(gamma, layer.shape_of_groups)))
    totals = np.square(grouped).sum(axis=1, keepdims=True)
    return np.broadcast_to(totals, grouped.shape).reshape(-1)[: layer.channels]


def _fold(site: WhiteningSite, normalization: Any, producer: Any) -> None:
    state = _state_of(site.layer)
    if site.layer.shape_of_groups[1] > 1:
        name, axis = KERNEL_AXES[type(producer)]
        kernel = getattr(producer, name)
        kernel.assign(_mixed(kernel, state.matrix, axis))
        if producer.bias is not None:
            producer.bias.assign(_mixed(producer.bias, state.matrix, -1))
    normalization.gamma.assign(state.gamma)
    normalization.beta.assign(state.beta)
    normalization.moving_mean.assign(state.mean)
    normalization.moving_variance.assign(state.variance)


def _mixed(variable: Any, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis of a weight, sums of its channels by the rows of a matrix."""
    value = np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
    return np.moveaxis(np.moveaxis(value, axis, -1) @ matrix.T, -1, axis)


# ---- closed channels leave


def _plan(channels: ChannelMap, folded: Mapping[str, tuple[WhiteningSite, Any]]) -> Plan:
    """Keeps what is not zero wherever it is read, and of each group the least that it can have."""
    probability, closed = np.zeros(channels.coupled_count), {}
    touched = np.zeros(channels.coupled_count, bool)
    calls = {call.path: call for call in channels.graph.calls}
    for path, (site, normalization) in folded.items():
        coupled = channels.tensors[calls[path].outputs[0].index].reshape(-1)
        shut = ~site.layer.open_channels()
        closed[id(normalization)] = shut
        touched[coupled[shut]] = True
        np.maximum.at(probability, coupled, site.layer.activation_probabilities())
    heard = np.zeros(channels.coupled_count, bool)
    heard[list(where_read(channels, closed, own_weights(channels.model)))] = True
    stays = heard | ~touched | ~channels.prunable
    # Where more has to stay, it is the most probable: none of those that are heard may leave.
    scores = probability + 2.0 * stays
    keep = np.ones(channels.coupled_count, bool)
    for group, one in zip(
        prunable_groups(channels), candidates_of(channels, scores, _EVERY_WIDTH), strict=True
    ):
        wanted = int(stays[group.coupled].sum())
        keep[group.coupled] = one.best(min(width for width in one.widths if width >= wanted))
    plan = plan_of(channels, keep, build_cost_model(channels), "BWCP")
    return replace(plan, criterion="activation probability (BWCP)")


def _verify(plain: Any, wide: ChannelMap) -> None:
    model = wide.model
    shapes = sizes_to_run(model, None)
    inputs = random_inputs(model, example_count(model, shapes), shapes=shapes)
    expected = outputs_of(model, wide.graph, inputs)
    try:
        verify_narrow(trace_as_planned(plain), inputs, expected)
    except VerificationFailed as error:
        raise VerificationFailed(
            f"Folded, model '{model.name}' does not compute what it computed with batch "
            "whitening; nothing was changed. Please report the network."
        ) from error
