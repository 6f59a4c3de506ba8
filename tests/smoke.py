"""Uses an installed keras_gcp once, end to end; `make wheel-test` runs it in an empty environment.

python -I tests/smoke.py
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_gcp


def main() -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = np.arange(160) % 4
    x = (rng.standard_normal((160, 8, 8, 1)) + y.reshape(-1, 1, 1, 1)).astype("float32")

    model = keras_gcp.models.resnet8(input_shape=(8, 8, 1), classes=4)
    before = keras_gcp.count(model)
    pruning = keras_gcp.GradualChannelPruning(
        sample=(x[:64], y[:64]),
        budget={"macs": 0.5},
        schedule=keras_gcp.schedules.one_shot(1),
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=2, callbacks=[pruning], verbose=0).history
    after = keras_gcp.count(model)
    assert after.macs <= 0.5 * before.macs, (before.macs, after.macs)
    assert after.parameters < before.parameters
    assert history["macs_left"][-1] == after.macs / before.macs
    assert np.isfinite(history["loss"]).all()

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.models.load_model(Path(folder) / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    print(
        f"keras_gcp {keras_gcp.__version__} on Keras {keras.version()} "
        f"({keras.backend.backend()}): {before.macs:,} -> {after.macs:,} MACs. "
        f"From {Path(keras_gcp.__file__).parent}."
    )


if __name__ == "__main__":
    main()
