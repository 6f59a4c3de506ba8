"""PyTorch processes that train together are refused: nothing keeps them in step."""

import pytest
from distribution.launch import free_ports, needs, run_processes

pytestmark = [needs("torch"), pytest.mark.slow]


def test_several_processes_are_refused_before_anything_is_cut():
    (port,) = free_ports(1)
    processes = [{"KERAS_BACKEND": "torch", "PROCESS": f"{i}/2@{port}"} for i in range(2)]
    for one in run_processes("torch_processes.py", processes):
        assert "2 processes" in one["fit"] and "2 processes" in one["narrow"]
        assert one["width"] == 8
