"""`keras-gcp inspect`: what a model is made of, what of it can be pruned, and why not the rest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from keras_gcp.cli.console import WIDTH, Answer
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import ModelFile, OutputOptions, PrunedModelOptions
from keras_gcp.formatting import count, percent, table


def inspect(
    model: ModelFile,
    /,
    *,
    options: PrunedModelOptions = PrunedModelOptions(),
    output: OutputOptions = OutputOptions(),
) -> Answer:
    """Show layers, groups of channels, what can be pruned or why not, MACs and parameters.

    Args:
        model: A .keras or .h5 file.
    """
    network = open_model(model, options)
    from keras_gcp.channels.trace import trace_at
    from keras_gcp.costs.counting import count_map
    from keras_gcp.sample.input_sizes import sizes_of

    channels = trace_at(sizes_of(network, options.shape()), network, options.exclude)
    costs = count_map(channels)
    data = _data(model, network, channels, costs)
    return Answer(_text(data), data)


def _data(path: Path, model: Any, channels: Any, costs: Any) -> dict[str, Any]:
    produced, free = channels.produced, channels.prunable
    return {
        "file": str(path),
        "name": model.name,
        "inputs": {tensor.name: list(tensor.shape[1:]) for tensor in model.inputs},
        "outputs": [list(tensor.shape[1:]) for tensor in model.outputs],
        "macs": costs.macs,
        "parameters": costs.parameters,
        "channels": {"prunable": costs.channels, "all": sum(map(len, produced.values()))},
        "layers": [
            {
                "layer": layer,
                "class": channels.kinds.get(layer) or _class_of(channels, layer),
                "channels": len(produced[layer]) if layer in produced else None,
                "prunable": int(free[produced[layer]].sum()) if layer in produced else None,
                "macs": one.macs,
                "parameters": one.parameters,
            }
            for layer, one in costs.layers.items()
        ],
        "groups": [
            {
                "group": group.name,
                "channels": len(group.coupled),
                "prunable": group.anchored is None and group.least < len(group.coupled),
                "why": group.anchored,
                "least": group.least,
                "least_because": group.least_reason,
                "layers": [member.path for member in group.members],
            }
            for group in channels.groups
        ],
        "not_followed": dict(channels.refusals),
        "not_counted": dict(costs.uncounted),
    }


def _class_of(channels: Any, layer: str) -> str:
    calls = (call for call in channels.graph.calls if call.path == layer)
    return next((type(call.operation).__name__ for call in calls), "")


def _text(data: dict[str, Any]) -> str:
    sizes = [f"'{name}' {_size(shape)}" for name, shape in data["inputs"].items()]
    outputs = ", ".join(_size(shape) for shape in data["outputs"])
    free, every = data["channels"]["prunable"], data["channels"]["all"]
    unknown = "not counted: the size of the input is open, see --input-shape"
    lines = [
        f"{data['name']}: {', '.join(sizes)} -> {outputs}",
        f"MACs        {unknown if data['macs'] is None else count(data['macs'])}",
        f"parameters  {count(data['parameters'])}",
        f"channels    {every:,}, of which {free:,} can be pruned",
        "",
        table(
            ["layer", "class", "channels", "MACs", "share", "parameters"],
            [_layer_row(one, data["macs"]) for one in data["layers"] if _computes(one)],
            width=WIDTH,
        ),
        *_others(data["layers"]),
        "",
        "Channels that live or die together:",
        "",
        table(
            ["group", "channels", "can be pruned?", "layers"],
            [_group_row(one) for one in data["groups"]],
            width=WIDTH,
        ),
    ]
    lines += [f"not followed: {why}" for why in data["not_followed"].values()]
    lines += [f"not counted in MACs: {why}" for why in data["not_counted"].values()]
    return "\n".join(lines)


def _computes(layer: dict[str, Any]) -> bool:
    """Whether a layer has channels or multiply-adds of its own, or may have."""
    return layer["channels"] is not None or layer["macs"] != 0


def _others(layers: list[dict[str, Any]]) -> list[str]:
    """One line about the layers that only scale or shift, if there are any."""
    rest = [one for one in layers if not _computes(one)]
    kinds = Counter(one["class"] for one in rest)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    weights = count(sum(one["parameters"] for one in rest))
    return [f"besides: {named} ({weights} parameters)"] if rest else []


def _layer_row(one: dict[str, Any], macs: int | None) -> list[Any]:
    share = percent(one["macs"] / macs) if macs and one["macs"] is not None else None
    return [
        one["layer"],
        one["class"],
        one["channels"],
        None if one["macs"] is None else count(one["macs"]),
        share,
        count(one["parameters"]),
    ]


def _group_row(one: dict[str, Any]) -> list[Any]:
    if one["why"]:
        answer = f"no: {one['why']}"
    elif one["least"] >= one["channels"]:
        answer = f"no, all stay: {one['least_because']}"
    elif one["least_because"]:
        answer = f"yes, down to {one['least']}: {one['least_because']}"
    else:
        answer = "yes"
    layers = one["layers"]
    named = ", ".join(layers[:3]) + (f", … ({len(layers)})" if len(layers) > 3 else "")
    return [one["group"], one["channels"], answer, named]


def _size(shape: list[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape)
