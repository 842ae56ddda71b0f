"""Which live runs are stale."""

import json
import os
import socket

import pytest

from landfold.tracking.runs import Run, heartbeat, is_stale


@pytest.mark.parametrize(
    ("status", "changes", "stale"),
    [
        ("FINISHED", {}, True),
        ("FAILED", {}, True),
        ("FINISHED", {"workspace": "/"}, False),
        ("FINISHED", {"workspace": "/gone"}, True),
        ("FINISHED", {"host": "other"}, False),
        ("RUNNING", {}, False),
        ("RUNNING", {"process": f"{os.getpid()} 1.0"}, True),
        ("RUNNING", {"process": ""}, True),
        ("RUNNING", {"host": "other"}, False),
        ("RUNNING", {"host": "other", "time_ms": 1}, True),
        ("RUNNING", {"time_ms": 1}, True),
    ],
)
def test_rule(tmp_path, status, changes, stale):
    life = json.loads(heartbeat(tmp_path))
    assert life["host"] == socket.gethostname()
    run = Run("id", status, 0, {"landfold.heartbeat": json.dumps(life | changes)})
    assert is_stale(run, tmp_path) is stale


def test_a_clock_that_was_set_ends_no_process(tmp_path):
    life = json.loads(heartbeat(tmp_path))
    pid, start = life["process"].split()
    for shift, stale in ((30, False), (-30, False), (600, True)):
        process = {"process": f"{pid} {float(start) + shift}"}
        assert is_stale(Run("id", "RUNNING", 0, {"landfold.heartbeat": json.dumps(life | process)}), tmp_path) is stale


def test_of_a_run_whose_tag_was_spoiled(tmp_path):
    assert is_stale(Run("id", "RUNNING", 0, {"landfold.heartbeat": "{"}), tmp_path)
