"""What comes from outside, checked: arguments of users, and data out of files."""

from keras_gcp.validation.arguments import (
    LARGEST,
    between,
    integer,
    layer_names,
    number,
    numbers_in,
    require_above_0,
    require_flag,
    require_from_0,
    require_integer,
    require_kind,
    require_one_of,
    require_path,
    require_seed,
    require_verbose,
)

__all__ = [
    "LARGEST",
    "between",
    "integer",
    "layer_names",
    "number",
    "numbers_in",
    "require_above_0",
    "require_flag",
    "require_from_0",
    "require_integer",
    "require_kind",
    "require_one_of",
    "require_path",
    "require_seed",
    "require_verbose",
]
