"""The callback inside a real `fit`: the same training goes on, only narrower."""

import csv
from dataclasses import dataclass

import keras
import networks
import numpy as np
import pytest
from fitting import (
    ONE_STEP,
    Watch,
    assert_trains_on_like_a_fresh_model,
    compiled,
    data,
    fit,
    pruning,
)
from helpers import flat_outputs, random_plan, randomise

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, VerificationFailed
from keras_gcp.keras_state import Transaction
from keras_gcp.selection.select import EVENNESS_OF_FRESH
from keras_gcp.surgery.narrow import narrow_model

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-2),
    "adamw": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3, momentum=0.5, centered=True),
    "amsgrad_ema": lambda: keras.optimizers.Adam(
        1e-2, amsgrad=True, use_ema=True, ema_overwrite_frequency=3
    ),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.8), momentum=0.9
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "adam",
        "sgd",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in sorted(OPTIMIZERS.keys() - {"adam", "sgd"})
        ),
    ],
)
def test_training_goes_on_bit_equal_to_a_fresh_narrow_model_with_the_same_weights_and_slots(name):
    # Traced and with shortcuts it takes seconds: so are those that are slow only.
    assert_trains_on_like_a_fresh_model(
        networks.plain() if name == "adam" else networks.residual(),
        lambda model: compiled(model, OPTIMIZERS[name](), run_eagerly=name == "sgd"),
    )


@dataclass(frozen=True)
class NoProgress:
    """A schedule whose event has nothing to remove."""

    def events(self):
        return {1: 0.0}


class NarrowNothing(keras.callbacks.Callback):
    """Goes through the whole surgery, and keeps every channel."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            channels = trace(self.model)
            keep = np.ones(channels.coupled_count, bool)
            with Transaction() as transaction:
                narrow_model(channels, keep, transaction, [self.model.optimizer], in_fit=True)


@pytest.mark.parametrize("event", ["callback", "surgery"])
def test_an_event_that_removes_nothing_leaves_the_training_bit_identical(event):
    callback = NarrowNothing()
    if event == "callback":
        callback = pruning(schedule=NoProgress(), criterion="feature_relevance")
    losses = []
    for callbacks in ([], [callback]):
        keras.utils.set_random_seed(1)
        # Dropout: random state must go on, too.
        model = compiled(networks.flatten_dense(), run_eagerly=event == "callback")
        losses.append(fit(model, callbacks).history["loss"])
    assert losses[0] == losses[1]
    if event == "callback":
        assert [event.removed_channels for event in callback.events] == [0]


@pytest.fixture(scope="module")
def trained():
    """(model, callback, history, weights by epoch) of one pruned training with two events."""
    keras.utils.set_random_seed(0)
    model = compiled(networks.plain(), keras.optimizers.Adam(1e-2), run_eagerly=False)
    callback = pruning(
        {"channels": 0.5}, keras_gcp.schedules.linear(1, 2), criterion="feature_relevance"
    )
    watch = Watch()
    history = fit(model, [callback, watch], epochs=4)
    return model, callback, history.history, watch


def test_the_budget_is_met_on_the_living_model(trained):
    model, callback, _, _ = trained
    assert keras_gcp.count(model).channels <= 0.5 * callback.plan.before.channels
    assert keras_gcp.count(model).macs == callback.plan.after.macs


def test_shares_are_of_the_original_model_at_every_event(trained):
    _, callback, _, _ = trained
    widths = [sum(w for p, w in e.widths.items() if p != "classifier") for e in callback.events]
    start = callback.plan.before.channels
    for event, width in zip(callback.events, widths, strict=True):
        assert width <= start * (1 - event.progress * 0.5)


def test_every_trainable_weight_still_moves_after_an_event(trained):
    *_, watch = trained
    for before, after in zip(watch.weights[2], watch.weights[3], strict=True):
        assert not np.array_equal(before, after)


def test_optimizer_variables_match_the_models(trained):
    model, *_ = trained
    optimizer = model.optimizer
    followed = {id(v) for v in optimizer._trainable_variables}
    assert followed == {id(v) for v in model.trainable_variables}
    for slots in (optimizer._momentums, optimizer._velocities):
        for slot, variable in zip(slots, model.trainable_variables, strict=True):
            assert tuple(slot.shape) == tuple(variable.shape)
    assert int(optimizer.iterations) == 4


def test_the_history_carries_what_is_left_of_the_costs_per_epoch(trained):
    _, callback, history, _ = trained
    before, after = callback.plan.before, callback.plan.after
    for resource in ("macs", "parameters", "channels"):
        left = history[f"{resource}_left"]
        assert left[0] == 1 and left[-1] == after[resource] / before[resource]
    assert callback.costs == after and callback.original_costs == before


def test_predict_evaluate_and_direct_calls_agree_after_training(trained):
    model, *_ = trained
    x, y = data(seed=2)
    direct = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(model.predict(x, verbose=0), direct, atol=1e-5)
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(
        -float(np.mean(np.log(direct[np.arange(len(y)), y]))),
        rel=1e-4,
    )


def test_the_saved_model_loads_without_keras_gcp_and_computes_the_same(
    trained, without_keras_gcp, tmp_path
):
    model, *_ = trained
    x, _ = data(seed=2)
    model.save(tmp_path / "narrow.keras")
    np.savez(tmp_path / "expected.npz", x=x, y=model.predict(x, verbose=0))
    printed = without_keras_gcp(
        "import keras, numpy as np\n"
        "model = keras.models.load_model('narrow.keras')\n"
        "data = np.load('expected.npz')\n"
        "y = keras.ops.convert_to_numpy(model(data['x'], training=False))\n"
        "print('difference', np.abs(y - data['y']).max())\n"
        "model.fit(data['x'], np.zeros(len(data['x'])), verbose=0)\n"
    )
    assert float(printed.split("difference")[1].split()[0]) < 1e-6


def test_the_saved_model_goes_on_training_with_its_optimizer(trained, tmp_path):
    model, *_ = trained
    model.save(tmp_path / "narrow.keras")
    loaded = keras.models.load_model(tmp_path / "narrow.keras")
    x, y = data()
    for one in (model, loaded):
        one.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "build",
    [
        networks.nested,
        networks.depthwise,
        pytest.param(networks.sequential, marks=pytest.mark.slow),
        pytest.param(networks.squeeze_excite, marks=pytest.mark.slow),
    ],
)
def test_other_networks_prune_within_fit_and_save(build, tmp_path):
    model = compiled(build())
    callback = pruning({"channels": 0.7}, keras_gcp.schedules.linear(1, 2))
    fit(model, [callback])
    assert len(callback.events) == 2 and callback.plan.removed_channels > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x, _ = data()
    (ours,), (theirs,) = flat_outputs(model, x), flat_outputs(loaded, x)
    np.testing.assert_array_equal(theirs, ours)


def test_the_cumulative_plan_gives_the_final_architecture_from_the_original():
    model = compiled(networks.concatenation())
    original = keras.models.clone_model(model)
    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 2), floor=2)
    fit(model, [callback])
    replayed = keras_gcp.apply(original, callback.plan)
    assert trace(replayed).widths() == trace(model).widths()
    assert [tuple(w.shape) for w in replayed.weights] == [tuple(w.shape) for w in model.weights]


def test_from_fresh_weights_no_layer_gets_much_narrower_than_if_all_were_cut_alike():
    def first_layer_leaves(model, channels, sample):
        widths = channels.widths()
        return {p: w * (1.0 + np.arange(widths[p])) for p, w in (("a_conv", 1e-3), ("b_conv", 1.0))}

    def in_fit(model, evenness="auto"):
        budget, schedule = {"channels": 0.7}, keras_gcp.schedules.one_shot(0)
        ways = {"floor": 2, "normalize": "none", "evenness": evenness}
        callback = pruning(budget, schedule, first_layer_leaves, **ways)
        fit(compiled(model), [callback], epochs=1)
        return callback.plan.widths()

    def by_plan(evenness):
        selection = {"align": 1, "floor": 2, "normalize": "none", "evenness": evenness}
        return keras_gcp.plan(
            networks.plain(), {"channels": 0.7}, first_layer_leaves, selection=selection
        ).widths()

    free = by_plan(0)
    assert in_fit(networks.plain()) == by_plan(EVENNESS_OF_FRESH) != free
    assert in_fit(networks.plain(), evenness=0) == free == by_plan("auto")
    assert in_fit(randomise(networks.plain())) == free


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("start", ["fresh", "trained", "with a new head"])
def test_by_default_a_trained_network_is_cut_at_once_and_what_has_to_learn_in_steps(
    start, guarded, capsys
):
    model = networks.plain() if start == "fresh" else randomise(networks.plain())
    if start == "with a new head":
        head = model.get_layer("classifier")
        head.set_weights([head.get_weights()[0], np.zeros(4)])
    guard = keras_gcp.AccuracyGuard(data(), max_drop=0.9) if guarded else None
    callback = keras_gcp.GradualChannelPruning(
        data(), {"channels": 0.6}, criterion="l2_norm", guard=guard, seed=0, verbose=1
    )
    fit(compiled(model), [callback], epochs=4)
    at_once = start == "trained" and not guarded
    told = "schedule: one cut, because all layers are trained" in capsys.readouterr().out
    assert told == at_once
    epochs = {0} if at_once else set(keras_gcp.schedules.default(4).events())
    assert callback.events and {event.epoch for event in callback.events} <= epochs


@pytest.mark.parametrize("name", ["plain", "depthwise"])
def test_if_scores_stay_several_events_end_where_one_cut_would_have_led(name):
    """What an earlier event takes does not come back: it only takes what the last one would."""
    model, selection = randomise(networks.ALL[name]()), {"align": 3, "floor": 1}
    at_once = keras_gcp.plan(model, {"macs": 0.5}, "bn_scale", selection=selection)
    schedule = keras_gcp.schedules.linear(0, 3, min_step=0)
    callback = pruning(
        {"macs": 0.5}, schedule, "bn_scale", compensation=None, normalize="mean", **selection
    )
    fit(compiled(model, keras.optimizers.SGD(0.0)), [callback], epochs=4)
    assert sum(event.removed_channels > 0 for event in callback.events) > 1
    assert callback.plan.widths() == at_once.widths()


def test_frozen_layers_stay_frozen_and_train_once_unfrozen():
    model = networks.plain()
    model.get_layer("a_conv").trainable = False
    compiled(model)
    callback = pruning(exclude=["b_conv"])
    watch = Watch()
    fit(model, [callback, watch])
    assert callback.plan.kept("a_conv").size < 8
    index = [v.path for v in model.weights].index(model.get_layer("a_conv").kernel.path)
    np.testing.assert_array_equal(watch.weights[1][index], watch.weights[2][index])
    assert not model.get_layer("a_conv").trainable

    model.get_layer("a_conv").trainable = True
    compiled(model)
    before = model.get_weights()[index]
    fit(model, [], epochs=1)
    after = keras.ops.convert_to_numpy(model.get_layer("a_conv").kernel)
    assert not np.array_equal(before, after)


def test_a_second_fit_trains_the_narrow_model():
    model = compiled(networks.plain())
    fit(model, [pruning()])
    before = [np.array(w) for w in model.get_weights()]
    fit(model, [], epochs=1)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_same_callback_in_a_second_fit_keeps_its_original():
    model = compiled(networks.plain())
    callback = pruning({"channels": 0.6}, keras_gcp.schedules.one_shot(1))
    fit(model, [callback])
    widths = trace(model).widths()
    fit(model, [callback])
    assert trace(model).widths() == widths


def test_submodels_made_before_follow_the_cut():
    model = compiled(networks.plain())
    features = keras.Model(model.inputs, model.get_layer("a_act").output)
    fit(model, [pruning(exclude=["b_conv"])])
    x, _ = data()
    assert features([x]).shape[-1] == model.get_layer("a_conv").filters < 8


def test_learning_rate_set_by_callbacks_survives_an_event():
    model = compiled(networks.plain())
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    fit(model, [rates, pruning()])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 3)


def test_csv_logger_behind_the_callback_writes_the_costs(tmp_path):
    model = compiled(networks.plain())
    fit(model, [pruning(), keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["macs_left"]) == 1 > float(rows[2]["macs_left"]) > 0


def best_is_first(**options):
    """With mode="max" and a falling loss the best epoch is the first one, before the cut."""
    return keras.callbacks.EarlyStopping("loss", mode="max", restore_best_weights=True, **options)


@pytest.mark.parametrize(
    ("first", "given"),
    [
        pytest.param(True, True, id="before-named"),
        pytest.param(False, False, id="behind-auto"),
        # Each half of these is in one of the above.
        pytest.param(True, False, id="before-auto", marks=pytest.mark.slow),
        pytest.param(False, True, id="behind-named", marks=pytest.mark.slow),
    ],
)
def test_early_stopping_restores_the_best_weights_since_the_last_cut(given, first):
    model = compiled(networks.plain())
    early = best_is_first(patience=1)
    callbacks = [early, pruning(**({"reset": [early]} if given else {}))]
    fit(model, callbacks if first else callbacks[::-1], epochs=4)
    assert early.best_epoch >= 1


def test_a_checkpoint_of_the_best_model_is_that_of_the_narrow_one(tmp_path):
    model = compiled(networks.plain())
    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, "loss", mode="max", save_best_only=True)
    fit(model, [best, pruning()])
    assert keras.models.load_model(path).count_params() == model.count_params()


def test_other_callbacks_and_other_fits_are_left_alone():
    other = best_is_first(patience=9)
    fit(compiled(networks.plain()), [other], epochs=1)
    best = other.best
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=9)
    fit(compiled(networks.plain()), [plateau, pruning()])
    assert other.best == best is not None
    assert plateau.best is not None


def test_a_list_that_lacks_early_stopping_is_refused_before_training():
    model = compiled(networks.plain())
    before = model.count_params()
    with pytest.raises(
        InvalidArgument, match=r"EarlyStopping\(restore_best_weights=True\).*`reset`"
    ):
        fit(model, [best_is_first(), pruning(reset=[])])
    assert model.count_params() == before


def test_layers_unfrozen_without_compiling_again_are_refused():
    model = networks.plain()
    layer = next(layer for layer in model.layers if layer.weights)
    layer.trainable = False
    compiled(model)
    fit(model, [], epochs=1)
    layer.trainable = True
    with pytest.raises(InvalidArgument, match=r"does not know.*model\.compile"):
        fit(model, [pruning()])
    compiled(model)
    callback = pruning()
    fit(model, [callback])
    assert callback.events[0].removed_channels


@pytest.mark.parametrize("frozen", ["residual", "squeeze_excite"])
def test_frozen_layers_are_cut_but_do_not_learn(frozen):
    model = getattr(networks, frozen)()
    layer = next(one for one in model.layers if isinstance(one, keras.layers.Conv2D))
    layer.trainable = False
    compiled(model)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    callback = pruning({"channels": 0.4}, floor=2)
    fit(model, [callback])
    kept = callback.plan.kept(layer.name)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.kernel), kernel[..., kept])
    assert len(kept) < kernel.shape[-1]


def test_an_exception_inside_an_event_leaves_model_and_optimizer_as_they_were(monkeypatch):
    model = compiled(networks.residual(), keras.optimizers.Adam(1e-2))
    watch = Watch()
    callback = pruning()

    def fail(*arguments):
        raise VerificationFailed("made by the test")

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    with pytest.raises(VerificationFailed):
        fit(model, [watch, callback])
    for now, then in zip(model.get_weights(), watch.weights[0], strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(model.optimizer.variables, watch.slots[0], strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(now), then)
    assert model.get_layer("b1a_conv").filters == 8
    assert model.get_layer("b1a_act").output.shape[-1] == 8
    monkeypatch.undo()
    fit(model, [pruning()], epochs=2)  # It trains and prunes on.


def test_a_custom_criterion_decides_what_goes():
    def last_ones_matter(model, channels, sample):
        return {path: np.arange(1.0, len(c) + 1) for path, c in channels.produced.items()}

    model = compiled(networks.plain())
    callback = pruning(criterion=last_ones_matter)
    fit(model, [callback])
    for path in ("a_conv", "b_conv"):
        kept, width = callback.plan.kept(path), callback.plan.original_widths()[path]
        np.testing.assert_array_equal(kept, np.arange(width - len(kept), width))


def test_layers_may_get_down_to_one_channel_over_several_events(single_channels):
    model = compiled(networks.depthwise())
    budget, schedule = {"channels": keras_gcp.absolute(4)}, keras_gcp.schedules.linear(1, 3)
    callback = pruning(budget, schedule, floor=1)
    fit(model, [callback], epochs=4)
    assert 1 in trace(model).widths().values()
    assert callback.plan.after.channels == keras_gcp.count(model).channels == 4


def test_channels_every_removes_its_number_at_every_event():
    model = compiled(networks.plain())
    callback = keras_gcp.GradualChannelPruning(
        data(),
        schedule=keras_gcp.schedules.channels_every(1, 3, 2),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    fit(model, [callback], epochs=4)
    assert [event.removed_channels for event in callback.events] == [3, 3]


@pytest.mark.parametrize("how", ["fit is silent", "logging is not interactive", "verbose=0"])
def test_nothing_is_printed_where_keras_prints_nothing(how, capsys, caplog):
    silent, to_log = how == "fit is silent", how == "logging is not interactive"
    callback = pruning(verbose=0 if how == "verbose=0" else "auto")
    if to_log:
        caplog.set_level("INFO", logger="keras_gcp")
        keras.config.disable_interactive_logging()
    try:
        model = compiled(networks.plain(), run_eagerly=True)
        fit(model, [callback], 2, ONE_STEP, verbose=0 if silent else 2)
    finally:
        keras.config.enable_interactive_logging()
    assert callback.events and "channels removed" not in capsys.readouterr().out
    assert any("channels removed" in record.message for record in caplog.records) == to_log


def test_it_prints_where_fit_does(capsys):
    fit(
        compiled(networks.plain(), run_eagerly=True),
        [pruning(verbose="auto")],
        2,
        ONE_STEP,
        verbose=2,
    )
    assert "channels removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"steps_per_execution": 2},
            marks=pytest.mark.not_on("torch", "Keras takes one step per execution there"),
        ),
        pytest.param(
            {"jit_compile": True},
            marks=pytest.mark.not_on("torch", "compiling again after a cut takes minutes there"),
        ),
    ],
    ids=lambda options: next(iter(options)),
)
def test_step_options_of_compile_survive(options):
    model = compiled(networks.sequential(), **options)
    fit(model, [pruning()])
    assert keras_gcp.count(model).channels <= 0.6 * 16


@pytest.mark.not_on("torch", "nothing is compiled, so a step after a cut takes no longer")
def test_retracing_is_measured():
    callback = pruning()
    fit(compiled(networks.plain(), run_eagerly=False), [callback])
    assert [event.seconds["retrace"] > 0 for event in callback.events] == [True]


def test_random_plan_helper_agrees_with_the_public_narrow():
    model = compiled(networks.plain())
    plan = random_plan(model)
    keras_gcp.narrow(model, plan)
    assert trace(model).widths() == plan.widths()
