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

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from keras_gcp._version import __version__
from keras_gcp.versions import check_installed

check_installed()

if TYPE_CHECKING:
    from keras_gcp.public import *

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
    "MissingPackage",
    "Plan",
    "ReplicasDisagree",
    "Sample",
    "Selection",
    "Sensitivity",
    "Smallest",
    "UnsupportedKeras",
    "UnsupportedModel",
    "VerificationFailed",
    "WriteFailed",
    "__version__",
    "absolute",
    "apply",
    "compare",
    "count",
    "elementwise",
    "export",
    "flatten",
    "frontier",
    "gates",
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


def __getattr__(name: str) -> Any:
    """Imports what is used when it is used: help and versions need no Keras, let alone a backend.

    Folders first: what is imported for a public name asks for them while that is under way.
    """
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.public"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
