"""Pictures of trade-offs show every group, and every size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument
from keras_gcp.evaluation.frontier_result import Frontier, FrontierPoint
from keras_gcp.evaluation.sensitivity_result import GroupSensitivity, Sensitivity, SensitivityPoint
from keras_gcp.reporting import style

colors = pytest.importorskip("matplotlib.colors", reason="pictures need matplotlib")
image = pytest.importorskip("matplotlib.image")

COLORS = [getattr(style, n) for n in ("VERMILION", "BLUE", "ORANGE", "GREEN", "PURPLE", "SKY")]


def pixels_of(path: Path, color: str) -> int:
    picture = image.imread(path)[..., :3]
    return int((np.abs(picture - colors.to_rgb(color)).max(axis=-1) < 0.02).sum())


def sensitivity(groups: int, metric: str = "accuracy") -> Sensitivity:
    """Group after group loses more."""
    curves = tuple(
        GroupSensitivity(
            f"stage_{i}/block/convolution_with_a_long_name",
            ("layer",),
            16,
            tuple(
                SensitivityPoint(s, round(16 * s), 0.93 - 0.02 * i * (1 - s) ** 2)
                for s in (0.75, 0.5, 0.25)
            ),
        )
        for i in range(groups)
    )
    return Sensitivity(metric, True, 0.93, 1000, curves)


def frontier(points: int) -> Frontier:
    return Frontier(
        "accuracy",
        True,
        "macs",
        tuple(
            FrontierPoint(1 - i / 6, 1 - i / 6, 1_000_000, 20_000, 0.9 - 0.01 * i, i, Path("m"))
            for i in range(points)
        ),
    )


@pytest.mark.parametrize("groups", [1, 6, 40])
def test_the_most_sensitive_groups_have_colours_and_the_others_are_grey(groups, tmp_path):
    path = sensitivity(groups).plot(tmp_path / "new" / "sensitivity.png")
    shown = [pixels_of(path, color) > 100 for color in COLORS]
    assert sum(shown) == min(groups, len(COLORS))
    assert (pixels_of(path, style.TRACK) > 2000) == (groups > len(COLORS))


def test_every_point_of_a_frontier_is_drawn(tmp_path):
    few = pixels_of(frontier(2).plot(tmp_path / "few.png"), style.BLUE)
    many = pixels_of(frontier(6).plot(tmp_path / "many.png"), style.BLUE)
    assert many > few > 300


def test_values_beyond_shares_are_drawn_as_they_are(tmp_path):
    path = sensitivity(3, metric="negative_loss").plot(tmp_path / "loss.png")
    assert pixels_of(path, style.BLUE) > 100


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="no groups"):
        sensitivity(0).plot(tmp_path / "none.png")
    whole = GroupSensitivity("stem", ("stem",), 16, (SensitivityPoint(0.5, 16, 0.9),))
    with pytest.raises(InvalidArgument, match="none was measured with fewer channels"):
        Sensitivity("accuracy", True, 0.9, 9, (whole,)).plot(tmp_path / "none.png")
    with pytest.raises(InvalidArgument, match="no points"):
        frontier(0).plot(tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
