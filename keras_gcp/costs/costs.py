"""What a model costs, by resource. Plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_gcp.costs.cost_model import left_out
from keras_gcp.formatting import amount, html_table, table, wrapped

_LAYER_COLUMNS = ("layer", "MACs", "parameters")


@dataclass(frozen=True, eq=False)
class Costs(Mapping[str, float]):
    """Costs of a model as a whole, for one example: a mapping by resource.

    Multiply-adds are missing from the mapping where they are unknown.

    Attributes:
        macs: Multiply-adds of convolutions, dense and recurrent layers and attention (one MAC is
            two FLOPs). Biases, normalization, activations and pooling are not counted, as in the
            papers. None where the model leaves sizes open, and no `input_shape` tells them.
        parameters: Entries of all weights, `model.count_params()`.
        channels: Output channels of all layers that produce channels and may be pruned.
        further: Cost by resource, for the further resources of a budget.
        activation_macs: Multiply-adds among `macs` that are between activations, without
            a kernel: attention, matrix products. None where `macs` is.
    """

    macs: int | None
    parameters: int
    channels: int
    further: Mapping[str, float] = field(default_factory=dict)
    activation_macs: int | None = 0

    def _by_resource(self) -> dict[str, float]:
        macs = {} if self.macs is None else {"macs": self.macs}
        return {**macs, "parameters": self.parameters, "channels": self.channels, **self.further}

    def __getitem__(self, resource: str) -> float:
        return self._by_resource()[resource]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_resource())

    def __len__(self) -> int:
        return len(self._by_resource())


@dataclass(frozen=True)
class LayerCosts:
    """Costs of one layer.

    Attributes:
        macs: Multiply-adds of its kernels, and between activations, per example; None if unknown.
        parameters: Entries of all its weights.
        weights: Entries of its kernels.
        activation_macs: Multiply-adds among `macs` that are between activations: in attention,
            queries with keys and attention scores with values.
    """

    macs: int | None
    parameters: int
    weights: int
    activation_macs: int | None = 0


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelCosts(Costs):
    """Costs of a model, and of its layers.

    Attributes:
        weights: Entries of kernels only, the papers' parameter count.
        layers: Path of a layer to its costs.
        uncounted: Layers with multiply-adds that `macs` leaves out, or may leave out: path to why.
            Empty where every product with a kernel is counted.
    """

    weights: int
    layers: Mapping[str, LayerCosts]
    uncounted: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        macs = "" if self.macs is None else f"macs={self.macs:,}, "
        return f"<ModelCosts: {macs}parameters={self.parameters:,}, channels={self.channels:,}>"

    def __str__(self) -> str:
        return "\n".join([table(_LAYER_COLUMNS, self._rows()), *map(wrapped, self._lines())])

    def _repr_html_(self) -> str:
        return html_table(_LAYER_COLUMNS, self._rows(), self._lines())

    def _rows(self) -> list[list[Any]]:
        return [[path, one.macs, one.parameters] for path, one in self.layers.items()]

    def _lines(self) -> list[str]:
        """The whole model's costs, and what they leave out."""
        known = [f"{resource}: {amount(resource, cost)}" for resource, cost in self.items()]
        return [*known, *left_out(self.uncounted)]

    def cost(self, resource: str) -> float | None:
        """The cost in a resource of a budget; None for multiply-adds that are unknown."""
        return self.macs if resource == "macs" else self[resource]
