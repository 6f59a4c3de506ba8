"""Flags that the example scripts share: what may remain, and how it is chosen.

--budget=macs=45%
--budget=tflite_bytes_int8=100000,latency_ms=60%
"""

from __future__ import annotations

import re
from typing import Any

from absl import flags

import keras_gcp
from keras_gcp.costs.cost_model import RESOURCES

_ENTRY = re.compile(r"(\w+)=(\d+\.?\d*(?:e\d+)?)(%?)")

flags.DEFINE_list(
    "budget",
    ["macs=45%"],
    "What may remain, all of it: RESOURCE=SHARE% of the original, or RESOURCE=NUMBER. Resources: "
    f"{', '.join(RESOURCES)}.",
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
flags.DEFINE_list("exclude", [], "Layers that keep all of their channels.")
flags.DEFINE_integer("sample_size", 512, "Training images for scores and compensation.")
flags.DEFINE_enum(
    "compensation",
    "least_squares",
    ["least_squares", "fold", "none"],
    "What is done at a cut about what removed channels did.",
)

FLAGS = flags.FLAGS


@flags.validator("budget", "expects entries such as macs=45% or tflite_bytes=250000")
def _is_budget(entries: list[str]) -> bool:
    found = [_ENTRY.fullmatch(entry) for entry in entries]
    return bool(found) and all(match and match[1] in RESOURCES for match in found)


@flags.validator("align", "expects auto, or a number")
def _is_align(text: str) -> bool:
    return text == "auto" or text.isdecimal()


def budget() -> keras_gcp.Budget:
    """The budget of the flags."""
    limits: dict[str, Any] = {}
    for entry in FLAGS.budget:
        resource, number, percent = _ENTRY.fullmatch(entry).groups()
        value = float(number)
        limits[resource] = value / 100 if percent else keras_gcp.absolute(value)
    return keras_gcp.Budget(limits)


def selection() -> keras_gcp.Selection:
    """How channels are chosen."""
    align = FLAGS.align if FLAGS.align == "auto" else int(FLAGS.align)
    return keras_gcp.Selection(
        align=align, floor=FLAGS.floor, ranking=FLAGS.ranking, normalize=FLAGS.normalize
    )


def compensation() -> str | None:
    """How cuts are compensated."""
    return None if FLAGS.compensation == "none" else FLAGS.compensation
