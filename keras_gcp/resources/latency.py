"""Milliseconds on this machine: predicted layer by layer, corrected by real measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.budget import Timed
from keras_gcp.costs.counting import Axes
from keras_gcp.errors import InvalidArgument
from keras_gcp.exporting.timing import compare_latency, runs_for
from keras_gcp.graph import Shapes
from keras_gcp.resources.cost_functions import Curve, Latency, LayerTime, Side
from keras_gcp.resources.inference_steps import Step, steps_of
from keras_gcp.resources.layer_times import LayerTimes, MeasuredLayer, MeasuredSide, line_of
from keras_gcp.resources.tflite_files import Workspace, as_if_trained, write_file
from keras_gcp.resources.time_cache import TimeCache, fingerprint
from keras_gcp.storage.places import cache_folder
from keras_gcp.surgery.model_copy import copy_model

ORIGINAL = "original.tflite"

ROUNDS = 11
"""Turns of the original and the candidate, one after the other."""

TURN = 40.0
"""Milliseconds of a turn."""


CLOSE = 0.03
"""Share of the limit that may be left unused."""


@dataclass(frozen=True, eq=False)
class LatencyTime:
    """Latency of the exported file on this machine, batch size 1.

    A network takes what calling the runtime takes, plus the sum of its layers measured alone,
    scaled so that the original's prediction is its own measurement. A real measurement is taken in
    turns with the original, so that a machine whose speed drifts hurts both alike: it is the
    original's milliseconds times the ratio of the two.

    Attributes:
        name: Its name in a budget.
        threads: Threads of the runtime.
        layers: The operations of the original's file.
        overhead: Milliseconds of calling the runtime.
        scale: What the sum over layers is multiplied by.
        original_ms: The original, measured.
        workspace: Holds the original's file as long as this object lives.
        shapes: Sizes of the inputs in files, if the model leaves them open.
    """

    name: str
    threads: int
    layers: tuple[MeasuredLayer, ...]
    overhead: float
    scale: float
    original_ms: float
    workspace: Workspace
    shapes: Shapes | None = None

    scatters: ClassVar[bool] = True

    def function(self, channels: ChannelMap, axes: Axes) -> Latency:
        """The milliseconds as a function of the sizes of the axes."""
        steps = steps_of(channels)
        if [step.call.path for step in steps] != [layer.path for layer in self.layers]:
            raise InvalidArgument(
                f"The latency of model '{channels.model.name}' cannot be predicted from the layers "
                "of another network. Expected `reference` to be the same network at its original "
                "widths."
            )
        times = [
            LayerTime(
                layer.milliseconds,
                tuple(_side(side, step, channels, axes) for side in layer.sides),
            )
            for step, layer in zip(steps, self.layers, strict=True)
        ]
        return Latency(self.overhead, self.scale, times)

    def measure(self, model: Any) -> float:
        """Milliseconds of a real file, measured in turns with the original."""
        original = self.workspace.path / ORIGINAL
        candidate = self.workspace.path / "candidate.tflite"
        write_file(model, candidate, shapes=self.shapes)
        runs = runs_for(original, self.threads, TURN)
        compared = compare_latency(
            [original, candidate], self.threads, rounds=ROUNDS, runs=runs, warmup=3
        )
        return round(self.original_ms / compared.speedups[1], 6)

    def is_close(self, measured: float, limit: float) -> bool:
        """Whether little of the limit is left: two measurements differ by as much."""
        return (1 - CLOSE) * limit <= measured <= limit

    def corrected(self, predicted: float, measured: float) -> LatencyTime:
        """So that the prediction would have been what was measured."""
        layers = max(predicted - self.overhead, 1e-9)
        return replace(self, scale=self.scale * max(measured - self.overhead, 1e-9) / layers)


def fitted_latency(name: str, channels: ChannelMap, timing: Timed) -> LatencyTime:
    """Measures the original: the whole file, and every layer that the cache does not know."""
    steps, shapes = steps_of(channels), channels.counted_at
    workspace = Workspace()
    path = workspace.path / ORIGINAL
    write_file(as_if_trained(copy_model(channels.model)), path, shapes=shapes)
    threads = timing.threads
    runs = runs_for(path, threads, TURN)
    # Against itself: the same procedure, warm-up and load as for candidates.
    compared = compare_latency([path, path], threads, rounds=ROUNDS, runs=runs, warmup=3)
    original_ms = min(one.milliseconds for one in compared.latencies)
    where = Path(timing.cache_dir) if timing.cache_dir is not None else cache_folder()
    cache = TimeCache(where, fingerprint(threads))
    times = LayerTimes(channels, cache, threads)
    try:
        layers = tuple(times.measured(step) for step in steps)
    finally:
        cache.save()  # What was measured before an error is not lost.
    overhead = min(times.call_overhead, original_ms / 2)
    total = sum(layer.milliseconds for layer in layers)
    scale = (original_ms - overhead) / total if total else 1.0
    return LatencyTime(name, threads, layers, overhead, scale, original_ms, workspace, shapes)


def _side(measured: MeasuredSide, step: Step, channels: ChannelMap, axes: Axes) -> Side:
    """The axes of a side in the present network; one that has a single channel left is fixed."""
    varying, fixed = [], 0
    for place in measured.places:
        coupled, size = line_of(step, place, channels)
        if len(coupled) == size > 1:
            varying.append(axes.add(coupled))
        else:
            fixed += size
    curve = measured.curve
    return Side(tuple(varying), Curve(curve.sizes - fixed, curve.shares))
