"""From the names in a budget to resources that know the original network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.counting import (
    Resource,
    build_cost_model,
    full_widths,
    require_known_positions,
)
from keras_gcp.exporting import worker
from keras_gcp.exporting.runtime import runtime_name
from keras_gcp.resources.activation_memory import PeakActivations
from keras_gcp.resources.file_size import FileSize
from keras_gcp.resources.latency import fitted_latency
from keras_gcp.resources.tflite_files import as_if_trained, require_tensorflow
from keras_gcp.surgery.model_copy import copy_model


def require_environment(budget: Budget) -> None:
    """Refuses, before any work, resources that cannot be counted here.

    Raises:
        UnsupportedModel: a resource needs TensorFlow, and Keras runs on another backend.
        InvalidArgument: no runtime for TFLite files is installed.
    """
    for name in budget.further:
        if _KINDS[name].needs_file:
            require_tensorflow(name)
    if "latency_ms" in budget.further:
        runtime_name()


def of_budget(budget: Budget | None, channels: ChannelMap) -> tuple[Resource, ...]:
    """The resources of a budget that need more than counting, fitted to the original network.

    A file's size is fitted by one real conversion, the latency by measuring the network and its
    layers.

    Args:
        budget: The budget, or None.
        model: The network that shares refer to.
        channels: Its channel map.

    Raises:
        UnsupportedModel: a resource cannot be counted here, or not without knowing the input's
            size.
    """
    if budget is None:
        return ()
    require_environment(budget)
    if "macs" in budget.limits:
        require_known_positions(channels)
    if any(_KINDS[name].needs_file for name in budget.further):
        worker.prepare()
    return tuple(_KINDS[name].make(name, channels, budget) for name in budget.further)


def counted(names: Iterable[str]) -> tuple[Resource, ...]:
    """Those of the named resources that need nothing but the graph."""
    free = [name for name in names if name in _KINDS and not _KINDS[name].needs_file]
    return tuple(_KINDS[name].make(name, None, None) for name in free)


def _peak(float_bytes: int) -> Callable[..., Resource]:
    return lambda name, channels, budget: PeakActivations(name, float_bytes)


def _file(kind: str, weight_bytes: int, channel_bytes: int) -> Callable[..., Resource]:
    def fitted(name: str, channels: ChannelMap, budget: Budget) -> Resource:
        model = channels.model
        shapes = sizes_to_run(model, channels.counted_at)
        resource = FileSize(name, kind, weight_bytes, channel_bytes, shapes=shapes)
        full = full_widths(channels)
        predicted = build_cost_model(channels, (resource,)).cost(name, full)
        return resource.corrected(predicted, resource.measure(as_if_trained(copy_model(model))))

    return fitted


def _latency(name: str, channels: ChannelMap, budget: Budget) -> Resource:
    return fitted_latency(name, channels, budget.timing)


@dataclass(frozen=True)
class _Kind:
    make: Callable[..., Resource]
    needs_file: bool


_KINDS: Mapping[str, _Kind] = {
    "tflite_bytes": _Kind(_file("tflite", 4, 4), needs_file=True),
    # Besides its bias, an output channel has a scale (4 bytes) and a zero point (8 bytes).
    "tflite_bytes_int8": _Kind(_file("tflite_int8", 1, 16), needs_file=True),
    "peak_activation_bytes": _Kind(_peak(4), needs_file=False),
    "peak_activation_bytes_int8": _Kind(_peak(1), needs_file=False),
    "latency_ms": _Kind(_latency, needs_file=True),
}
