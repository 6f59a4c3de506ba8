"""What differs between TensorFlow, JAX and PyTorch: derivatives, compilation, several processes.

Nothing outside this package imports a framework for mathematics. The framework is the one that
Keras runs on (`keras.config.backend()`).
"""

from keras_gcp.backend.collectives import assert_equal, mean_over_processes, run_everywhere
from keras_gcp.backend.dispatch import (
    compiled,
    forget_gradients,
    forget_shapes,
    frozen_weights,
    hessian_product,
    local_weights,
    process_count,
    process_index,
    random_state,
    runs_eagerly,
    set_random_state,
    trace_train_step,
    vjp,
    without_gradients,
)
from keras_gcp.backend.inference import (
    DEFAULT_BATCH_SIZE,
    Predictor,
    has_loss,
    loss_gradients,
    loss_of_outputs,
    over_batches,
    predict,
    sample_loss,
    with_weights,
    worth_compiling,
)
from keras_gcp.backend.largest_seen import LargestSeen

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "LargestSeen",
    "Predictor",
    "mean_over_processes",
    "compiled",
    "forget_gradients",
    "forget_shapes",
    "frozen_weights",
    "has_loss",
    "hessian_product",
    "local_weights",
    "loss_gradients",
    "loss_of_outputs",
    "over_batches",
    "predict",
    "process_count",
    "process_index",
    "random_state",
    "assert_equal",
    "runs_eagerly",
    "trace_train_step",
    "sample_loss",
    "set_random_state",
    "run_everywhere",
    "vjp",
    "with_weights",
    "without_gradients",
    "worth_compiling",
]
