"""A fit on one device, and the same on four virtual ones with DataParallel, on JAX."""

import sys
from pathlib import Path

import keras
import numpy as np
from training import data, kept, network, pruning, report, trained


def run(distribution, criterion):
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(1)
    model = network()
    callback = pruning(criterion, seed=0)
    history = trained(model, callback)
    return model, {
        "history": history,
        "kept": kept(callback.plan),
        "sample_losses": [[e.loss_before, e.loss_after] for e in callback.events],
    }


def placed(variables, mesh):
    """Whether every variable is whole on every device of the mesh, and how many devices it has."""
    shardings = [variable.value.sharding for variable in variables]
    return {
        "on_the_mesh": all(sharding.mesh == mesh for sharding in shardings),
        "replicated": all(sharding.is_fully_replicated for sharding in shardings),
        "devices": sorted({len(sharding.device_set) for sharding in shardings}),
    }


criterion, folder = sys.argv[1:]
_, one_device = run(None, criterion)
distribution = keras.distribution.DataParallel()
model, four_devices = run(distribution, criterion)

file = Path(folder) / "narrow.keras"
model.save(file)
x, y = data()
loaded = keras.models.load_model(file)
saved_difference = np.abs(loaded.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
further = [
    one.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
    for one in (model, loaded)
]
mesh = distribution.device_mesh.backend_mesh
report(
    one_device=one_device,
    four_devices=four_devices,
    weights=placed(model.variables, mesh),
    slots=placed(model.optimizer.variables, mesh),
    saved_difference=float(saved_difference),
    further=further,
)
