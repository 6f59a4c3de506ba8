"""Published systems, composed of criteria, selection, schedules, surgery and compensation.

One file per system, or one folder; what several of them need is a part in its own room. A
criterion is taken by its name (`criterion="input_variance"`); what is more than one is here.

| system | what to call | page |
|---|---|---|
| Activation Density | `ActivationDensity` | docs/methods/activation_density.md |
| Consensus sub-network | `ConsensusPruning`, on gates of `keras_gcp.gates`; \
`PolarizationRegularizer` | docs/methods/consensus.md |
| CATRO | `criterion="trace_ratio"`, `trace_ratio_set` | docs/methods/catro.md |
| GraSP | `criterion="gradient_flow"` (`GradientFlow`), `gradient_flow_scores`, \
`gradient_flow_shares` | docs/methods/grasp.md |
| PruneNet-style | `criterion="input_variance"`, `VarianceRegularizer` | docs/methods/prunenet.md |
| STAMP-style | `SetMaskGenerator`, `class_episodes`; `keras_gcp.gates.BetaBernoulli` | \
docs/methods/stamp.md |
"""

from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.trace_ratio_set import trace_ratio_set
from keras_gcp.methods.activation_density import ActivationDensity
from keras_gcp.methods.consensus import ConsensusPruning
from keras_gcp.methods.grasp import gradient_flow_scores, gradient_flow_shares
from keras_gcp.methods.polarization_regularizer import PolarizationRegularizer
from keras_gcp.methods.stamp import SetMaskGenerator, class_episodes
from keras_gcp.methods.variance_regularizer import VarianceRegularizer

__all__ = [
    "ActivationDensity",
    "ConsensusPruning",
    "GradientFlow",
    "PolarizationRegularizer",
    "SetMaskGenerator",
    "VarianceRegularizer",
    "class_episodes",
    "gradient_flow_scores",
    "gradient_flow_shares",
    "trace_ratio_set",
]
