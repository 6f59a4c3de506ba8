"""How long the layers of a network take, each alone, at a few widths."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.grouping import owners_of
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.costs.counting import prunable_groups
from keras_gcp.errors import KerasGCPError, UnsupportedModel
from keras_gcp.exporting.single import write_function
from keras_gcp.exporting.timing import steady_milliseconds
from keras_gcp.exporting.worker import WorkerDied, in_words
from keras_gcp.graph import Call
from keras_gcp.resources.cost_functions import Curve
from keras_gcp.resources.inference_steps import Step
from keras_gcp.resources.single_layer import one_call
from keras_gcp.resources.time_cache import TimeCache

MOST_POINTS = 7
"""Widths at which a side of a layer is measured, at most."""

Place = tuple[str, int, int]
"""An axis with channels: "reads" or "writes", the position of the tensor, the axis of its block."""

Stopwatch = Callable[[Path, int], float]
"""`(file, threads) -> milliseconds`."""


@dataclass(frozen=True, eq=False)
class MeasuredSide:
    """What enters a layer, or leaves it, and how its time depends on that.

    Attributes:
        places: The axes whose sizes add up.
        curve: The measured times.
    """

    places: tuple[Place, ...]
    curve: Curve


@dataclass(frozen=True, eq=False)
class MeasuredLayer:
    """The times of one operation of the file.

    Attributes:
        path: Path of its layer.
        milliseconds: At full width, less what calling the runtime takes.
        sides: How it depends on widths.
    """

    path: str
    milliseconds: float
    sides: tuple[MeasuredSide, ...]


def line_of(step: Step, place: Place, channels: ChannelMap) -> tuple[np.ndarray, int]:
    """The coupled channels along an axis of a step's tensors, and the size of that axis."""
    role, position, axis = place
    x = (step.call.inputs if role == "reads" else step.call.outputs)[position]
    block = channels.tensors[x.index]
    line = np.moveaxis(block, axis, 0).reshape(block.shape[axis], -1)[:, 0]
    return line, int(x.shape[axis + 1] or 1)


class LayerTimes:
    """Measures layers, or finds their times in the cache.

    Args:
        channels: The network.
        cache: Times measured before.
        threads: Threads of the runtime.
        stopwatch: How a file is timed; another one in tests.
    """

    def __init__(
        self,
        channels: ChannelMap,
        cache: TimeCache,
        threads: int,
        stopwatch: Stopwatch = steady_milliseconds,
    ) -> None:
        self._channels, self._cache = channels, cache
        self._threads, self._stopwatch = threads, stopwatch
        self._groups = prunable_groups(channels)
        parts = [group.coupled for group in self._groups]
        self._owner = owners_of(channels.coupled_count, parts)
        self.call_overhead = cache.get("no layer", self._time_of_nothing)

    def measured(self, step: Step) -> MeasuredLayer:
        """One operation at full width, and along each of its sides.

        Raises:
            UnsupportedModel: it cannot be converted by itself.
        """
        everything = np.ones(self._channels.coupled_count, bool)
        full = self._time(step, everything)
        sides = tuple(self._side(step, places, full) for places in self._sides(step))
        return MeasuredLayer(step.call.path, full * _times(step.call), sides)

    def _sides(self, step: Step) -> Iterator[tuple[Place, ...]]:
        """What enters, and what leaves if it begins there; one side if some channels do both."""
        entering = self._places(step, "reads")
        produced = self._channels.produced.get(step.call.path) is not None
        leaving = self._places(step, "writes") if produced else ()
        if leaving and set(self._groups_at(step, entering)) & set(self._groups_at(step, leaving)):
            yield (*entering, *leaving)
            return
        for places in (entering, leaving):
            if self._groups_at(step, places):
                yield places

    def _places(self, step: Step, role: str) -> tuple[Place, ...]:
        tensors = step.call.inputs if role == "reads" else step.call.outputs
        return tuple(
            (role, position, axis)
            for position, x in enumerate(tensors)
            for axis, size in enumerate(self._channels.tensors[x.index].shape)
            if size > 1
        )

    def _groups_at(self, step: Step, places: Sequence[Place]) -> list[int]:
        lines = [line_of(step, place, self._channels)[0] for place in places]
        owners = np.unique(self._owner[np.concatenate(lines)]) if lines else np.zeros(0, int)
        return [int(owner) for owner in owners if owner >= 0]

    def _side(self, step: Step, places: tuple[Place, ...], full: float) -> MeasuredSide:
        groups = [self._groups[i] for i in self._groups_at(step, places)]
        times: dict[int, float] = {}
        for keep in _narrower(groups, self._channels.coupled_count):
            lines = (line_of(step, place, self._channels)[0] for place in places)
            size = sum(int(keep[line].sum()) for line in lines)
            if size not in times:
                times[size] = full if keep.all() else self._time(step, keep)
        sizes = sorted(times)
        return MeasuredSide(places, Curve.through(sizes, [times[size] for size in sizes]))

    def _time(self, step: Step, keep: np.ndarray) -> float:
        call = step.call
        try:
            single = one_call(call, self._channels, keep)
            taken = self._cache.get(
                single.key, lambda: self._time_of(single.function, single.shapes)
            )
        except WorkerDied as error:
            raise UnsupportedModel(_cannot_be_timed(call, str(error))) from error
        except KerasGCPError:
            raise
        except Exception as error:  # Whatever the layer or the converter raises.
            raise UnsupportedModel(_cannot_be_timed(call, in_words(error)[:400])) from error
        return max(taken - self.call_overhead, 1e-6)

    def _time_of_nothing(self) -> float:
        """What the runtime takes for one element: calling it, more than computing."""
        return self._time_of(lambda x: -x, (((1, 1), "float32"),))

    def _time_of(self, function: Any, shapes: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layer.tflite"
            write_function(function, shapes, path)
            return self._stopwatch(path, self._threads)


def _cannot_be_timed(call: Call, reason: str) -> str:
    return (
        f"Layer '{call.path}' (class {type(call.operation).__name__}) cannot be timed by itself, "
        f"which the resource 'latency_ms' needs: {reason}. Expected a layer that its own "
        "`get_config` describes and that TFLite can run; or take the resource 'macs'."
    )


def _times(call: Call) -> int:
    """How often a file has the operation: a model that is repeated is there for every step.

    Putting steps and examples together is one operation.
    """
    once = isinstance(call.operation, keras_state.StepsAsExamples)
    return math.prod(size or 1 for size in call.repeats[: -1 if once else None])


def _narrower(groups: Sequence[Group], coupled_count: int) -> Iterator[np.ndarray]:
    """Keep-arrays in which the groups get narrower together, the full width last."""
    lead = max(groups, key=lambda group: len(group.coupled))
    width = len(lead.coupled)
    for kept in widths_to_measure(width, lead.least):
        keep = np.ones(coupled_count, bool)
        for group in groups:
            size = len(group.coupled)
            own = min(size, max(group.least, round(size * kept / width)))
            keep[group.coupled[own:]] = False
        yield keep


def widths_to_measure(width: int, least: int = 1, most: int = MOST_POINTS) -> list[int]:
    """A few widths up to the full one: the least, multiples of 8 (of 4 in narrow layers), the full.

    Where there are more multiples than points, they are spread evenly.
    """
    step = 8 if width > 16 else 4
    between = [n for n in range(step, width, step) if n > least]
    room = most - 2
    if len(between) > room:
        chosen = np.linspace(0, len(between) - 1, room).round().astype(int)
        between = [between[i] for i in chosen]
    return sorted({min(least, width), *between, width})
