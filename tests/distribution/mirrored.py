"""A fit on one device, and the same on two logical ones with MirroredStrategy."""

import sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402  (after the devices are configured)
import numpy as np  # noqa: E402
from training import copies, data, kept, network, pruning, report, slots_fit, trained  # noqa: E402


def run(strategy, criterion):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network()
    callback = pruning(criterion, seed=0)
    history = trained(model, callback)
    return model, {
        "history": history,
        "kept": kept(callback.plan),
        "sample_losses": [[e.loss_before, e.loss_after] for e in callback.events],
        "accuracies": [[e.metric_before, e.metric_after] for e in callback.events],
    }


criterion, folder = sys.argv[1:]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
_, one_device = run(tf.distribute.get_strategy(), criterion)
model, two_devices = run(strategy, criterion)

file = Path(folder) / "narrow.keras"
model.save(file)
x, y = data()
loaded = keras.models.load_model(file)
with strategy.scope():
    loaded_in_scope = keras.models.load_model(file)
saved_difference = np.abs(loaded.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
further = [
    one.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
    for one in (model, loaded_in_scope)
]
report(
    one_device=one_device,
    two_devices=two_devices,
    strategy=id(strategy),
    weights=copies(model.variables),
    slots=copies(model.optimizer.variables),
    shapes_agree=slots_fit(model),
    saved_difference=float(saved_difference),
    further=further,
)
