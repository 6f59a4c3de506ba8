"""Who needs a classifier: so that an error names it, and says what else its user can do."""

from __future__ import annotations

from dataclasses import dataclass

from keras_gcp.errors import KerasGCPError, UnsupportedModel


@dataclass(frozen=True)
class Asker:
    """What of this package looks at classes.

    Attributes:
        name: As users know it, at the beginning of a sentence or inside it.
        remedy: What they can do with a model that is not a classifier, or with labels that are not
            classes.
        error: What is raised where the model is not a classifier.
    """

    name: str
    remedy: str
    error: type[KerasGCPError] = UnsupportedModel
