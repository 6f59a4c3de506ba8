"""A generator of masks: learns on many tasks what a network can do without on a new one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model
from keras_gcp.errors import InvalidArgument
from keras_gcp.gates import kumaraswamy
from keras_gcp.gates.beta_bernoulli import positive, require_chance
from keras_gcp.gates.floors import with_floors
from keras_gcp.methods.stamp.episodes import Episode, Examples, class_labels
from keras_gcp.methods.stamp.gated_copy import GatedCopy, same_channels
from keras_gcp.methods.stamp.mask_network import MaskNetwork
from keras_gcp.methods.stamp.meta_training import EpisodeLoss, MetaTraining, Settings
from keras_gcp.methods.stamp.observation import Observation, Reference, observe
from keras_gcp.pruning.one_shot import plan
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import plan_of
from keras_gcp.training.messages import say
from keras_gcp.validation import (
    layer_names,
    require_above_0,
    require_from_0,
    require_integer,
    require_seed,
)

_REFERENCE_EPISODES = 16
"""Of so many, evenly taken, responses are standardised by mean and spread."""

_COMPILE_FROM = 8
"""Episodes; fewer are done sooner than their steps are compiled."""

_LINES = 10
"""Printed per training."""


class SetMaskGenerator:
    """Reads a few examples of a new task, and says which channels of a network that task needs.

    A set encoder makes one vector of the examples, whatever their order and number; a head that all
    channels share reads it with how each channel responds, and gives the parameters of the
    channel's gate (`keras_gcp.gates.BetaBernoulli`). `fit` learns this on many tasks: the network
    with the gates of a task takes some steps of gradient descent on its support, and the generator
    is moved so that the loss on the query falls, with the divergence of the gates from their prior
    and with the multiply-adds. The network's own weights are not changed. Then `masks` takes one
    pass over the examples of a task, and no search; cut by its plan, the network is trained on the
    task, and that training is cheaper, too.

    STAMP-style, after Song et al., 2020 (arXiv 2006.12139), of which we know the abstract; how the
    parts are put together is ours (docs/methods/stamp.md).

    Args:
        width: Of the vector of a set.
        heads: Attention heads of the set encoder; they divide the width.
        hidden: Width of the layer in the head.
        alpha: Of the prior Beta(alpha, 1) of chances.
        temperature: Of the relaxed Bernoulli distribution.
        initial: The expected chance of every channel at first.
        shots: Examples of each class that `masks` looks at.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        seed: Seed for the generator's weights and for the choice of examples.

    Attributes:
        network: The generator's own layer, with its weights; None before `fit`.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    generator = keras_gcp.methods.SetMaskGenerator(seed=0)
    episodes = keras_gcp.methods.class_episodes(x, y, ways=5, count=300)
    generator.fit(model, episodes)
    plan = generator.masks(model, x_new, y_new)
    small = keras_gcp.apply(model, plan)
    ```
    """

    def __init__(
        self,
        width: int = 64,
        heads: int = 4,
        hidden: int = 64,
        *,
        alpha: float = 1e-4,
        temperature: float = 0.1,
        initial: float = 0.9,
        shots: int = 10,
        exclude: Sequence[str] = (),
        seed: int | None = None,
    ) -> None:
        self._width = require_integer("width", width, least=1)
        self._heads = require_integer("heads", heads, least=1)
        if self._width % self._heads:
            raise InvalidArgument(
                "`heads` of SetMaskGenerator expects a number that divides `width`. Received: "
                f"width {width}, heads {heads}."
            )
        self._hidden = require_integer("hidden", hidden, least=1)
        self._alpha = require_above_0("alpha", alpha, "SetMaskGenerator")
        self._temperature = require_above_0("temperature", temperature, "SetMaskGenerator")
        self._initial = require_chance("initial", initial)
        self._shots = require_integer("shots", shots, least=1)
        self._exclude = layer_names("exclude", exclude)
        self._seed = require_seed(seed)
        self.network: MaskNetwork | None = None
        self._reference: Reference | None = None
        self._widths: Mapping[str, int] = {}

    def fit(
        self,
        model: Any,
        episodes: Sequence[Any],
        epochs: int = 1,
        *,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.01,
        learning_rate: float = 1e-3,
        kl_weight: float = 1e-3,
        macs_weight: float = 1.0,
        verbose: int = 0,
    ) -> list[EpisodeLoss]:
        """Learns to generate masks for a network. Called again, it goes on.

        Args:
            model: A trained classifier of one class of several, functional or sequential. It stays
                as it is.
            episodes: A sequence of tasks, each a pair `((x, y), (x, y))`, support and query, with
                classes as the model numbers them; `keras_gcp.methods.class_episodes` makes them.
            epochs: How often to go through them.
            inner_steps: Steps of gradient descent on the support before the query is looked at.
            inner_learning_rate: Of these steps.
            learning_rate: Of the generator, with Adam.
            kl_weight: Factor of the divergence of all gates from their prior; one over the number
                of training examples makes it a bound on their likelihood.
            macs_weight: Factor of the expected share of multiply-adds, between 0 and 1. Larger
                values give smaller networks.
            verbose: 1: ten lines with the loss.

        Returns:
            An `EpisodeLoss` for each episode: `loss`, `query`, `divergence`, `macs_share`.

        Raises:
            InvalidArgument: an argument is malformed, or the model has other channels than that of
                an earlier `fit`.
            UnsupportedModel: the model is no classifier of that kind, or has no channels that a
                gate can be put on, or leaves sizes of its input open.
        """
        settings = Settings(
            require_integer("inner_steps", inner_steps, least=0),
            require_above_0("inner_learning_rate", inner_learning_rate, "SetMaskGenerator"),
            require_from_0("kl_weight", kl_weight, "SetMaskGenerator"),
            require_from_0("macs_weight", macs_weight, "SetMaskGenerator"),
            self._alpha,
        )
        rate = require_above_0("learning_rate", learning_rate, "SetMaskGenerator")
        epochs = require_integer("epochs", epochs, least=1)
        verbose = require_integer("verbose", verbose, least=0, most=1)
        tasks = _Tasks(episodes)
        worth_compiling = epochs * len(tasks) >= _COMPILE_FROM
        with _drawn_by(self._seed):
            copy = GatedCopy(model, self._exclude, self._temperature, worth_compiling)
            network = self._prepare(copy, tasks)
        training = MetaTraining(model, copy, network, settings)
        adam = keras.optimizers.Adam(rate)
        adam.build([training.row])
        order, losses = np.random.default_rng(self._seed), []
        for _ in range(epochs):
            for number in order.permutation(len(tasks)):
                support, query = tasks[number]
                training.check(support)
                training.check(query)
                loss, gradient = training.step(self._observe(copy, support), support, query)
                adam.apply([gradient], [training.row])
                losses.append(loss)
                _tell(losses, epochs * len(tasks), verbose)
        training.write()
        self.network = network
        return losses

    def masks(
        self, model: Any, x: Any, y: Any, budget: Any = None, *, selection: Any = None
    ) -> Plan:
        """Which channels of a network a task needs.

        Args:
            model: The network that `fit` was given, or one with the same channels.
            x: Examples of the task, as the model takes them; some of each class are looked at.
            y: Their classes: integers, or one-hot rows. They need not be classes of the model, and
                how they are numbered plays no part.
            budget: What may remain, as for `keras_gcp.plan`: the channels with the largest expected
                chances stay. None: those with a chance above one half.
            selection: With a budget, as for `keras_gcp.plan`. Default: one ranking of the whole
                network, any width from 1.

        Returns:
            A `Plan` for the model, for `keras_gcp.apply` and `keras_gcp.narrow`.

        Raises:
            InvalidArgument: an argument is malformed, `fit` has not been called, or the model has
                other channels than the one it was called with.
            ImpossibleBudget: floors and anchored layers do not let the budget be met.
        """
        copy, chances = self._chances(model, x, y)
        if budget is None:
            if selection is not None:
                raise InvalidArgument(
                    f"`selection` of `masks` needs a `budget`. Received: {selection!r} without one."
                )
            own = trace(model, self._exclude)
            return plan_of(own, _kept(own, copy.by_layer(chances, own)), build_cost_model(own))

        def by_chance(model: Any, channels: ChannelMap, sample: Any) -> Mapping[str, np.ndarray]:
            return copy.by_layer(chances, channels)

        by_chance.normalize, by_chance.ranking = "none", "score"  # type: ignore[attr-defined]
        chosen = Selection(align=1, floor=1) if selection is None else Selection.parse(selection)
        return plan(model, budget, by_chance, exclude=self._exclude, selection=chosen)

    def _chances(self, model: Any, x: Any, y: Any) -> tuple[GatedCopy, np.ndarray]:
        """A gated copy, and the expected chances of its channels for a task."""
        if self.network is None:
            raise InvalidArgument(
                "SetMaskGenerator has learned nothing yet. Expected a call of "
                "`generator.fit(model, episodes)` before `masks`."
            )
        copy = GatedCopy(model, self._exclude, self._temperature)
        self._require_same(copy)
        task = _examples((x, y), "masks")
        seen = self._observe(copy, _some_of_each(task, self._shots, self._seed))
        parameters = self.network(seen.examples, seen.channels)
        chances = kumaraswamy.mean(*positive(ops.transpose(parameters)))
        return copy, np.asarray(ops.convert_to_numpy(chances))

    def _prepare(self, copy: GatedCopy, tasks: _Tasks) -> MaskNetwork:
        """A new generator, at the first `fit`; else what there is."""
        if self.network is not None:
            self._require_same(copy)
            return self.network
        some = np.unique(np.linspace(0, len(tasks) - 1, _REFERENCE_EPISODES).astype(int))
        self._reference = Reference.of([copy.responses(tasks[n].support.x) for n in some.tolist()])
        self._widths = copy.widths
        network = MaskNetwork(
            sum(copy.sizes), self._width, self._heads, self._hidden, self._initial
        )
        seen = self._observe(copy, tasks[0].support)
        network.build(seen.examples.shape, seen.channels.shape)
        return network

    def _observe(self, copy: GatedCopy, examples: Examples) -> Observation:
        assert self._reference is not None
        responses = copy.responses(examples.x)
        return observe(responses, examples.y, copy.sizes[-1], self._reference)

    def _require_same(self, copy: GatedCopy) -> None:
        if not same_channels(self._widths, copy.widths):
            raise InvalidArgument(
                f"SetMaskGenerator has learned on a model with the gated channels {self._widths}. "
                f"Expected a model with the same. Received: '{copy.model.name}' with {copy.widths}."
            )


class _Tasks:
    """Episodes, each checked when it is taken."""

    def __init__(self, episodes: Any) -> None:
        if not hasattr(episodes, "__getitem__") or not hasattr(episodes, "__len__"):
            raise InvalidArgument(
                "`episodes` expects a sequence of pairs ((x, y), (x, y)), as "
                "`keras_gcp.methods.class_episodes` makes. Received: "
                f"{type(episodes).__name__}."
            )
        if not len(episodes):
            raise InvalidArgument("`episodes` expects at least one. Received: none.")
        self._episodes = episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, number: int) -> Episode:
        episode = self._episodes[int(number)]
        if not isinstance(episode, tuple | list) or len(episode) != 2:
            raise InvalidArgument(
                f"Episode {number} expects a pair ((x, y), (x, y)), support and query. Received: "
                f"{type(episode).__name__}."
            )
        name = f"episode {number}"
        return Episode(_examples(episode[0], name), _examples(episode[1], name))


def _examples(pair: Any, name: str) -> Examples:
    """`(x, y)` of a task."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InvalidArgument(f"Expected (x, y) in {name}. Received: {type(pair).__name__}.")
    x, y = pair[0], class_labels(pair[1])
    counts = {len(array) for array in keras.tree.flatten(x)}
    if counts != {len(y)}:
        raise InvalidArgument(
            f"Expected as many examples as labels in {name}. Received: {sorted(counts)} and "
            f"{len(y)}."
        )
    return Examples(x, y)


def _some_of_each(task: Examples, shots: int, seed: int | None) -> Examples:
    """The same number of examples of each class, as far as there are so many."""
    draw = np.random.default_rng(0 if seed is None else seed)
    rows = np.concatenate(
        [draw.permutation(np.flatnonzero(task.y == one))[:shots] for one in np.unique(task.y)]
    )
    return Examples(
        keras.tree.map_structure(lambda array: np.asarray(array)[rows], task.x), task.y[rows]
    )


@contextmanager
def _drawn_by(seed: int | None) -> Iterator[None]:
    """Inside the context, weights and noise that have no seed of their own get theirs by this one.

    Keras draws such seeds from Python's own generator, which goes on where it was afterwards.
    """
    before = random.getstate()
    try:
        if seed is not None:
            random.seed(seed)
        yield
    finally:
        if seed is not None:
            random.setstate(before)


def _kept(own: ChannelMap, chances: Mapping[str, np.ndarray]) -> np.ndarray:
    """Coupled channels that stay: those above one half, and the best where a group needs more."""
    every = np.ones(own.coupled_count)
    for path, values in chances.items():
        every[own.produced[path]] = values
    return with_floors(own, every > 0.5, every)


def _tell(losses: Sequence[EpisodeLoss], total: int, verbose: int) -> None:
    every = max(1, total // _LINES)
    if verbose and len(losses) % every == 0:
        last = losses[-every:]
        loss, share = np.mean([one.loss for one in last]), np.mean([one.macs_share for one in last])
        say(f"episode {len(losses)} of {total}: loss {loss:.4f}, {share:.1%} of the MACs expected")
