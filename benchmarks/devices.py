"""What an event costs on many devices: compiling again, and placing the narrow weights.

    python benchmarks/devices.py                 TensorFlow, one device
    python benchmarks/devices.py --devices 2     TensorFlow, MirroredStrategy on logical devices
    KERAS_BACKEND=jax python benchmarks/devices.py --devices 4     DataParallel, virtual devices

ResNet-20 on random images, half of the channels, one event. Virtual devices share the cores of one
machine: steps do not get faster, but compiling and placing are those of as many real ones.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import nullcontext

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--steps", type=int, default=6, help="steps per epoch")
parser.add_argument("--batch", type=int, default=32, help="global batch")
arguments = parser.parse_args()
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.devices}"

import keras  # noqa: E402  (after the environment is set)
import numpy as np  # noqa: E402

import keras_gcp  # noqa: E402
from keras_gcp.keras_state import Transaction  # noqa: E402


def scope():
    """The devices, as the backend wants them."""
    if arguments.devices == 1:
        return nullcontext()
    if keras.config.backend() == "jax":
        return keras.distribution.DataParallel().scope()
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * arguments.devices
    tf.config.set_logical_device_configuration(cpu, logical)
    names = [f"CPU:{index}" for index in range(arguments.devices)]
    return tf.distribute.MirroredStrategy(names).scope()


class Steps(keras.callbacks.Callback):
    """Seconds of every step."""

    seconds: list[float] = []  # noqa: RUF012

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def placing(model):
    """Seconds to put every weight and slot on all devices again."""
    variables = [*model.variables, *model.optimizer.variables]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    start = time.perf_counter()
    with Transaction() as transaction:
        for variable, value in zip(variables, values, strict=True):
            transaction.replace_value(variable, value)
        seconds = time.perf_counter() - start
        transaction.rollback()
    return seconds, sum(value.nbytes for value in values)


with scope():
    model = keras_gcp.models.resnet20()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    count = arguments.batch * arguments.steps
    x = rng.normal(size=(count, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, model.output_shape[-1], count)
    steps = Steps()
    pruning = keras_gcp.GradualChannelPruning(
        keras_gcp.Sample((x, y), size=64),
        {"channels": 0.5},
        keras_gcp.schedules.one_shot(1),
        criterion="l2_norm",
        verbose=0,
    )
    model.fit(x, y, batch_size=arguments.batch, epochs=2, verbose=0, callbacks=[pruning, steps])
    seconds, size = placing(model)
event = {name: round(value, 2) for name, value in pruning.events[0].seconds.items()}
usual = np.median(steps.seconds[1 : arguments.steps])
print(
    f"{keras.config.backend()}, {arguments.devices} devices: first step {steps.seconds[0]:.1f} s, "
    f"usual step {usual:.3f} s, retrace {event.pop('retrace'):.1f} s, "
    f"placing {size / 1e6:.2f} MB {seconds:.3f} s, event {event}"
)
