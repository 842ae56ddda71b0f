import os
import time

import numpy as np
import pytest
import torch

from landfold.network import checkpoints
from landfold.network.checkpoints import Checkpoint, checkpoint_dir, training_fingerprint

KEY = "ab" * 32
STATE = {"rows": [{"epoch": 1, "loss": 0.1 + 0.2}], "network": {"w": torch.arange(3) / 7}, "best": None}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "train"


def test_a_state_comes_back_as_it_was(place):
    with pytest.raises(ZeroDivisionError, match="division"), Checkpoint(place) as checkpoint:
        assert checkpoint.open(KEY) is None
        assert checkpoint.file is None
        checkpoint.save(STATE)
        assert checkpoint.file.parent == place / KEY[:32]
        1 / 0  # noqa: B018
    with Checkpoint(place) as checkpoint:
        state = checkpoint.open(KEY)
    assert state["rows"] == STATE["rows"]
    assert torch.equal(state["network"]["w"], STATE["network"]["w"])
    assert not place.exists()


def test_another_key_finds_nothing_and_discards_its_own_alone(place):
    with pytest.raises(ZeroDivisionError, match="division"), Checkpoint(place) as checkpoint:
        checkpoint.open(KEY)
        checkpoint.save(STATE)
        1 / 0  # noqa: B018
    with Checkpoint(place) as checkpoint:
        assert checkpoint.open("cd" * 32) is None
    assert [path.name for path in place.iterdir()] == [KEY[:32]]


def test_a_failure_in_writing_keeps_the_state_before(place, monkeypatch):
    checkpoint = Checkpoint(place)
    checkpoint.open(KEY)
    checkpoint.save(STATE)

    def half(state, path):
        path.write_bytes(b"half")
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="disk"):
            checkpoint.save(STATE | {"rows": []})
    checkpoint.close(discard=False)
    assert Checkpoint(place).open(KEY)["rows"] == STATE["rows"]


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_state_is_as_none(place, damage):
    checkpoint = Checkpoint(place)
    checkpoint.open(KEY)
    checkpoint.save(STATE)
    file = checkpoint.file
    checkpoint.close(discard=False)
    file.write_bytes(file.read_bytes()[:-300] if damage is None else damage)
    (file.parent / ".partial-state.pt").write_bytes(b"of a killed process")
    assert Checkpoint(place).open(KEY) is None
    assert not (file.parent / ".partial-state.pt").exists()


def test_while_another_trains_the_same_nothing_is_read_or_kept(place):
    first, second = Checkpoint(place), Checkpoint(place)
    first.open(KEY)
    first.save(STATE)
    assert second.open(KEY) is None
    second.save(STATE | {"rows": []})
    second.close(discard=True)
    first.close(discard=False)
    assert Checkpoint(place).open(KEY)["rows"] == STATE["rows"]


def test_without_a_home_nothing_is_kept():
    with Checkpoint(None) as checkpoint:
        assert checkpoint.open(KEY) is None
        checkpoint.save(STATE)
        assert checkpoint.file is None


def test_what_was_forgotten_is_removed(place):
    for name, age_s in {"old": checkpoints.MAX_AGE_S + 60, "new": 60}.items():
        checkpoint = Checkpoint(place)
        checkpoint.open(name * 16)
        checkpoint.save(STATE)
        folder = checkpoint.folder
        checkpoint.close(discard=False)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (time.time() - age_s,) * 2)
    Checkpoint(place)
    assert [path.name for path in place.iterdir()] == ["new" * 10 + "ne"]


def test_home_is_in_dvc_s_temporary_folder_of_the_main_checkout_or_beside_the_output(tmp_path, monkeypatch):
    output = tmp_path / "models/k2/fold_0"
    monkeypatch.chdir(tmp_path)
    assert checkpoint_dir(output) == tmp_path / "models/k2/.partial-fold_0-training"
    workspace = tmp_path / ".dvc/tmp/exps/tmp1"
    workspace.mkdir(parents=True)
    assert checkpoint_dir(output) == tmp_path / ".dvc/tmp/landfold/train"
    monkeypatch.chdir(workspace)
    assert checkpoint_dir(output) == tmp_path / ".dvc/tmp/landfold/train"


def test_the_key_sees_facts_arrays_tensors_and_code(monkeypatch):
    facts, array, tensors = {"a": 1}, np.arange(10_000.0), {"w": torch.ones(2)}
    first = training_fingerprint(facts, [array], tensors)
    assert training_fingerprint({"a": 1}, [array.copy()], {"w": torch.ones(2)}) == first
    changed = array.copy()
    changed[-1] += 1
    others = [training_fingerprint({"a": 2}, [array], tensors), training_fingerprint(facts, [changed], tensors)]
    others += [
        training_fingerprint(facts, [array], {"w": torch.zeros(2)}),
        training_fingerprint(facts, [array], {"v": torch.ones(2)}),
    ]
    monkeypatch.setattr(checkpoints, "code_digest", lambda *rooms: "other")
    others.append(training_fingerprint(facts, [array], tensors))
    assert len({first, *others}) == 6
