"""Flags that the example scripts share: what may remain, and how it is chosen.

--budget=macs=45%
--budget=tflite_bytes_int8=100000,latency_ms=60%
"""

from __future__ import annotations

import re
from typing import Any

from absl import flags

import keras_gcp
from keras_gcp.costs.budget import Budget
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
flags.DEFINE_enum("normalize", "none", ["none", "cost"], "Scores as they are, or for their cost.")
flags.DEFINE_enum("scope", "global", ["global", "group"], "One ranking, or equal shares of layers.")
flags.DEFINE_list("exclude", [], "Layers that keep all of their channels.")
flags.DEFINE_integer("sample_size", 512, "Training images for scores and compensation.")
flags.DEFINE_enum(
    "compensate",
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


def budget() -> Budget:
    """The budget of the flags."""
    entries: dict[str, Any] = {}
    for entry in FLAGS.budget:
        resource, number, percent = _ENTRY.fullmatch(entry).groups()
        value = float(number)
        entries[resource] = value / 100 if percent else keras_gcp.absolute(value)
    return Budget.parse(entries)


def selection() -> dict[str, Any]:
    """How channels are chosen: arguments of `keras_gcp.plan` and of the callback."""
    return {
        "criterion": FLAGS.criterion,
        "align": FLAGS.align if FLAGS.align == "auto" else int(FLAGS.align),
        "normalize": FLAGS.normalize,
        "scope": FLAGS.scope,
        "exclude": FLAGS.exclude,
    }


def compensation() -> dict[str, Any]:
    """How cuts are compensated: arguments of `keras_gcp.apply` and of the callback."""
    wanted = FLAGS.compensate != "none"
    return {"compensate": FLAGS.compensate if wanted else None, "recalibrate": wanted}
