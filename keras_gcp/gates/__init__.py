"""Gates: one factor for each channel that can go, learned while the network trains.

`insert` puts gates on the channels of a network, `remove` makes a plain narrow network of it. One
file per kind of gate.
"""

from keras_gcp.gates.beta_bernoulli import BetaBernoulli
from keras_gcp.gates.channel_dropout import ChannelDropout
from keras_gcp.gates.consensus import ConsensusGate
from keras_gcp.gates.gate import Gate, gates_of
from keras_gcp.gates.insertion import insert
from keras_gcp.gates.removal import remove
from keras_gcp.gates.scale import ScaleGate

__all__ = [
    "BetaBernoulli",
    "ChannelDropout",
    "ConsensusGate",
    "Gate",
    "ScaleGate",
    "gates_of",
    "insert",
    "remove",
]
