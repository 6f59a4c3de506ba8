"""Network Adjustment: widths go up and down at equal multiply-adds, by what layers make of them.

Chen, Niu, Xie, Liu, Wei, Tian, "Network Adjustment: Channel Search Guided by FLOPs Utilization
Ratio", CVPR 2020 (arXiv 2004.02767).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, gates
from keras_gcp.classification.metrics import metric_for
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods.adjustment.layers import Build, BuiltNetwork, built, network_of
from keras_gcp.methods.adjustment.result import FILE, AdjustmentRound, NetworkAdjustment
from keras_gcp.methods.adjustment.utilization import (
    measured_ratios,
    require_base_rate,
    require_measurable,
)
from keras_gcp.methods.adjustment.warm_start import warm_start as begin_with
from keras_gcp.sample.arrays import to_arrays
from keras_gcp.sample.digest import digest_of
from keras_gcp.selection.adjusting import Aims, WidthGrid, moved, rescaled
from keras_gcp.selection.widths import check_layers, checked_align
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.training.messages import say
from keras_gcp.validation import (
    between,
    integer,
    require_flag,
    require_integer,
    require_path,
    require_verbose,
)

Train = Callable[[Any, Any], Any]

FEWER = 0.5
"""By how much the number of layers that move falls from one iteration to the next."""

HELD_OUT = 0.1
"""Share of the data to measure on, as in the paper."""

_CORRECTIONS = 8
"""Attempts at widths whose network, once it is built, has the multiply-adds wanted."""


def network_adjustment(
    build: Build,
    widths: Mapping[str, int],
    train: Train,
    data: Any,
    *,
    iterations: int = 10,
    validation_data: Any = None,
    metric: Any = "loss",
    mode: str = "auto",
    step: float = 0.15,
    decay: float = 0.01,
    layers: int = 6,
    base_rate: float = 0.05,
    repeats: int = 5,
    train_rate: float = 0.0,
    align: Any = 1,
    least: int = 4,
    tolerance: float = 0.01,
    warm_start: bool = False,
    directory: Any = None,
    on_round: Callable[[NetworkAdjustment], Any] | None = None,
    seed: int = 0,
    batch_size: int = backend.DEFAULT_BATCH_SIZE,
    verbose: int = 1,
) -> NetworkAdjustment:
    """Searches better widths at equal multiply-adds: layers get wider, others narrower.

    A network is built and trained. Then it is measured what each of its layers makes of its
    multiply-adds (`keras_gcp.methods.utilization_ratios`), on data held out. The layers that make
    most of them get wider, those that make least of them narrower, all are rescaled to the
    multiply-adds of the start, and the next network is built and trained; `iterations` times. The
    last widths are trained and measured, too, so there are `iterations + 1` trainings.

    Chen et al., "Network Adjustment", CVPR 2020 (arXiv 2004.02767). Layers whose channels are
    tied, by additions say, have one width here; in the paper, shortcuts are padded with zeros.

    Args:
        build: `build(widths) -> keras.Model`, where `widths` is a dict like the one below. It makes
            the same layers under the same names each time, and gives those that are named the
            widths that they are named with.
        widths: Where to begin: name of a layer that produces channels (a convolution, a dense
            layer) to its number of channels. Of layers that are tied together one is named. Layers
            that are not named stay.
        train: `train(model, data)`: compiles the model, unless `build` does, and trains it; what it
            returns is not looked at.
        data: What `train` gets. Without `validation_data` arrays `(x, y)` or `(x, y, weight)`, of
            which a tenth is held out.
        iterations: How often widths are adjusted.
        validation_data: What to measure on, in the forms of the `sample` of `keras_gcp.plan`.
            `train` then gets all of `data`, whatever that is.
        metric: What is measured, as in `keras_gcp.methods.utilization_ratios`.
        mode: As in `keras_gcp.sensitivity`.
        step: By which share of its *initial* width the first layer moves, in either direction.
        decay: By how much that share falls from one layer to the next.
        layers: How many layers get wider, and as many narrower, in the first iteration; half a
            layer less in each that follows. At most half of all.
        base_rate: As in `keras_gcp.methods.utilization_ratios`.
        repeats: As in `keras_gcp.methods.utilization_ratios`.
        train_rate: Rate of a `keras_gcp.gates.ChannelDropout` on all channels while `train` runs,
            so that the network bears what it is measured with; 0: none. `train` then gets a copy
            with gates of what `build` made, which it has to compile.
        align: As in `keras_gcp.Selection`: what widths are multiples of.
        least: The fewest channels of a layer.
        tolerance: By which share the multiply-adds may differ from those of the start.
        warm_start: Whether each network begins with the weights of the one before, cut where it is
            narrower, and extended where it is wider. False: with those it is built with.
        directory: Folder for the rounds and the trained models, written after each round. A search
            that was killed goes on there, one with other settings is refused. None: nothing is
            written.
        on_round: Called with the result so far after each round.
        seed: Seed for what is held out, and for the dropout that measures.
        batch_size: Examples per batch, to measure with.
        verbose: 0 = silent, 1 = a line per round.

    Returns:
        A `NetworkAdjustment`: printed, a table; `.widths` of the best round, `.best`, `.rounds`,
        `.to_dict()`. `NetworkAdjustment.load(directory)` reads it again.

    Raises:
        InvalidArgument: an argument is malformed, the widths do not stand for groups of channels,
            or the folder holds another search.
        UnsupportedModel: the model cannot be traced or counted, or not built to equal
            multiply-adds.
        ImpossibleBudget: `least` and `align` do not let the multiply-adds be kept.

    If `train` or anything else fails, a note on the error says what the search had found by then.

    Example:

    ```python
    found = keras_gcp.methods.network_adjustment(
        build, {"conv1": 16, "conv2": 32}, train, (x, y), iterations=5, directory="search"
    )
    print(found)
    model = build(found.widths)
    ```
    """
    search = _Search(
        build=_checked_callable("build", build, "build(widths) -> keras.Model"),
        train=_checked_callable("train", train, "train(model, data)"),
        metric=metric,
        mode=mode,
        step=_checked_share("step", step, least=0.0),
        decay=_checked_share("decay", decay, least=0.0),
        layers=require_integer("layers", layers, least=1),
        base_rate=require_base_rate(base_rate),
        repeats=require_integer("repeats", repeats, least=1),
        train_rate=_checked_share("train_rate", train_rate, least=0.0),
        align=checked_align(align),
        least=require_integer("least", least, least=1),
        tolerance=_checked_share("tolerance", tolerance, least=1e-6),
        warm_start=require_flag("warm_start", warm_start),
        seed=require_integer("seed", seed, least=0),
        batch_size=require_integer("batch_size", batch_size, least=1),
        verbose=require_verbose(verbose),
        folder=None if directory is None else Path(require_path("directory", directory)),
        on_round=None if on_round is None else _checked_callable("on_round", on_round, "f(result)"),
    )
    initial = _checked_widths(widths)
    iterations = require_integer("iterations", iterations, least=1)
    training, held_out = _divided(data, validation_data, seed)
    return search.run(initial, training, held_out, iterations)


@dataclass(frozen=True, eq=False)
class _Start:
    """Where a search begins: widths, the multiply-adds that stay, and which widths may follow."""

    widths: Mapping[str, int]
    macs: int
    grids: Sequence[WidthGrid]


@dataclass(frozen=True, eq=False)
class _Search:
    """The settings of a search, and what it does. See `network_adjustment`."""

    build: Build
    train: Train
    metric: Any
    mode: str
    step: float
    decay: float
    layers: int
    base_rate: float
    repeats: int
    train_rate: float
    align: Any
    least: int
    tolerance: float
    warm_start: bool
    seed: int
    batch_size: int
    verbose: int
    folder: Path | None
    on_round: Callable[[NetworkAdjustment], Any] | None

    def run(
        self, initial: Mapping[str, int], data: Any, held_out: Any, iterations: int
    ) -> NetworkAdjustment:
        """Trains, measures and adjusts."""
        network = built(self.build, initial, held_out, self.seed)
        _check_align(self.align, network)
        require_measurable(network.channels, list(network.groups.values()))
        start = _Start(network.widths, network.macs, network.grids(self.align, self.least))
        result = self._opened(network)
        if len(result.rounds) > 1:  # An earlier run has got so far.
            network = built(self.build, result.rounds[-1].widths, held_out, self.seed)
        trained = None
        try:
            for number in range(len(result.rounds), iterations + 1):
                if number:
                    before = result.rounds[-1]
                    network = self._next(network, before, number, start)
                    if self.warm_start:
                        self._begin(network, trained or self._loaded(before, network.examples))
                trained, judge = self._trained(network, data)
                result = result.with_round(self._measured(trained, judge, number))
                self._report(result)
        except BaseException as error:
            if result.rounds:
                error.add_note(f"Network Adjustment had found until then:\n{result}")
            raise
        return result

    # ---- one round

    def _begin(self, network: BuiltNetwork, trained: BuiltNetwork) -> None:
        begin_with(network.channels, network.groups, trained.channels, trained.groups)

    def _trained(self, network: BuiltNetwork, data: Any) -> tuple[BuiltNetwork, Any]:
        """The network, trained by the user's function; and the model that this compiled."""
        model = network.model
        if self.train_rate:
            model = gates.insert(model, gates.ChannelDropout(rate=self.train_rate, seed=self.seed))
        self.train(model, data)
        if not self.train_rate:
            return network, model
        plain = gates.remove(model)
        return network_of(plain, network.widths, network.examples, self.seed), model

    def _measured(self, trained: BuiltNetwork, judge: Any, number: int) -> AdjustmentRound:
        metric = metric_for(self.metric, judge, trained.examples, self.mode)
        measured = measured_ratios(
            trained.channels,
            list(trained.groups.values()),
            trained.examples,
            metric,
            self.base_rate,
            self.repeats,
            self.seed + number,
            self.batch_size,
            verbose=0,
        )
        file = None
        if self.folder is not None:
            file = f"round_{number}.keras"
            # A copy is not compiled, so it loads without the user's own losses and optimizers.
            copy_model(trained.model).save(self.folder / file)
        return AdjustmentRound(
            dict(trained.widths), trained.macs, trained.model.count_params(), measured, file
        )

    def _next(
        self, network: BuiltNetwork, before: AdjustmentRound, number: int, start: _Start
    ) -> BuiltNetwork:
        """The network of the adjusted widths, at the multiply-adds of the start."""
        wanted = moved(
            list(before.widths.values()),
            list(start.widths.values()),
            list(before.ratios.values()),
            max(round(self.layers - FEWER * (number - 1)), 0),
            self.step,
            self.decay,
        )
        # Before they are rescaled: what falls below the least width would be lost in the factor.
        wanted = np.maximum(wanted, [grid.lowest for grid in start.grids])
        macs_of, aims = network.macs_of(), Aims(start.macs)
        for _ in range(_CORRECTIONS):
            found = rescaled(wanted, start.grids, macs_of, aims.next, self.tolerance)
            widths = dict(zip(start.widths, found.tolist(), strict=True))
            candidate = built(self.build, widths, network.examples, self.seed)
            if abs(candidate.macs - start.macs) <= self.tolerance * start.macs:
                return candidate
            aims.missed(candidate.macs)  # Other layers have changed with those that are named.
        raise UnsupportedModel(
            f"`build` makes no network of about {start.macs:,} multiply-adds near the widths "
            f"{widths}: that one has {candidate.macs:,}. Expected other layers to keep their "
            "widths when those in `widths` change, or to follow them smoothly. Raise `tolerance`, "
            "or name the other layers in `widths`."
        )

    # ---- what is kept

    def _opened(self, network: BuiltNetwork) -> NetworkAdjustment:
        """What an earlier run of the same search has found; nothing if there is none."""
        settings = self._settings(network)
        if self.folder is None or not (self.folder / FILE).exists():
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            return NetworkAdjustment(settings, ())
        known = NetworkAdjustment.load(self.folder)
        differences = [
            f"{name}: {known.settings.get(name)!r} there, {settings.get(name)!r} here"
            for name in sorted(known.settings.keys() | settings.keys())
            if known.settings.get(name) != settings.get(name)
        ]
        if differences:
            raise InvalidArgument(
                f"The folder '{self.folder}' holds another search ({'; '.join(differences)}). "
                "Expected one with the same settings and data. Name another folder, or delete "
                "that one."
            )
        return known

    def _settings(self, network: BuiltNetwork) -> dict[str, str]:
        metric = self.metric
        named = metric if isinstance(metric, str) or metric is None else _name_of(metric)
        examples = network.examples
        return {
            "widths": ", ".join(f"{name}={width}" for name, width in network.widths.items()),
            "macs": str(network.macs),
            "held out": digest_of([examples.x, examples.y]),
            "metric": str(named),
            **{
                name: str(getattr(self, name))
                for name in (
                    *("mode", "step", "decay", "layers", "base_rate", "repeats", "train_rate"),
                    *("align", "least", "tolerance", "warm_start", "seed"),
                )
            },
        }

    def _loaded(self, known: AdjustmentRound, held_out: Any) -> BuiltNetwork:
        """The trained network of an earlier run."""
        assert self.folder is not None and known.file is not None
        model = keras.models.load_model(self.folder / known.file, compile=False)
        return network_of(model, known.widths, held_out, self.seed)

    def _report(self, result: NetworkAdjustment) -> None:
        if self.folder is not None:
            result.save(self.folder)
        if self.verbose:
            say(result.last_line())
        if self.on_round is not None:
            self.on_round(result)


# ---- arguments


def _divided(data: Any, validation_data: Any, seed: int) -> tuple[Any, Any]:
    """What to train with, and what to measure on."""
    if validation_data is not None:
        return data, validation_data
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise InvalidArgument(
            "`data` expects arrays `(x, y)` or `(x, y, weight)`, of which a tenth is held out to "
            "measure on; of anything else nothing can be. Pass `validation_data=(x_val, y_val)`. "
            f"Received: an object of type {type(data).__name__}."
        )
    arrays = to_arrays(tuple(data))
    count = len(keras.tree.flatten(arrays[0])[0])
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(HELD_OUT * count))

    def rows(part: Any, chosen: np.ndarray) -> Any:
        return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[chosen], part)

    training = tuple(rows(part, np.sort(order[held:])) for part in arrays)
    return training, tuple(rows(part, np.sort(order[:held])) for part in arrays)


def _checked_widths(widths: Any) -> dict[str, int]:
    if not isinstance(widths, Mapping) or len(widths) < 2:
        raise InvalidArgument(
            "`widths` expects a dict of two layers or more, such as {'conv1': 16, 'conv2': 32}: "
            f"what one gets, another one gives. Received: {widths!r}."
        )
    found = {}
    for name, width in widths.items():
        number = integer(width)
        if not isinstance(name, str) or number is None or number < 2:
            raise InvalidArgument(
                "`widths` expects names of layers as keys, and numbers of channels from 2 as "
                f"values. Received: {name!r}: {width!r}."
            )
        found[name] = number
    return found


def _checked_share(name: str, value: Any, least: float) -> float:
    found = between(value, least, 1.0)
    if found is None or found == 1:
        raise InvalidArgument(
            f"`{name}` expects a share of at least {least:g}, below 1. Received: {value!r}."
        )
    return found


def _checked_callable(name: str, value: Any, call: str) -> Any:
    if not callable(value):
        raise InvalidArgument(f"`{name}` expects a function `{call}`. Received: {value!r}.")
    return value


def _name_of(metric: Any) -> str:
    return str(getattr(metric, "__qualname__", getattr(metric, "name", type(metric).__name__)))


def _check_align(align: Any, network: BuiltNetwork) -> None:
    channels = network.channels
    anchored = {
        member.path: group.anchored
        for group in channels.groups
        if group.anchored is not None
        for member in group.members
    }
    check_layers("align", align, channels.produced, anchored)
