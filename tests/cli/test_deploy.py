"""The commands that use a model folder refuse before they load torch or MLflow, which takes many seconds."""

import sys

from tests.cli.test_cli import launched
from tests.deploy.serving.client import free_port
from tests.served import make_bundle

CODE = """
import sys
from landfold.cli import main
for line in sys.argv[1:]:
    assert main(line.split()) == 1, line
assert not {"torch", "mlflow", "sklearn", "matplotlib"} & set(sys.modules)
"""


def test_refusals_come_before_torch_is_loaded(tmp_path):
    make_bundle(tmp_path / "model")
    make_bundle(tmp_path / "pixels", kind="surroundings")
    commands = [
        "predict x -m nowhere -o maps",
        "predict x -m model -o maps",
        "predict x -m model -o maps --stride 7",
        "predict . -m model -o maps",
        "predict x -m pixels -o maps --stride 8",
        "predict . -m pixels -o maps",
        f"serve -m nowhere --port {free_port()}",
        "serve -m model --port 99999",
        "onnx -m nowhere -o a.onnx",
        "register -m nowhere",
        "register -m model --name a/b",
        "mlflow-model -m nowhere -o new",
        "mlflow-model -m model -o model",
    ]
    done = launched([sys.executable, "-c", CODE, *commands], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("nowhere: no such folder; expected a model folder such as models/landfold\n") == 5
    assert ".: no scene found" in done.stderr
    assert "choose a stride of at most 8 that is even" in done.stderr
    assert "--stride 8 (stride_px): the model maps a scene's own pixels" in done.stderr
    assert "--name 'a/b': expected letters" in done.stderr
    assert "model: exists and is no MLflow model; name a new folder" in done.stderr
