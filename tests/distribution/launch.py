"""Runs scripts in processes of their own: devices are configured before a framework starts."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
LIMIT = 500.0
"""Seconds; processes that wait for each other for ever must not hang the test suite."""


def needs(framework):
    """Skips tests of a framework that is not installed."""
    absent = importlib.util.find_spec(framework) is None
    return pytest.mark.skipif(absent, reason=f"{framework} is not installed")


def run(script, *arguments, **environment):
    """What a script reports: the last line that it prints, read as JSON."""
    return _finished([_started(script, arguments, environment)])[0]


def run_processes(script, environments, *arguments):
    """The reports of processes that run at the same time, each in its own environment."""
    return _finished([_started(script, arguments, own) for own in environments])


def tensorflow_workers(count=2):
    """Environments of workers on this machine."""
    workers = [f"localhost:{port}" for port in free_ports(count)]
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [
        {"KERAS_BACKEND": "tensorflow", "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
        for cluster in [{"worker": workers}]
        for task in tasks
    ]


def jax_processes(count=2, devices=2):
    """Environments of processes on this machine, each with some devices."""
    (port,) = free_ports(1)
    return [{**jax_devices(devices), "PROCESS": f"{i}/{count}@{port}"} for i in range(count)]


def jax_devices(count):
    """The environment of a process with virtual devices."""
    return {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
    }


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _started(script, arguments, environment):
    """A process, and the file that it prints to: a full pipe would stop it."""
    paths = [str(TESTS.parent), str(TESTS), str(TESTS / "distribution")]
    own = {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"}
    printed = tempfile.TemporaryFile("w+")  # noqa: SIM115  (`_text` closes it)
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "distribution" / script), *map(str, arguments)],
        env={**os.environ, **own, **environment},
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
    )
    return process, printed


def _finished(started):
    try:
        for process, _ in started:
            process.wait(timeout=LIMIT)
    finally:
        for process, _ in started:
            process.kill()
            process.wait()
    texts = [_text(printed) for _, printed in started]
    for (process, _), text in zip(started, texts, strict=True):
        assert process.returncode == 0, text
    return [json.loads(text.strip().splitlines()[-1]) for text in texts]


def _text(printed):
    with printed:
        printed.seek(0)
        return printed.read()
