"""Settings and fixtures of the whole test suite."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Before Keras is imported anywhere. Each pytest-xdist worker is a process of its own: with more
# threads than cores the workers only get in each other's way.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow leaves it off without AVX-512
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# Keras is imported by what needs it: the process that hands the tests out never does, and the
# workers start seconds earlier.
import pytest
from hypothesis import settings
from time_limit import pytest_addoption, pytest_runtest_call  # noqa: F401 (hooks)

BACKEND = os.environ["KERAS_BACKEND"]

if BACKEND == "torch":
    import torch

    # Strided 1x1 convolutions of few channels corrupt the heap there, on some CPUs (see
    # `keras_state.least_width_of_strided_pointwise`); the networks of the tests have them.
    torch.backends.mkldnn.enabled = False
    # What would take its place is off by 1e-4 where batches are of 16 and more.
    torch.backends.nnpack.set_flags(False)

HAS_TFMOT = importlib.util.find_spec("tensorflow_model_optimization") is not None

pytest_plugins = ["pytester"]

settings.register_profile("keras_gcp", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("keras_gcp")

# An import hook rather than a bare `python -I`: keras_gcp may be installed in this environment.
_WITHOUT_KERAS_GCP = """
import os
import sys

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch

    torch.backends.mkldnn.enabled = False  # as in the tests themselves

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "keras_gcp" or name.startswith("keras_gcp."):
            raise ModuleNotFoundError("No module named 'keras_gcp' (blocked by the test)")

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def single_channels():
    """Lets PyTorch train convolutions from or to one channel, in networks without strided 1x1 ones.

    Without oneDNN it cannot (2.13: "slow_conv2d: grad_weight must be contiguous"), pruned or not.
    """
    if BACKEND != "torch":
        yield
        return
    with torch.backends.mkldnn.flags(enabled=True):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a backend does not have is skipped there, with the reason that the mark gives."""
    for item in items:
        reasons = [mark.args[1] for mark in item.iter_markers("not_on") if mark.args[0] == BACKEND]
        if BACKEND != "tensorflow":
            reasons += [mark.args[0] for mark in item.iter_markers("needs_tensorflow")]
        if not HAS_TFMOT and item.get_closest_marker("needs_tfmot"):
            reason = "tensorflow-model-optimization is not installed here; see `make test-tfmot`"
            item.add_marker(pytest.mark.skip(reason=reason))
        for reason in reasons:
            item.add_marker(pytest.mark.skip(reason=f"not on {BACKEND}: {reason}"))


def pytest_collection_finish() -> None:
    """What imports have made is never garbage: looking through it again and again takes minutes.

    It is looked through at every garbage collection, and whenever models are asked for that share
    weights with another one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_converter() -> None:
    """The process that converts files stays: it takes seconds to import TensorFlow."""
    from keras_gcp.exporting import worker

    worker.IDLE = 3600.0


@pytest.fixture(scope="session", autouse=True)
def graphs_as_traced(pytestconfig: pytest.Config) -> None:
    """TensorFlow compiles graphs without optimizing them first: a tenth of the fast suite's time.

    A run of all tests, slow ones too, optimizes them, as users do.
    """
    if BACKEND == "tensorflow" and pytestconfig.option.markexpr == "not slow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@contextmanager
def kernels_stay() -> Iterator[None]:
    """What TensorFlow has prepared to run its operations survives what Keras resets.

    Otherwise every test would prepare them anew, which takes longer than most of the tests do.
    What Keras draws does not depend on them: it hands its seeds over with every call.
    """
    if BACKEND != "tensorflow":
        yield
        return
    from tensorflow.python import pywrap_tfe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda context: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def kernels_go() -> Iterator[None]:
    """Once in a file they go, so that they do not become more and more."""
    import keras

    yield
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    """Every test starts from the same seeds and leaves no global Keras state behind."""
    import keras

    with kernels_stay():
        keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
    with kernels_stay():
        keras.utils.clear_session(free_memory=False)  # a full garbage collection costs 0.2 s


@pytest.fixture
def without_keras_gcp(tmp_path: Path) -> Callable[..., str]:
    """Runs Python code in a new process that cannot import keras_gcp; returns what it printed.

    The code sees further arguments in `sys.argv[1:]` and works in the test's `tmp_path`.
    """

    def run(code: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _WITHOUT_KERAS_GCP + code, *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
