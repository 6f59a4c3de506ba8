"""The stages outside fit, through the public names: plan, apply, prune, narrow."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import (
    WithFactors,
    flat_outputs,
    inputs_for,
    masked_by_hand,
    one_line,
    plan_with_more,
    random_plan,
    randomise,
)
from keras import layers, ops

import keras_gcp
from keras_gcp.errors import (
    ImpossibleBudget,
    InvalidArgument,
    UnsupportedModel,
    VerificationFailed,
)
from keras_gcp.pruning import one_shot
from keras_gcp.surgery import cut as surgery

NAMES = ["plain", "residual", "concatenation", "depthwise", "flatten_dense", "nested", "grouped"]


def costs(model):
    counted = keras_gcp.count(model)
    return {resource: getattr(counted, resource) for resource in ("macs", "parameters", "channels")}


def arrays(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def assert_equal_arrays(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- budgets


BUDGETS = [
    {"macs": 0.6},
    {"parameters": 0.6},
    {"channels": 0.6},
    {"macs": 0.7, "parameters": 0.6, "channels": 0.8},
]


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        pytest.param(
            name,
            budget,
            id=f"{'+'.join(budget)}-{name}",
            # Fast: all of them for every network, one of them alone for each in turn.
            marks=[] if len(budget) > 1 or number % 3 == turn else [pytest.mark.slow],
        )
        for number, name in enumerate(NAMES)
        for turn, budget in enumerate(BUDGETS)
    ],
)
def test_shares_of_the_original_are_met_by_the_narrow_model(name, budget):
    model = randomise(networks.ALL[name]())
    before = costs(model)
    plan = keras_gcp.plan(model, budget)
    after = costs(keras_gcp.apply(model, plan))
    for resource, share in budget.items():
        assert after[resource] <= share * before[resource]
    assert before == dict(plan.before)
    assert after == dict(plan.after)


@pytest.mark.parametrize("resource", ["macs", "parameters", "channels"])
def test_absolute_counts_are_met_by_the_narrow_model(resource):
    model = networks.residual()
    limit = 0.55 * costs(model)[resource]
    narrow = keras_gcp.prune(model, {resource: keras_gcp.absolute(limit)})
    assert costs(narrow)[resource] <= limit


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        *(("macs", name) for name in ("plain", "residual", "concatenation", "depthwise")),
        ("parameters", "residual"),
        *(
            pytest.param("parameters", name, marks=pytest.mark.slow)
            for name in ("plain", "concatenation", "depthwise")
        ),
    ],
)
def test_no_removed_channel_could_have_stayed(name, resource):
    model = randomise(networks.ALL[name]())
    limit = 0.6 * costs(model)[resource]
    plan = keras_gcp.plan(model, {resource: 0.6}, selection={"align": 1})
    tried = 0
    for group in plan.groups:
        keep = plan.layers[group.members[0].path][list(group.positions)]
        if not keep.all():
            more = keras_gcp.apply(model, plan_with_more(plan, model, group, 1))
            assert costs(more)[resource] > limit, group.name
            tried += 1
    assert tried


def test_no_removed_aligned_block_could_have_stayed():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(24, 3, padding="same", name="b")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, name="classifier")(x))
    plan = keras_gcp.plan(model, {"macs": 0.4}, selection={"align": 8})
    limit = 0.4 * costs(model)["macs"]
    assert [plan.widths()[name] % 8 for name in ("a", "b")] == [0, 0]
    for group in plan.groups:
        if group.anchored is None and len(plan.kept(group.name)) < len(group.positions):
            more = keras_gcp.apply(model, plan_with_more(plan, model, group, 8))
            assert costs(more)["macs"] > limit


def test_a_budget_that_is_already_met_is_refused_with_the_figures():
    model = networks.plain()
    have = costs(model)["macs"]
    with pytest.raises(InvalidArgument, match="already met") as error:
        keras_gcp.plan(model, {"macs": keras_gcp.absolute(have)})
    assert f"{have:,} macs" in str(error.value)


def test_an_impossible_budget_says_how_far_one_can_get():
    model = networks.plain()
    have = costs(model)["macs"]
    with pytest.raises(ImpossibleBudget, match="cannot be reached") as error:
        keras_gcp.prune(model, {"macs": 0.001})
    assert f"asked for {0.001 * have:,.0f}, can go from {have:,} down to" in str(error.value)


@pytest.mark.parametrize("share", [0, 1, 50, -0.5, "half"])
def test_senseless_budgets_are_refused_with_the_value(share):
    with pytest.raises(InvalidArgument, match="between 0 and 1") as error:
        keras_gcp.plan(networks.plain(), {"macs": share})
    assert repr(share) in str(error.value)


# ---- options


@pytest.mark.parametrize("floor, least", [(5, 5), (0.5, 0.5)])
def test_no_layer_gets_narrower_than_the_floor(floor, least):
    model = randomise(networks.plain())
    plan = keras_gcp.plan(model, {"channels": 0.7}, selection={"align": 1, "floor": floor})
    for path, width in plan.widths().items():
        original = plan.original_widths()[path]
        smallest = least if isinstance(least, int) else least * original
        assert width >= min(original, smallest)
    with pytest.raises(ImpossibleBudget):
        keras_gcp.plan(model, {"channels": 0.3}, selection={"align": 1, "floor": floor})


@pytest.mark.parametrize("align", [2, 4])
def test_cut_layers_get_aligned_widths(align):
    plan = keras_gcp.plan(randomise(networks.residual()), {"macs": 0.5}, selection={"align": align})
    cut = [width for path, width in plan.widths().items() if width < plan.original_widths()[path]]
    assert cut and all(width % align == 0 for width in cut)


def test_automatic_alignment_is_to_eight_from_sixteen_channels_on():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(40, 3, name="wide")(inputs)
    x = layers.Conv2D(15, 3, name="slim")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = randomise(keras.Model(inputs, layers.Dense(3, name="classifier")(x)))
    for share in (0.3, 0.5, 0.7):
        widths = keras_gcp.plan(model, {"macs": share}).widths()
        assert widths["wide"] % 8 == 0


def test_excluded_layers_and_all_tied_to_them_stay():
    model = randomise(networks.residual())
    plan = keras_gcp.plan(model, {"macs": 0.7}, exclude=["b1b_conv"])
    assert plan.widths()["b1b_conv"] == plan.widths()["stem_conv"] == 8
    assert plan.removed_channels > 0
    assert "is in `exclude`" in one_line(plan.explain())
    # A plan made with `exclude` is one for the model as it is.
    assert keras_gcp.apply(model, plan).get_layer("stem_conv").filters == 8


def test_unknown_layers_in_exclude_are_refused():
    with pytest.raises(InvalidArgument, match="'stem_cnv', which the model does not have"):
        keras_gcp.plan(networks.residual(), {"macs": 0.5}, exclude=["stem_cnv"])


def test_unknown_criteria_are_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="'best'.*'l2_norm'"):
        keras_gcp.plan(networks.plain(), {"macs": 0.5}, criterion="best")


@pytest.mark.parametrize(
    "option", [{"align": 0}, {"align": "8"}, {"floor": 0}, {"floor": 1.5}, {"floor": True}]
)
def test_senseless_options_are_refused_with_the_value(option):
    ((name, value),) = option.items()
    with pytest.raises(InvalidArgument, match=f"`{name}`") as error:
        keras_gcp.plan(networks.plain(), {"macs": 0.5}, selection=option)
    assert repr(value) in str(error.value)


def test_equal_seeds_give_equal_plans_and_others_do_not():
    model = randomise(networks.residual())

    def drawn(seed):
        return keras_gcp.plan(model, {"macs": 0.5}, criterion="random", seed=seed).to_json()

    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(4)}) > 1


def test_own_criteria_decide_what_stays():
    model = networks.plain()

    def later_is_better(model, channels, sample):
        return {path: np.arange(len(c), dtype=float) for path, c in channels.produced.items()}

    plan = keras_gcp.plan(
        model, {"channels": 0.5}, criterion=later_is_better, selection={"align": 1}
    )
    for path, width in plan.widths().items():
        original = plan.original_widths()[path]
        assert plan.kept(path).tolist() == list(range(original - width, original))


def test_planning_changes_nothing_and_apply_leaves_the_original_as_it_was():
    model = randomise(networks.depthwise())
    model.compile("adam", "sparse_categorical_crossentropy")
    inputs = inputs_for(model)
    before = arrays(model.variables), model.to_json(), flat_outputs(model, inputs)
    narrow = keras_gcp.prune(model, {"macs": 0.5})
    assert_equal_arrays(arrays(model.variables), before[0])
    assert model.to_json() == before[1]
    assert_equal_arrays(flat_outputs(model, inputs), before[2])
    mine = {id(v) for v in model.variables}
    assert not any(id(v) in mine for v in narrow.variables)
    assert model.compiled and getattr(narrow, "optimizer", None) is not model.optimizer


def test_an_adapted_normalization_is_copied_with_what_it_has_adapted_to():
    """Its constants are computed from its weights when it adapts, not when it is called."""
    normalization = keras.layers.Normalization(name="normalise")
    normalization.adapt(np.random.default_rng(0).normal(5.0, 3.0, (64, 8, 8, 3)))
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(normalization(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="classifier")(x))
    plan = random_plan(model)
    narrow = keras_gcp.apply(model, plan)
    x = inputs_for(model)
    np.testing.assert_allclose(
        flat_outputs(narrow, x)[0], masked_by_hand(model, plan, x)[0], rtol=1e-4, atol=1e-5
    )


def test_a_copy_that_computes_something_else_is_noticed(monkeypatch):
    def wrong(model):
        copy = copied(model)
        copy.set_weights([w * 1.01 for w in copy.get_weights()])
        return copy

    copied = one_shot.copy_model
    monkeypatch.setattr(one_shot, "copy_model", wrong)
    with pytest.raises(VerificationFailed):
        keras_gcp.prune(randomise(networks.plain()), {"macs": 0.5}, selection={"align": 1})


@pytest.mark.parametrize("compensation", [None, "least_squares"])
def test_prune_is_plan_then_apply(compensation):
    model = randomise(networks.residual())
    arguments = {"criterion": "l1_norm", "selection": {"align": 2}}
    pruned = keras_gcp.prune(model, {"macs": 0.5}, **arguments, compensation=compensation)
    plan = keras_gcp.plan(model, {"macs": 0.5}, **arguments)
    applied = keras_gcp.apply(model, plan, compensation=compensation)
    assert_equal_arrays(pruned.get_weights(), applied.get_weights())


# ---- narrow: in place, in custom training loops


def two_layers():
    inputs = keras.Input((5,))
    x = layers.Dense(8, activation="tanh", name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="out")(x))


def steps(model, optimizer, count=3, seed=0):
    """A few optimizer steps with given gradients, as a custom loop would make them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        gradients = [
            ops.convert_to_tensor(rng.normal(size=tuple(v.shape)).astype("float32"))
            for v in model.trainable_variables
        ]
        optimizer.apply(gradients, model.trainable_variables)


def slot_arrays(optimizer):
    """Slot name and variable to value, for all that is not a scalar."""
    return {v.path: ops.convert_to_numpy(v).copy() for v in optimizer.variables if len(v.shape)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.AdamW(0.01, amsgrad=True),
        lambda: keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True),
        lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    ],
    ids=["adam", "amsgrad", "momentum-ema", "rmsprop"],
)
def test_optimizer_slots_are_cut_like_their_weights(make):
    model, optimizer = two_layers(), make()
    optimizer.build(model.trainable_variables)
    steps(model, optimizer)
    plan = random_plan(model)
    kept = plan.kept("hidden")
    wide = slot_arrays(optimizer)
    variables = list(model.trainable_variables)
    keras_gcp.narrow(model, plan, optimizer=optimizer)
    assert len(kept) < 8
    axes = {"hidden/kernel": 1, "hidden/bias": 0, "out/kernel": 0}
    slots = slot_arrays(optimizer)
    assert wide.keys() == slots.keys() and len(slots) >= 4
    for path, value in slots.items():
        axis = next((a for end, a in axes.items() if end.replace("/", "_") in path), None)
        expected = wide[path] if axis is None else np.take(wide[path], kept, axis)
        np.testing.assert_array_equal(value, expected)
    assert all(a is b for a, b in zip(variables, model.trainable_variables, strict=True))
    before = arrays(model.trainable_variables)
    steps(model, optimizer, count=1, seed=1)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert (ops.convert_to_numpy(variable) != old).all(), variable.path


def test_training_goes_on_as_in_a_fresh_narrow_model_with_the_same_slots():
    wide, first = two_layers(), keras.optimizers.Adam(0.01)
    first.build(wide.trainable_variables)
    steps(wide, first)
    keras_gcp.narrow(wide, random_plan(wide), optimizer=first)
    fresh = keras.models.clone_model(wide)
    fresh.set_weights(wide.get_weights())
    second = keras.optimizers.Adam(0.01)
    second.build(fresh.trainable_variables)
    for old, new in zip(first.variables, second.variables, strict=True):
        new.assign(old)
    steps(wide, first, seed=2)
    steps(fresh, second, seed=2)
    assert_equal_arrays(wide.get_weights(), fresh.get_weights())


def test_the_optimizer_that_the_model_was_compiled_with_always_follows():
    model = two_layers()
    model.compile("adam", "mse")  # Traced: the step that was compiled before must not be used on.
    x, y = np.ones((4, 5), "float32"), np.ones((4, 3), "float32")
    model.fit(x, y, verbose=0)
    keras_gcp.narrow(model, random_plan(model))
    before = arrays(model.trainable_variables)
    model.fit(x, y, verbose=0)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert (ops.convert_to_numpy(variable) != old).any(), variable.path
    assert model.predict(x, verbose=0).shape == (4, 3)


def test_narrow_in_place_is_the_masked_model():
    model = randomise(networks.squeeze_excite())
    plan, inputs = random_plan(model), inputs_for(model)
    expected = masked_by_hand(model, plan, inputs)
    keras_gcp.narrow(model, plan)
    for a, b in zip(flat_outputs(model, inputs), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def whole_state(model, optimizer, inputs):
    """All that must be as before when a cut is refused or fails."""
    variables = [*model.variables, *optimizer.variables]
    return {
        "json": model.to_json(),
        "arrays": arrays(variables),
        "shapes": [tuple(layer.output.shape) for layer in model.layers],
        "build": [layer.get_build_config() for layer in model.layers],
        "specs": [str(getattr(layer, "input_spec", None)) for layer in model.layers],
        "outputs": flat_outputs(model, inputs),
    }


def assert_same_state(before, after):
    for key in ("json", "shapes", "build", "specs"):
        assert before[key] == after[key], key
    for key in ("arrays", "outputs"):
        assert_equal_arrays(after[key], before[key])


def test_an_optimizer_with_slots_of_another_shape_is_refused_before_anything_changes():
    inputs = keras.Input((16,))
    x = layers.Dense(14, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    optimizer = WithFactors(0.01)
    optimizer.build(model.trainable_variables)
    steps(model, optimizer, count=1)
    x = inputs_for(model)
    before = whole_state(model, optimizer, x)
    with pytest.raises(UnsupportedModel, match=r"class WithFactors\).*take SGD, Adam"):
        keras_gcp.narrow(model, random_plan(model), optimizer=optimizer)
    assert_same_state(before, whole_state(model, optimizer, x))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("residual", VerificationFailed("differs")),
        ("squeeze_excite", VerificationFailed("differs")),
        ("autoencoder", VerificationFailed("differs")),
        ("padded_shortcut", KeyboardInterrupt()),
        *(
            pytest.param(name, error, marks=pytest.mark.slow)
            for name, error in [
                ("residual", KeyboardInterrupt()),
                ("squeeze_excite", KeyboardInterrupt()),
                ("autoencoder", KeyboardInterrupt()),
                ("padded_shortcut", VerificationFailed("differs")),
            ]
        ),
    ],
)
def test_a_failing_cut_leaves_everything_as_it_was(name, error, monkeypatch):
    model, optimizer = randomise(networks.ALL[name]()), keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    steps(model, optimizer, count=1)
    plan, inputs = random_plan(model), inputs_for(model)
    before = whole_state(model, optimizer, inputs)
    seen = []

    def failing(channels, *_):
        seen.append(channels.model.count_params())
        raise error

    wide = model.count_params()
    monkeypatch.setattr(surgery, "verify_narrow", failing)
    with pytest.raises(type(error)):
        keras_gcp.narrow(model, plan, optimizer=optimizer)
    assert seen and seen[0] < wide  # it had been cut
    assert_same_state(before, whole_state(model, optimizer, inputs))
    monkeypatch.undo()
    weights = arrays(model.trainable_variables)
    steps(model, optimizer, count=1)
    for variable, old in zip(model.trainable_variables, weights, strict=True):
        assert (ops.convert_to_numpy(variable) != old).any(), variable.path
    keras_gcp.narrow(model, plan, optimizer=optimizer)
    assert model.count_params() == plan.after.parameters


def test_a_wrong_cut_is_noticed_and_taken_back(monkeypatch):
    model = randomise(networks.plain())
    plan, inputs = random_plan(model), inputs_for(model)
    before = arrays(model.variables)
    real = surgery.narrow_model

    def swapped(channels, keep, transaction, *rest):
        """Keeps as many channels as planned, but others."""
        wrong = keep.copy()
        own = channels.produced["b_conv"]
        wrong[own] = np.roll(keep[own], 1)
        assert (wrong != keep).any()
        return real(channels, wrong, transaction, *rest)

    monkeypatch.setattr(surgery, "narrow_model", swapped)
    with pytest.raises(VerificationFailed, match="'plain' differs from the masked model"):
        keras_gcp.narrow(model, plan)
    assert_equal_arrays(arrays(model.variables), before)
    assert flat_outputs(model, inputs)[0].shape == (5, 4)
