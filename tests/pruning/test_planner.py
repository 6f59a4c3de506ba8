"""A planner goes on with what it has learnt of real files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import networks
import numpy as np
import pytest
from helpers import randomise

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.cost_model import Products
from keras_gcp.costs.counting import build_cost_model, count_map
from keras_gcp.pruning import planner
from keras_gcp.pruning.original import Original
from keras_gcp.resources import calibration
from keras_gcp.resources.cost_functions import Sum
from keras_gcp.selection import Selection
from keras_gcp.selection.preferences import Preferences

ERROR = 500.0
"""What predictions are wrong by, until a real file is looked at."""


@dataclass(frozen=True)
class FourBytesEach:
    """A file that holds four bytes for each weight, and nothing else."""

    name: str = "tflite_bytes"
    rest: float = -ERROR
    measured: list = field(default_factory=list)

    scatters: ClassVar[bool] = False

    def function(self, channels, axes):
        fixed = sum(
            np.prod(v.shape) for v in channels.model.weights if id(v) not in channels.weights
        )
        terms = []
        for weight in channels.weights.values():
            free = [n for axis, n in enumerate(weight.variable.shape) if axis not in weight.axes]
            own = tuple(axes.add(coupled) for coupled in weight.axes.values())
            terms.append((4 * int(np.prod(free)), own))
        return Sum(self.rest + 4 * float(fixed), Products.of(terms))

    def measure(self, model):
        self.measured.append(4.0 * model.count_params())
        return self.measured[-1]

    def is_close(self, measured, limit):
        return False

    def corrected(self, predicted, measured):
        return replace(self, rest=self.rest + measured - predicted)


@pytest.fixture
def made():
    model = randomise(networks.residual())
    channels = trace(model)
    scores = np.random.default_rng(0).random(channels.coupled_count)
    resource = FourBytesEach()
    further = (resource,)
    cost_model = build_cost_model(channels, further)
    original = Original(count_map(channels, further), channels.widths(), further)
    one = planner.Planner(
        channels, Preferences(scores), Selection(align=1, floor=1), original, cost_model
    )
    return one, resource.measured, 4 * model.count_params()


def test_only_the_first_plan_has_to_learn_what_predictions_are_wrong_by(made):
    one, measured, whole = made
    first = one.plan({"tflite_bytes": 0.8 * whole}, "80 %")
    assert len(measured) > 1  # The first candidate was larger than predicted.
    for share in (0.6, 0.7, 0.5):
        measured.clear()
        plan = one.plan({"tflite_bytes": share * whole}, f"{share:.0%}")
        assert len(measured) == 1
        assert plan.after.further["tflite_bytes"] == measured[0] <= share * whole
        assert plan.before == first.before


def test_costs_are_laid_out_once_where_nothing_is_learnt(made, monkeypatch):
    one, measured, _ = made
    monkeypatch.setattr(planner, "build_cost_model", None)
    for parameters in (900, 800):
        assert one.plan({"parameters": parameters}, "").after.parameters <= parameters
    assert measured == []


def test_a_plan_lays_costs_out_once(monkeypatch):
    monkeypatch.setattr(calibration, "build_cost_model", None)
    assert keras_gcp.plan(networks.plain(), {"macs": 0.5}).removed_channels
