"""Training with a few values for all weights of a kernel (weight clustering)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gcp.tfmot import bridge, equality, layers, packages, refusals
from keras_gcp.tfmot.refusals import kind_of
from keras_gcp.tfmot.tuned import Tuned
from keras_gcp.validation import require_integer


class Clustered(Tuned):
    """A model whose kernels share a few values, which are trained.

    Attributes:
        source: The Keras 3 model; it never changes.
        model: The tf_keras model, wrapped by tfmot.
        clusters: Number of different values in each kernel.
    """

    file_suffix = "_clustered"

    def __init__(self, over: Any, model: Any, clusters: int) -> None:
        super().__init__(over, model)
        self.clusters = clusters
        self.is_trained = True  # The values are there from the beginning.

    def values(self) -> dict[str, int]:
        """Number of different weights in the kernel of each layer that is treated, by its path."""
        stripped = self.strip()
        return {
            call.path: np.unique(_kernel(stripped, self.over.name(call), call)).size
            for call in self.over.weighted()
            if kind_of(call) in layers.CLUSTERED
        }

    def _trained(self) -> Callable[[Any], list[Any]]:
        stripped = self.over.packages.tfmot.clustering.keras.strip_clustering(self.model)
        return lambda layer: list(stripped.get_layer(layer.name).get_weights())


def cluster(model: Any, clusters: int) -> Clustered:
    """Prepares a Keras 3 model for training with few different weights per kernel, by tfmot.

    The file gets smaller only where it is compressed: 16 values are 4 bits each, stored as 32.

    Args:
        model: Functional or Sequential model, pruned or not. It does not change.
        clusters: Number of different values in each kernel, at least 2. Kernels that have no more
            weights than that, and depthwise ones, stay as they are.

    Returns:
        `fit`, then `to_keras()` or `export(directory)`.

    Raises:
        UnsupportedModel: a layer has no twin in tf_keras; says which one and what else to do.
        VerificationFailed: the twin does not compute the same.
        InvalidArgument: a package is missing, or `clusters` is out of range.

    Example:

    ```python
    tuned = keras_gcp.tfmot.cluster(pruned, 16)
    tuned.fit(x, y, epochs=2, learning_rate=1e-4)
    clustered = tuned.to_keras()
    ```
    """
    clusters = require_integer("clusters", clusters, 2)
    packages.check_backend()
    find = refusals.without_kernels(layers.CLUSTERED, "no layer has a kernel to share weights in")
    graph = refusals.read(model, "cluster", find)
    over = bridge.bridge(model, graph, packages.load())
    plain = bridge.build(over)
    equality.prove(over, plain)
    tools = over.packages.tfmot.clustering.keras
    treated = {
        over.name(call)
        for call in over.weighted()
        if kind_of(call) in layers.CLUSTERED
        and _kernel(plain, over.name(call), call).size > clusters
    }
    start = tools.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrap(layer: Any) -> Any:
        if layer.name not in treated:
            return layer
        return tools.cluster_weights(layer, clusters, start)

    wrapped = over.packages.tf_keras.models.clone_model(plain, clone_function=wrap)
    return Clustered(over, wrapped, clusters)


def _kernel(model: Any, name: str, call: Any) -> np.ndarray:
    kernel = getattr(model.get_layer(name), layers.CLUSTERED[kind_of(call)])
    return np.asarray(kernel.numpy())
