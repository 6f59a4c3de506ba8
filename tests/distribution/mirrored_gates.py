"""A fit with consensus gates on two logical devices with MirroredStrategy, frozen within it."""

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402  (after the devices are configured)
import numpy as np  # noqa: E402
from training import BATCH, copies, data, network, report, slots_fit  # noqa: E402

import keras_gcp  # noqa: E402

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(1)
x, y = data()
with strategy.scope():
    gated = keras_gcp.gates.insert(network(), keras_gcp.gates.ConsensusGate())
    gated.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
pruning = keras_gcp.methods.ConsensusPruning(0.5, activation=30.0, verbose=0)
history = gated.fit(
    x, y, batch_size=BATCH, epochs=8, shuffle=False, verbose=0, callbacks=[pruning]
).history
plain = keras_gcp.gates.remove(gated)
report(
    history={name: [float(value) for value in values] for name, values in history.items()},
    strategy=id(strategy),
    weights=copies(gated.variables),
    slots=copies(gated.optimizer.variables),
    shapes_agree=slots_fit(gated),
    removed=pruning.plan.removed_channels,
    plain_difference=float(np.abs(plain.predict(x, verbose=0) - gated.predict(x, verbose=0)).max()),
    plain_channels=keras_gcp.count(plain).channels,
    planned_channels=pruning.plan.after.channels,
)
