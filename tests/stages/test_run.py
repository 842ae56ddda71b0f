import errno
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stages
from landfold.core.errors import LandfoldError
from tests.factories import write_params

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/some.py"])


def raising(error):
    def main(params):
        raise error

    return main


def test_success_prints_one_line_with_the_time(capsys):
    stages.run(lambda params: f"{params.zones.k} folds")
    out, err = capsys.readouterr()
    assert out.startswith("some: 2 folds (")
    assert out.endswith(" s)\n")
    assert err == ""


def test_a_users_fault_ends_with_its_message_alone():
    with pytest.raises(SystemExit, match=r"^some: scene a: mend it$"):
        stages.run(raising(LandfoldError("scene a: mend it")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_is_a_users_fault(number):
    with pytest.raises(SystemExit, match=f"^some: data/x: {os.strerror(number)}; .*nothing is half-written$"):
        stages.run(raising(OSError(number, os.strerror(number), "data/x")))
    with pytest.raises(SystemExit, match=r"^some: writing: "):
        stages.run(raising(OSError(number, os.strerror(number))))


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault of ours"), OSError(errno.EIO, "a fault of ours")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error), match="a fault of ours"):
        stages.run(raising(error))


def test_the_process_ends_with_code_1_one_message_and_no_traceback(tmp_path):
    write_params(tmp_path, indices__names=["NDVY"])
    command = [sys.executable, "-m", "stages.indices"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith("indices: params.yaml: indices.names: found ['NDVY']")
    assert "Traceback" not in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_the_bar_is_silent_where_there_is_no_terminal(capsys):
    with stages.bar("ingest") as progress:
        progress(0.5)
        progress(1.0)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_bar_shows_the_fraction_the_note_and_the_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with stages.bar("train fold 3") as progress:
        time.sleep(0.11)  # tqdm draws ten times a second at most
        progress(0.25, "epoch 1/2 batch 1/2 loss 0.700 90 patches/s")
    assert re.search(
        r"train fold 3  25%\|.*\| 00:00<00:00, epoch 1/2 batch 1/2 loss 0.700 90 patches/s", terminal.getvalue()
    )
