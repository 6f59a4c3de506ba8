"""Networks with gates, built once."""

from __future__ import annotations

import networks
import pytest
from gating import soft
from helpers import randomise

from keras_gcp import gates


@pytest.fixture(scope="session", params=["residual", "concatenation"])
def pair(request):
    """`(network, the same with gates, half closed)`; tests leave both as they are."""
    model = randomise(getattr(networks, request.param)())
    return model, soft(gates.insert(model, gates.ScaleGate()))


@pytest.fixture(scope="session")
def narrow(pair):
    """The gated network without its gates."""
    return gates.remove(pair[1])
