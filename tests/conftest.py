"""What all tests share."""

import sys

import pytest

import stages


@pytest.fixture
def stage(monkeypatch, tmp_path, capsys):
    """Run a stage's main under `stages.run` in a temporary folder: ``stage(module)`` gives what it printed.

    A refusal is ``stage(module, refused=True)``: it asserts that the process would end with exit
    code 1 and one message that begins with the stage's name, and gives the message.
    """
    monkeypatch.chdir(tmp_path)

    def run(module, *, refused=False):
        name = module.__name__.split(".")[-1]
        monkeypatch.setattr(sys, "argv", [f"stages/{name}.py"])
        capsys.readouterr()
        if not refused:
            stages.run(module.main)
            return capsys.readouterr().out
        with pytest.raises(SystemExit, match=f"^{name}: ") as caught:
            stages.run(module.main)
        assert capsys.readouterr().out == ""
        return caught.value.code  # text: Python prints it to stderr, without a traceback, and exits with 1

    return run
