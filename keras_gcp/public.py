"""Everything that users call, imported at once; `keras_gcp` passes it on when it is first used."""

from keras_gcp import (
    gates as gates,
    methods as methods,
    models as models,
    schedules as schedules,
    tfmot as tfmot,
)
from keras_gcp.channels.declared import elementwise as elementwise
from keras_gcp.channels.flattening import flatten as flatten
from keras_gcp.channels.registry import register_rule as register_rule
from keras_gcp.channels.trace import trace as trace
from keras_gcp.compensation import Compensation as Compensation
from keras_gcp.costs.budget import (
    Budget as Budget,
    absolute as absolute,
    timed as timed,
)
from keras_gcp.costs.counting import count as count
from keras_gcp.criteria.relevance import (
    register_relevance_rule as register_relevance_rule,
    relevance_scores as relevance_scores,
)
from keras_gcp.errors import (
    BackupFailed as BackupFailed,
    ExportMismatch as ExportMismatch,
    ImpossibleBudget as ImpossibleBudget,
    InvalidArgument as InvalidArgument,
    KerasGCPError as KerasGCPError,
    MissingPackage as MissingPackage,
    ReplicasDisagree as ReplicasDisagree,
    UnsupportedKeras as UnsupportedKeras,
    UnsupportedModel as UnsupportedModel,
    VerificationFailed as VerificationFailed,
    WriteFailed as WriteFailed,
)
from keras_gcp.evaluation import (
    Smallest as Smallest,
    compare as compare,
    frontier as frontier,
    sensitivity as sensitivity,
    smallest as smallest,
)
from keras_gcp.evaluation.comparison_result import Comparison as Comparison
from keras_gcp.evaluation.frontier_result import Frontier as Frontier
from keras_gcp.evaluation.sensitivity_result import Sensitivity as Sensitivity
from keras_gcp.exporting import export as export
from keras_gcp.pruning.one_shot import (
    apply as apply,
    narrow as narrow,
    plan as plan,
    prune as prune,
)
from keras_gcp.sample import Sample as Sample
from keras_gcp.selection import Selection as Selection
from keras_gcp.selection.plan import Plan as Plan
from keras_gcp.training.accuracy_guard import AccuracyGuard as AccuracyGuard
from keras_gcp.training.callback import GradualChannelPruning as GradualChannelPruning
from keras_gcp.training.distillation import Distillation as Distillation
