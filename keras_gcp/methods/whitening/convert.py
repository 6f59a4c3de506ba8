"""`bwcp`: a model's batch normalizations become batch whitening."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_gcp.channels.trace import trace
from keras_gcp.errors import UnsupportedModel
from keras_gcp.methods.whitening.layer import BatchWhitening
from keras_gcp.methods.whitening.sites import WhiteningSite, as_lines, find_sites
from keras_gcp.surgery.model_copy import exchanged_copy
from keras_gcp.validation import require_seed


def bwcp(
    model: Any,
    groups: int = 16,
    *,
    newton_iterations: int = 5,
    delta: float = 0.05,
    threshold: float = 0.5,
    temperature: Any = 0.5,
    sharpness: Any = 4.0,
    scale_penalty: float = 4e-5,
    shift_penalty: float = 8e-5,
    warmup_steps: int = 0,
    prune: bool = True,
    exclude: Sequence[str] = (),
    seed: int | None = None,
) -> Any:
    """A copy of a model with batch whitening and masks, which closes channels as it is trained.

    Every `BatchNormalization` that has a convolution or dense layer of its own in front, and whose
    channels may be pruned, becomes a `BatchWhitening` under its name; other layers are copied. All
    weights are carried over, and whitening begins as the identity. So as long as masks are open
    (`prune=False`, or before `warmup_steps`), the copy computes in inference what the model does.
    `bwcp_reasons(model)` says which normalizations stay, and why.

    Compile the copy, train it with `fit`, from the beginning or for long, and take
    `fold_bwcp(copy)`: a plain narrow model without the closed channels. What inference computes
    meanwhile is what that model will.

    Behind depthwise convolutions, where whitening cannot be folded away, groups are of one channel:
    masks without whitening. In grouped convolutions groups of channels lie within theirs.

    Shao, Yu, Zhang, Xu, Li, Luo, 2021 (arXiv 2105.06423); docs/methods/bwcp.md says what is ours.

    Args:
        model: A built functional or sequential `keras.Model`.
        groups: Most channels of one group.
        newton_iterations: As of `BatchWhitening`, like all that follow.
        delta: From which value on a channel counts as active.
        threshold: Channels with at most this probability are closed in inference.
        temperature: Of the Gumbel-softmax: a number above 0, or a schedule of
            `keras.optimizers.schedules` by training steps.
        sharpness: Factor of the logits of probabilities, number or schedule.
        scale_penalty: Factor of `|gamma|` in the loss, summed over channels.
        shift_penalty: Factor of `beta`, likewise. Both defaults are the paper's for CIFAR-10, with
            160 epochs; short trainings need greater ones.
        warmup_steps: For so many training steps masks are open, and there is no penalty.
        prune: Whether there are masks and penalties; if not, the model is whitened only.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        seed: For the noise of the Gumbel-softmax.

    Returns:
        A new model, not compiled, of the model's structure and names.

    Raises:
        UnsupportedModel: the model cannot be traced, or no normalization can become whitening.
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    training = keras_gcp.methods.bwcp(model, scale_penalty=4e-3, shift_penalty=2e-3)
    training.compile("adam", "sparse_categorical_crossentropy")
    training.fit(x, y, epochs=40)
    small = keras_gcp.methods.fold_bwcp(training)
    ```
    """
    seed = require_seed(seed)
    settings = {
        "newton_iterations": newton_iterations,
        "delta": delta,
        "threshold": threshold,
        "temperature": temperature,
        "sharpness": sharpness,
        "scale_penalty": scale_penalty,
        "shift_penalty": shift_penalty,
        "warmup_steps": warmup_steps,
        "prune": prune,
    }
    BatchWhitening(groups, **settings)  # Refuses what is out of range before the model is read.
    sites, reasons = find_sites(trace(model, exclude))
    if not sites:
        raise UnsupportedModel(
            f"Model '{model.name}' has no BatchNormalization that BWCP can replace. Expected one "
            "that follows a convolution or dense layer of its own, and whose channels may be "
            f"pruned.\n{as_lines(reasons)}"
        )
    exchanged = {
        id(site.layer): _whitening_for(site, groups, settings, seed, number)
        for number, site in enumerate(sites.values())
    }
    copy = exchanged_copy(model, exchanged)
    for site in sites.values():
        _take_over(exchanged[id(site.layer)], site.layer)
    return copy


def bwcp_reasons(model: Any, exclude: Sequence[str] = ()) -> dict[str, str]:
    """The normalizations of a model that `bwcp` leaves as they are, and why.

    Args:
        model: As for `bwcp`.
        exclude: Likewise.

    Returns:
        Path of a `BatchNormalization` to the reason, in network order.

    Example:

    ```python
    for path, reason in keras_gcp.methods.bwcp_reasons(model).items():
        print(path, reason)
    ```
    """
    channels = trace(model, exclude)
    _, reasons = find_sites(channels)
    order = [call.path for call in channels.graph.calls]
    return {path: reasons[path] for path in sorted(reasons, key=order.index)}


def _whitening_for(
    site: WhiteningSite, groups: int, settings: dict[str, Any], seed: int | None, number: int
) -> BatchWhitening:
    layer = site.layer
    return BatchWhitening(
        site.group_size(groups),
        axis=layer.axis,
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        gamma_regularizer=layer.gamma_regularizer,
        beta_regularizer=layer.beta_regularizer,
        seed=None if seed is None else seed + number,
        name=layer.name,
        dtype=layer.dtype_policy,
        **settings,
    )


def _take_over(whitening: BatchWhitening, layer: Any) -> None:
    """The state of the normalization; a gamma of ones and a beta of zeros where it had none."""
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        value = getattr(layer, name)
        if value is not None:
            getattr(whitening, name).assign(value)
