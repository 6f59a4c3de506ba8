"""Events are plain numbers: into JSON and back, and nothing changes them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from keras_gcp.errors import InvalidArgument
from keras_gcp.training.event_records import STAGES, Event


def an_event(**changes) -> Event:
    values = {
        "epoch": 4,
        "step": None,
        "progress": 0.5,
        "removed_channels": 96,
        "macs_before": 40_800_000,
        "macs_after": 20_100_000,
        "parameters_before": 270_000,
        "parameters_after": 134_000,
        "loss_before": 0.412,
        "loss_after": None,
        "widths": {"conv_1": 8, "block/conv_2": 16},
        "seconds": dict.fromkeys(STAGES, 0.25),
    }
    return Event(**{**values, **changes})


def test_json_round_trip_gives_an_equal_event():
    event = an_event()

    assert Event.from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_events_do_not_change_with_the_dictionaries_they_were_made_of():
    widths = {"conv_1": 8}
    event = an_event(widths=widths)
    widths["conv_1"] = 4
    event.to_dict()["widths"]["conv_1"] = 2

    assert event.widths == {"conv_1": 8}
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.epoch = 5  # type: ignore[misc]


def test_seconds_must_name_every_stage():
    with pytest.raises(InvalidArgument, match="Expected trace, loss, .*, retrace"):
        an_event(seconds={"trace": 1.0})


def test_dictionaries_that_are_no_events_are_refused():
    values = an_event().to_dict()
    del values["epoch"]

    with pytest.raises(InvalidArgument, match=r"missing entries \['epoch'\], unknown \['era'\]"):
        Event.from_dict({**values, "era": 4})
