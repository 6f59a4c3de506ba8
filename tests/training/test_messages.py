"""What a fit prints of its pruning: what is going to happen, that it happens, what it did."""

from __future__ import annotations

from dataclasses import replace

import pytest

import keras_gcp
from keras_gcp.costs.costs import Costs
from keras_gcp.formatting import LINE
from keras_gcp.training.event_records import Event
from keras_gcp.training.messages import (
    Outlook,
    begin_line,
    event_lines,
    number_text,
    outlook_line,
    stages_line,
)

SECONDS = {
    "trace": 0.1,
    "loss": 0.2,
    "score": 2.31,
    "select": 0.01,
    "narrow": 0.4,
    "verify": 0.6,
    "guard": 0.0,
    "compensate": 0.0,
    "retrace": 3.4,
}
EVENT = Event(
    epoch=4,
    step=None,
    progress=0.5,
    removed_channels=1096,
    macs_before=40_800_000,
    macs_after=20_100_000,
    parameters_before=270_000,
    parameters_after=134_000,
    loss_before=0.412,
    loss_after=0.655,
    widths={"conv": 8},
    seconds=SECONDS,
)
ORIGINAL = Costs(80_400_000, 268_000, 4000, {"tflite_bytes_int8": 200_000.0}, 0)


def test_of_an_event_one_line_says_what_is_left_and_one_what_it_took():
    went, took = event_lines(EVENT, ORIGINAL, "event 2 of 4")
    assert went == "  1,096 channels removed · MACs 20.1 M (25.0 %) · parameters 134 k (50.0 %)"
    assert took == "  event 2 of 4: 7.0 s · loss on the sample 0.412 → 0.655"


def test_what_belongs_to_single_events_is_said_where_it_is():
    more = replace(
        EVENT,
        further={"tflite_bytes_int8": 100_000.0},
        metric="accuracy",
        metric_before=0.98,
        metric_after=0.97,
        tries=2,
    )
    lines = " ".join(" ".join(event_lines(more, ORIGINAL, "event 1 of 1")).split())
    assert "tflite_bytes_int8 100,000 (50.0 %)" in lines
    assert "guarded accuracy 98.00 % → 97.00 % · smaller than scheduled (try 2)" in lines
    plain = " ".join(event_lines(replace(EVENT, macs_after=None, loss_after=None), ORIGINAL, ""))
    assert not any(word in plain for word in ("MACs", "loss", "guarded", "smaller", "tflite"))


def test_lines_of_events_are_broken_between_parts_only():
    further = {"tflite_bytes_int8": 1e5, "peak_activation_bytes_int8": 1e5, "tflite_bytes": 4e5}
    went, _ = event_lines(replace(EVENT, further=further), ORIGINAL, "")
    lines = went.splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= LINE
    assert all(line.endswith(" ·") for line in lines[:-1])


def test_the_stages_of_an_event_are_those_that_took_time():
    line = stages_line(EVENT)
    assert "score 2.31 s, select 0.01 s, surgery 0.40 s, verify 0.60 s, retrace 3.40 s" in line
    assert "compensate" not in line and "guard" not in line


@pytest.mark.parametrize(
    ("first", "last", "of", "words"),
    [
        (2, 2, 4, "event 2 of 4"),
        (3, 4, 4, "events 3 and 4 of 4 in one"),
        (1, 3, 4, "events 1 to 3 of 4 in one"),
        (5, 5, None, "event 5"),
    ],
)
def test_events_have_a_number_and_those_put_together_several(first, last, of, words):
    assert number_text(first, last, of) == words


def test_the_line_before_an_event_warns_of_what_takes_long():
    line = begin_line("event 1 of 2", 3, None, compiles=True)
    assert line == "event 1 of 2, before epoch 3: scoring and cutting, then compiling again"
    assert "compil" not in begin_line("event 1 of 2", 3, None, compiles=False)
    inside = begin_line("events 12 to 14 of 20 in one", 103, 1_234_567, compiles=True)
    assert "before step 1,234,567 (epoch 103)" in inside


OUTLOOK = Outlook(
    budget=keras_gcp.Budget({"macs": 0.45}),
    schedule="",
    unit="epoch",
    events=(3, 6),
    monitor="",
    channels=794,
    prunable=784,
    anchored=("classifier",),
)


def test_before_training_one_line_says_budget_events_what_can_go_and_what_stays():
    line = outlook_line(OUTLOOK)
    assert len(line) <= LINE
    for words in ("MACs 45 %", "epochs 3, 6", "784", "794", "prunable", "anchored: classifier"):
        assert words in line
    few = outlook_line(replace(OUTLOOK, events=(3,), anchored=()))
    assert few == (
        "pruning to MACs 45 %, epoch 3 · 784 of 794 channels prunable · nothing anchored"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"events": tuple(range(21, 148, 21))},
        {"events": tuple(range(1000, 9001, 1000)), "unit": "step"},
        {"anchored": tuple(f"stage{i}_block_with_a_long_name" for i in range(12))},
        {"events": (), "monitor": "val_loss"},
        {"channels": 123_456, "prunable": 123_450, "events": (100, 120, 140)},
        {"budget": keras_gcp.Budget({"latency_ms": keras_gcp.timed(0.6, threads=2)})},
    ],
    ids=str,
)
def test_the_line_before_training_stays_one_line(more):
    line = outlook_line(replace(OUTLOOK, **more))
    assert len(line) <= LINE and line.startswith("pruning to ")


def test_several_limits_are_all_named_on_two_lines_if_they_have_to_be():
    limits = {"macs": 0.5, "tflite_bytes_int8": keras_gcp.absolute(1e5), "latency_ms": 0.6}
    line = outlook_line(replace(OUTLOOK, budget=keras_gcp.Budget(limits)))
    assert "MACs 50 %, tflite_bytes_int8 100,000, latency_ms 60 % before epochs 3, 6" in line
    assert line.endswith("784 of 794 channels can be pruned · anchored: classifier")
    by_schedule = replace(OUTLOOK, budget=None, schedule="channels_every(2, 3, 8)")
    assert outlook_line(by_schedule).startswith("pruning by channels_every(2, 3, 8)")
