"""The conservation report: what arrives where, and how large single elements are."""

import networks
import numpy as np
import patterns
import pytest
from helpers import inputs_for, randomise

from keras_gcp.criteria.relevance import conservation_report, relevance_scores


def labels(model, count=6):
    return np.arange(count) % model.output.shape[-1]


@pytest.mark.parametrize("build", [networks.plain, networks.residual, networks.concatenation])
def test_all_relevance_arrives_at_the_input_of_a_network_without_gates(build):
    model = randomise(build())
    report = conservation_report(model, inputs_for(model, 6), labels(model))
    assert report["input 0"].total == pytest.approx(1, abs=1e-3)
    assert report["input 0"].least == pytest.approx(1, abs=1e-2)
    assert report["input 0"].greatest == pytest.approx(1, abs=1e-2)
    assert all(found.peak < 100 for found in report.values())


def test_a_layer_on_one_of_two_ways_gets_its_part_only():
    model = randomise(networks.residual())
    report = conservation_report(model, inputs_for(model, 6), labels(model))
    parts = report["b2_shortcut"].total + report["b2b_conv"].total
    assert parts == pytest.approx(report["b2_add"].total, abs=1e-3)


@pytest.mark.parametrize("name", ["convnext", "group_normalised", "resnext", "shufflenet", "audio"])
def test_relevance_stays_finite_and_moderate_where_inputs_are_signed(name):
    model = randomise(patterns.ALL[name]())
    x = inputs_for(model, 6)
    y = labels(model)
    report = conservation_report(model, x, y)
    assert all(np.isfinite([f.total, f.peak]).all() and f.peak < 1000 for f in report.values())
    assert all(np.isfinite(scores).all() for scores in relevance_scores(model, x, y).values())
