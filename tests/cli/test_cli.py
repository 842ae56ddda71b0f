import json
import os
import subprocess
import sys

import pytest

import landfold
from landfold.cli import main
from tests.factories import halves, small_scene, write_params
from tests.imports import ROOT


@pytest.fixture
def delivery(tmp_path, monkeypatch):
    small_scene(tmp_path / "raw/scenes")
    halves(tmp_path / "raw/labels/labels.gpkg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_delivery_that_would_be_taken(delivery, capsys):
    assert main(["inspect", "raw"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("raw: a delivery")
    assert "Nothing would be refused." in out
    assert "\ningest:\n  bands: [B, G, R, N]" in out


def test_params_of_the_current_folder_judge(delivery, capsys):
    write_params(delivery, ingest__bands=["S1", "S2"])
    assert main(["inspect", "raw"]) == 1
    out = capsys.readouterr().out
    assert "judged by your params.yaml" in out
    assert "no file for band S1, S2" in out


def test_another_file_judges_if_asked_for(delivery, capsys):
    write_params(delivery, ingest__bands=["S1"])
    (delivery / "other").mkdir()
    own = write_params(delivery / "other", labels__classes={"a": ["crop"], "b": ["lake"]}, labels__exclude=[])
    assert main(["inspect", "raw", "--params", str(own)]) == 0
    assert f"judged by your {own}" in capsys.readouterr().out.replace("\n", "")  # long paths are wrapped


def test_json_is_all_that_is_printed(delivery, capsys):
    assert main(["inspect", "raw", "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert (data["taken"], data["judged_by"], captured.err) == (True, "proposal", "")


def test_nothing_to_inspect_is_one_message(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"landfold inspect: {tmp_path}/nowhere: not found")


def test_help_and_version(capsys):
    for arguments, word in ((["--help"], "inspect"), (["inspect", "--help"], "Exit code"), (["--version"], "landfold")):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(arguments)
        assert word in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^2$"):
        main([])
    assert landfold.__version__


def launched(command, folder):
    """What a process of its own prints that knows this checkout."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def test_help_loads_nothing_slow_and_inspect_neither_torch_nor_mlflow(delivery):
    code = (
        "import sys; from landfold.cli import main\n"
        "assert not {'rasterio', 'geopandas', 'numpy'} & set(sys.modules)\n"
        "main(['inspect', 'raw', '--json'])\n"
        "assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules)"
    )
    done = launched([sys.executable, "-c", code], delivery)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "delivery"


def test_no_error_of_any_command_waits_for_torch_or_mlflow(tmp_path):
    code = (
        "import sys; from landfold.cli import main\n"
        "for line in sys.stdin:\n"
        "    assert main(line.split()) == 1, line\n"
        "    assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules), line"
    )
    lines = [
        *("doctor", "inspect nowhere", "sweep a=1", "sweep -n 1 a=1", "predict x -m nowhere -o maps"),
        *(
            "show",
            "show nowhere",
            "serve -m nowhere",
            "onnx -m nowhere -o x.onnx",
            "register -m nowhere",
            "accuracy nowhere.tif nowhere.csv",
        ),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("landfold ") == len(lines)


def test_a_reader_that_stops_early_is_no_error(delivery):
    command = f"{sys.executable} -m landfold.cli inspect raw | head -1"
    done = launched(["bash", "-c", command], delivery)
    assert done.stdout.startswith("raw: a delivery")
    assert "Traceback" not in done.stderr
