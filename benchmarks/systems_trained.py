"""Systems that train from fresh weights, each for the same number of multiply-adds.

A narrower network has cheaper steps, and so trains for more of them. The learning rate is one cycle
over what may be spent, and training stops when that is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras

import keras_gcp
from examples.datasets import Data, batches

HIGHEST_RATE = 0.1
BATCH_SIZE = 128
WARMUP = 0.2
"""Share of what may be spent until the rate is highest."""
FOUR_CUTS = keras_gcp.schedules.cubic(1, 4, 1)
"""In the first half: `epochs` of `fit` tells nothing here, where costs end the training."""


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

    @property
    def first(self) -> tuple[Any, Any]:
        """As many images, the first ones, and their labels."""
        return self.data.x_train[: self.sample_size], self.data.y_train[: self.sample_size]


class Spending(keras.callbacks.Callback):
    """Counts the multiply-adds of training steps, sets the rate by them, and ends the training.

    Stands after callbacks that cut, so that it sees the narrower model. Trainings that follow each
    other share one, and what may be spent.

    Args:
        setting: What may be spent.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._macs, self._spent = setting.macs, 0.0
        self._images = len(setting.data.x_train)
        self._examples = setting.epochs * self._images
        self.begin()

    def begin(
        self,
        until: float = 1.0,
        cycle: tuple[float, float] = (0.0, 1.0),
        rate: Callable[[float], float] | None = None,
        passes: float = 1.0,
    ) -> Spending:
        """What the next training is like.

        Args:
            until: Share of all that may be spent at which it ends.
            cycle: The rate's cycle begins and ends at these shares.
            rate: Gives the rate, for the progress within the cycle; None: `one_cycle`.
            passes: What a step costs, as a multiple of a step that trains on a batch once.
        """
        self._until, self._cycle, self._passes = until, cycle, passes
        self._rate = rate or (lambda progress: one_cycle(progress) * HIGHEST_RATE)
        return self

    def spend(self, examples: float) -> None:
        """Counts training steps that this did not see, on so many examples of the whole network."""
        self._spent += examples

    @property
    def share(self) -> float:
        """Of all that may be spent."""
        return self._spent / self._examples

    @property
    def epochs(self) -> float:
        """Of the dense network, that cost as much as what was spent."""
        return self._spent / self._images

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        macs = keras_gcp.count(self.model).macs
        self._of_step = BATCH_SIZE * self._passes * macs / self._macs

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        first, last = self._cycle
        self.model.optimizer.learning_rate = self._rate((self.share - first) / (last - first))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._spent += self._of_step
        if self.share >= self._until:
            self.model.stop_training = True


def one_cycle(share: float) -> float:
    """The rate as a share of the highest one: up in a line, then down to 0 as a cosine."""
    if share < WARMUP:
        return 0.04 + 0.96 * share / WARMUP
    return (1 + math.cos(math.pi * min(1.0, (share - WARMUP) / (1 - WARMUP)))) / 2


@dataclass(frozen=True, eq=False)
class Trained:
    """What comes out of a system.

    Attributes:
        model: The trained network.
        epochs: Of the dense network, that cost as much as the training did.
        measured: Figures that stand for those which are counted from the model.
        quantizes: Whether its int8 file computes what the network does.
    """

    model: Any
    epochs: float
    measured: Mapping[str, float] = field(default_factory=dict)
    quantizes: bool = True


def trained(
    model: Any,
    setting: Setting,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    spending: Spending | None = None,
    epochs: int | None = None,
) -> Trained:
    """The model after its training.

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
    return Trained(model, spending.epochs)


# ---- systems


System = Callable[[Any, Setting], Trained]
"""Takes fresh weights and what may be spent."""


def dense(model: Any, setting: Setting) -> Trained:
    """All channels stay."""
    return trained(model, setting)


def before_training(model: Any, setting: Setting, criterion: Any, ranking: Any = "auto") -> Trained:
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


def widths_by_gradient_flow(model: Any, setting: Setting) -> Trained:
    """GraSP says how wide layers are; which channels these are is drawn."""
    shares = keras_gcp.methods.gradient_flow_shares(model, *setting.first, keep=setting.share)
    return before_training(model, setting, "random", shares)


def gradual(
    model: Any,
    setting: Setting,
    criterion: str = "auto",
    compensation: Any = "auto",
    schedule: Any = FOUR_CUTS,
    spending: Spending | None = None,
    **selection: Any,
) -> Trained:
    """Cuts within the one training: four in its first half, if nothing else is said."""
    pruning = keras_gcp.GradualChannelPruning(
        setting.sample,
        {"macs": setting.share},
        schedule,
        criterion,
        selection=selection,
        compensation=compensation,
        seed=setting.seed,
        verbose=0,
    )
    return trained(model, setting, [pruning], spending)


def halfway(model: Any, setting: Setting, criterion: str, compensation: Any) -> Trained:
    """One cut, when half is spent: for criteria that are meant for networks that have learned."""
    schedule = keras_gcp.schedules.one_shot(setting.epochs // 2)
    return gradual(model, setting, criterion, compensation, schedule)


def generated_masks(model: Any, setting: Setting) -> Trained:
    """Half is spent on the whole network, some on the generator of masks, the rest on the cut one.

    An episode costs a pass over its support, a third of a step, and steps on support and query.
    """
    ways, shots, queries, count = 5, 10, 10, 200
    data, spending = setting.data, Spending(setting).begin(until=0.5)
    trained(model, setting, spending=spending)
    episodes = keras_gcp.methods.class_episodes(
        data.x_train, data.y_train, ways, count, shots=shots, queries=queries, seed=setting.seed
    )
    generator = keras_gcp.methods.SetMaskGenerator(seed=setting.seed)
    generator.fit(model, episodes)
    spending.spend(count * ways * (shots * 4 / 3 + queries))
    plan = generator.masks(model, *setting.first, {"macs": setting.share})
    narrow = keras_gcp.apply(model, plan, compensation=None)
    return trained(narrow, setting, spending=spending.begin())


def hardened(model: Any, setting: Setting) -> Trained:
    """The gradual pruning, then a short training on attacked examples.

    A step of the attack takes two of the three passes of a training step.
    """
    clean, epsilon, steps = 0.7, 8.0, 2
    spending = Spending(setting).begin(until=clean, cycle=(0.0, clean))
    narrow = gradual(model, setting, spending=spending).model
    curve = keras_gcp.methods.SlowStartFastDecay(HIGHEST_RATE / 2, total_steps=10_000)
    spending.begin(
        cycle=(clean, 1.0),
        rate=lambda progress: float(curve(round(progress * 10_000))),
        passes=1 + 2 / 3 * steps,
    )
    attack = keras_gcp.methods.AdversarialTraining(
        epsilon, epsilon / 2, steps, clip=(0, 255), seed=setting.seed
    )
    return trained(narrow, setting, [attack], spending)


def hashed(model: Any, setting: Setting) -> Trained:
    """The dense training; then HASTE, at half of the operations, if counted as it counts them.

    In eight bits other channels look alike: the outputs differ by half of what they are.
    """
    whole = trained(model, setting)
    merging = keras_gcp.methods.haste(whole.model, planes=4, seed=setting.seed)
    share = keras_gcp.methods.haste_cost(merging, setting.data.x_test[:100]).share
    return Trained(merging, whole.epochs, {"macs_share": share}, quantizes=False)


def activation_density(model: Any, setting: Setting) -> Trained:
    """Widths follow densities, in two rounds; the share of multiply-adds is what comes out.

    In six epochs densities are still on their way: at 0.03, one of two seeds was never cut.
    """
    density = keras_gcp.methods.ActivationDensity(
        setting.sample, rounds=2, patience=1, min_change=0.1, seed=setting.seed, verbose=0
    )
    return trained(model, setting, [density])


def consensus(model: Any, setting: Setting) -> Trained:
    """Gates that look at the input, for three quarters of the epochs; then what they leave.

    There are seven epochs, so the target needs some more of them to come down in than by default.
    """
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ConsensusGate())
    ramp = 0.4, 0.65
    pruning = keras_gcp.methods.ConsensusPruning(setting.share, ramp, of="macs", verbose=0)
    wide = pruning.freeze
    epochs = math.ceil(setting.epochs / (wide + (1 - wide) * setting.share))
    found = trained(gated, setting, [pruning], epochs=epochs)
    return replace(found, model=keras_gcp.gates.remove(found.model))


def batch_whitening(model: Any, setting: Setting) -> Trained:
    """Masks for more than half of what may be spent, then the folded network.

    There is no budget: the penalties were tried on a shorter training, to come near a half.
    """
    with_masks = 0.6
    spending = Spending(setting).begin(until=with_masks)
    steps = round(with_masks * setting.epochs * len(setting.data.x_train) / BATCH_SIZE)
    ramp = keras.optimizers.schedules.PolynomialDecay(1.0, steps, 30.0)
    wide = keras_gcp.methods.bwcp(
        model, scale_penalty=7e-4, shift_penalty=3.5e-4, sharpness=ramp, seed=setting.seed
    )
    trained(wide, setting, spending=spending)
    return trained(keras_gcp.methods.fold_bwcp(wide), setting, spending=spending.begin())


def network_adjustment(model: Any, setting: Setting) -> Trained:
    """Three trainings: from uniform widths on, channels move to where they are used best."""
    rounds, tied, spending = 3, _first_of_each_tie(model), Spending(setting)
    start = keras_gcp.plan(
        model, {"macs": setting.share}, "random", selection={"ranking": "uniform", "align": 1}
    )
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
        done = round(spending.share * rounds)
        cycle = done / rounds, (done + 1) / rounds
        trained(network, setting, spending=spending.begin(cycle[1], cycle))

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
    return Trained(models[tuple(found.widths.values())], spending.epochs)


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
    "gradual (default)": gradual,
    "gradual by feature_relevance (authors)": partial(
        gradual, criterion="feature_relevance", compensation=None, evenness=0
    ),
    "CaP half-way": partial(halfway, criterion="compensation_aware", compensation="least_squares"),
    "CATRO half-way": partial(halfway, criterion="trace_ratio", compensation=None),
    "PruneNet-style half-way": partial(halfway, criterion="input_variance", compensation="fold"),
    "STAMP-style half-way": generated_masks,
    "ActivationDensity": activation_density,
    "ConsensusPruning": consensus,
    "BWCP": batch_whitening,
    "Network Adjustment": network_adjustment,
    "adversarial fine-tuning at the end": hardened,
    "HASTE": hashed,
}
"""Name to system. Those cut before training are also the same widths from scratch; the uniform one
is the random one, since random scores are compared by rank."""
