"""Systems that train from fresh weights, each for the same number of multiply-adds.

A narrower network has cheaper steps, and so trains for more of them. The learning rate is one cycle
over what may be spent, and training stops when that is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

import keras_gcp
from examples.datasets import Data, batches

HIGHEST_RATE = 0.1
BATCH_SIZE = 128
WARMUP = 0.2
"""Share of what may be spent until the rate is highest."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What every system gets.

    Attributes:
        data: Training and test images.
        macs: Multiply-adds of the dense network for one example.
        share: Of these, for the network that comes out.
        epochs: All of the training may cost as much as this many epochs of the dense network.
        seed: Of everything random.
        sample_size: Examples that criteria look at.
    """

    data: Data
    macs: int
    share: float
    epochs: int
    seed: int
    sample_size: int

    @property
    def sample(self) -> keras_gcp.Sample:
        """Examples to draw from."""
        return keras_gcp.Sample((self.data.x_train, self.data.y_train), size=self.sample_size)


class Spending(keras.callbacks.Callback):
    """Counts the multiply-adds of training steps, sets the rate by them, and ends the training.

    Stands after callbacks that cut, so that it sees the narrower model. Several trainings may share
    one, and what may be spent.

    Args:
        setting: What may be spent.
        trainings: In how many learning-rate cycles.
    """

    def __init__(self, setting: Setting, trainings: int = 1) -> None:
        super().__init__()
        self._macs, self._spent = setting.macs, 0.0
        self._images = len(setting.data.x_train)
        self._examples = setting.epochs * self._images / trainings
        self.until = 1.0

    @property
    def share(self) -> float:
        """Of what may be spent in one cycle."""
        return self._spent / self._examples

    @property
    def epochs(self) -> float:
        """Of the dense network, that cost as much as what was spent."""
        return self._spent / self._images

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._of_step = BATCH_SIZE * keras_gcp.count(self.model).macs / self._macs

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        within = self.share - (math.ceil(self.until) - 1)
        self.model.optimizer.learning_rate = one_cycle(within) * HIGHEST_RATE

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._spent += self._of_step
        if self.share >= self.until:
            self.model.stop_training = True


def one_cycle(share: float) -> float:
    """The rate as a share of the highest one: up in a line, then down to 0 as a cosine."""
    if share < WARMUP:
        return 0.04 + 0.96 * share / WARMUP
    return (1 + math.cos(math.pi * min(1.0, (share - WARMUP) / (1 - WARMUP)))) / 2


def trained(
    model: Any,
    setting: Setting,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    spending: Spending | None = None,
    epochs: int | None = None,
) -> tuple[Any, float]:
    """The model after its training, and how many epochs of the dense network that cost.

    Args:
        model: The model, compiled or not.
        setting: The data.
        callbacks: What prunes.
        spending: What was spent before, and until when; None: nothing, and all of it.
        epochs: What callbacks take for the length of the training; what may be spent ends it.
    """
    data, spending = setting.data, spending or Spending(setting)
    optimizer = keras.optimizers.SGD(HIGHEST_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    shuffled = batches(data, BATCH_SIZE, augment=True, seed=setting.seed)
    most = epochs or 100 * setting.epochs
    model.fit(shuffled, epochs=most, callbacks=[*callbacks, spending], verbose=0)
    return model, spending.epochs


# ---- systems


System = Callable[[Any, Setting], tuple[Any, float]]
"""Takes fresh weights and what may be spent; gives the trained network and what was spent."""


def dense(model: Any, setting: Setting) -> tuple[Any, float]:
    """All channels stay."""
    return trained(model, setting)


def before_training(
    model: Any, setting: Setting, criterion: Any, ranking: Any = "auto"
) -> tuple[Any, float]:
    """One cut of the fresh network, then the training."""
    model.compile(loss="sparse_categorical_crossentropy")
    narrow = keras_gcp.prune(
        model,
        {"macs": setting.share},
        criterion,
        setting.sample,
        selection={"ranking": ranking},
        compensation=None,
        seed=setting.seed,
    )
    return trained(narrow, setting)


def widths_by_gradient_flow(model: Any, setting: Setting) -> tuple[Any, float]:
    """GraSP says how wide layers are; which channels these are is drawn."""
    images = setting.sample_size
    x, y = setting.data.x_train[:images], setting.data.y_train[:images]
    shares = keras_gcp.methods.gradient_flow_shares(model, x, y, keep=setting.share)
    return before_training(model, setting, "random", shares)


def gradual(
    model: Any,
    setting: Setting,
    criterion: str = "auto",
    compensation: Any = "auto",
    **selection: Any,
) -> tuple[Any, float]:
    """Four cuts in the first half of the training."""
    pruning = keras_gcp.GradualChannelPruning(
        setting.sample,
        {"macs": setting.share},
        keras_gcp.schedules.cubic(1, 4, 1),
        criterion,
        selection=selection,
        compensation=compensation,
        seed=setting.seed,
        verbose=0,
    )
    return trained(model, setting, [pruning])


def activation_density(model: Any, setting: Setting) -> tuple[Any, float]:
    """Widths follow densities, in two rounds; the share of multiply-adds is what comes out."""
    density = keras_gcp.methods.ActivationDensity(
        setting.sample, rounds=2, patience=1, min_change=0.03, seed=setting.seed, verbose=0
    )
    return trained(model, setting, [density])


def consensus(model: Any, setting: Setting) -> tuple[Any, float]:
    """Gates that look at the input, for three quarters of the epochs; then what they leave."""
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ConsensusGate())
    pruning = keras_gcp.methods.ConsensusPruning(setting.share, of="macs", verbose=0)
    wide = pruning.freeze
    epochs = math.ceil(setting.epochs / (wide + (1 - wide) * setting.share))
    gated, spent = trained(gated, setting, [pruning], epochs=epochs)
    return keras_gcp.gates.remove(gated), spent


def batch_whitening(model: Any, setting: Setting) -> tuple[Any, float]:
    """Masks for most of what may be spent, then the folded network; its size is what comes out."""
    spending = Spending(setting)
    spending.until = 0.8
    steps = round(spending.until * setting.epochs * len(setting.data.x_train) / BATCH_SIZE)
    ramp = keras.optimizers.schedules.PolynomialDecay(1.0, steps, 10.0)
    wide = keras_gcp.methods.bwcp(
        model, scale_penalty=0.02, shift_penalty=0.01, sharpness=ramp, seed=setting.seed
    )
    wide, _ = trained(wide, setting, spending=spending)
    spending.until = 1.0
    return trained(keras_gcp.methods.fold_bwcp(wide), setting, spending=spending)


def network_adjustment(model: Any, setting: Setting) -> tuple[Any, float]:
    """Three trainings: from uniform widths on, channels move to where they are used best."""
    rounds, start = (
        3,
        keras_gcp.plan(
            model, {"macs": setting.share}, "random", selection={"ranking": "uniform", "align": 1}
        ),
    )
    tied = _first_of_each_tie(model)
    spending = Spending(setting, rounds)
    spending.until = 0.0
    models: dict[tuple[int, ...], Any] = {}

    def build(widths: Mapping[str, int]) -> Any:
        def resized(layer: Any) -> Any:
            config = layer.get_config()
            if layer.name in tied:
                config["filters"] = widths[tied[layer.name]]
            return type(layer).from_config(config)

        network = keras.models.clone_model(model, clone_function=resized)
        models[tuple(widths.values())] = network
        return network

    def train(network: Any, data: Any) -> None:
        spending.until += 1.0
        trained(network, setting, spending=spending)

    found = keras_gcp.methods.network_adjustment(
        build,
        {name: start.widths()[name] for name in dict.fromkeys(tied.values())},
        train,
        (setting.data.x_train, setting.data.y_train),
        iterations=rounds - 1,
        warm_start=True,
        seed=setting.seed,
        verbose=0,
    )
    return models[tuple(found.widths.values())], spending.epochs


def _first_of_each_tie(model: Any) -> dict[str, str]:
    """Convolutions to the first one with the same channels."""
    first: dict[tuple[int, ...], str] = {}
    channels = keras_gcp.trace(model)
    return {
        path: first.setdefault(tuple(coupled), path)
        for path, coupled in channels.produced.items()
        if isinstance(model.get_layer(path), keras.layers.Conv2D)
    }


SYSTEMS: Mapping[str, System] = {
    "dense": dense,
    "uniform before training": partial(before_training, criterion="random", ranking="uniform"),
    "gradient_flow before training (GraSP)": partial(before_training, criterion="gradient_flow"),
    "widths by gradient flow (GraSP)": widths_by_gradient_flow,
    "gradual with evenness 0": partial(gradual, evenness=0),
    "gradual with evenness 0.5": partial(gradual, evenness=0.5),
    "gradual with evenness 0.75": partial(gradual, evenness=0.75),
    "gradual and no layer below half": partial(gradual, floor=0.5, evenness=0),
    "gradual by feature_relevance (authors)": partial(
        gradual, criterion="feature_relevance", compensation=None, evenness=0
    ),
    "ActivationDensity": activation_density,
    "ConsensusPruning": consensus,
    "BWCP": batch_whitening,
    "Network Adjustment": network_adjustment,
}
"""Name to system. Those cut before training are also the same widths from scratch; the uniform one
is the random one, since random scores are compared by rank."""
