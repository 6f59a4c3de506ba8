"""Weights that are split over devices, on JAX: pruning refuses them."""

import keras
from training import data, network, pruning, report

from keras_gcp.errors import UnsupportedModel

mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), keras.distribution.list_devices())
layout = keras.distribution.LayoutMap(mesh)
layout["a/kernel"] = (None, None, None, "model")
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
)
model = network()
before = model.get_weights()
try:
    model.fit(*data(), batch_size=16, epochs=4, verbose=0, callbacks=[pruning("l2_norm")])
    report(refused=None)
except UnsupportedModel as error:
    after = model.get_weights()
    report(
        refused=str(error),
        untouched=all((a == b).all() for a, b in zip(after, before, strict=True)),
    )
