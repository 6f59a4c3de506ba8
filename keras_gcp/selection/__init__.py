"""Selection: which channels stay, from scores, costs and allowed widths. Sees numbers and names."""

from keras_gcp.selection.candidates import Candidates
from keras_gcp.selection.select import Selection, select
from keras_gcp.selection.slack import Slack, slack_of
from keras_gcp.selection.widths import DEFAULT_FLOOR, Align, Cap, Floor

__all__ = [
    "DEFAULT_FLOOR",
    "Align",
    "Candidates",
    "Cap",
    "Floor",
    "Selection",
    "Slack",
    "select",
    "slack_of",
]
