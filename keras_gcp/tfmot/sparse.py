"""Training that sets the smallest weights to zero (magnitude pruning of single weights)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.tfmot import bridge, data, equality, layers, packages, refusals
from keras_gcp.tfmot.bridge import Bridge
from keras_gcp.tfmot.refusals import kind_of
from keras_gcp.tfmot.tuned import Tuned
from keras_gcp.validation import between

TWO_IN_FOUR = "2:4"

_OF_TRAINING = 0.75
"""After so much of the first training all zeros are there; the rest is for recovering."""

_UPDATES = 20
"""So often more weights become zero until then."""


_PREFIX = "prune_low_magnitude_"


class Sparse(Tuned):
    """A model whose smallest weights become, and stay, zero while it trains.

    Attributes:
        source: The Keras 3 model; it never changes.
        model: The tf_keras model, wrapped by tfmot.
        share: Share of zeros in each kernel, or "2:4".
    """

    file_kind, file_suffix = "tflite_sparse", "_sparse"
    untrained = "has no zeros yet"

    def __init__(self, over: Bridge, model: Any, share: float | str, schedule: Any) -> None:
        super().__init__(over, model)
        self.share, self._schedule = share, schedule

    def zeros(self) -> dict[str, float]:
        """Share of zeros in the kernel of each layer that is treated, by its path."""
        return {path: float(np.mean(kernel == 0)) for path, kernel in self._kernels().items()}

    def _before(self, x: Any, epochs: int, batch_size: int | None, options: Any) -> None:
        if self.is_trained or self._schedule is None:
            return
        count = data.steps(x, epochs, batch_size, options, self.over.packages.tf)
        last = max(1, int(_OF_TRAINING * count))
        self._schedule.frequency = max(1, last // _UPDATES)
        self._schedule.end_step = last // self._schedule.frequency * self._schedule.frequency

    def _callbacks(self) -> list[Any]:
        return [self.over.packages.tfmot.sparsity.keras.UpdatePruningStep()]

    def _trained(self) -> Callable[[Any], list[Any]]:
        return lambda layer: list(_inner(self.model, layer.name).get_weights())

    def _require_trained(self) -> None:
        super()._require_trained()
        lacking = [
            f"'{path}' ({np.mean(kernel == 0):.0%} zeros)"
            for path, kernel in self._kernels().items()
            if not is_sparse(kernel, self.share)
        ]
        if lacking:
            raise InvalidArgument(
                f"The training ended before all zeros were there: wanted {self.share}, but "
                f"{', '.join(lacking[:5])}. Call `fit` again: it goes on from here."
            )

    def _kernels(self) -> dict[str, np.ndarray]:
        kinds = _kinds(self.share)
        return {
            call.path: getattr(
                _inner(self.model, self.over.name(call)), kinds[kind_of(call)]
            ).numpy()
            for call in self.over.weighted()
            if kind_of(call) in kinds
        }


def sparsify(model: Any, share: float | str) -> Sparse:
    """Prepares a Keras 3 model for training towards zeros in its kernels, by tfmot.

    The file gets smaller only where it is compressed or read by a runtime that knows sparse
    kernels, and faster on few devices: for smaller and faster networks everywhere, cut channels.

    Args:
        model: Functional or Sequential model, pruned or not. It does not change.
        share: Share of zeros in every kernel, such as 0.8, reached step by step in the first
            `fit`; or `"2:4"`: at least two zeros in every four weights along the input channels,
            from the first step on. Depthwise kernels stay whole.

    Returns:
        `fit`, then `to_keras()`, or `export(directory)` for a file that stores kernels sparsely.

    Raises:
        UnsupportedModel: a layer has no twin in tf_keras; says which one and what else to do.
        VerificationFailed: the twin does not compute the same.
        InvalidArgument: a package is missing, or `share` is out of range.

    Example:

    ```python
    tuned = keras_gcp.tfmot.sparsify(pruned, 0.8)
    tuned.fit(x, y, epochs=4, learning_rate=1e-4)
    sparse = tuned.to_keras()
    ```
    """
    _check_share(share)
    packages.check_backend()
    kinds = _kinds(share)
    find = refusals.without_kernels(kinds, "no layer has a kernel that could get zeros")
    graph = refusals.read(model, "sparsify", find)
    over = bridge.bridge(model, graph, packages.load())
    plain = bridge.build(over)
    equality.prove(over, plain)
    k2, tools = over.packages.tf_keras, over.packages.tfmot.sparsity.keras
    if share == TWO_IN_FOUR:
        schedule, options = None, {"sparsity_m_by_n": (2, 4)}
    else:
        schedule = tools.PolynomialDecay(0.0, float(share), begin_step=0, end_step=1, frequency=1)
        options = {"pruning_schedule": schedule}
    treated = {over.name(call) for call in over.weighted() if kind_of(call) in kinds}

    def wrap(layer: Any) -> Any:
        return tools.prune_low_magnitude(layer, **options) if layer.name in treated else layer

    wrapped = k2.models.clone_model(plain, clone_function=wrap)
    return Sparse(over, wrapped, share, schedule)


def is_sparse(kernel: np.ndarray, share: float | str) -> bool:
    """Whether a kernel has the zeros that were asked for.

    Args:
        kernel: Its last axis but one is that of the input channels.
        share: As in `sparsify`.
    """
    if share == TWO_IN_FOUR:
        return bool((nonzeros_in_four(kernel) <= 2).all())
    most = max(round(kernel.size * (1 - float(share))), 1)
    return bool(np.count_nonzero(kernel) <= most + 0.01 * kernel.size)


def nonzeros_in_four(kernel: np.ndarray) -> np.ndarray:
    """How many of every four weights along the input channels are not zero."""
    rows = np.moveaxis(kernel, -2, -1)
    filled = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % 4)])
    return np.count_nonzero(filled.reshape(-1, 4), axis=1)


def _check_share(share: Any) -> None:
    if isinstance(share, str):
        if share != TWO_IN_FOUR:
            raise InvalidArgument(f"`share` expects a number or '2:4'. Received: {share!r}.")
        return
    found = between(share, 0.0, 1.0)
    if found is None or found in (0.0, 1.0):
        raise InvalidArgument(
            f"`share` expects the share of zeros, between 0 and 1, or '2:4'. Received: {share!r}."
        )


def _kinds(share: float | str) -> Mapping[str, str]:
    return layers.SPARSIFIED_2_BY_4 if share == TWO_IN_FOUR else layers.SPARSIFIED


def _inner(model: Any, name: str) -> Any:
    """The layer of that name, out of its wrapper."""
    names = [layer.name for layer in model.layers]
    return model.get_layer(name) if name in names else model.get_layer(f"{_PREFIX}{name}").layer
