"""One of several TensorFlow workers: what `fit` of Keras does, and a training loop of one's own."""

import json
import os

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()  # meets the other workers, so it is first

import keras  # noqa: E402
import numpy as np  # noqa: E402
from training import BATCH, EXAMPLES, data, kept, network, pruning, report  # noqa: E402

import keras_gcp  # noqa: E402
from keras_gcp.errors import KerasGCPError  # noqa: E402

task = json.loads(os.environ["TF_CONFIG"])
index, count = task["task"]["index"], len(task["cluster"]["worker"])
x, y = data()
OWN = BATCH // count


def fresh():
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network()
        model.optimizer.build(model.trainable_variables)
    return model


def raised_by(work, *kinds):
    try:
        work()
    except kinds as error:
        return [type(error).__name__, str(error)]
    return None


def refused():
    """What the callback says when a fit begins."""
    callback = pruning("l2_norm")
    callback.set_params({"epochs": 4})
    callback.set_model(fresh())
    return raised_by(callback.on_train_begin, KerasGCPError)


def made_step(model):
    """A training step on this worker's part of a global batch."""
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="sum")

    def own_step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True)) / BATCH
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(value, variables), variables)
        return value

    @tf.function
    def step(x, y):
        return strategy.reduce("SUM", strategy.run(own_step, args=(x, y)), axis=None)

    return step


def epoch(step):
    losses = []
    for start in range(index * OWN, EXAMPLES, BATCH):
        rows = slice(start, start + OWN)
        losses.append(float(step(tf.constant(x[rows]), tf.constant(y[rows]))))
    return float(np.mean(losses))


def own_loop():
    """Trains, cuts with this worker's own sample, trains on."""
    model = fresh()
    losses = [epoch(made_step(model))]
    rows = slice(index * 32, index * 32 + [20, 30][index])
    sample = (x[rows], y[rows])
    plan = keras_gcp.plan(
        model, {"channels": 0.6}, "feature_relevance", sample, selection={"align": 1}
    )
    keras_gcp.narrow(model, plan)
    losses += [epoch(made_step(model)) for _ in range(2)]
    variables = [*model.variables, *model.optimizer.variables]
    return {
        "losses": losses,
        "kept": kept(plan),
        "in_scope": all(v.value.distribute_strategy is strategy for v in variables),
        "numbers": np.concatenate([np.ravel(v.numpy()) for v in variables]).tolist(),
    }


report(
    keras_fit=raised_by(lambda: fresh().fit(x, y, batch_size=BATCH, verbose=0), ValueError),
    refused=refused(),
    own_loop=own_loop(),
)
