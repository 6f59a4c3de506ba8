"""What the counts of multiply-adds leave out: named, so that no share of them is taken for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gcp import keras_state
from keras_gcp.channels.findings import Findings
from keras_gcp.channels.registry import rule_for
from keras_gcp.graph import Call, Graph

# Operations of `keras.ops` that sum products.
_PRODUCTS = frozenset(
    "CDist Conv ConvTranspose Correlate DepthwiseConv Dot DotProductAttention Einsum Inner Matmul "
    "SeparableConv Tensordot Vdot".split()
)

# What runs Python code, or a model, that nobody has looked into.
_RUNS_CODE = frozenset(
    "AssociativeScan Cond ForiLoop Map Scan Switch VectorizedMap WhileLoop".split()
)


def uncounted_layers(graph: Graph, findings: Findings, opaque: Mapping[str, str]) -> dict[str, str]:
    """Layers and operations with multiply-adds that are not counted, or may be: path to why.

    A matrix or a kernel is accounted for if its multiply-adds are declared (`site.macs`), or if it
    is declared (`site.weight`) and sums over no channels: scales and embeddings.

    Args:
        graph: The calls of the model.
        findings: What the rules have said about them.
        opaque: Layers that hide others: path to a description.
    """
    counted = {id(site.variable) for site in findings.macs}
    counted |= {key for key, weight in findings.weights.items() if not weight.consumed}
    products = {site.path for site in findings.macs if site.variable is None}
    found: dict[str, str] = {}
    for call in graph.calls:
        if call.path in found:
            continue
        why = opaque.get(call.path) or _why(call, findings, counted, call.path in products)
        if why is not None:
            found[call.path] = why
    return found


def _why(call: Call, findings: Findings, counted: set[int], multiplies: bool) -> str | None:
    operation = call.operation
    kind = type(operation).__name__
    this = f"layer '{call.path}' (class {kind})"
    if not keras_state.is_layer(operation):
        if kind in _PRODUCTS and not multiplies:
            return f"operation '{call.path}' (class {kind}) multiplies and sums"
        if kind in _RUNS_CODE:
            return f"operation '{call.path}' (class {kind}) runs code of its own"
        return None
    lacking = [v for v in operation.weights if len(v.shape) > 1 and id(v) not in counted]
    if lacking:
        ruled = any(id(v) in findings.weights for v in lacking)
        hint = "; its rule declares no `site.macs` for it" if ruled else ""
        return f"{this} multiplies by {_listed(lacking)}{hint}"
    return f"{this} runs code of its own" if _runs_unknown_code(operation) else None


def _runs_unknown_code(layer: Any) -> bool:
    """Whether a layer, or the one that it wraps, may compute anything at all."""
    inner = keras_state.innermost(layer)
    if rule_for(layer) is not None and rule_for(inner) is not None:
        return False
    return keras_state.is_lambda(inner) or not keras_state.shipped_by_keras(inner)


def _listed(variables: list[Any], most: int = 3) -> str:
    names = ", ".join(f"'{v.name}' {tuple(v.shape)}" for v in variables[:most])
    return names + (f" and {len(variables) - most} more" if len(variables) > most else "")
