"""What a user calls: plan, apply, prune, narrow, and what comes of it."""

import inspect

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, prunable_groups
from keras_gcp.errors import InvalidArgument, UnsupportedModel, VerificationFailed
from keras_gcp.selection.plan import Plan

PUBLIC = set(
    "AccuracyGuard BackupFailed Budget Comparison Compensation Distillation ExportMismatch "
    "Frontier GradualChannelPruning ImpossibleBudget InvalidArgument KerasGCPError MissingPackage "
    "Plan ReplicasDisagree Sample Selection Sensitivity Smallest UnsupportedKeras "
    "UnsupportedModel VerificationFailed WriteFailed __version__ absolute apply compare count "
    "elementwise export flatten frontier gates methods models narrow plan prune "
    "register_relevance_rule register_rule relevance_scores schedules sensitivity smallest "
    "tfmot timed trace".split()
)

RECORDS = {"Comparison", "Frontier", "Plan", "Sensitivity", "Smallest"}
"""What functions return; nobody makes them by hand."""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return randomise(networks.residual())


def test_public_names_and_arguments_are_as_documented():
    assert set(keras_gcp.__all__) == PUBLIC
    arguments = inspect.signature(keras_gcp.GradualChannelPruning).parameters
    assert " ".join(arguments) == (
        "sample budget schedule criterion exclude selection compensation guard distillation verify "
        "on_failure backup_dir reset seed verbose input_shape"
    )
    planned = "model budget criterion sample exclude selection rounds"
    names = {
        keras_gcp.plan: f"{planned} seed input_shape",
        keras_gcp.prune: f"{planned} compensation seed input_shape",
        keras_gcp.apply: "model plan sample compensation seed input_shape",
        keras_gcp.narrow: "model plan sample optimizer compensation seed input_shape",
    }
    for function, expected in names.items():
        assert " ".join(inspect.signature(function).parameters) == expected


def is_error(exported):
    return isinstance(exported, type) and issubclass(exported, Exception)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_from_the_fifth_argument_on_arguments_are_by_keyword(name):
    exported = getattr(keras_gcp, name)
    if not callable(exported) or name in RECORDS or is_error(exported):
        return
    parameters = list(inspect.signature(exported).parameters.values())
    by_position = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert len(by_position) <= 4, by_position


@pytest.mark.parametrize(
    "budget",
    [
        {"macs": 0.5},
        {"parameters": 0.4},
        {"channels": 0.6},
        {"macs": keras_gcp.absolute(60_000)},
        {"macs": 0.6, "parameters": 0.5, "channels": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("align", [1, 4])
def test_the_budget_is_met_and_putting_back_any_block_breaks_it(model, budget, align):
    plan = keras_gcp.plan(model, budget, selection={"align": align, "floor": 1})
    counted = keras_gcp.count(keras_gcp.apply(model, plan))
    original = keras_gcp.count(model)
    limits = {
        resource: share.value
        if not isinstance(share, float)
        else share * getattr(original, resource)
        for resource, share in budget.items()
    }
    assert all(getattr(counted, resource) <= limit for resource, limit in limits.items())
    channels = trace(model)
    cost_model, groups = build_cost_model(channels), prunable_groups(channels)
    kept = np.array(
        [
            plan.layers[g.members[0].path][
                np.isin(channels.produced[g.members[0].path], g.coupled)
            ].sum()
            for g in groups
        ]
    )
    for i, group in enumerate(groups):
        if kept[i] < len(group.coupled):
            larger = kept.copy()
            larger[i] = min((kept[i] // align + 1) * align, len(group.coupled))
            assert any(
                cost_model.cost(resource, larger) > limit for resource, limit in limits.items()
            )


def test_a_plan_survives_json_to_the_last_bit(model):
    plan = keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1})
    again = Plan.from_json(plan.to_json())
    assert again.to_json() == plan.to_json()
    assert again.explain() == plan.explain()
    inputs = inputs_for(model)
    for a, b in zip(
        flat_outputs(keras_gcp.apply(model, plan), inputs),
        flat_outputs(keras_gcp.apply(model, again), inputs),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"format": 99}', "not json"])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(InvalidArgument):
        Plan.from_json(text)


def test_two_cuts_in_a_row_are_one_combined_plan(model):
    first = keras_gcp.plan(model, {"channels": 0.7}, selection={"align": 1})
    once = keras_gcp.apply(model, first)
    second = keras_gcp.plan(once, {"channels": 0.7}, selection={"align": 1}, criterion="l1_norm")
    twice = keras_gcp.apply(once, second)
    combined = keras_gcp.apply(model, first.then(second))
    for a, b in zip(twice.get_weights(), combined.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_kept_takes_a_layer_a_name_or_a_path():
    nested = networks.nested()
    plan = keras_gcp.plan(nested, {"channels": 0.6}, selection={"align": 1})
    path = "middle/innermost/inner_conv"
    np.testing.assert_array_equal(plan.kept(path), plan.kept("inner_conv"))
    layer = nested.get_layer("a_conv")
    np.testing.assert_array_equal(plan.kept(layer), plan.kept("a_conv"))
    np.testing.assert_array_equal(plan.kept("a_bn"), plan.kept("a_conv"))
    with pytest.raises(InvalidArgument, match="'nowhere'.*a_conv"):
        plan.kept("nowhere")


def test_kept_channels_are_those_of_the_original_weights(model):
    plan = keras_gcp.plan(model, {"channels": 0.5}, selection={"align": 1})
    narrow = keras_gcp.apply(model, plan)
    rows, columns = plan.kept("stem_conv"), plan.kept("b1a_conv")
    wide = keras.ops.convert_to_numpy(model.get_layer("b1a_conv").kernel)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(narrow.get_layer("b1a_conv").kernel),
        wide[:, :, rows][:, :, :, columns],
    )


def test_explain_names_every_group_its_members_and_why_it_is_anchored(model):
    text = keras_gcp.plan(
        model, {"channels": 0.6}, selection={"align": 1}, exclude=["b2a_conv"]
    ).explain()
    for name in ("stem_conv", "b1a_conv", "b2a_conv", "b2_shortcut", "classifier"):
        assert name in text
    assert "output of the model" in text and "exclude" in text
    assert "MACs:" in text and "parameters:" in text


def test_excluded_layers_and_all_that_is_tied_to_them_stay(model):
    narrow = keras_gcp.prune(model, {"channels": 0.5}, selection={"align": 1}, exclude=["b1_add"])
    widths = trace(narrow).widths()
    assert widths["stem_conv"] == widths["b1b_conv"] == 8
    assert widths["b1a_conv"] + widths["b2a_conv"] < 20


def test_the_same_seed_gives_the_same_plan_and_another_one_another(model):
    plans = [
        keras_gcp.plan(
            model, {"channels": 0.5}, "random", selection={"align": 1}, seed=seed
        ).to_json()
        for seed in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]


def test_a_plan_for_another_model_is_refused_and_nothing_changes(model):
    plan = keras_gcp.plan(networks.plain(), {"channels": 0.5}, selection={"align": 1})
    before = [np.array(w) for w in model.get_weights()]
    for call in (keras_gcp.apply, keras_gcp.narrow):
        with pytest.raises(InvalidArgument, match="made for another model"):
            call(model, plan)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def custom_step(model, optimizer, x, y):
    """One step of a training loop of the user's own."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


@pytest.mark.needs_tensorflow("the loop uses tf.GradientTape")
def test_narrow_serves_a_custom_training_loop():
    own = networks.plain()
    optimizer = keras.optimizers.Adam(0.01)
    x, y = inputs_for(own, batch=12), np.arange(12) % 4
    custom_step(own, optimizer, x, y)
    momentum = keras.ops.convert_to_numpy(optimizer._momentums[0])
    plan = keras_gcp.plan(own, {"channels": 0.5}, selection={"align": 1})
    keras_gcp.narrow(own, plan, optimizer=optimizer)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(optimizer._momentums[0]),
        momentum[..., plan.kept("a_conv")],
    )
    before = [np.array(v) for v in own.trainable_variables]
    custom_step(own, optimizer, x, y)
    for now, then in zip(own.trainable_variables, before, strict=True):
        assert not np.array_equal(np.array(now), then)


def test_a_failed_verification_takes_the_cut_back(monkeypatch):
    own = randomise(networks.nested())
    plan = keras_gcp.plan(own, {"channels": 0.5}, selection={"align": 1})
    config, weights = own.get_config(), [np.array(w) for w in own.get_weights()]
    shapes = [tuple(layer.output.shape) for layer in own.get_layer("middle").layers]

    def fail(*arguments):
        raise VerificationFailed("made by the test")

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    with pytest.raises(VerificationFailed):
        keras_gcp.narrow(own, plan)
    assert own.get_config() == config
    assert [tuple(layer.output.shape) for layer in own.get_layer("middle").layers] == shapes
    for now, then in zip(own.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_verification_notices_a_cut_that_went_wrong(monkeypatch):
    """The identity is really checked: a wrong surgery does not get through."""
    own = randomise(networks.plain())
    plan = keras_gcp.plan(own, {"channels": 0.5}, selection={"align": 1})
    from keras_gcp.surgery import narrow as surgery

    right = surgery.taken

    def wrong(value, axes, keep):
        cut = right(value, axes, keep)
        return cut[..., ::-1].copy() if cut.ndim == 4 else cut

    monkeypatch.setattr(surgery, "taken", wrong)
    with pytest.raises(VerificationFailed, match="differs from the masked model"):
        keras_gcp.narrow(own, plan)
    monkeypatch.undo()
    keras_gcp.narrow(own, plan)


def test_a_custom_layer_with_a_registered_rule_is_pruned():
    from keras_gcp.channels import registry

    class ChannelScale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal")

        def call(self, x):
            return x * self.scale

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="a")(inputs)
    x = ChannelScale(name="scale")(x)
    x = keras.layers.Conv2D(8, 3, name="b")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    own = keras.Model(inputs, keras.layers.Dense(4)(x))
    assert "scale" in keras_gcp.plan(own, {"channels": 0.9}, selection={"align": 1}).explain()
    assert not trace(own).prunable[trace(own).produced["a"]].any()

    @keras_gcp.register_rule(ChannelScale)
    def channel_scale(site):
        channels = site.channels(0)
        site.weight(site.layer.scale, carries={0: channels})
        return site.inputs[0]

    try:
        plan = keras_gcp.plan(own, {"channels": 0.5}, selection={"align": 1})
        keras_gcp.narrow(own, plan)
        assert own.get_layer("scale").scale.shape[0] == len(plan.kept("a"))
    finally:
        del registry._RULES[ChannelScale]


def test_a_model_compiled_with_a_loss_of_its_own_can_be_copied(model):
    own = networks.plain()
    own.compile("sgd", lambda y, p: keras.ops.mean((y - p) ** 2), run_eagerly=True)
    narrow = keras_gcp.prune(own, {"channels": 0.5}, selection={"align": 1})
    assert own.compiled and not narrow.compiled
    x = inputs_for(own, batch=4)
    own.fit(x, np.zeros((4, 4)), verbose=0)


# ---- what a person sees


def test_plans_counts_and_channel_maps_print_as_tables_and_have_html(model):
    plan, counted, channels = (
        keras_gcp.plan(model, {"macs": 0.5}),
        keras_gcp.count(model),
        keras_gcp.trace(model),
    )
    assert str(plan) == plan.explain() and str(channels) == channels.explain()
    for shown in (plan, counted, channels):
        page = shown._repr_html_()
        rows = page.count("<tr>")
        assert page.startswith("<table>") and rows > 5
        assert all(path in str(shown) and path in page for path in ("stem_conv", "classifier"))
        assert len(repr(shown)) < 120
    assert f"macs: {counted.macs:,}" in str(counted) and f"macs: {counted.macs:,}" in page_of(
        counted
    )


def page_of(shown):
    return shown._repr_html_()


def test_a_model_in_which_nothing_can_be_pruned_says_why_layer_by_layer():
    inputs = keras.Input((8,))
    x = keras.layers.Dense(16, activation="relu", name="adapted")(inputs)
    x = keras.layers.Dense(8, activation="relu", name="quantized")(x)
    model = keras.Model(inputs, keras.layers.Dense(4, name="last")(x))
    model.get_layer("adapted").enable_lora(2)
    model.get_layer("quantized").quantize("int8")
    with pytest.raises(UnsupportedModel, match="no channels that may be pruned") as refusal:
        keras_gcp.plan(model, {"macs": 0.5})
    for text in (str(keras_gcp.trace(model)), str(refusal.value)):
        assert "'adapted' (class Dense): LoRA is enabled" in text
        assert "'quantized' (class Dense): its weights are quantized" in text
        assert "output of the model" in text
    assert "no channels may be pruned" in str(keras_gcp.trace(model))
