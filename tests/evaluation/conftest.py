"""Two networks of accuracy 1, and the examples on which they have it."""

from __future__ import annotations

import networks
import pytest
from self_labelled import labelled, prepared


@pytest.fixture(scope="package")
def model():
    """A compiled network of accuracy 1 on `data`; no test may change it."""
    return prepared(networks.plain())


@pytest.fixture(scope="package")
def data(model):
    return labelled(model)


@pytest.fixture(scope="package")
def residual():
    """The same with shortcuts, and its own labels."""
    model = prepared(networks.residual())
    return model, labelled(model)
