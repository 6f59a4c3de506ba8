"""HASTE: convolutions of a trained network merge redundant channels while they run.

Meiner, Mehnert and Condurache, "Data-Free Dynamic Compression of CNNs for Tractable Efficiency",
2023 (arXiv 2309.17211). No data and no training: what is merged differs from patch to patch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.opaque import WITH_KERNEL, hidden_kernels
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.formatting import listed
from keras_gcp.graph import Graph
from keras_gcp.methods.hashing.convolution import LSHConvolution, hashed, require_sparsity
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.validation import layer_names, require_integer, require_seed

_CONVOLUTIONS = tuple(kind for kind in WITH_KERNEL if kind is not layers.Dense)

_MOST_NAMED, _MOST_NAMES = 3, 12
"""Layers of one reason, and names to choose from, that a message lists."""


def haste(
    model: Any,
    planes: int,
    sparsity: float = 2 / 3,
    seed: int | None = None,
    *,
    skip: Sequence[str] | None = None,
) -> Any:
    """The model with convolutions that merge the channels which a hash cannot tell apart.

    Every plain `Conv2D` becomes a `keras_gcp.methods.LSHConvolution` of the same name and weights.
    Without training and without data: in each patch of each image, channels that look alike there
    are merged. `keras_gcp.methods.haste_cost` counts on data how many operations that takes.

    The model returned *simulates* the merging: its outputs are those of HASTE, its time is not. It
    takes longer than the model given.

    Convolutions that stay dense: those in `skip`; grouped, depthwise, dilated, transposed,
    separable, one- and three-dimensional ones, those inside of wrappers or of layers that call
    layers, and subclasses. A warning names them, with the reason.

    Args:
        model: A trained functional or sequential `keras.Model`. It stays as it is.
        planes: Number of random vectors of a layer: the more, the fewer channels are merged. With
            very many, only channels that are equal are.
        sparsity: Share of zeros in the random vectors that is expected, in [0, 1). The paper has
            2/3 on CIFAR-10 and 1/2 on ImageNet.
        seed: Seed of the random vectors; None draws others each time. They differ from layer to
            layer.
        skip: Names (or paths, "model/layer", for layers of nested models) of convolutions that stay
            dense; the name of a nested model stands for all inside. None: the first convolutions,
            those that no other kernel comes before, as in the paper. `()`: none.

    Returns:
        A functional `keras.Model` (a `Sequential` for a sequential one), not compiled. To load a
        file of it, import `keras_gcp.methods` first.

    Raises:
        InvalidArgument: an argument is out of its range, or `skip` names what is no convolution.
        UnsupportedModel: the model has no functional graph, a layer cannot be copied, or no
            convolution can be replaced.

    Example:

    ```python
    merging = keras_gcp.methods.haste(model, planes=8, seed=0)
    merging.compile(metrics=["accuracy"])
    print(merging.evaluate(x_test, y_test), keras_gcp.methods.haste_cost(merging, x_test[:100]))
    ```
    """
    planes = require_integer("planes", planes, least=1)
    sparsity = require_sparsity(sparsity)
    seed = require_seed(seed)
    graph = keras_state.read_graph(model)
    dense = reasons_to_stay_dense(graph)
    skipped = first_convolutions(graph) if skip is None else _named(graph, skip)
    chosen = _to_replace(graph, {*dense, *skipped})
    if not chosen:
        raise UnsupportedModel(_nothing_to_replace(model, skipped, dense))
    numbers = np.random.SeedSequence(seed).generate_state(len(chosen))
    seeds = {id(layer): int(number) for layer, number in zip(chosen, numbers, strict=True)}

    def instead(layer: Any) -> LSHConvolution | None:
        found = seeds.get(id(layer))
        return None if found is None else hashed(layer, planes, sparsity, found)

    result = copy_model(model, instead)
    told = {path: why for path, why in dense.items() if path not in skipped}
    if told:
        warnings.warn(f"`keras_gcp.methods.haste` leaves dense {_in_words(told)}.", stacklevel=2)
    return result


def _to_replace(graph: Graph, stay: set[str]) -> list[layers.Conv2D]:
    """The plain convolutions, each once; one that is shared stays if it does in one place."""
    staying = {id(call.operation) for call in graph.calls if call.path in stay}
    plain = {
        id(call.operation): call.operation
        for call in graph.calls
        if type(call.operation) is layers.Conv2D and id(call.operation) not in staying
    }
    return list(plain.values())


def reasons_to_stay_dense(graph: Graph) -> dict[str, str]:
    """Convolutions that cannot be hashed: path to the reason."""
    found: dict[str, str] = {}
    for call in graph.calls:
        reason = _reason(call.operation)
        if reason is not None:
            found.setdefault(call.path, reason)
    return found


def dense_convolutions(graph: Graph) -> Iterator[str]:
    """Paths of the convolutions that are not hashed, those that could be included."""
    known = dict.fromkeys(
        call.path
        for call in graph.calls
        if type(call.operation) is layers.Conv2D or _reason(call.operation) is not None
    )
    yield from known


def first_convolutions(graph: Graph) -> set[str]:
    """Paths of the plain convolutions that read the model's inputs, no other kernel between."""
    inputs = {x.index for x in graph.inputs}
    found = set()
    for call in graph.calls:
        if not any(x.index in inputs for x in call.inputs):
            continue
        weights = call.weights
        if all(len(weight.shape) < 2 for weight in weights):
            inputs.update(y.index for y in call.outputs)
        elif type(call.operation) is layers.Conv2D:
            found.add(call.path)
    return found


def _reason(operation: Any) -> str | None:
    """Why a layer's convolutions stay dense; None if it has none, or they need not."""
    if not keras_state.is_layer(operation) or isinstance(operation, LSHConvolution):
        return None
    if hidden_kernels(operation):
        return "it calls other layers in Python code; `keras_gcp.flatten` may open it"
    inner = keras_state.innermost(operation)
    if not isinstance(inner, _CONVOLUTIONS):
        return None
    if inner is not operation:
        return f"it is inside of a wrapper, {type(operation).__name__}"
    return _reason_of_kind(operation)


def _reason_of_kind(layer: Any) -> str | None:
    if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
        return "depthwise: each filter reads one channel, so there is nothing to merge"
    if type(layer) is not layers.Conv2D:
        return f"of class {type(layer).__name__}; HASTE is described for Conv2D"
    if layer.groups > 1:
        return "grouped: its filters read different channels"
    if max(layer.dilation_rate) > 1:
        return "dilated: HASTE is described for kernels without gaps"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "its kernel is no plain variable (LoRA, or quantized)"
    return None


def _named(graph: Graph, skip: Any) -> set[str]:
    convolutions = list(dense_convolutions(graph))
    found: set[str] = set()
    for name in layer_names("skip", skip):
        hits = {path for path in convolutions if path == name or path.startswith(f"{name}/")}
        hits |= {path for path in convolutions if path.rpartition("/")[2] == name}
        if not hits:
            raise InvalidArgument(
                f"`skip` names '{name}', which is no convolution of the model. Expected some of "
                f"{listed([repr(path) for path in convolutions], _MOST_NAMES)}."
            )
        found |= hits
    return found


def _nothing_to_replace(model: Any, skipped: set[str], dense: Mapping[str, str]) -> str:
    stay = {path: "in `skip`, or the first of the network" for path in sorted(skipped)} | {
        path: why for path, why in dense.items() if path not in skipped
    }
    told = f" Dense stay {_in_words(stay)}." if stay else ""
    return (
        f"Model '{model.name}' has no convolution that `keras_gcp.methods.haste` could replace. "
        f"Expected a `keras.layers.Conv2D` of one group, not dilated, and not in `skip`.{told}"
    )


def _in_words(reasons: Mapping[str, str]) -> str:
    """Layers with their reasons, those of the same reason together."""
    together: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        together.setdefault(reason, []).append(f"'{path}'")
    parts = []
    for reason, paths in together.items():
        parts.append(f"{listed(paths, _MOST_NAMED)} ({reason})")
    return "; ".join(parts)
