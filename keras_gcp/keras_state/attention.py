"""The layers inside Keras' attention layers, which hold them as private attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OUTPUT_SHAPE = "_output_shape"
"""Where `MultiHeadAttention` keeps its argument `output_shape`."""


@dataclass(frozen=True, eq=False)
class Projections:
    """The dense layers of `MultiHeadAttention` or `GroupQueryAttention`.

    Attributes:
        query: Kernel `(channels, heads, size of a head)`; and so for the next three.
        key: Projects what queries are compared with.
        value: Projects what is summed.
        gate: Projects the query once more, to weigh the sums; None if there is no gate.
        output: Kernel `(heads, size of a head, *channels)`.
    """

    query: Any
    key: Any
    value: Any
    gate: Any
    output: Any

    def entering(self) -> list[tuple[Any, str]]:
        """Those that read what enters, each with the argument of `call` that it reads."""
        found = [(self.query, "query"), (self.key, "key"), (self.value, "value")]
        return found if self.gate is None else [*found, (self.gate, "query")]


def projections(layer: Any) -> Projections:
    """The dense layers of a built attention layer."""
    return Projections(
        layer._query_dense,
        layer._key_dense,
        layer._value_dense,
        getattr(layer, "_gate_dense", None),
        layer._output_dense,
    )
