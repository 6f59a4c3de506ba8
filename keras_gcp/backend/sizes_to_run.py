"""At which sizes a network that leaves them open is run: known ones, or some that it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from keras_gcp import keras_state
from keras_gcp.backend.comparison import outputs_in_inference, random_inputs
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Shape, Shapes
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.input_sizes import has_open_sizes, shown, sizes_of

TRIED = (32, 64, 128, 224, 96, 16, 240, 480, 256, 8, 512, 1024, 4096, 16384)
"""Sizes that are tried where none is known: most networks halve them some times, some in three."""

MOST_PLANNED_NUMBERS = 2**26
"""Of one example: some 256 MB. A plan may ask for no more; arguments and samples may."""

MOST_TRIED_NUMBERS = 2**22
"""Of one example: some 16 MB. Larger ones are not tried, only taken when they are given."""


def sizes_for_cut(
    model: Any, sample: DrawnSample | None, input_shape: Any, planned: Shapes
) -> Shapes | None:
    """The sizes at which a cut is proved: the sample's, else those given, planned, or tried.

    Args:
        model: The model.
        sample: Examples, or None.
        input_shape: As in `sizes_of`.
        planned: The sizes that the plan was counted at; others are taken if they do not fit.

    Returns:
        One tuple for each input; None if the model has fixed sizes.

    Raises:
        InvalidArgument: `input_shape` or the sample do not fit the model.
        UnsupportedModel: nothing tells a size, and the model runs at none of those tried.
    """
    given = sizes_of(model, input_shape)
    known = sizes_of(model, None, sample) or given or _fitting(model, planned)
    return sizes_to_run(model, known)


def _fitting(model: Any, planned: Shapes) -> Shapes | None:
    if sum(map(math.prod, planned)) > MOST_PLANNED_NUMBERS:
        return None  # A plan is a file, and may say anything.
    try:
        return sizes_of(model, planned or None)
    except InvalidArgument:  # The plan was made on a twin whose inputs are others.
        return None


def sizes_to_run(model: Any, known: Shapes | None) -> Shapes | None:
    """Sizes at which a model can be run; None if its own are fixed.

    Args:
        model: The model.
        known: What `sizes_of` found. If it is None, a few sizes are tried.

    Raises:
        UnsupportedModel: it runs at none of them.
    """
    if known is not None or not has_open_sizes(model):
        return known
    tried, reason = [], ""
    for size, shapes in _candidates(model):
        tried.append(f"{size}")
        try:
            keras_state.read_graph(model, shapes)
            outputs_in_inference(model, random_inputs(model, 1, shapes=shapes))
        except Exception as error:  # Whatever a layer raises for a size that it cannot take.
            reason = " ".join(str(error).split())[:300]
        else:
            return shapes
    raise UnsupportedModel(
        f"Model '{model.name}' leaves sizes of its input open, {shown(_shapes(model))}, and runs "
        f"with none of those that were tried ({', '.join(tried)}); the last time: {reason}. "
        "Expected a size that it takes: pass `input_shape=` (without the batch axis), or examples "
        "as `sample=`."
    )


def _candidates(model: Any) -> Iterator[tuple[int, Shapes]]:
    for size in TRIED:
        shapes = tuple(
            tuple(size if one is None else one for one in shape) for shape in _shapes(model)
        )
        if sum(math.prod(shape) for shape in shapes) <= MOST_TRIED_NUMBERS:
            yield size, shapes


def _shapes(model: Any) -> tuple[Shape, ...]:
    return tuple(tuple(symbol.shape[1:]) for symbol in model.inputs)
