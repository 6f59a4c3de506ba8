"""Where a model's variables live, and which devices have limits of their own."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from keras_gcp.errors import UnsupportedModel


def strategy_scope(model: Any) -> AbstractContextManager[Any]:
    """Where variables are made that are to live beside a model's own."""
    tensorflow = keras.config.backend() == "tensorflow"
    return model.distribute_strategy.scope() if tensorflow else nullcontext()


def check_strategy(model: Any) -> None:
    """Refuses a way of training on many devices, or processes, in which cuts cannot be made.

    Raises:
        UnsupportedModel: variables live in another strategy than the present one, weights are
            split over devices, or the processes cannot be kept in step.
    """
    framework = keras.config.backend()
    if framework == "tensorflow":
        _check_tensorflow_strategy(model)
    elif framework == "jax":
        _check_replicated(model)
    elif framework == "torch":
        _check_single_process()


def _check_tensorflow_strategy(model: Any) -> None:
    of_fit = _strategy_name(model.distribute_strategy)
    for variable in model.variables:
        own = _strategy_name(getattr(variable._value, "_distribute_strategy", None))
        if own != of_fit:
            raise UnsupportedModel(
                f"Weight '{variable.path}' was created in the scope of {own}, but the model "
                f"trains with {of_fit}. Build, load and prune the model in the scope of the "
                "strategy it is trained with."
            )


def _check_replicated(model: Any) -> None:
    for variable in model.variables:
        if not variable._value.sharding.is_fully_replicated:
            raise UnsupportedModel(
                f"Weight '{variable.path}' of shape {tuple(variable.shape)} is split over devices "
                f"({variable._value.sharding.spec}). Expected every device to hold all of it, as "
                "with `keras.distribution.DataParallel`. Prune with that, or on one device, before "
                "training with `ModelParallel`."
            )


def _check_single_process() -> None:
    import torch

    group = torch.distributed
    if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
        raise UnsupportedModel(
            f"PyTorch runs {group.get_world_size()} processes together (torch.distributed), and "
            "keras_gcp does not keep them in step: each would cut other channels. Expected one "
            "process; or take the JAX backend with `keras.distribution.DataParallel`."
        )


def _strategy_name(strategy: Any) -> str:
    """The kind of a TensorFlow strategy; variables outside any strategy have none."""
    name = type(strategy).__name__
    return "no strategy" if strategy is None or name.startswith("_Default") else name


def least_width_of_strided_pointwise() -> int:
    """Input channels below which training a strided 1x1 convolution may crash the process.

    Seen with TensorFlow 2.21 on a CPU with AVX-512: with 4, 8, 12 or 15 input channels the heap
    is corrupted after some steps ("double free", "malloc(): invalid size"), with 16 and more it
    is not, nor with `TF_ENABLE_ONEDNN_OPTS=0`. PyTorch 2.13 computes with the same library
    (oneDNN), and crashed in the same way ("corrupted double-linked list"), but not with
    `torch.backends.mkldnn.enabled = False`. GPUs and JAX are not concerned.
    """
    backend = keras.config.backend()
    if backend == "tensorflow" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        import tensorflow as tf

        return 1 if tf.config.list_physical_devices("GPU") else 16
    if backend == "torch":
        import torch

        onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        return 16 if onednn and not torch.cuda.is_available() else 1
    return 1
