"""A made-up run: three layers, four epochs, two events."""

from __future__ import annotations

from typing import Any

import pytest

from keras_gcp.training.event_records import STAGES, Event


def _event(epoch: int, macs: tuple[int, int], parameters: tuple[int, int], **more: Any) -> Event:
    values: dict[str, Any] = {
        "step": None,
        "progress": 0.5,
        "removed_channels": 12,
        "loss_before": 0.25,
        "loss_after": 0.5,
        "widths": {"stem": 16, "block_conv": 8, "head": 10},
        "seconds": {stage: 0.5 + i for i, stage in enumerate(STAGES)},
    }
    return Event(
        epoch=epoch,
        macs_before=macs[0],
        macs_after=macs[1],
        parameters_before=parameters[0],
        parameters_after=parameters[1],
        **{**values, **more},
    )


@pytest.fixture
def events() -> list[Event]:
    return [
        _event(1, (40_000_000, 30_000_000), (200_000, 180_000)),
        _event(3, (30_000_000, 20_000_000), (180_000, 90_000), progress=1.0, loss_before=None),
    ]


@pytest.fixture
def history() -> dict[str, list[float]]:
    return {
        "loss": [2.0, 1.5, 1.0, 0.9],
        "val_loss": [2.1, 1.6, 1.2, 1.0],
        "sparse_categorical_accuracy": [0.3, 0.5, 0.7, 0.8],
        "val_sparse_categorical_accuracy": [0.3, 0.4, 0.6, 0.7],
    }


@pytest.fixture
def widths() -> tuple[dict[str, int], dict[str, int]]:
    return {"stem": 16, "block_conv": 32, "head": 10}, {"stem": 16, "block_conv": 8, "head": 10}
