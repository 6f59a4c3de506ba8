"""Numbers, lines and tables as people read them."""

from keras_gcp.formatting.footnotes import footnoted
from keras_gcp.formatting.lines import (
    LINE,
    listed,
    parts_line,
    shortened,
    shortened_at_words,
    shortened_names,
    wrapped,
)
from keras_gcp.formatting.numbers import (
    amount,
    count,
    factor,
    file_size,
    metric,
    milliseconds,
    percent,
    seconds,
    three_digits,
)
from keras_gcp.formatting.tables import html_lines, html_table, table

__all__ = [
    "LINE",
    "amount",
    "count",
    "factor",
    "file_size",
    "footnoted",
    "html_lines",
    "html_table",
    "listed",
    "metric",
    "milliseconds",
    "parts_line",
    "percent",
    "seconds",
    "shortened",
    "shortened_at_words",
    "shortened_names",
    "table",
    "three_digits",
    "wrapped",
]
