"""Whatever fails inside an event: the model is as before, and training goes on or stops."""

import errno
import warnings
from pkgutil import resolve_name

import keras
import networks
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning
from helpers import random_plan
from states import assert_same_state, state_of

import keras_gcp
from keras_gcp.channels.trace import trace, trace_as_planned
from keras_gcp.errors import InvalidArgument, VerificationFailed
from keras_gcp.keras_state import Transaction
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model

STAGES = {
    "trace": "keras_gcp.training.pruning_run.trace_at",
    "count": "keras_gcp.training.pruning_run.count_map",
    "loss": "keras_gcp.training.pruning_run.backend.sample_loss",
    "score": "keras_gcp.training.pruning_run.preferences",
    "select": "keras_gcp.training.pruning_run.choose",
    "masked model": "keras_gcp.surgery.cut.masked_outputs",
    "surgery": "keras_gcp.surgery.cut.narrow_model",
    "verify": "keras_gcp.surgery.cut.verify_narrow",
    "count again": "keras_gcp.pruning.stages.require_costs",
}


def exhausted():
    """What the framework raises when the device's memory is full."""
    if keras.config.backend() != "tensorflow":
        return MemoryError("no memory left on the device")
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "no memory left on the device")


ERRORS = {
    "exception": lambda: RuntimeError("made by the test"),
    "verification": lambda: VerificationFailed("made by the test"),
    "memory": lambda: MemoryError("made by the test"),
    "device memory": exhausted,
    "full disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
}


def training(callbacks, traced):
    """The losses of a training that is the same with each call, dropout included."""
    keras.utils.set_random_seed(3)
    model = compiled(networks.flatten_dense(), run_eagerly=not traced)
    return fit(model, callbacks, epochs=4).history["loss"]


@pytest.fixture(scope="module")
def undisturbed():
    """Losses of a training without any event, by whether its steps are traced."""
    return {traced: training([], traced) for traced in (False, True)}


class FailAtOnce:
    """Raises when called for the first time, then does what was there before."""

    def __init__(self, target, error, behind=False):
        self.target, self.error, self.behind, self.calls = target, error, behind, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls > 1:
            return self.target(*args, **kwargs)
        if self.behind:  # The harm is done, then comes the exception.
            self.target(*args, **kwargs)
        raise self.error


# Traced steps are looked at where most had been changed before the failure.
@pytest.mark.parametrize(
    ("stage", "traced"), [*((stage, False) for stage in sorted(STAGES)), ("count again", True)]
)
def test_a_skipped_event_leaves_the_training_bit_identical(stage, traced, undisturbed, monkeypatch):
    failing = FailAtOnce(resolve_name(STAGES[stage]), RuntimeError("made by the test"), behind=True)
    callback = pruning(criterion="feature_relevance", on_failure="skip")
    armed = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: monkeypatch.setattr(STAGES[stage], failing)
    )
    with pytest.warns(UserWarning) as caught:
        losses = training([callback, armed], traced)
    assert failing.calls >= 1
    assert losses == undisturbed[traced]
    assert [(s.epoch, s.step, s.error) for s in callback.skipped] == [
        (1, None, "RuntimeError: made by the test")
    ]
    messages = [str(warning.message) for warning in caught]
    assert any("event before epoch 1 failed and was skipped" in text for text in messages)
    assert any("budget is not met: channels" in text for text in messages)


# The fast tests have failures of one kind: what the framework raises itself.
KINDS = [
    pytest.param(on_failure, kind, marks=[] if kind == "device memory" else [pytest.mark.slow])
    for on_failure in ("raise", "skip")
    for kind in sorted(ERRORS)
]


@pytest.mark.parametrize(("on_failure", "kind"), KINDS)
def test_every_kind_of_failure_leaves_the_model_as_it_was(kind, on_failure, monkeypatch):
    error = ERRORS[kind]()
    failing = FailAtOnce(resolve_name(STAGES["verify"]), error, behind=True)
    monkeypatch.setattr(STAGES["verify"], failing)
    model = compiled(networks.plain(), keras.optimizers.Adam(1e-2))
    states = []

    class Before(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            states.append(state_of(self.model))

    callback = pruning(on_failure=on_failure)
    around = [Before(), callback, Before()]
    if on_failure == "raise":
        with pytest.raises(type(error)):
            fit(model, around)
        assert_same_state(state_of(model), states[2])
    else:
        with pytest.warns(UserWarning, match="failed and was skipped"):
            fit(model, around)
        assert_same_state(states[3], states[2])
    monkeypatch.undo()
    again = pruning()
    fit(model, [again], epochs=2)  # It trains and prunes on.
    assert again.plan.removed_channels


def test_the_event_after_a_skipped_one_makes_up_for_it(monkeypatch):
    monkeypatch.setattr(
        STAGES["verify"], FailAtOnce(resolve_name(STAGES["verify"]), ERRORS["verification"]())
    )
    model = compiled(networks.plain())
    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 2), on_failure="skip")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, [callback], epochs=4)
    assert [event.epoch for event in callback.events] == [2]
    assert keras_gcp.count(model).channels <= 0.5 * callback.plan.before.channels
    assert not [w for w in caught if "budget is not met" in str(w.message)]


def test_interrupting_an_event_by_hand_always_ends_the_training(monkeypatch):
    monkeypatch.setattr(
        STAGES["verify"],
        FailAtOnce(resolve_name(STAGES["verify"]), KeyboardInterrupt(), behind=True),
    )
    model = compiled(networks.plain())
    with pytest.raises(KeyboardInterrupt):
        fit(model, [pruning(on_failure="skip")])
    assert trace(model).widths() == trace(networks.plain()).widths()


@pytest.mark.parametrize(
    "build",
    [
        networks.sequential,
        pytest.param(networks.plain, marks=pytest.mark.slow),
        pytest.param(networks.nested, marks=pytest.mark.slow),
        pytest.param(networks.residual, marks=pytest.mark.slow),
        pytest.param(networks.squeeze_excite, marks=pytest.mark.slow),
    ],
)
def test_a_failure_at_any_single_change_of_surgery_is_taken_back(build, monkeypatch):
    model = compiled(build(), keras.optimizers.Adam(1e-2))
    fit(model, [], epochs=1)
    plan = random_plan(model)
    before = state_of(model)
    changes = ("set", "set_item", "replace_value")
    originals = {name: getattr(Transaction, name) for name in changes}
    done = 0

    def counted(name, behind):
        def change(self, *args):
            nonlocal done
            done += 1
            if done < limit:
                return originals[name](self, *args)
            if behind:
                originals[name](self, *args)
            raise MemoryError(f"change {done}")

        return change

    def narrow_until_it_fails(behind):
        for name in changes:
            monkeypatch.setattr(Transaction, name, counted(name, behind))
        channels = trace_as_planned(model)
        keep = keep_of(plan, channels)
        try:
            with Transaction() as transaction:
                narrow_model(channels, keep, transaction, [model.optimizer], in_fit=True)
                raise StopIteration
        except (MemoryError, StopIteration) as error:
            return isinstance(error, MemoryError)
        finally:
            monkeypatch.undo()

    limit = 0
    while True:
        limit += 1
        done = 0
        failed = narrow_until_it_fails(behind=limit % 2 == 0)
        assert_same_state(state_of(model), before)
        if not failed:
            break
    assert limit > 30  # So many single changes were tried.
    x, y = data()
    assert np.isfinite(model.train_on_batch(x, y)[0])


def test_running_out_of_memory_while_masking_gives_the_weights_back(monkeypatch):
    model = compiled(networks.residual())
    fit(model, [], epochs=1)
    before = state_of(model)

    def fail(*args):
        raise exhausted()

    monkeypatch.setattr("keras_gcp.surgery.verify.outputs_of", fail)
    with pytest.raises(type(exhausted())):
        keras_gcp.narrow(model, random_plan(model))
    assert_same_state(state_of(model), before)


def trained_weights(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_an_error_in_the_step_after_a_cut_comes_out_and_the_narrow_model_stays(unit):
    model = networks.plain()
    wide, cut = model.count_params(), []

    def loss(y, predicted):
        if cut:
            raise RuntimeError("made by the test")
        return keras.losses.sparse_categorical_crossentropy(y, predicted)

    def look(batch, logs):
        if model.count_params() < wide:
            keras_gcp.keras_state.put_state_back(model)
            cut.append(trained_weights(model))

    compiled(model, keras.optimizers.Adam(1e-2), loss=loss, run_eagerly=True)
    after = keras.callbacks.LambdaCallback(on_train_batch_begin=look)
    with pytest.raises(RuntimeError, match="made by the test"):
        fit(model, [pruning(schedule=keras_gcp.schedules.one_shot(1, unit=unit)), after])
    for now, then in zip(trained_weights(model), cut[-1], strict=True):
        np.testing.assert_array_equal(now, then)


def test_unknown_ways_to_fail_are_refused_at_once():
    with pytest.raises(InvalidArgument, match="`on_failure` expects one of 'raise', 'skip'"):
        pruning(on_failure="ignore")


def test_a_training_that_stops_before_its_last_event_says_so():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 3))
    with pytest.warns(UserWarning, match=r"budget is not met: channels .* 2 had not come"):
        fit(compiled(networks.plain()), [callback, Stop()], epochs=5)
