"""Flags that the example scripts share: what may remain, and how it is chosen.

--budget=macs=45%
--budget=tflite_bytes_int8=100kB,latency_ms=60%

Imports no Keras before a flag is used: help shows them without it.
"""

from __future__ import annotations

from absl import flags

import keras_gcp
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.cost_model import RESOURCES
from keras_gcp.errors import InvalidArgument

flags.DEFINE_list(
    "budget",
    ["macs=45%"],
    "What may remain, all of it, as RESOURCE=AMOUNT: a share of the original (45%, or 0.45), or an "
    f"amount (20M, 100kB, 5ms). Resources: {', '.join(RESOURCES)}.",
)
flags.DEFINE_string("criterion", "auto", "Name of the criterion.")
flags.DEFINE_string("align", "auto", "Widths to prefer: auto, or a number.")
flags.DEFINE_float("floor", 0.1, "Least width of a layer, as a share of its own.")
flags.DEFINE_enum(
    "ranking",
    "auto",
    ["auto", "score", "score_per_cost", "uniform"],
    "One ranking by score, by score for cost, or equal shares of all layers: auto is what the "
    "criterion says.",
)
flags.DEFINE_enum(
    "normalize",
    "auto",
    ["auto", "norm", "mean", "rank", "none"],
    "What makes scores of different layers comparable: auto is what the criterion says.",
)
flags.DEFINE_string(
    "evenness",
    "auto",
    "From 0 (layers may get as unequal as scores say) to 1 (all are cut alike); auto: 0 for a "
    "trained network, more while it trains.",
)
flags.DEFINE_list("exclude", [], "Layers that keep all of their channels.")
flags.DEFINE_integer("sample_size", 512, "Training images for scores and compensation.")
flags.DEFINE_enum(
    "compensation",
    "least_squares",
    ["least_squares", "fold", "none"],
    "What is done at a cut about what removed channels did.",
)

FLAGS = flags.FLAGS


@flags.validator("budget")
def _is_budget(entries: list[str]) -> bool:
    try:
        Budget(limits_in(entries))
    except InvalidArgument as error:
        raise flags.ValidationError(
            f"expects entries such as macs=45% or tflite_bytes=250kB. {error}"
        ) from error
    return True


def limits_in(entries: list[str]) -> dict[str, str]:
    """Resource to what was written."""
    pairs = [entry.partition("=") for entry in entries]
    return {resource.strip(): text for resource, _, text in pairs}


@flags.validator("align", "expects auto, or a number")
def _is_align(text: str) -> bool:
    return text == "auto" or text.isdecimal()


@flags.validator("evenness", "expects auto, or a number from 0 to 1")
def _is_evenness(text: str) -> bool:
    try:
        keras_gcp.Selection(evenness=_evenness(text))
    except ValueError:  # `InvalidArgument` is one.
        return False
    return True


def _evenness(text: str) -> str | float:
    return text if text == "auto" else float(text)


def budget() -> Budget:
    """The budget of the flags."""
    return Budget(limits_in(FLAGS.budget))


def selection() -> keras_gcp.Selection:
    """How channels are chosen."""
    align = FLAGS.align if FLAGS.align == "auto" else int(FLAGS.align)
    return keras_gcp.Selection(
        align=align,
        floor=FLAGS.floor,
        ranking=FLAGS.ranking,
        normalize=FLAGS.normalize,
        evenness=_evenness(FLAGS.evenness),
    )


def compensation() -> str | None:
    """How cuts are compensated."""
    return None if FLAGS.compensation == "none" else FLAGS.compensation
