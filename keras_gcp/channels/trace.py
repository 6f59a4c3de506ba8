"""Traces a model: follows every channel through the graph, rule by rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels import rules  # noqa: F401  (registers the rules)
from keras_gcp.channels.channel_ids import Cause, ChannelIds
from keras_gcp.channels.declared import advice, find_names
from keras_gcp.channels.findings import Count, Findings, MacsSite
from keras_gcp.channels.grouping import build_groups, with_leasts
from keras_gcp.channels.map import Blocker, ChannelMap, Weight
from keras_gcp.channels.neighbours import follow_neighbours
from keras_gcp.channels.opaque import opaque_layers
from keras_gcp.channels.registry import rule_for
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.channels.uncounted import uncounted_layers
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Call, Container, Graph, Neighbour, Shapes, Tensor, map_structure
from keras_gcp.validation import layer_names, require_flag


def trace(model: Any, exclude: Sequence[str] = (), in_place: bool = False) -> ChannelMap:
    """Finds out which channels of a model live or die together.

    Args:
        model: A built functional or sequential `keras.Model`; nested models are opened up.
        exclude: Names (or paths, for layers of nested models) of layers whose outputs, and all
            that is tied to them, stay as they are. A layer that hides convolutions or dense layers
            has to be opened by `keras_gcp.flatten`, or named here.
        in_place: Whether the model itself is to be cut, and not a copy: then other living models
            with some of its weights (a second head on the same encoder) have a say, too.

    Returns:
        The `ChannelMap`.

    Raises:
        UnsupportedModel: the model has no functional graph, or hides layers inside others.
        InvalidArgument: `exclude` names an unknown layer.
    """
    return trace_at(None, model, exclude, require_flag("in_place", in_place))


def trace_at(
    shapes: Shapes | None, model: Any, exclude: Sequence[str] = (), in_place: bool = False
) -> ChannelMap:
    """`trace`, with costs counted at sizes of the inputs that the model leaves open.

    Raises:
        InvalidArgument: a layer does not take the sizes.
    """
    names = layer_names("exclude", exclude)
    graph, neighbours = _read(model, in_place)
    excluded = _excluded_paths(graph, names)
    opaque = opaque_layers(graph)
    _refuse_opaque(model, {path: why for path, why in opaque.items() if path not in excluded})
    channels = _follow(model, graph, neighbours, excluded, opaque)
    return _sized(channels, excluded, opaque, shapes)


def trace_as_planned(
    model: Any, in_place: bool = False, shapes: Shapes | None = None
) -> ChannelMap:
    """`trace` for a model that has been traced before: what hides layers is left whole."""
    graph, neighbours = _read(model, in_place)
    opaque = opaque_layers(graph)
    return _sized(_follow(model, graph, neighbours, set(), opaque), set(), opaque, shapes)


def _sized(
    channels: ChannelMap, excluded: set[str], opaque: dict[str, str], shapes: Shapes | None
) -> ChannelMap:
    """The channel map with what can be counted at given sizes only.

    Its channels stay those of the model as it is, which is what will be cut: at fixed sizes a rule
    may follow them further, such as through a `Reshape`.
    """
    if shapes is None:
        return channels
    model = channels.model
    graph = keras_state.read_graph(model, shapes)
    known = _follow(model, graph, (), excluded, opaque).macs
    return dataclasses.replace(channels, sized=graph, macs=_at_positions_of(channels.macs, known))


def _at_positions_of(
    sites: tuple[MacsSite, ...], known: tuple[MacsSite, ...]
) -> tuple[MacsSite, ...]:
    """Multiply-adds with the positions that they have at given sizes."""
    times: dict[tuple[str, int], list[int | None]] = {}
    for site in known:
        found = None if site.positions is None else site.positions * _width(site)
        times.setdefault((site.path, id(site.variable)), []).append(found)

    def at_size(site: MacsSite) -> MacsSite:
        left = times.get((site.path, id(site.variable)))
        found = left.pop(0) if left else None
        # What is a width at fixed sizes may be a mere size here; their product is the same.
        return dataclasses.replace(site, positions=found and found // _width(site))

    return tuple(map(at_size, sites))


def _width(site: MacsSite) -> int:
    return math.prod(len(ids) for ids in site.widths)


def _read(model: Any, in_place: bool) -> tuple[Graph, tuple[Neighbour, ...]]:
    if in_place:
        graph, neighbours = keras_state.read_with_neighbours(model)
    else:
        graph, neighbours = keras_state.read_graph(model), ()
    for one in (graph, *(neighbour.graph for neighbour in neighbours)):
        find_names(one)
    return graph, neighbours


def _follow(
    model: Any,
    graph: Graph,
    neighbours: Sequence[Neighbour],
    excluded: set[str],
    opaque: dict[str, str],
) -> ChannelMap:
    findings = Findings()
    blocks: dict[int, ChannelIds] = {}
    for position, x in enumerate(graph.inputs):
        cause = Cause(None, f"input {position} of the model", is_end=True)
        blocks[x.index] = _anchored_block(findings, len(x.shape), cause.text, cause)
    for call in graph.calls:
        inputs = [blocks[x.index] for x in call.inputs]
        outputs = _apply_rule(call, inputs, findings, opaque)
        for x, block in zip(call.outputs, outputs, strict=True):
            blocks[x.index] = block
        if call.path in excluded:
            for block in outputs:
                reason = f"layer '{call.path}' is in `exclude`"
                findings.space.anchor(block, reason, cause=Cause(call.path, reason))
    end = Cause(None, "output of the model", is_end=True)
    for x in graph.outputs:
        findings.space.anchor(blocks[x.index], end.text, foremost=True, cause=end)

    def beside_the_model(
        call: Call, inputs: list[ChannelIds], findings: Findings
    ) -> list[ChannelIds]:
        return _apply_rule(call, inputs, findings, opaque={})

    beside = follow_neighbours(neighbours, findings, blocks, beside_the_model)
    containers = [one for g in (graph, *(n.graph for n in neighbours)) for one in g.containers]
    _tie_calls_of_nested_models(containers, findings, blocks)
    uncounted = uncounted_layers(graph, findings, opaque)
    return _resolve(model, graph, neighbours, beside, findings, blocks, uncounted)


def _refuse_opaque(model: Any, opaque: dict[str, str]) -> None:
    if not opaque:
        return
    first, count = next(iter(opaque)), len(opaque)
    raise UnsupportedModel(
        f"In model '{model.name}', {next(iter(opaque.values()))}: its Python code calls them, so "
        "there is no graph to follow the channels through"
        + (f"; {count - 1} more of its layers are like that" if count > 1 else "")
        + ". Expected a flat model: `keras_gcp.flatten(model)` is the same network, with the same "
        "weights, and such layers opened up. One that cannot be opened is left whole if you name "
        f"it: `exclude={[first]!r}`; its channels stay then, and its multiply-adds are not counted."
    )


def _tie_calls_of_nested_models(
    containers: Sequence[Container], findings: Findings, blocks: dict[int, ChannelIds]
) -> None:
    """A nested model that is called twice has one set of symbolic shapes, also without weights."""
    first: dict[int, tuple[Tensor, ...]] = {}
    for container in containers:
        known = first.setdefault(id(container.model), container.inputs)
        for a, b in zip(known, container.inputs, strict=True):
            pair = blocks[a.index], blocks[b.index]
            if all(
                m == n or 1 in (m, n) for m, n in zip(*(block.shape for block in pair), strict=True)
            ):
                findings.space.tie(*pair)
            else:
                for block in pair:
                    reason = f"model '{container.model.name}' is called on other widths, too"
                    cause = Cause(container.model.name, reason)
                    findings.space.anchor(block, reason, cause=cause)


def _excluded_paths(graph: Graph, names: Sequence[str]) -> set[str]:
    paths = {call.path for call in graph.calls}
    found: set[str] = set()
    for name in names:
        hits = {path for path in paths if path == name or path.startswith(f"{name}/")}
        if not hits:
            raise InvalidArgument(
                f"`exclude` names layer '{name}', which the model does not have. Expected some of "
                f"{_sample(sorted(paths))}. Layers of nested models are written 'model/layer'."
            )
        found |= hits
    return found


def _sample(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def _anchored_block(
    findings: Findings, rank: int, reason: str, cause: Cause | None = None
) -> ChannelIds:
    ids = findings.space.fresh(1)
    findings.space.anchor(ids, reason, cause=cause)
    return ids.reshape((1,) * max(rank - 1, 0))


def _apply_rule(
    call: Call, inputs: list[ChannelIds], findings: Findings, opaque: dict[str, str]
) -> list[ChannelIds]:
    rule = rule_for(call.operation)
    kind = type(call.operation).__name__
    if call.path in opaque:
        reason = f"{opaque[call.path]}; it is left whole, its multiply-adds are not counted"
        return _refuse(call, inputs, findings, reason)
    if rule is None:
        findings.refusals.setdefault(call.path, _how_to_register(call))
        reason = f"layer '{call.path}' (class {kind}), which has no rule"
        return _refuse(call, inputs, findings, reason)
    try:
        outputs = rule(Site(call, inputs, findings))
    except Unprunable as error:
        reason = f"layer '{call.path}' (class {kind}): {error}"
        findings.refusals.setdefault(call.path, reason)
        _keep_outputs(call, findings, reason)
        return _refuse(call, inputs, findings, reason)
    blocks = [outputs] if isinstance(outputs, np.ndarray) else list(outputs)
    _check_blocks(call, blocks)
    return blocks


def _keep_outputs(call: Call, findings: Findings, reason: str) -> None:
    """A shared layer that cannot be followed in one of its calls keeps what it gives in all."""
    for variable in call.weights:
        weight = findings.weights.get(id(variable))
        if weight is None:
            continue
        for axis in weight.produced:
            findings.space.anchor(weight.axes[axis], f"also comes from {reason}")


def _how_to_register(call: Call) -> str:
    return (
        f"layer '{call.path}' (class {type(call.operation).__name__}) has no rule, so the channels "
        f"that enter and leave it stay. To have them pruned, {advice(call.operation, call.path)}"
    )


_FLATTEN = "`keras_gcp.flatten(model)` opens such layers where that changes nothing"


def _check_blocks(call: Call, blocks: Sequence[ChannelIds]) -> None:
    """A wrong rule must not pass for a network that is followed."""
    fits = len(blocks) == len(call.outputs) and all(
        block.ndim == max(len(x.shape) - 1, 0)
        and all(
            n in (1, size) or size is None for n, size in zip(block.shape, x.shape[1:], strict=True)
        )
        for block, x in zip(blocks, call.outputs, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Rule of layer '{call.path}' (class {type(call.operation).__name__}) returned "
            f"blocks of shape {[block.shape for block in blocks]} for outputs of shape "
            f"{[x.shape for x in call.outputs]}. Expected one block per output, with one axis for "
            "each axis of the output but the first (batch), of size 1 or of the output's size."
        )


def _refuse(
    call: Call, inputs: list[ChannelIds], findings: Findings, reason: str
) -> list[ChannelIds]:
    """Anchors all that goes in and comes out of a call whose channels cannot be followed."""
    cause = Cause(call.path, findings.refusals.get(call.path) or f"{reason} ({_FLATTEN})")
    for block in inputs:
        findings.space.anchor(block, f"feeds {reason}", cause=cause)
    return [
        _anchored_block(findings, len(x.shape), f"comes from {reason}", cause) for x in call.outputs
    ]


def _resolve(
    model: Any,
    graph: Graph,
    neighbours: Sequence[Neighbour],
    beside: frozenset[int],
    findings: Findings,
    blocks: dict[int, ChannelIds],
    uncounted: dict[str, str],
) -> ChannelMap:
    resolution = findings.space.resolve()
    coupled_of = resolution.coupled_of
    weights = {
        key: Weight(
            site.variable,
            site.path,
            {axis: coupled_of[ids] for axis, ids in site.axes.items()},
            site.consumed,
            site.produced,
        )
        for key, site in findings.weights.items()
    }
    others = {key: weights.pop(key) for key in beside}
    produced = {path: coupled_of[ids] for path, ids in findings.produced.items()}
    kinds = {
        call.path: type(call.operation).__name__ for call in graph.calls if call.path in produced
    }
    coupled_count = int(coupled_of.max()) + 1 if len(coupled_of) else 0
    widths = [ids for site in findings.macs for ids in site.widths]
    pieces = [coupled_of[ids] for ids in (*findings.pieces, *widths)]
    groups = build_groups(
        coupled_count, weights.values(), produced, kinds, resolution.reasons, pieces
    )
    return ChannelMap(
        model=model,
        graph=graph,
        coupled_count=coupled_count,
        reasons=resolution.reasons,
        tensors={index: coupled_of[block] for index, block in blocks.items()},
        weights=weights,
        configs=tuple(
            dataclasses.replace(site, value=_resolved(site.value, coupled_of))
            for site in findings.configs
        ),
        arguments=tuple(
            dataclasses.replace(site, value=_resolved(site.value, coupled_of))
            for site in findings.arguments
        ),
        mixings=tuple(
            dataclasses.replace(site, ids=coupled_of[site.ids])
            for site in findings.mixings.values()
        ),
        held=tuple(
            dataclasses.replace(site, block=coupled_of[site.block]) for site in findings.held
        ),
        macs=tuple(
            dataclasses.replace(site, widths=tuple(coupled_of[ids] for ids in site.widths))
            for site in findings.macs
        ),
        produced=produced,
        kinds=kinds,
        refusals=dict(findings.refusals),
        groups=with_leasts(
            groups, [(coupled_of[s.ids], s.count, s.reason) for s in findings.leasts]
        ),
        uncounted=uncounted,
        neighbours=tuple(neighbours),
        beside=others,
        blockers=tuple(Blocker(*found) for found in resolution.causes.items()),
    )


def _resolved(value: Any, coupled_of: np.ndarray) -> Any:
    def resolve(leaf: Any) -> Any:
        return Count(coupled_of[leaf.ids]) if isinstance(leaf, Count) else leaf

    return map_structure(resolve, value)
