"""A network of other widths begins with what a trained one has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_gcp import criteria, keras_state
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.costs.counting import build_cost_model
from keras_gcp.criteria.normalization import AUTO
from keras_gcp.errors import UnsupportedModel
from keras_gcp.pruning.one_shot import apply
from keras_gcp.pruning.stages import score
from keras_gcp.selection.planning import plan_of
from keras_gcp.surgery.masking import masked_values

CRITERION = "l2_norm"
"""By which channels of layers that get narrower stay."""


def warm_start(
    channels: ChannelMap,
    groups: Mapping[str, Group],
    trained: ChannelMap,
    trained_groups: Mapping[str, Group],
) -> None:
    """Gives a model the weights of a trained one of other widths.

    Layers that are narrower keep their channels of the greatest norm. Layers that are wider have
    the weights that they were built with in their further channels, and nothing reads these yet:
    so the model computes what the trained one computes, cut to the narrower widths, and can begin
    to make use of the further channels.

    Args:
        channels: The model to begin with, which changes.
        groups: Its groups whose widths may differ, by name of a layer.
        trained: The trained model.
        trained_groups: Its groups, likewise.

    Raises:
        UnsupportedModel: other widths than those differ.
    """
    narrow = _cut(trained, trained_groups, {n: len(one.coupled) for n, one in groups.items()})
    old = np.ones(channels.coupled_count, bool)
    for name, group in groups.items():
        old[group.coupled[len(trained_groups[name].coupled) :]] = False
    model = channels.model
    _require_alike(model, narrow)
    values = {}
    for variable, value in zip(model.weights, narrow.get_weights(), strict=True):
        weight = channels.weights.get(id(variable))
        axes = {} if weight is None else weight.axes
        values[id(variable)] = _embedded(variable, np.asarray(value), axes, old)
    unread = {id(variable): value for variable, value in masked_values(channels, old, values)}
    for variable in model.weights:
        variable.assign(unread.get(id(variable), values[id(variable)]))
    for layer in keras_state.sublayers(model):
        if hasattr(layer, "finalize_state"):  # Normalization keeps what it computes from weights.
            layer.finalize_state()


def _cut(trained: ChannelMap, groups: Mapping[str, Group], widths: Mapping[str, int]) -> Any:
    """The trained model, nowhere wider than that."""
    scores = score(criteria.get(CRITERION), trained, None, AUTO)
    keep = np.ones(trained.coupled_count, bool)
    for name, group in groups.items():
        best_first = group.coupled[np.argsort(-scores[group.coupled], kind="stable")]
        keep[best_first[widths[name] :]] = False
    plan = plan_of(trained, keep, build_cost_model(trained))
    return apply(trained.model, plan, compensation=None)


def _require_alike(model: Any, narrow: Any) -> None:
    if len(model.weights) != len(narrow.weights):
        raise UnsupportedModel(
            f"Model '{model.name}' has {len(model.weights)} weights, and the one of the round "
            f"before {len(narrow.weights)}. Expected `build` to make the same layers for all "
            "widths, so that a warm start is possible; or `warm_start=False`."
        )


def _embedded(
    variable: Any, value: np.ndarray, axes: Mapping[int, np.ndarray], old: np.ndarray
) -> np.ndarray:
    """A weight's value with that of a narrower one where the old channels are."""
    found = np.array(keras.ops.convert_to_numpy(variable))
    places = [
        np.flatnonzero(old[axes[axis]]) if axis in axes else np.arange(size)
        for axis, size in enumerate(found.shape)
    ]
    expected = tuple(map(len, places))
    if expected != value.shape:
        raise UnsupportedModel(
            f"Weight '{variable.path}' has shape {found.shape}, and there are values of shape "
            f"{value.shape} for it, where {expected} would fit. Expected `build` to make only the "
            "layers named in `widths`, and what is tied to them, of other widths, so that a warm "
            "start is possible; or `warm_start=False`."
        )
    found[np.ix_(*places)] = value
    return found
