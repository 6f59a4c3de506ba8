"""Other living models with weights of the model: their own calls are cut along, or keep them whole.

A second head on a shared encoder reads channels that leave when the first model is pruned. Its
kernels lose the rows that read them, what it passes on gets narrower, and nothing that it alone
produces goes. What its calls do with channels in any other way keeps these where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.findings import Findings, WeightSite
from keras_gcp.graph import Call, Neighbour

ApplyRule = Callable[[Call, list[ChannelIds], Findings], list[ChannelIds]]
"""Follows the channels through one call; gives the block of channel ids of each output."""


def follow_neighbours(
    neighbours: Sequence[Neighbour],
    findings: Findings,
    blocks: dict[int, ChannelIds],
    apply_rule: ApplyRule,
) -> frozenset[int]:
    """Follows the model's channels through the calls of its neighbours.

    Args:
        neighbours: The other models.
        findings: What has been found in the model itself; what ties and anchors its channels, and
            what is to be cut along, is added.
        blocks: Tensor index to channel ids; those of the neighbours are added.
        apply_rule: Follows one call.

    Returns:
        Which weights are the neighbours' own, by `id`.
    """
    own = dict(findings.weights)
    for neighbour in neighbours:
        who = f"model '{neighbour.model.name}', which shares weights with this one"
        _hold(neighbour.held, own, findings, f"used by the Python code of {who}")
        for x in neighbour.own_inputs:
            blocks[x.index] = findings.space.fresh(1).reshape((1,) * max(len(x.shape) - 1, 0))
            findings.space.anchor(blocks[x.index], f"input of {who}")
        for call in neighbour.graph.calls:
            inputs = [blocks[x.index] for x in call.inputs]
            outputs = _follow(call, inputs, findings, own, apply_rule, who)
            blocks.update((x.index, y) for x, y in zip(call.outputs, outputs, strict=True))
    return frozenset(findings.weights) - own.keys()


def _follow(
    call: Call,
    inputs: list[ChannelIds],
    findings: Findings,
    own: Mapping[int, WeightSite],
    apply_rule: ApplyRule,
    who: str,
) -> list[ChannelIds]:
    # Costs, producers and refusals are the model's; weights, ties and settings are for both.
    beside = dataclasses.replace(
        findings, macs=[], produced={}, refusals={}, mixings=dict(findings.mixings)
    )
    outputs = apply_rule(call, inputs, beside)
    shared = [v for v in call.weights if id(v) in own]
    for reason in beside.refusals.values():
        _hold(shared, own, findings, f"{reason} (in {who})")
    if not shared:
        for ids in beside.produced.values():
            findings.space.anchor(ids, f"produced by layer '{call.path}' of {who}")
    for key in beside.mixings.keys() - findings.mixings.keys():
        reason = f"'{call.path}' computes from all of them, in {who}"
        findings.space.anchor(beside.mixings[key].ids, reason)
    return outputs


def _hold(
    variables: Sequence[Any], own: Mapping[int, WeightSite], findings: Findings, reason: str
) -> None:
    """Anchors all channels that weights of the model have to do with."""
    for variable in variables:
        site = own.get(id(variable))
        for ids in site.axes.values() if site is not None else ():
            findings.space.anchor(ids, reason)


def outlook(neighbour: Neighbour, blocks: Mapping[int, Any], prunable: Any) -> str | None:
    """What a neighbour has to expect of a cut, as one sentence; None if nothing."""
    read = {x.index for call in neighbour.graph.calls for x in call.inputs}
    if not any(prunable[blocks[index]].any() for index in read):
        return None
    outputs = [prunable[blocks[x.index]].any() for x in neighbour.graph.outputs]
    then = ", and so do its outputs" if any(outputs) else ""
    return f"model '{neighbour.model.name}' shares weights with this one and gets narrower{then}"
