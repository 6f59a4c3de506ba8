"""STAMP-style: masks for a task, generated from a set of its examples.

- `set_encoder`: a vector for a set; `observation`: what is seen of a task.
- `mask_network`: from both to the parameters of the gates.
- `gated_copy`: the network with these gates.
- `episodes`: tasks to learn from; `meta_training`: how.
- `generator`: what users call.
"""

from keras_gcp.methods.stamp.episodes import class_episodes
from keras_gcp.methods.stamp.generator import SetMaskGenerator

__all__ = ["SetMaskGenerator", "class_episodes"]
