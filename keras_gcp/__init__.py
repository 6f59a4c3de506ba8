"""keras_gcp: channel pruning for Keras 3 that really makes networks smaller while they train.

```python
pruning = keras_gcp.GradualChannelPruning(
    sample=(x_train, y_train),
    budget={"macs": 0.5},
    schedule=keras_gcp.schedules.linear(begin=2, end=8, every=2),
)
model.fit(x_train, y_train, epochs=20, callbacks=[pruning])
```
"""

from keras_gcp.versions import check_keras

check_keras()  # Before any module that relies on private state of Keras is imported.

from keras_gcp import methods, models, schedules, tfmot
from keras_gcp._version import __version__
from keras_gcp.channels.declared import elementwise
from keras_gcp.channels.flattening import flatten
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.trace import trace
from keras_gcp.compensation import Compensation
from keras_gcp.costs.budget import Budget, absolute, timed
from keras_gcp.costs.counting import count
from keras_gcp.criteria.relevance import register_relevance_rule, relevance_scores
from keras_gcp.errors import (
    BackupFailed,
    ExportMismatch,
    ImpossibleBudget,
    InvalidArgument,
    KerasGCPError,
    ReplicasDisagree,
    UnsupportedKeras,
    UnsupportedModel,
    VerificationFailed,
)
from keras_gcp.evaluation import Smallest, compare, frontier, sensitivity, smallest
from keras_gcp.evaluation.comparison_result import Comparison
from keras_gcp.evaluation.frontier_result import Frontier
from keras_gcp.evaluation.sensitivity_result import Sensitivity
from keras_gcp.exporting import export
from keras_gcp.pruning.one_shot import apply, narrow, plan, prune
from keras_gcp.sample import Sample
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.training.accuracy_guard import AccuracyGuard
from keras_gcp.training.callback import GradualChannelPruning
from keras_gcp.training.distillation import Distillation

__all__ = [
    "AccuracyGuard",
    "BackupFailed",
    "Budget",
    "Comparison",
    "Compensation",
    "Distillation",
    "ExportMismatch",
    "Frontier",
    "GradualChannelPruning",
    "ImpossibleBudget",
    "InvalidArgument",
    "KerasGCPError",
    "Plan",
    "ReplicasDisagree",
    "Sample",
    "Selection",
    "Sensitivity",
    "Smallest",
    "UnsupportedKeras",
    "UnsupportedModel",
    "VerificationFailed",
    "__version__",
    "absolute",
    "apply",
    "compare",
    "count",
    "elementwise",
    "export",
    "flatten",
    "frontier",
    "methods",
    "models",
    "narrow",
    "plan",
    "prune",
    "register_relevance_rule",
    "register_rule",
    "relevance_scores",
    "schedules",
    "sensitivity",
    "smallest",
    "tfmot",
    "timed",
    "trace",
]
