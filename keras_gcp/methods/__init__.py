"""Published systems, composed of criteria, selection, schedules, surgery and compensation.

One file or folder per system; what several of them need is a part in its own room. A criterion is
taken by its name (`criterion="input_variance"`); what is more than a criterion is here.

| system | what to call | page |
|---|---|---|
| Activation Density | `ActivationDensity` | docs/methods/activation_density.md |
| Adversarial fine-tuning | `AdversarialTraining`, `SlowStartFastDecay`, `robust_accuracy` | \
docs/methods/adversarial_fine_tuning.md |
| BWCP | `bwcp`, `bwcp_reasons`, `BatchWhitening`, `fold_bwcp` | docs/methods/bwcp.md |
| CATRO | `criterion="trace_ratio"`, `trace_ratio_set` | docs/methods/catro.md |
| Consensus sub-network | `ConsensusPruning`, on gates of `keras_gcp.gates`; \
`PolarizationRegularizer` | docs/methods/consensus.md |
| GraSP | `criterion="gradient_flow"` (`GradientFlow`), `gradient_flow_scores`, \
`gradient_flow_shares` | docs/methods/grasp.md |
| HASTE | `haste`, `LSHConvolution`, `haste_cost` (`HasteCost`) | docs/methods/haste.md |
| Network Adjustment | `network_adjustment`, `utilization_ratios` | \
docs/methods/network_adjustment.md |
| PruneNet-style | `criterion="input_variance"`, `VarianceRegularizer` | docs/methods/prunenet.md |
| STAMP-style | `SetMaskGenerator`, `class_episodes`; `keras_gcp.gates.BetaBernoulli` | \
docs/methods/stamp.md |
"""

from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.trace_ratio_set import trace_ratio_set
from keras_gcp.methods.adjustment.search import network_adjustment
from keras_gcp.methods.adjustment.utilization import utilization_ratios
from keras_gcp.methods.adversarial.robustness import robust_accuracy
from keras_gcp.methods.adversarial.schedule import SlowStartFastDecay
from keras_gcp.methods.adversarial.training import AdversarialTraining
from keras_gcp.methods.consensus import ConsensusPruning
from keras_gcp.methods.density.callback import ActivationDensity
from keras_gcp.methods.grasp import gradient_flow_scores, gradient_flow_shares
from keras_gcp.methods.hashing.convert import haste
from keras_gcp.methods.hashing.convolution import LSHConvolution
from keras_gcp.methods.hashing.cost import HasteCost, haste_cost
from keras_gcp.methods.penalties.polarization import PolarizationRegularizer
from keras_gcp.methods.penalties.variance import VarianceRegularizer
from keras_gcp.methods.stamp import SetMaskGenerator, class_episodes
from keras_gcp.methods.whitening.convert import bwcp, bwcp_reasons
from keras_gcp.methods.whitening.fold import fold_bwcp
from keras_gcp.methods.whitening.layer import BatchWhitening

__all__ = [
    "ActivationDensity",
    "AdversarialTraining",
    "BatchWhitening",
    "ConsensusPruning",
    "GradientFlow",
    "HasteCost",
    "LSHConvolution",
    "PolarizationRegularizer",
    "SetMaskGenerator",
    "SlowStartFastDecay",
    "VarianceRegularizer",
    "bwcp",
    "bwcp_reasons",
    "class_episodes",
    "fold_bwcp",
    "gradient_flow_scores",
    "gradient_flow_shares",
    "haste",
    "haste_cost",
    "network_adjustment",
    "robust_accuracy",
    "trace_ratio_set",
    "utilization_ratios",
]
