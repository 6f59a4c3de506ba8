"""A callback that measures and saves the model at the end of each stretch of a training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_gcp import backend, keras_state
from keras_gcp.classification.metrics import Metric, value_of
from keras_gcp.evaluation.frontier_result import Frontier, FrontierPoint
from keras_gcp.sample import DrawnSample
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.training.callback import GradualChannelPruning
from keras_gcp.training.messages import say


class Snapshots(keras.callbacks.Callback):
    """Measures and saves the model at the end of each stretch.

    Args:
        pruning: The pruning callback of the same fit, further up the list.
        examples: What to measure on.
        metric: What to measure.
        resource: What budgets count.
        ends: Epochs trained at the end of each stretch, to its budget.
        folder: Where to save.
        verbose: Whether to print a line for each size.

    Attributes:
        frontier: The points so far.
    """

    def __init__(
        self,
        pruning: GradualChannelPruning,
        examples: DrawnSample,
        metric: Metric,
        resource: str,
        ends: Mapping[int, float],
        folder: Path,
        verbose: int,
    ) -> None:
        super().__init__()
        self._pruning, self._examples, self._metric = pruning, examples, metric
        self._ends, self._folder, self._verbose = ends, folder, verbose
        self._unsaid: list[str] = []
        self.frontier = Frontier(metric.name, metric.higher_is_better, resource, ())

    @property
    def lines(self) -> keras.callbacks.Callback:
        """Prints the lines; stands before the pruning callback, whose events come after them.

        At the end of an epoch they would run into Keras' progress bar, which is still open.
        """
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._say(), on_train_end=lambda logs: self._say()
        )

    def on_train_begin(self, logs: Any = None) -> None:
        # Not before: the pruning callback, further up the list, may have refused the budgets.
        self._folder.mkdir(parents=True, exist_ok=True)
        if 0 in self._ends:
            self._take(0)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 in self._ends:
            self._take(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        missing = list(self._ends.values())[len(self.frontier.points) :]
        if missing:
            warnings.warn(
                f"The training ended early, so the frontier has no points for the budgets "
                f"{missing}: a size is measured at the end of its epochs.",
                stacklevel=2,
            )

    def _say(self) -> None:
        if self._verbose:
            for line in self._unsaid:
                say(line)
        self._unsaid.clear()

    def _take(self, epochs: int) -> None:
        """Adds a point for the model as it is."""
        model, budget, resource = self.model, self._ends[epochs], self.frontier.resource
        keras_state.put_state_back(model)
        costs, original = self._pruning.costs, self._pruning.original_costs
        path = self._folder / f"{resource}_{100 * budget:.4g}_percent.keras"
        # A copy is not compiled, so it loads without the user's own losses and optimizers.
        copy = copy_model(model)
        copy.save(path)
        point = FrontierPoint(
            budget=budget,
            share=costs[resource] / original[resource],
            macs=int(costs["macs"]) if "macs" in costs else None,
            parameters=int(costs["parameters"]),
            value=value_of(self._metric, copy, self._examples, backend.DEFAULT_BATCH_SIZE),
            epochs=epochs,
            path=path,
        )
        before = self.frontier
        self.frontier = Frontier(
            before.metric, before.higher_is_better, resource, (*before.points, point)
        )
        self.frontier.save(self._folder)
        self._unsaid.append(
            f"{resource} {point.share:.1%} of the original, {epochs} epochs trained: "
            f"{before.metric} {point.value:.4f}, saved as {path.name}"
        )
