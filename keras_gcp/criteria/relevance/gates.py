"""Products: which factor is the map that carries features, and which are gates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import keras

from keras_gcp.criteria.relevance.rules import RelevanceRule, RuleKind
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Graph

_GATE_ACTIVATIONS = frozenset(
    keras.activations.get(name) for name in ("hard_sigmoid", "sigmoid", "softmax")
)
_GATE_OPERATIONS = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
_PASSING = frozenset({RuleKind.COPIES, RuleKind.UNCHANGED})
_SCALINGS = frozenset({"Divide", "Multiply", "TrueDivide"})


def find_gates(
    graph: Graph, rules: Sequence[RelevanceRule | None], needed: Collection[int]
) -> dict[int, tuple[int, ...]]:
    """Position of each product among the calls, to the positions of its gates among its inputs.

    A factor that is stretched over the others (one number per channel, say) is a gate. Among
    factors of full size, those that come out of a sigmoid are.

    Raises:
        UnsupportedModel: not exactly one factor is left over as the map.
    """
    origin = {
        y.index: (call, rule)
        for call, rule in zip(graph.calls, rules, strict=True)
        for y in call.outputs
    }
    found = {}
    for position, (call, rule) in enumerate(zip(graph.calls, rules, strict=True)):
        if rule is not None and rule.kind is RuleKind.GATE:
            gates = _gates_of(call, origin)
            if len(gates) == len(call.inputs) - 1:
                found[position] = gates
            elif any(x.index in needed for x in call.inputs):
                raise _no_gate(call)
    return found


def _gates_of(call: Call, origin: dict[int, tuple[Call, RelevanceRule | None]]) -> tuple[int, ...]:
    shape = call.outputs[0].shape
    stretched = [place for place, x in enumerate(call.inputs) if x.shape != shape]
    full = [place for place, x in enumerate(call.inputs) if x.shape == shape]
    if len(full) > 1:
        stretched += [p for p in full if _is_gate(call.inputs[p].index, origin)]
    return tuple(sorted(stretched))


def _is_gate(index: int, origin: dict[int, tuple[Call, RelevanceRule | None]]) -> bool:
    """Whether a tensor is what a sigmoid gave, perhaps moved, scaled or with dropout since."""
    scaled = False
    while index in origin:
        call, rule = origin[index]
        if _squashes(call, scaled):
            return True
        if rule is None or rule.kind not in _PASSING or len(call.inputs) != 1:
            return False
        scaled = scaled or type(call.operation).__name__ in _SCALINGS
        index = call.inputs[0].index
    return False


def _squashes(call: Call, scaled: bool) -> bool:
    operation: Any = call.operation
    if getattr(operation, "activation", None) in _GATE_ACTIVATIONS:
        return True
    # relu6(x + 3) / 6 is the hard sigmoid, written out.
    capped = getattr(operation, "max_value", None) is not None
    capped = capped or type(operation).__name__ == "Relu6"
    return type(operation).__name__ in _GATE_OPERATIONS or (scaled and capped)


def _no_gate(call: Call) -> UnsupportedModel:
    shapes = ", ".join(str(x.shape) for x in call.inputs)
    return UnsupportedModel(
        f"Layer '{call.path}' (class {type(call.operation).__name__}) multiplies tensors of shapes "
        f"{shapes}, and it is not clear which one is the feature map and which the gate: a gate "
        "is stretched over the others or comes out of a sigmoid. Feature relevance cannot be "
        "followed through a product of two plain maps; take another criterion: 'taylor', "
        "'l2_norm', 'l1_norm' or 'bn_scale'."
    )
