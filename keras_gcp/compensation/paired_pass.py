"""The wide network and the cut one side by side, layer by layer, reconstructed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.backend.calls import (
    MOST_NUMBERS,
    batches_in,
    evenly,
    last_uses,
    numbers_by_call,
    run_alone,
    tensors_of,
    without_activation,
)
from keras_gcp.channels.map import ChannelMap
from keras_gcp.compensation.joining import examples_by_call
from keras_gcp.compensation.least_squares import RIDGE
from keras_gcp.compensation.noise import (
    RIDGE_OF_NOISE,
    noise_sample,
    normalizes,
    with_known_statistics,
)
from keras_gcp.compensation.place import Place, Reconstruct
from keras_gcp.compensation.reconstruction import reconstruction_for, statistics_by_channel
from keras_gcp.compensation.settings import Compensation
from keras_gcp.graph import Call, Graph
from keras_gcp.sample import DrawnSample
from keras_gcp.surgery.masking import masked_values

_FEW_EXAMPLES = 2
"""On which is seen whether a layer computes what it is thought to."""


def compensated(
    channels: ChannelMap, keep: np.ndarray, sample: DrawnSample | None, settings: Compensation
) -> dict[int, np.ndarray]:
    """What weights have to become so that a cut changes as little as possible.

    Both networks run on the sample in inference mode, call by call; a layer of the cut one is
    reconstructed as soon as its inputs are known, so that it also makes up for what earlier layers
    have lost. Nothing of the model changes.

    Args:
        channels: The model's channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        sample: Examples; in every layer as many are used as fit into some 512 MB per tensor. None:
            noise takes their place, and layers that no normalization comes before stay as they are.
        settings: What is to be done.

    Returns:
        `id` of a variable to its new value, of its present (wide) shape. Of removed channels the
        values mean nothing.
    """
    if not settings or keep.all():
        return {}
    with backend.without_gradients():
        if sample is not None:
            return _PairedPass(channels, keep, settings).run(sample)
        noise = noise_sample(channels.model, channels.counted_at)
        return _NoisePass(channels, keep, settings).run(noise)


class _PairedPass:
    most_numbers = MOST_NUMBERS
    ridge = RIDGE

    def __init__(self, channels: ChannelMap, keep: np.ndarray, settings: Compensation) -> None:
        self._model, self._channels = channels.model, channels
        self._keep, self._settings = keep, settings
        pairs = zip(self._model.weights, backend.local_weights(self._model), strict=True)
        self._weights = {id(variable): value for variable, value in pairs}
        self._masked = {id(v): value for v, value in masked_values(channels, keep)}
        self._reconstructed: dict[int, np.ndarray] = {}
        self._batches = 1
        self._last_uses = last_uses(channels.graph)
        self._is_by_example = _is_by_example(channels.graph)
        calls = channels.graph.calls
        self._times_called = Counter(id(call.operation) for call in calls)
        self._mixings = {
            id(mixing.operation): mixing.restricted(keep[mixing.ids])
            for mixing in channels.mixings
            if not keep[mixing.ids].all()
        }

    def run(self, sample: DrawnSample) -> dict[int, np.ndarray]:
        """Reconstructs from the inputs to the outputs."""
        graph, counts = self._channels.graph, self._counts(sample)
        rows = _spread(len(sample), counts[0])
        wide, narrow = self._entering(sample, rows[: counts[0]])
        for at, call in enumerate(graph.calls):
            if at in counts and at > 0:
                now = len(next(iter(wide.values())))
                self._join(sample, rows[now : counts[at]], at, counts[0], wide, narrow)
            self._advance(call, wide, narrow)
            self._forget(at, wide, narrow)
        return self._reconstructed

    def _counts(self, sample: DrawnSample) -> dict[int, int]:
        """Position of a call to the number of examples from there on."""
        model, graph = self._model, self._channels.graph
        numbers = numbers_by_call(model, graph, sample)
        counts = examples_by_call(numbers, len(sample), self.most_numbers)
        if self._may_join():
            return counts
        return {0: keras_state.whole_batches(model, counts[0])}

    def _may_join(self) -> bool:
        """Whether more examples may follow those that have come some way."""
        return self._is_by_example

    def _entering(
        self, sample: DrawnSample, rows: np.ndarray
    ) -> tuple[dict[int, Any], dict[int, Any]]:
        """Examples as they enter both networks."""
        graph = self._channels.graph
        inputs = tensors_of(self._model, graph, sample.x, rows)
        self._batches = batches_in(self._model, inputs)
        wide = {x.index: value for x, value in zip(graph.inputs, inputs, strict=True)}
        return wide, dict(wide)

    def _join(
        self,
        sample: DrawnSample,
        rows: np.ndarray,
        at: int,
        size: int,
        wide: dict[int, Any],
        narrow: dict[int, Any],
    ) -> None:
        """Lets more examples catch up, through the layers that are reconstructed already.

        Args:
            sample: The examples.
            rows: Which ones.
            at: The call before which they join.
            size: At most so many run at the same time.
            wide: What the examples before them are at that call; grows.
            narrow: The same in the cut network.
        """
        parts = [(dict(wide), dict(narrow))]
        for start in range(0, len(rows), size):
            own = self._entering(sample, rows[start : start + size])
            for position, call in enumerate(self._channels.graph.calls[:at]):
                self._replay(call, *own)
                self._forget(position, *own)
            parts.append(own)
        for index in list(wide):
            is_same = wide[index] is narrow[index]
            wide[index] = ops.concatenate([one[index] for one, _ in parts])
            narrow[index] = (
                wide[index] if is_same else ops.concatenate([one[index] for _, one in parts])
            )

    def _replay(self, call: Call, wide: dict[int, Any], narrow: dict[int, Any]) -> None:
        """Runs one call in both networks, with what reconstruction has found."""
        outputs = results = self._run(call, wide, {})
        if self._differs(call, wide, narrow):
            weights = {**self._masked, **self._reconstructed}
            results = self._run(call, narrow, weights, restricted=True)
        for x, a, b in zip(call.outputs, outputs, results, strict=True):
            wide[x.index], narrow[x.index] = a, b

    def _forget(self, at: int, wide: dict[int, Any], narrow: dict[int, Any]) -> None:
        """Lets go of what no later call reads."""
        for x in self._channels.graph.calls[at].inputs:
            if self._last_uses.get(x.index) == at:
                wide.pop(x.index, None)
                narrow.pop(x.index, None)

    def _advance(self, call: Call, wide: dict[int, Any], narrow: dict[int, Any]) -> None:
        """Runs one call in both networks, and reconstructs its layer if its inputs have changed."""
        reconstruct = self._reconstruction(call)
        if reconstruct is None or not self._differs(call, wide, narrow):
            self._replay(call, wide, narrow)
            return
        with without_activation(call.operation) as activation:
            outputs = self._run(call, wide, {})
            self._reconstructed.update(reconstruct(self._place(call, wide, narrow, outputs[0])))
            weights = {**self._masked, **self._reconstructed}
            results = self._run(call, narrow, weights, restricted=True)
        for x, a, b in zip(call.outputs, outputs, results, strict=True):
            wide[x.index], narrow[x.index] = activation(a), activation(b)

    def _reconstruction(self, call: Call) -> Reconstruct | None:
        """How a call's layer is reconstructed; None if it is left as it is."""
        layer = call.operation
        once = self._times_called[id(layer)] == 1
        if not once or self._is_spared(layer) or not self._is_known(call):
            return None
        return reconstruction_for(layer)

    def _differs(self, call: Call, wide: Mapping[int, Any], narrow: Mapping[int, Any]) -> bool:
        """Whether the cut network computes something else at a call."""
        changed = any(wide[x.index] is not narrow[x.index] for x in call.inputs)
        return changed or self._is_cut(call)

    def _place(
        self, call: Call, wide: Mapping[int, Any], narrow: Mapping[int, Any], output: Any
    ) -> Place:
        weights = {**self._masked, **self._reconstructed}

        def run(values: Mapping[int, np.ndarray]) -> Any:
            return self._run(call, narrow, {**weights, **values}, restricted=True)[0]

        def run_few() -> Any:
            few = narrow
            if self._is_by_example:
                few = {x.index: narrow[x.index][:_FEW_EXAMPLES] for x in call.inputs}
            return self._run(call, few, weights, restricted=True)[0]

        readers = self._channels.graph.readers.get(call.outputs[0].index, [])
        return Place(
            call=call,
            channels=self._channels,
            keep=self._keep,
            settings=self._settings,
            before_normalization=len(readers) == 1 and self._normalizes(readers[0]),
            ridge=self.ridge,
            run=run,
            run_few=run_few,
            wide_inputs=[wide[x.index] for x in call.inputs],
            narrow_inputs=[narrow[x.index] for x in call.inputs],
            wide_output=output,
        )

    def _normalizes(self, call: Call) -> bool:
        return hasattr(call.operation, "moving_mean") and self._reconstruction(call) is not None

    def _is_known(self, call: Call) -> bool:
        """Whether what enters a call is what enters it in use."""
        return True

    def _is_spared(self, operation: Any) -> bool:
        return bool(self._settings.spare_frozen) and not getattr(operation, "trainable", True)

    def _is_cut(self, call: Call) -> bool:
        own = call.weights
        return any(id(v) in self._masked for v in own) or id(call.operation) in self._mixings

    def _run(
        self,
        call: Call,
        values: Mapping[int, Any],
        weights: Mapping[int, np.ndarray],
        restricted: bool = False,
    ) -> list[Any]:
        own = [v for v in call.weights if id(v) in self._weights]
        values_of = {id(v): weights.get(id(v), self._weights[id(v)]) for v in own}
        values_of |= self._statistics(call, values, restricted)
        mapping = [(v, ops.convert_to_tensor(values_of[id(v)], dtype=v.dtype)) for v in own]
        with ExitStack() as stack:
            if restricted and id(call.operation) in self._mixings:
                function = self._mixings[id(call.operation)]
                stack.enter_context(keras_state.replaced_call(call.operation, function))
            return run_alone(self._model, call, values, mapping, self._batches)

    def _statistics(
        self, call: Call, values: Mapping[int, Any], restricted: bool
    ) -> dict[int, np.ndarray]:
        """What a call normalizes by in place of the statistics that it has learned: nothing."""
        return {}


class _NoisePass(_PairedPass):
    """The same on noise: normalizations take the statistics of what they receive.

    A cut without a sample should take no longer than it must: some 64 MB per tensor.
    """

    most_numbers = 2**24
    ridge = RIDGE_OF_NOISE

    def __init__(self, channels: ChannelMap, keep: np.ndarray, settings: Compensation) -> None:
        super().__init__(channels, keep, settings)
        self._known = with_known_statistics(channels.graph)
        self._wide_statistics: dict[int, dict[int, np.ndarray]] = {}

    def _is_known(self, call: Call) -> bool:
        return all(x.index in self._known for x in call.inputs)

    def _may_join(self) -> bool:
        return False  # The statistics are those of the examples that were there.

    def _statistics(
        self, call: Call, values: Mapping[int, Any], restricted: bool
    ) -> dict[int, np.ndarray]:
        """In the cut network those of the wide one, apart from what follows the cut."""
        layer = call.operation
        if not normalizes(layer):
            return {}
        own = dict(
            zip(
                (id(layer.moving_mean), id(layer.moving_variance)),
                statistics_by_channel(layer, values[call.inputs[0].index]),
                strict=True,
            )
        )
        if not restricted:
            self._wide_statistics[id(layer)] = own
            return own
        follows = {key: own[key] for key in own if key in self._reconstructed}
        return {**self._wide_statistics[id(layer)], **follows}


def _is_by_example(graph: Graph) -> bool:
    """Whether the first axis of every tensor is that of the examples, and of any size."""
    tensors = (*graph.inputs, *(x for call in graph.calls for x in call.outputs))
    folded = any(call.repeats for call in graph.calls)
    return not folded and all(x.shape[:1] == (None,) for x in tensors)


def _spread(total: int, first: int) -> np.ndarray:
    """All rows, some evenly spread ones first: examples may be sorted by class."""
    chosen = evenly(total, first)
    return np.concatenate([chosen, np.setdiff1d(np.arange(total), chosen)])
