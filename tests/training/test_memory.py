"""Events leave nothing behind: old graphs, functions and weights die, and memory stays bounded."""

import gc
import weakref
from collections import Counter

import keras
import networks
import numpy as np
import pytest

import keras_gcp
from keras_gcp import backend
from keras_gcp.keras_state import Transaction
from keras_gcp.surgery import narrow as surgery

pytestmark = pytest.mark.needs_tensorflow("what is retraced is a tf.function")


def data(count=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8, 8, 3)).astype("float32"), rng.integers(0, 4, count)


def compiled(model, **options):
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    return model


def pruning(events=1, criterion="l2_norm", sample_size=32):
    return keras_gcp.GradualChannelPruning(
        keras_gcp.Sample(data(sample_size), size=sample_size),
        {"channels": 0.5},
        keras_gcp.schedules.linear(1, events),
        criterion=criterion,
        selection={"align": 1},
        seed=0,
        verbose=0,
    )


def fit(model, callbacks, epochs):
    x, y = data()
    model.fit(x, y, batch_size=16, epochs=epochs, callbacks=callbacks, verbose=0)


def graphs_of(train_function):
    """The graphs of the `tf.function`s inside a model's training function."""
    from keras_gcp.backend.tensorflow import _traced_functions

    concrete = [
        c for f in _traced_functions(train_function) for c in f._list_all_concrete_functions()
    ]
    assert concrete, "Keras has changed how it wraps its training function"
    return [c.graph for c in concrete]


def live(*names):
    """How many objects of these classes are alive."""
    gc.collect()
    counted = Counter(type(one).__name__ for one in gc.get_objects())
    return {name: counted[name] for name in names}


class Old(keras.callbacks.Callback):
    """Weak references to what an event replaces, taken at the end of the epoch before it."""

    def __init__(self, epoch=0):
        super().__init__()
        self.epoch, self.functions, self.graphs, self.values = epoch, [], [], []

    def on_epoch_end(self, epoch, logs=None):
        if epoch != self.epoch:
            return
        model = self.model
        self.functions = [weakref.ref(model.train_function)]
        self.graphs = [weakref.ref(graph) for graph in graphs_of(model.train_function)]
        variables = [*model.variables, *model.optimizer.variables]
        self.values = [
            (v, tuple(v.shape), weakref.ref(v.value)) for v in variables if len(v.shape) > 0
        ]


def test_an_event_leaves_neither_old_function_nor_old_graph_nor_old_wide_variables_alive():
    model, old = compiled(networks.residual()), Old()
    callback = pruning()
    fit(model, [old, callback], epochs=2)
    gc.collect()
    assert callback.plan.removed_channels > 0
    assert len(old.graphs) == 2  # the step, and the loop around it
    assert [ref() for ref in (*old.functions, *old.graphs)] == [None] * 3
    narrowed = [ref for variable, shape, ref in old.values if tuple(variable.shape) != shape]
    assert len(narrowed) > 4
    assert [ref() for ref in narrowed] == [None] * len(narrowed)


def test_without_the_release_tensorflow_keeps_the_old_graph(monkeypatch):
    """The test above is able to fail, and the release is still needed."""
    monkeypatch.setattr(backend, "forget_gradients", lambda function: None)
    old = Old()
    fit(compiled(networks.sequential()), [old, pruning()], epochs=2)
    gc.collect()
    assert any(ref() is not None for ref in old.graphs)


def test_the_callback_itself_collects_the_old_graphs():
    old, alive = Old(), []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                alive.extend(ref() is not None for ref in old.graphs)

    gc.disable()
    try:
        fit(compiled(networks.sequential()), [old, pruning(), Look()], epochs=2)
    finally:
        gc.enable()
    assert alive == [False, False]


def test_the_transaction_of_an_event_dies(monkeypatch):
    made = []

    def noted(channels, keep, transaction, *rest):
        made.append(weakref.ref(transaction))
        return narrow(channels, keep, transaction, *rest)

    narrow = surgery.narrow_model
    monkeypatch.setattr("keras_gcp.surgery.cut.narrow_model", noted)
    fit(compiled(networks.sequential(), run_eagerly=True), [pruning()], epochs=2)
    gc.collect()
    assert [ref() for ref in made] == [None]


def test_a_transaction_that_became_final_holds_nothing_of_what_was_before():
    class Owner:
        value = None

    owner = Owner()
    owner.value = old = Owner()
    final = []
    with Transaction() as transaction:
        transaction.set(owner, "value", None)
        transaction.when_final(lambda: final.append(True))
        assert final == []
    reference = weakref.ref(old)
    del old
    assert (reference(), final) == (None, [True])


def test_what_waits_for_the_end_of_a_transaction_does_not_happen_after_a_rollback():
    final = []
    with pytest.raises(RuntimeError), Transaction() as transaction:
        transaction.when_final(lambda: final.append(True))
        raise RuntimeError
    assert final == []


@pytest.mark.parametrize("criterion", ["feature_relevance", "taylor"])
def test_the_graphs_that_scored_the_channels_die(criterion, monkeypatch):
    made = []

    def noted(*arguments):
        traced = original(*arguments)
        made.append(weakref.ref(traced))
        return traced

    from keras_gcp.backend import tensorflow as framework

    original = framework.compiled
    monkeypatch.setattr(framework, "compiled", noted)
    # Four full batches of 64: from there on scoring is compiled.
    model = compiled(networks.sequential(), run_eagerly=True)
    fit(model, [pruning(1, criterion, 256)], epochs=2)
    gc.collect()
    assert made
    assert [ref() for ref in made] == [None] * len(made)


def test_a_compiled_pass_over_a_custom_gradient_leaves_no_graph():
    """`silu` registers a gradient of its own whenever it is traced."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="silu")(inputs)
    outputs = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    images, _ = data(256)
    before = live("FuncGraph")
    backend.predict(model, images)
    assert live("FuncGraph") == before


def test_a_function_can_be_differentiated_after_another_one_was_forgotten():
    import tensorflow as tf

    def made():
        @tf.function
        def function(x):
            return tf.nn.silu(x)

        return function

    forgotten, other = made(), made()
    x = tf.constant([1.0, -2.0])
    forgotten(x), other(x)
    backend.forget_gradients(forgotten)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = other(x)
    expected = tf.sigmoid(x) * (1 + x * (1 - tf.sigmoid(x)))
    np.testing.assert_allclose(tape.gradient(y, x), expected, rtol=1e-5)
    np.testing.assert_allclose(forgotten(x), tf.nn.silu(x))


def test_a_function_of_the_users_own_inside_the_model_keeps_its_gradient():
    import tensorflow as tf

    @tf.function
    def activation(x):
        return tf.nn.silu(x)

    activation(tf.zeros((1, 4)))
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation=activation)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    x = np.ones((8, 3), "float32")
    model.fit(x, x[:, :1], verbose=0)
    backend.forget_gradients(model.train_function)
    model.make_train_function(force=True)
    before = [np.array(w) for w in model.get_weights()]
    model.fit(x, x[:, :1], verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_the_number_of_live_graphs_and_variables_stays_the_same_from_event_to_event():
    counts = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(live("FuncGraph", "ResourceVariable"))

    callback = pruning(events=4)
    fit(compiled(networks.sequential()), [callback, Count()], epochs=5)
    assert all(event.removed_channels for event in callback.events)
    assert counts[1:] == [counts[1]] * 4


def test_a_pruned_model_dies_with_its_last_reference():
    model = compiled(networks.sequential())
    callback = pruning()
    fit(model, [callback], epochs=2)
    reference = weakref.ref(model)
    graphs = [weakref.ref(graph) for graph in graphs_of(model.train_function)]
    del model, callback
    keras.utils.clear_session()
    gc.collect()
    assert reference() is None
    assert [graph() for graph in graphs] == [None, None]
