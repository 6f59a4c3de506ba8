"""Coins that need more than counting weights: bytes of a file, memory, milliseconds."""

from keras_gcp.coins.opening import counted, opened, require_environment
from keras_gcp.coins.settling import Settled, settled

__all__ = ["Settled", "counted", "opened", "require_environment", "settled"]
