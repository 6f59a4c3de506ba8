"""The flags of the example scripts mean what their help says."""

from __future__ import annotations

import pytest
from absl import flags

import keras_gcp
from examples import pruning_flags
from keras_gcp.costs.budget import Budget


@pytest.fixture
def parsed():
    """Parses a command line; the flags are as before afterwards."""
    before = flags.FLAGS.flag_values_dict()

    def parse(*arguments):
        flags.FLAGS(["script", *arguments])

    yield parse
    for name in ("budget", "align", "compensation"):
        flags.FLAGS[name].value = before[name]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("macs=45%", {"macs": 0.45}),
        ("macs=2.5e7", {"macs": keras_gcp.absolute(25e6)}),
        (
            "tflite_bytes_int8=100000,latency_ms=60%",
            {"tflite_bytes_int8": keras_gcp.absolute(100_000), "latency_ms": 0.6},
        ),
        ("macs=0.45", {"macs": 0.45}),
        ("latency_ms=0.5", {"latency_ms": 0.5}),
        ("latency_ms=0.5ms", {"latency_ms": keras_gcp.absolute(0.5)}),
        ("tflite_bytes=250kB", {"tflite_bytes": keras_gcp.absolute(250_000)}),
    ],
)
def test_a_percent_sign_or_less_than_one_is_a_share_and_all_else_an_amount(parsed, text, entries):
    parsed(f"--budget={text}")
    assert pruning_flags.budget() == Budget(entries)


@pytest.mark.parametrize(
    "wrong", ["--budget=", "--budget=macs", "--budget=steps=5%", "--budget=macs=-5%", "--align=big"]
)
def test_what_cannot_be_read_is_refused_with_an_example(parsed, wrong):
    with pytest.raises(flags.IllegalFlagValueError, match="expects"):
        parsed(wrong)


def test_no_compensation_means_no_new_statistics_either(parsed):
    parsed("--compensation=none")
    assert pruning_flags.compensation() is None
    parsed("--compensation=fold")
    assert pruning_flags.compensation() == "fold"
