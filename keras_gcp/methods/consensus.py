"""Consensus: gates that look at the input, pushed to agree on one network for all inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.counting import build_cost_model, require_known_positions
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, UnsupportedModel
from keras_gcp.gates.blocks import channels_inside, gated_blocks
from keras_gcp.gates.consensus import ConsensusGate
from keras_gcp.gates.expected_costs import ExpectedMacs, ExpectedWidths, mean_open
from keras_gcp.gates.floors import with_floors
from keras_gcp.gates.gate import gated_channels, gates_of
from keras_gcp.graph import Shapes
from keras_gcp.keras_state import Transaction
from keras_gcp.pruning.stages import comparison_inputs, cut_and_recount
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import keep_of, plan_of
from keras_gcp.surgery.cut import Cut
from keras_gcp.training.changed_loss import (
    check_loss_is_free,
    check_loss_is_kept,
    check_tells_training,
)
from keras_gcp.training.fit_checks import check_known_to_optimizer
from keras_gcp.training.messages import say, verbosity
from keras_gcp.training.other_callbacks import register_pruner, reset_memory
from keras_gcp.training.pruner_checks import check_pruner
from keras_gcp.training.settings import checked_verbose
from keras_gcp.validation import between, require_from_0

_NAME = "ConsensusPruning"

CHANNELS, MACS = "channels", "macs"

UNDECIDED = (0.05, 0.95)
"""A gate whose share of open inputs lies between has not decided."""


Opened = Callable[[Sequence[ConsensusGate], Sequence[Any]], Any]
"""Takes gates and how often their channels are open; gives the share of the network that is."""


@dataclass(frozen=True)
class GateState:
    """Gates at the end of an epoch.

    Attributes:
        epoch: The epoch.
        target: Which share was to be open.
        polarization: How strongly they were polarised.
        open: Mean share of inputs for which they were open.
        undecided: Share of gates that were open for more than 5 and less than 95 % of the inputs.
    """

    epoch: int
    target: float
    polarization: float
    open: float
    undecided: float


class ConsensusPruning(keras.callbacks.Callback):
    """Trains a network with its `ConsensusGate`s to a budget, then keeps what they agree on.

    Adds to the loss of a `fit`, with p_k the share of a batch for which gate k is open:

    - `activation * (mean of p_k - target)^2`, which closes gates until the target is met. In the
      first half of the epochs before `ramp`, the target comes down from 1 in equal steps: asked for
      at once, it closes whole layers before the network can tell which channels it needs;
    - `polarization * mean of p_k (1 - p_k)`, which is 0 only if each gate decides alike for all
      inputs. It grows from 0 to its full strength over the epochs of `ramp`, after the first part
      has acted: from the beginning it would freeze all gates open.

    Then gates are frozen, channels whose gate was open for at most half of the inputs are cut out
    of the model in place, as an event of `GradualChannelPruning` does it, and the same `fit` trains
    what is left. Inside a residual branch whose gate is closed, one channel of each group stays.
    `keras_gcp.gates.remove(model)` afterwards takes the gates away, and closed branches with them.

    Zhi et al., 2023 (arXiv 2302.10798); the forms of the gates and of the first part, and the ramp,
    are ours (docs/methods/consensus.md).

    Args:
        target: How much is to stay open, in (0, 1).
        ramp: From when to when polarization grows, as shares of the epochs of the `fit`; the
            target comes down in the first half of the time before.
        of: What the target is a share of: `"channels"` (gates), or `"macs"`: then the mean of p_k
            is replaced by the multiply-adds of a network with the widths that groups have on
            average, as a share of all.
        activation: Strength of the first part.
        polarization: Full strength of the second.
        freeze: When gates are frozen and channels cut, as a share of the epochs, after the ramp; 1:
            when the fit ends.
        verbose: `"auto"`: silent if `fit` is (`verbose=0`), else a line at the cut. 0 = silent; 2
            says no more than 1.

    Attributes:
        plan: What was cut, as a `Plan` for the gated model; None before.
        states: The gates at the end of each epoch, as `GateState` objects.

    The logs carry `gates_open` and `gates_undecided` until gates are frozen.

    Raises:
        InvalidArgument: an argument is out of its range, or another callback of the same `fit`
            changes the loss, too.
        ImpossibleBudget: more than the target stays open, whatever gates say.
        UnsupportedModel: the model has no `ConsensusGate`, or cannot be pruned.

    Example:

    ```python
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ConsensusGate())
    gated.compile("adam", "sparse_categorical_crossentropy")
    gated.fit(x, y, epochs=40, callbacks=[keras_gcp.methods.ConsensusPruning(target=0.5)])
    narrow = keras_gcp.gates.remove(gated)
    ```
    """

    def __init__(
        self,
        target: float = 0.5,
        ramp: Sequence[float] = (0.25, 0.6),
        *,
        of: str = CHANNELS,
        activation: float = 10.0,
        polarization: float = 1.0,
        freeze: float = 0.75,
        verbose: int | str = "auto",
    ) -> None:
        super().__init__()
        share = between(target, 0.0, 1.0)
        if not share or share == 1:
            raise InvalidArgument(
                f"`target` of ConsensusPruning expects a share in (0, 1). Received: {target!r}."
            )
        if of not in (CHANNELS, MACS):
            raise InvalidArgument(
                f"`of` of ConsensusPruning expects 'channels' or 'macs'. Received: {of!r}."
            )
        self.target, self.of = share, of
        self.ramp, self.freeze = _checked_times(ramp, freeze)
        self.activation = require_from_0("activation", activation, _NAME)
        self.polarization = require_from_0("polarization", polarization, _NAME)
        self._verbose = checked_verbose(verbose)
        self.plan: Plan | None = None
        self.states: tuple[GateState, ...] = ()
        self._gates: tuple[ConsensusGate, ...] = ()
        self._opened: Opened = _mean
        self._frozen = False

    # ---- Keras' hooks

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        register_pruner(model, self)

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        self._to_reset = check_pruner(self)
        self._gates = tuple(one for one in gates_of(model) if isinstance(one, ConsensusGate))
        self._check()
        self._shapes: Shapes | None = sizes_of(model, None)
        channels = trace_at(self._shapes, model, (), True)
        self._opened = self._what_is_open(channels)
        self.plan, self.states, self._frozen = None, (), False
        for gate in self._gates:
            gate.frozen = False
            gate.listen()
        keras_state.set_training_loss(model, self._loss)
        self._installed = model.compute_loss

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._frozen:
            return
        epochs = self.params.get("epochs") or 1
        if epoch >= round(self.freeze * epochs):
            self._freeze()
            return
        first, last = (share * epochs for share in self.ramp)
        closed = min((epoch + 1) / max(first / 2, 1), 1.0)
        grown = min(max((epoch + 1 - first) / max(last - first, 1), 0.0), 1.0)
        keras_state.put_state_back(self.model)
        for gate in self._gates:
            gate.target.assign(1 - (1 - self.target) * closed)
            gate.polarization.assign(self.polarization * grown)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._frozen:
            return
        check_loss_is_kept(self.model, self._installed, _NAME)
        keras_state.put_state_back(self.model)
        gate = self._gates[0]
        target, strength = (
            float(ops.convert_to_numpy(one)) for one in (gate.target, gate.polarization)
        )
        state = GateState(epoch, target, strength, mean_open(self._gates), self._undecided())
        self.states = (*self.states, state)
        if logs is not None:
            logs.update({"gates_open": state.open, "gates_undecided": state.undecided})

    def on_train_end(self, logs: Any = None) -> None:
        if not self._frozen:
            self._freeze(in_fit=False)
        backend.forget_gradients(self.model.train_function)

    # ---- steps

    def _check(self) -> None:
        model = self.model
        if not self._gates:
            raise UnsupportedModel(
                f"Model '{model.name}' has no ConsensusGate, so ConsensusPruning has nothing to "
                "train. Expected `keras_gcp.gates.insert(model, keras_gcp.gates.ConsensusGate())`."
            )
        if self.of == MACS and any(gate.whole for gate in self._gates):
            raise InvalidArgument(
                "`of='macs'` of ConsensusPruning counts widths, and gate "
                f"'{next(g.name for g in self._gates if g.whole)}' is one of a whole residual "
                "branch. Expected `of='channels'`, or gates on channels."
            )
        check_loss_is_free(model, _NAME)
        check_tells_training(model, _NAME)

    def _what_is_open(self, channels: ChannelMap) -> Opened:
        """What is held against the target."""
        if any(gate.whole for gate in self._gates):
            return _mean
        if self.of == MACS:
            require_known_positions(channels)
            macs = ExpectedMacs.of(channels)
            opened, least = macs.share, macs.least_share
        else:
            widths = ExpectedWidths.of(channels)
            opened, least = widths.open, widths.least_open
        if least > self.target:
            raise ImpossibleBudget(
                f"`target` of ConsensusPruning cannot be reached: {self.target:.1%} of the "
                f"{self.of} of model '{self.model.name}' are to stay open, and {least:.1%} stay "
                "whatever gates say, since layers keep at least one channel, and some need more "
                f"(`print(keras_gcp.trace(model))`). Expected a target from {least:.3f} on."
            )
        return opened

    def _loss(self, loss: Any, penalties: list[Any], x: Any, y_pred: Any, weights: Any) -> Any:
        shares = [_open_share(gate) for gate in self._gates]
        every = ops.concatenate(shares)
        opened = self._opened(self._gates, shares)
        gate = self._gates[0]
        target, strength = (ops.cast(one, "float32") for one in (gate.target, gate.polarization))
        added = self.activation * ops.square(opened - target)
        added = added + strength * ops.mean(every * (1 - every))
        return loss + ops.cast(added, loss.dtype)

    def _undecided(self) -> float:
        values = np.concatenate([ops.convert_to_numpy(gate.values()) for gate in self._gates])
        return float(((values > UNDECIDED[0]) & (values < UNDECIDED[1])).mean())

    def _freeze(self, in_fit: bool = True) -> None:
        """Freezes the gates, cuts out what is closed, and gives the model its own loss back."""
        model = self.model
        keras_state.put_state_back(model)
        check_known_to_optimizer(model)
        channels = trace_at(self._shapes, model, (), True)
        self._cut(channels, self._decided(channels), in_fit)
        for gate in self._gates:
            gate.listen(False)
        keras_state.take_back_training_loss(model)
        if in_fit:
            model.make_train_function(force=True)
        self._frozen = True
        reset_memory(self._to_reset)
        if self._verbosity and self.plan is not None:
            before, after = self.plan.before, self.plan.after
            say(
                f"consensus: gates are frozen, {before.channels:,} -> {after.channels:,} channels, "
                f"{before.parameters:,} -> {after.parameters:,} parameters"
            )

    def _decided(self, channels: ChannelMap) -> np.ndarray:
        """Which channels stay, `(coupled_count,)`."""
        keep, values = np.ones(channels.coupled_count, bool), np.ones(channels.coupled_count)
        for gate, ids in _gated(channels):
            keep[ids], values[ids] = gate.hard(), ops.convert_to_numpy(gate.values())
        for block, call in gated_blocks(channels):
            if not call.operation.hard().any():
                keep[channels_inside(channels, block)] = False
        return with_floors(channels, keep, values)

    def _cut(self, channels: ChannelMap, keep: np.ndarray, in_fit: bool) -> None:
        model = self.model
        plan = plan_of(
            channels, keep, build_cost_model(channels), f"{self.target:.0%} of {self.of}"
        )
        plan = replace(plan, criterion="consensus of gates")
        backend.assert_equal(model, "their plans", plan.digest())

        def run() -> None:
            self._decide(channels, keep, transaction)
            if plan.removed_channels:
                cut_and_recount(
                    Cut(channels, keep_of(plan, channels), {}),
                    plan.after,
                    transaction,
                    inputs=comparison_inputs(model, None, self._shapes),
                    in_fit=in_fit,
                    shapes=self._shapes,
                )

        with Transaction() as transaction:
            backend.run_everywhere(model, run)
        self.plan = plan

    def _decide(self, channels: ChannelMap, keep: np.ndarray, transaction: Transaction) -> None:
        """Freezes gates at what stays: floors may have opened some."""
        stays = {id(gate): keep[ids] for gate, ids in _gated(channels)}
        for gate in self._gates:
            before = ops.convert_to_numpy(gate.open_share)
            transaction.on_rollback(partial(_set, gate, gate.frozen, before))
            _set(gate, True, stays.get(id(gate), gate.hard()).astype(np.float32))

    @property
    def _verbosity(self) -> int:
        return verbosity(self._verbose, self.params)


def _mean(gates: Sequence[ConsensusGate], shares: Sequence[Any]) -> Any:
    return ops.mean(ops.concatenate(list(shares)))


def _set(gate: ConsensusGate, frozen: bool, shares: np.ndarray) -> None:
    gate.frozen = frozen
    gate.open_share.assign(shares)


def _gated(channels: ChannelMap) -> list[tuple[ConsensusGate, np.ndarray]]:
    return [
        (call.operation, gated_channels(channels, call))
        for call in channels.graph.calls
        if isinstance(call.operation, ConsensusGate) and not call.operation.whole
    ]


def _open_share(gate: ConsensusGate) -> Any:
    """`(units,)`: for which share of the batch, and of the places it stands at, it was open."""
    heard = gate.heard()
    return ops.cast(sum(ops.mean(one, axis=0) for one in heard) / len(heard), "float32")


def _checked_times(ramp: Any, freeze: Any) -> tuple[tuple[float, float], float]:
    pair = list(ramp) if isinstance(ramp, Sequence) and not isinstance(ramp, str) else []
    times = [between(one, 0.0, 1.0) for one in (*pair, freeze)]
    known = [one for one in times if one is not None]
    if len(known) != 3 or len(times) != 3 or known != sorted(known) or known[2] == 0:
        raise InvalidArgument(
            "`ramp` and `freeze` of ConsensusPruning expect shares of the epochs in order, such as "
            f"ramp=(0.25, 0.6), freeze=0.75. Received: ramp={ramp!r}, freeze={freeze!r}."
        )
    return (known[0], known[1]), known[2]
