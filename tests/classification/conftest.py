"""A network of accuracy 1, and the examples on which it has it."""

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
