"""Several inputs: each array reaches the input that Keras gives it to, however they are passed."""

from __future__ import annotations

import collections
import warnings

import fitting
import keras
import numpy as np
import pytest
from helpers import flat_outputs, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp import backend, criteria, keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.exporting.samples import examples_for

SHAPE = (6, 6, 2)


def _input(name):
    return keras.Input(SHAPE, name=name)


def _tower(x, name):
    x = layers.Conv2D(8, 3, activation="relu", name=f"conv_{name}")(x)
    return layers.GlobalAveragePooling2D()(x)


def _head(a, b):
    """Another result if the two are exchanged."""
    x = layers.Concatenate()([_tower(a, "a"), _tower(b, "b")])
    return layers.Dense(3, activation="softmax", name="head")(x)


def pair(build):
    """A network on two inputs of one shape, a and b, given to `keras.Model` by `build(a, b)`."""
    a, b = _input("a"), _input("b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras wants keys to be names.
        return randomise(keras.Model(build(a, b), _head(a, b)))


def _arrays(count=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, *SHAPE)).astype("float32") for _ in range(2)]


A, B = _arrays()

BUILDS = {
    "list": (lambda a, b: [b, a], [B, A]),
    "tuple": (lambda a, b: (b, a), (B, A)),
    "list, dict by name": (lambda a, b: [b, a], {"a": A, "b": B}),
    "list, dict with more": (lambda a, b: [b, a], {"a": A, "aa": B, "b": B}),
    "list, ordered dict": (lambda a, b: [b, a], collections.OrderedDict(a=A, b=B)),
    "tuple, dict by name": (lambda a, b: (b, a), {"a": A, "b": B}),
    "dict": (lambda a, b: {"b": b, "a": a}, {"a": A, "b": B}),
    "dict of other keys": (lambda a, b: {"q": a, "p": b}, {"q": A, "p": B}),
    "dict, sorted, by list": (lambda a, b: {"a": a, "b": b}, [A, B]),
    "dict of lists": (lambda a, b: {"z": [b], "y": a}, {"z": [B], "y": A}),
    "list of a list and a dict": (lambda a, b: [[b], {"z": a}], [[B], {"z": A}]),
    "nested, by flat list": (lambda a, b: [[b], (a,)], [B, A]),
}


@pytest.mark.parametrize("name", BUILDS)
def test_predictions_and_pieces_are_those_of_keras_without_a_warning(name):
    build, x = BUILDS[name]
    model = pair(build)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.predict(x, verbose=0)
    ordered = keras_state.ordered_inputs(model, x)
    assert [value is A for value in ordered] == [one.name == "a" for one in model.inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of Keras itself, with PyTorch
        np.testing.assert_allclose(backend.predict(model, x), expected, atol=1e-6)


def test_what_keras_itself_hands_to_the_wrong_inputs_is_refused():
    model = pair(lambda a, b: {"a": a, "b": b})
    swapped = collections.OrderedDict([("b", B), ("a", A)])
    for x in (swapped, {"a": A, "aa": A, "b": B}):
        with pytest.raises(InvalidArgument, match="Keras hands.*no other keys"):
            keras_state.ordered_inputs(model, x)
    assert keras_state.ordered_inputs(model, {"a": A, "b": B, "c": A})[1] is B


@pytest.mark.parametrize(
    ("build", "x", "message"),
    [
        (lambda a, b: [b, a], A, r"has 2 inputs \(b, a\). Received 1 array. Expected a list"),
        (lambda a, b: [b, a], [A, B, A], "Received 3 arrays"),
        (lambda a, b: [b, a], {"a": A}, "missing: .'b'"),
        (lambda a, b: {"b": b, "a": a}, [A, B], "Received 2 arrays. Expected the structure"),
        (lambda a, b: {"q": a, "p": b}, {"a": A, "b": B}, "expects .'q', 'p'.*missing"),
        (lambda a, b: [[b], {"z": a}], {"a": A, "b": B}, "Received a dict. Expected.*'z': 'a'"),
    ],
)
def test_another_structure_is_refused_with_the_expected_one(build, x, message):
    with pytest.raises(InvalidArgument, match=message):
        keras_state.ordered_inputs(pair(build), x)


# --------------------------------------------------------------------------- nested models


def _outer(call, build=lambda a, b: [b, a]):
    """Two convolutions before a nested model of two inputs of one shape."""
    a, b = keras.Input((6, 6, 5), name="a"), keras.Input((6, 6, 5), name="b")
    inner = keras.Model(build(a, b), _head(a, b), name="inner")
    left, right = _input("left"), _input("right")
    before = [layers.Conv2D(5, 1, name=f"before_{n}")(x) for n, x in (("a", left), ("b", right))]
    return randomise(keras.Model([left, right], layers.Dense(2)(inner(call(*before)))))


@pytest.mark.parametrize(
    ("call", "build"),
    [
        (lambda a, b: {"a": a, "b": b}, lambda a, b: [b, a]),
        (lambda a, b: {"b": b, "a": a, "aa": b}, lambda a, b: [b, a]),
        (lambda a, b: {"b": b, "a": a}, lambda a, b: {"b": b, "a": a}),
        (lambda a, b: [b, a], lambda a, b: [b, a]),
    ],
)
def test_a_nested_model_called_by_name_is_followed_by_name(call, build):
    model = _outer(call, build)
    plan = random_plan(model, 0.6, seed=1)
    expected = masked_by_hand(model, plan, [A, B])
    narrow = keras_gcp.apply(model, plan)
    for got, wanted in zip(flat_outputs(narrow, [A, B]), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    flat = keras_gcp.flatten(model)
    np.testing.assert_allclose(flat.predict([A, B]), model.predict([A, B]), atol=1e-5)


# ------------------------------------------------------------- everywhere that examples enter

COUNT = 24
X = dict(zip("ab", _arrays(COUNT, seed=1), strict=True))
Y = np.arange(COUNT) % 3
IN_ORDER = [X["b"], X["a"]]
"""By place: what the two inputs get without any dict."""


def _compiled():
    keras.utils.set_random_seed(0)
    model = pair(lambda a, b: [b, a])
    return fitting.compiled(model, keras.optimizers.SGD(0.01))


def _pruning(model, x, criterion="taylor", **options):
    callback = keras_gcp.GradualChannelPruning(
        keras_gcp.Sample((x, Y), size=None),
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(0),
        criterion=criterion,
        selection={"align": 1},
        seed=0,
        verbose=0,
        **options,
    )
    fed = X if isinstance(x, dict) else IN_ORDER
    keras.utils.set_random_seed(0)
    model.fit(fed, Y, epochs=1, verbose=0, shuffle=False, batch_size=12, callbacks=[callback])
    event = callback.events[0]
    return [event.loss_before, event.loss_after, *model.get_weights()]


def _in_place(model, x):
    keras_gcp.narrow(
        model, keras_gcp.plan(model, {"channels": 0.6}, selection={"align": 1}), sample=x
    )
    return model.get_weights()


def _scores(criterion):
    def by_layer(model, x):
        seen = {}
        chosen = criteria.get(criterion)

        def noted(*args):
            seen.update(chosen(*args))
            return seen

        keras_gcp.plan(
            model,
            {"channels": 0.6},
            noted,
            keras_gcp.Sample((x, Y), size=None),
            selection={"align": 1},
        )
        return list(seen.values())

    return by_layer


def _guarded(model, x):
    options = {"guard": keras_gcp.AccuracyGuard((x, Y), 0.9, size=None)}
    options["distillation"] = keras_gcp.Distillation()
    return _pruning(model, x, "l2_norm", **options)


def _sensitivity(model, x):
    found = keras_gcp.sensitivity(model, (x, Y), metric="loss", shares=(0.5,), sample=x, verbose=0)
    return [found.baseline, *(p.value for group in found.groups for p in group.points)]


def _smallest(model, x):
    found = keras_gcp.smallest(
        model,
        (x, Y),
        9.0,
        metric="loss",
        sample=x,
        tolerance=0.2,
        verbose=0,
        selection={"align": 1},
    )
    return [found.value, *found.model.get_weights()]


WAYS = {
    "fit": _pruning,
    "fit, guarded, with a teacher": _guarded,
    "narrow": _in_place,
    "apply": lambda m, x: keras_gcp.apply(
        m, keras_gcp.plan(m, {"channels": 0.6}, selection={"align": 1}), x
    ).get_weights(),
    "prune": lambda m, x: keras_gcp.prune(
        m, {"channels": 0.6}, "taylor", (x, Y), selection={"align": 1}, seed=0
    ).get_weights(),
    "taylor": _scores("taylor"),
    "feature_relevance": _scores("feature_relevance"),
    "compensation_aware": _scores("compensation_aware"),
    "sensitivity": _sensitivity,
    "smallest": _smallest,
    "relevance_scores": lambda m, x: list(keras_gcp.relevance_scores(m, x, Y).values()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_dict_by_name_is_what_a_list_in_order_is(way):
    by_name, in_order, swapped = (
        WAYS[way](_compiled(), x) for x in (X, IN_ORDER, [X["a"], X["b"]])
    )
    assert len(by_name) == len(in_order)
    for one, other in zip(by_name, in_order, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert any(
        np.shape(one) != np.shape(other) or not np.allclose(one, other, rtol=1e-3, atol=1e-5)
        for one, other in zip(in_order, swapped, strict=True)
    ), "the order matters here, so a mistake would show"


def test_the_loss_on_the_sample_is_the_one_of_evaluate():
    model = _compiled()
    expected = model.evaluate(X, Y, verbose=0)[0]
    model.optimizer.learning_rate = 0.0
    assert _pruning(model, X)[0] == pytest.approx(expected, rel=1e-5)


def test_export_compares_and_calibrates_on_the_inputs_by_name():
    model = _compiled()
    by_name, in_order = (examples_for(model, x, 32) for x in ({**X, "more": Y}, IN_ORDER))
    for symbol, one, other in zip(model.inputs, by_name.arrays, in_order.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, X[symbol.name])
