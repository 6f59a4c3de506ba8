"""A budget that cannot be met, or a model of which nothing can leave: the layers that block."""

from __future__ import annotations

import re

import fitting
import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, UnsupportedModel
from keras_gcp.selection import blockers


class Upsampled(layers.Layer):
    """A layer without a rule, and without weights."""

    def call(self, x):
        return ops.repeat(x, 2, axis=1)


class OwnConvolution(layers.Layer):
    """A layer without a rule that hides its kernel."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(3, 3, shape[-1], 8), name="matrix")

    def call(self, x):
        return ops.conv(x, self.matrix)


class Composite(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Conv2D(16, 3, padding="same", name="inner")

    def call(self, x):
        return self.inner(x)


def classified(inputs, x):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))


def convolved(*between, filters=16):
    """A convolution, other layers, and a classifier."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(filters, 3, padding="same", name="conv")(inputs)
    for layer in between:
        x = layer(x)
    return classified(inputs, x)


def decoder():
    """Three layers of a class without a rule hold half of the network."""
    inputs = x = keras.Input((16, 3))
    for i in (1, 2):
        x = layers.MaxPooling1D(2)(layers.Conv1D(4 * i, 3, padding="same", name=f"down{i}")(x))
    for i in (1, 2):
        x = layers.Conv1D(8 // i, 3, padding="same", name=f"up{i}")(Upsampled(name=f"more{i}")(x))
    return keras.Model(inputs, layers.Conv1D(1, 3, padding="same", name="last")(x))


def head_only():
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(inputs))


def constants():
    numbers = np.linspace(0.5, 1.5, 16, dtype="float32")
    return convolved(lambda x: x * numbers)


def own_kernel():
    inputs = keras.Input((8, 8, 3))
    return classified(inputs, OwnConvolution(name="own")(inputs))


NOTHING_TO_PRUNE = {
    "a layer without a rule": (
        lambda: convolved(layers.Dropout(0.1), Upsampled(name="up")),
        (),
        r"'up' \(class Upsampled\) has no rule.*",
    ),
    "a kernel of its own": (own_kernel, (), r"- \d+\.\d%: layer 'own' .*has no rule"),
    "softmax over channels": (
        lambda: convolved(layers.Softmax(name="soft")),
        (),
        "softmax 'soft' mixes channels",
    ),
    "a constant for each channel": (constants, (), "has a constant number for each"),
    "excluded": (convolved, ["conv"], "layer 'conv' is in `exclude`"),
    "a composite layer": (
        lambda: convolved(Composite(name="inside")),
        ["inside"],
        r"'inside' \(class Composite\) hides 1 convolution.*`keras_gcp\.flatten\(model\)` opens",
    ),
    "nothing but a head": (head_only, (), r"100\.0%: output of the model \('classifier'\)"),
}


@pytest.mark.parametrize("case", NOTHING_TO_PRUNE)
@pytest.mark.parametrize("criterion", ["l2_norm", "feature_relevance", "taylor"])
def test_where_nothing_may_leave_every_criterion_and_budget_says_which_layers_hold_it(
    case, criterion
):
    build, exclude, expected = NOTHING_TO_PRUNE[case]
    model = fitting.compiled(build())
    sample = np.zeros((8, *model.input_shape[1:]), "float32"), np.arange(8) % 4
    for budget in (
        {"macs": 0.5},
        {"channels": 0.6},
        {"parameters": 0.9, "macs": 0.9},
        {"channels": keras_gcp.absolute(3)},
    ):
        with pytest.raises(UnsupportedModel, match="has no channels that may be pruned") as error:
            keras_gcp.plan(model, budget, criterion, sample, exclude=exclude)
        assert re.search(expected, str(error.value)) or "channels" in budget
        assert len(str(error.value).splitlines()) <= 4


def test_all_ways_in_say_it_with_the_same_words(tmp_path):
    model = fitting.compiled(convolved(layers.Softmax(name="soft")))
    data = fitting.data()
    calls = [
        lambda: keras_gcp.plan(model, {"macs": 0.5}),
        lambda: keras_gcp.prune(model, {"macs": 0.5}),
        lambda: keras_gcp.sensitivity(model, data, verbose=0),
        lambda: keras_gcp.smallest(model, data, 0.1, verbose=0),
        lambda: keras_gcp.frontier(
            model, data, data, tmp_path, budgets=(0.5,), criterion="l2_norm"
        ),
        lambda: fitting.fit(model, [fitting.pruning({"macs": 0.5})], epochs=2),
    ]
    texts = set()
    for call in calls:
        with pytest.raises(UnsupportedModel) as error:
            call()
        texts.add(str(error.value))
    assert len(texts) == 1 and "softmax 'soft' mixes channels" in texts.pop()


def test_a_model_without_layers_that_produce_channels_says_what_was_expected():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, Upsampled(name="up")(layers.ReLU()(inputs)))
    with pytest.raises(UnsupportedModel, match="Expected convolutions.*unknown are 'up'"):
        keras_gcp.plan(model, {"macs": 0.5})


# ---- budgets that cannot be met


def refused(model, budget, exclude=(), **selection):
    with pytest.raises(ImpossibleBudget, match="cannot be reached") as error:
        keras_gcp.plan(model, budget, exclude=exclude, selection=selection)
    return str(error.value)


def test_an_impossible_budget_names_the_layers_that_are_not_followed_and_counts_those_alike():
    text = refused(decoder(), {"macs": 0.2})
    assert re.search(
        r"%: layer 'more1' \(class Upsampled\) has no rule.*"
        r"register.*\(and 1 more like it: 'more2'\)",
        text,
    )
    with pytest.raises(ImpossibleBudget) as error:
        keras_gcp.prune(decoder(), {"parameters": 0.1}, "random", seed=0)
    assert "share of the parameters:\n- " in str(error.value)


def shares_in(text):
    """Layer to the share that the text gives for it."""
    found = re.findall(r"^- (?:([\d.]+)%: )?.*?'(\w+)'", text, re.MULTILINE)
    return {name: float(share or 0) for share, name in found}


def two_branches():
    inputs = keras.Input((8, 8, 3))
    small = layers.Conv2D(4, 3, padding="same", name="small")(inputs)
    large = layers.Conv2D(12, 3, padding="same", name="large")(inputs)
    free = layers.Conv2D(8, 3, padding="same", name="free")(inputs)
    x = layers.Concatenate()([small, layers.Softmax(name="soft")(large), free])
    return classified(inputs, x)


@pytest.mark.parametrize("resource", ["macs", "parameters", "channels"])
def test_the_layer_that_holds_most_comes_first(resource):
    model = two_branches()
    text = refused(model, {resource: 0.005}, exclude=["small"], floor=1, align=1)
    shares = shares_in(text)
    assert list(shares) == ["soft", "small", "classifier"]
    assert shares["soft"] > 2 * shares["small"] > 0


def test_without_the_layer_that_is_named_the_budget_can_be_met_further():
    """Whatever is taken out of `exclude`, the costs can fall by the share given for it."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(16, 3, padding="same", name="b")(x)
    model = classified(inputs, layers.Conv2D(16, 3, padding="same", name="c")(x))
    before = refused(model, {"macs": 0.001}, exclude=["a", "b"], floor=1, align=1)
    ((name, share), *_) = shares_in(before).items()
    assert name == "a" and "and 1 more like it: 'b'" in before

    def least(exclude):
        text = refused(model, {"macs": 0.001}, exclude=exclude, floor=1, align=1)
        return int(re.search(r"down to ([\d,]+)", text)[1].replace(",", ""))

    whole = keras_gcp.count(model).macs
    held = (least(["a", "b"]) - least([])) / whole
    assert share / 100 == pytest.approx(held, abs=0.05)  # One channel of 16 stays in any case.


def test_what_floors_and_alignment_hold_is_what_can_be_reached_without_them():
    model = networks.plain()
    text = refused(model, {"macs": 0.05}, floor=0.5, exclude=["a_conv"])
    match = re.search(
        "With `floor=1`, macs could go down to ([\\d,]+); the least widths of (.*?) hold", text
    )
    lowest = int(match[1].replace(",", ""))
    assert match[2] == "'b_conv'"
    at_one = {"floor": 1, "align": 1}
    budget = {"macs": keras_gcp.absolute(lowest)}
    plan = keras_gcp.plan(model, budget, exclude=["a_conv"], selection=at_one)
    assert plan.after.macs == lowest
    text = refused(model, {"macs": keras_gcp.absolute(lowest - 1)}, exclude=["a_conv"], **at_one)
    assert "Floors and alignment hold none of that" in text and "'a_conv' is in `exclude`" in text


def test_where_lower_floors_would_do_no_layer_is_blamed():
    text = refused(networks.plain(), {"channels": 0.2}, floor=0.5)
    assert text.endswith("Expected one of: allow more to remain, set those.")
    assert "What stays" not in text


def test_layers_that_block_are_named_where_lower_floors_would_do_as_well():
    text = refused(decoder(), {"macs": 0.6}, floor=0.5)
    assert "With `floor=1`" in text and "(class Upsampled) has no rule" in text
    assert "output of the model" not in text
    assert text.splitlines()[3].endswith("allow more to remain, set those, change one of these.")


def test_where_nothing_blocks_nothing_is_blamed():
    text = refused(networks.plain(), {"macs": 0.001}, floor=1, align=1)
    assert text.endswith("what enters and leaves the model. Allow more to remain.")
    assert "What stays" not in text


def test_an_impossible_peak_says_at_which_layer_it_is():
    model = convolved(layers.Softmax(name="soft"), layers.Conv2D(8, 1, name="after"))
    text = refused(model, {"peak_activation_bytes": 0.1})
    assert re.search("The highest point is at layer '(conv|soft|after)' then", text)


def test_a_budget_is_refused_before_channels_are_scored():
    def never(model, channels, sample):
        raise AssertionError("scored")

    with pytest.raises(ImpossibleBudget):
        keras_gcp.plan(networks.plain(), {"macs": 0.001}, never)


def test_a_budget_in_channels_that_is_met_says_how_many_are_not_counted_and_why():
    model = convolved(layers.Softmax(name="soft"), layers.Conv2D(8, 1, name="after"))
    with pytest.raises(InvalidArgument, match=r"already met.*8 channels.*20 more stay") as error:
        keras_gcp.plan(model, {"channels": keras_gcp.absolute(10)})
    assert "softmax 'soft' mixes channels" in str(error.value)


def test_many_blockers_are_counted_after_the_largest():
    inputs = x = keras.Input((8, 8, 3))
    names = [f"c{i}" for i in range(7)]
    for i, name in enumerate(names):
        x = layers.Conv2D(2 + i, 1, name=name)(x)
        x = layers.Softmax(name=f"s{i}")(x)
        x = x * np.arange(2 + i, dtype="float32")
    model = classified(inputs, x)
    found = blockers.blockers_by_cost(trace(model), "macs")
    assert sum(len(one.blockers) for one in found) == 15
    text = blockers.what_stays(trace(model))
    assert len(text.splitlines()) <= 2 + blockers.MOST_LINES
    assert "more like it: 's" in text
