"""What a network with merged channels would take on data, counted beside what it takes dense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.backend.calls import run_calls, tensors_of
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.costs.cost_model import left_out
from keras_gcp.costs.counting import count_map, require_known_positions
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import count, html_table, percent, table, three_digits, wrapped
from keras_gcp.graph import Call, Graph
from keras_gcp.methods.hashing.convert import dense_convolutions, reasons_to_stay_dense
from keras_gcp.methods.hashing.convolution import LSHConvolution
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.draw import draw_sample
from keras_gcp.sample.input_sizes import has_open_sizes, sizes_in
from keras_gcp.validation import require_integer

_COLUMNS = ("layer", "channels", "buckets", "dense", "hash", "merge", "conv", "share")


@dataclass(frozen=True)
class Operations:
    """Operations of one layer for one example, on average: additions, and multiply-adds.

    Attributes:
        hashing: Additions of the projections on the random vectors.
        centring: Subtractions of the mean of all channels.
        merging_inputs: Additions of channels of the same bucket.
        merging_filters: Additions of their filters.
        convolving: Multiply-adds of the reduced convolution.
    """

    hashing: float = 0.0
    centring: float = 0.0
    merging_inputs: float = 0.0
    merging_filters: float = 0.0
    convolving: float = 0.0

    @property
    def total(self) -> float:
        """All of them; an addition counts as a multiply-add does."""
        return sum(self._numbers())

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(a + b for a, b in zip(self._numbers(), other._numbers(), strict=True)))

    def __truediv__(self, number: float) -> Operations:
        return Operations(*(own / number for own in self._numbers()))

    def _numbers(self) -> list[float]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class HashedLayer:
    """One layer.

    Attributes:
        channels: Channels that it reads.
        buckets: What they are merged to, on average over patches and examples.
        dense: Multiply-adds of the convolution that it replaces.
        operations: What it takes itself.
    """

    channels: int
    buckets: float
    dense: float
    operations: Operations

    @property
    def share(self) -> float:
        """Its operations as a share of the dense convolution's; above 1 it does not pay."""
        return self.operations.total / self.dense


@dataclass(frozen=True)
class HasteCost:
    """Operations of a network with merged channels, beside those of the dense one.

    An addition counts as much as a multiply-add. They say nothing about time: patches that are cut,
    hashed and merged one by one take more of it than their additions tell.

    Attributes:
        layers: Path of each layer that merges channels to what it takes.
        macs: Multiply-adds of the dense network for one example, as `keras_gcp.count` has them.
        examples: Number of examples on which buckets were counted.
        dense: Convolutions that are dense: path to the reason.
        uncounted: Layers whose multiply-adds are not counted: path to the reason.
    """

    layers: Mapping[str, HashedLayer]
    macs: int
    examples: int
    dense: Mapping[str, str]
    uncounted: Mapping[str, str]

    @property
    def operations(self) -> float:
        """Operations of the network for one example, layers that are dense included."""
        saved = sum(layer.dense - layer.operations.total for layer in self.layers.values())
        return self.macs - saved

    @property
    def share(self) -> float:
        """Operations as a share of the dense network's."""
        return self.operations / self.macs

    @property
    def channels_left(self) -> float:
        """Buckets as a share of channels, over all patches of all layers alike."""
        layers = self.layers.values()
        return sum(layer.buckets / layer.channels for layer in layers) / len(layers)

    def __str__(self) -> str:
        return "\n".join([table(_COLUMNS, self._rows()), *self._lines()])

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._rows(), self._lines())

    def _rows(self) -> list[list[Any]]:
        return [_row(path, layer) for path, layer in self.layers.items()]

    def _lines(self) -> list[str]:
        whole = (
            f"network: {count(self.operations)} operations, {percent(self.share)} of "
            f"{count(self.macs)} dense; on {self.examples:,} example"
            f"{'' if self.examples == 1 else 's'}. Additions count as multiply-adds; time does not "
            "follow from them."
        )
        together: dict[str, list[str]] = {}
        for path, reason in self.dense.items():
            together.setdefault(reason, []).append(path)
        dense = (f"dense, {reason}: {', '.join(paths)}" for reason, paths in together.items())
        return [wrapped(line) for line in (whole, *dense, *left_out(self.uncounted))]


def haste_cost(model: Any, x: Any, *, batch_size: int = 32) -> HasteCost:
    """Counts on data what a model returned by `keras_gcp.methods.haste` would take.

    What the model really does is a simulation, which saves nothing. Counted is what a convolution
    of the merged channels takes. A patch of P pixels and C channels with B occupied buckets, which
    gives t outputs of F filters by a kernel of K pixels, takes

    - `L * (1 - sparsity) * P * C` additions for the L projections,
    - `P * C` subtractions to centre,
    - `(C - B) * P` additions to merge channels, `(C - B) * K * F` to merge filters,
    - `B * K * F * t` multiply-adds to convolve, instead of `C * K * F * t`.

    Args:
        model: A model with `LSHConvolution` layers.
        x: Examples: an array, or what the package takes as a `sample`. All are used.
        batch_size: Examples that run at once. Hashing needs a matrix of all pairs of channels for
            each patch.

    Returns:
        A `HasteCost`; `print` shows a table of layers.

    Raises:
        InvalidArgument: the model has no such layer, or `x` does not fit it.

    Example:

    ```python
    cost = keras_gcp.methods.haste_cost(keras_gcp.methods.haste(model, planes=8), x_test[:100])
    print(cost.share, cost.layers["conv2d_1"].share)
    ```
    """
    batch_size = require_integer("batch_size", batch_size, least=1)
    graph = keras_state.read_graph(model)
    if not any(isinstance(call.operation, LSHConvolution) for call in graph.calls):
        raise InvalidArgument(
            f"Model '{model.name}' has no layer LSHConvolution, so there is nothing to count. "
            "Expected a model that `keras_gcp.methods.haste` has returned."
        )
    sample = draw_sample(x, None, 0, model, needs_labels=False)
    channels = trace_as_planned(
        model, shapes=sizes_in(model, sample) if has_open_sizes(model) else None
    )
    require_known_positions(channels)
    counted = count_map(channels)
    assert counted.macs is not None, "positions are known"
    return HasteCost(
        layers=_layers(_runs(model, graph, sample, batch_size), len(sample)),
        macs=counted.macs,
        examples=len(sample),
        dense=_dense(graph),
        uncounted=counted.uncounted,
    )


def operations_of(
    layer: LSHConvolution, channels: int, buckets: np.ndarray, outputs: np.ndarray
) -> Operations:
    """Operations of a layer, all patches together.

    Args:
        layer: The layer.
        channels: Channels that it reads.
        buckets: Occupied buckets, `(examples, rows, columns)`.
        outputs: Outputs of each patch, `(rows, columns)`.
    """
    pixels = len(layer.vectors)
    taps = math.prod(layer.kernel_size) * layer.filters
    merged = float((channels - buckets).sum())
    return Operations(
        hashing=layer.planes * (1 - layer.sparsity) * pixels * channels * buckets.size,
        centring=float(pixels * channels * buckets.size),
        merging_inputs=merged * pixels,
        merging_filters=merged * taps,
        convolving=float((buckets * outputs).sum()) * taps,
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One call of a layer on one batch: the buckets and outputs of its patches."""

    path: str
    layer: LSHConvolution
    channels: int
    buckets: np.ndarray
    outputs: np.ndarray


def _runs(model: Any, graph: Graph, sample: DrawnSample, batch_size: int) -> Iterator[_Run]:
    size = keras_state.fixed_batch(model) or batch_size
    for start in range(0, len(sample), size):
        rows = np.arange(start, min(start + size, len(sample)))
        for call, values in run_calls(model, graph, tensors_of(model, graph, sample.x, rows)):
            if isinstance(call.operation, LSHConvolution):
                yield _run(call, values)


def _run(call: Call, values: Mapping[int, Any]) -> _Run:
    layer, entering = call.operation, values[call.inputs[0].index]
    return _Run(
        call.path,
        layer,
        layer.kernel.shape[-2],
        ops.convert_to_numpy(layer.buckets(entering)).astype(np.float64),
        layer.outputs_by_patch(entering),
    )


def _layers(runs: Iterable[_Run], examples: int) -> dict[str, HashedLayer]:
    by_path: dict[str, list[_Run]] = {}
    for run in runs:
        by_path.setdefault(run.path, []).append(run)
    return {path: _layer(found, examples) for path, found in by_path.items()}


def _layer(runs: list[_Run], examples: int) -> HashedLayer:
    """All batches, and all calls, of one layer."""
    layer, channels = runs[0].layer, runs[0].channels
    operations = (operations_of(layer, channels, run.buckets, run.outputs) for run in runs)
    outputs = sum(len(run.buckets) * int(run.outputs.sum()) for run in runs)
    return HashedLayer(
        channels=channels,
        buckets=float(np.mean(np.concatenate([run.buckets.ravel() for run in runs]))),
        dense=outputs * math.prod(layer.kernel.shape) / examples,
        operations=sum(operations, Operations()) / examples,
    )


def _dense(graph: Graph) -> dict[str, str]:
    reasons = reasons_to_stay_dense(graph)
    return {path: reasons.get(path, "by choice") for path in dense_convolutions(graph)}


def _row(path: str, layer: HashedLayer) -> list[Any]:
    parts = layer.operations
    return [
        path,
        layer.channels,
        three_digits(layer.buckets),
        count(layer.dense),
        count(parts.hashing + parts.centring),
        count(parts.merging_inputs + parts.merging_filters),
        count(parts.convolving),
        percent(layer.share),
    ]
