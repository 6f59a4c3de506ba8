"""Published systems, composed of criteria, selection, schedules, surgery and compensation.

One file per system; what several of them need is a part in its own room. A criterion is taken by
its name (`criterion="input_variance"`); what is more than a criterion is here.

| system | what to call | page |
|---|---|---|
| Activation Density | `ActivationDensity` | docs/methods/activation_density.md |
| Consensus sub-network | `ConsensusPruning`, on gates of `keras_gcp.gates`; \
`PolarizationRegularizer` | docs/methods/consensus.md |
| CATRO | `criterion="trace_ratio"`, `trace_ratio_set` | docs/methods/catro.md |
| GraSP | `criterion="gradient_flow"` (`GradientFlow`), `gradient_flow_scores`, \
`gradient_flow_shares` | docs/methods/grasp.md |
| Network Adjustment | `network_adjustment`, `utilization_ratios` | \
docs/methods/network_adjustment.md |
| PruneNet-style | `criterion="input_variance"`, `VarianceRegularizer` | docs/methods/prunenet.md |
"""

from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.trace_ratio_set import trace_ratio_set
from keras_gcp.methods.activation_density import ActivationDensity
from keras_gcp.methods.consensus import ConsensusPruning
from keras_gcp.methods.grasp import gradient_flow_scores, gradient_flow_shares
from keras_gcp.methods.network_adjustment import network_adjustment
from keras_gcp.methods.polarization_regularizer import PolarizationRegularizer
from keras_gcp.methods.utilization_ratios import utilization_ratios
from keras_gcp.methods.variance_regularizer import VarianceRegularizer

__all__ = [
    "ActivationDensity",
    "ConsensusPruning",
    "GradientFlow",
    "PolarizationRegularizer",
    "VarianceRegularizer",
    "gradient_flow_scores",
    "gradient_flow_shares",
    "network_adjustment",
    "trace_ratio_set",
    "utilization_ratios",
]
