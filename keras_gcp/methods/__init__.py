"""Published systems, composed of criteria, selection, schedules, surgery and compensation.

One file, or folder, per system; what several of them need is a part in its own room. A criterion is
taken by its name (`criterion="input_variance"`); what is more than a criterion is here.

| system | what to call | page |
|---|---|---|
| Activation Density | `ActivationDensity` | docs/methods/activation_density.md |
| BWCP | `bwcp`, `bwcp_reasons`, `BatchWhitening`, `fold_bwcp` | docs/methods/bwcp.md |
| CATRO | `criterion="trace_ratio"`, `trace_ratio_set` | docs/methods/catro.md |
| GraSP | `criterion="gradient_flow"` (`GradientFlow`), `gradient_flow_scores`, \
`gradient_flow_shares` | docs/methods/grasp.md |
| PruneNet-style | `criterion="input_variance"`, `VarianceRegularizer` | docs/methods/prunenet.md |
"""

from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.trace_ratio_set import trace_ratio_set
from keras_gcp.methods.activation_density import ActivationDensity
from keras_gcp.methods.grasp import gradient_flow_scores, gradient_flow_shares
from keras_gcp.methods.variance_regularizer import VarianceRegularizer
from keras_gcp.methods.whitening.convert import bwcp, bwcp_reasons
from keras_gcp.methods.whitening.fold import fold_bwcp
from keras_gcp.methods.whitening.layer import BatchWhitening

__all__ = [
    "ActivationDensity",
    "BatchWhitening",
    "GradientFlow",
    "VarianceRegularizer",
    "bwcp",
    "bwcp_reasons",
    "fold_bwcp",
    "gradient_flow_scores",
    "gradient_flow_shares",
    "trace_ratio_set",
]
