"""A model folder as an MLflow model: what it holds, and that MLflow's own server answers with it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import requests
import yaml
from mlflow.exceptions import MlflowException

from landfold.deploy.bundle import BundleError
from landfold.deploy.serving import LIMITS, ServingLimits
from landfold.deploy.serving.mlflow_model import (
    REQUIREMENTS,
    SCRIPT,
    MlflowModelError,
    example_request,
    write_mlflow_model,
)
from landfold.deploy.serving.scoring import answer
from landfold.tracking.library import load_mlflow
from tests.deploy.serving.client import ask, body_of, free_port
from tests.deploy.serving.test_scoring import GIVEN, GOOD, PIXELS, ground
from tests.factories import leftovers, tree
from tests.imports import file_of, imported_modules, imported_names


@pytest.fixture(scope="module")
def packed(folder):
    target = folder.parent / "mlflow model"  # with a space, as folders of people have
    write_mlflow_model(folder, target)
    return target


@pytest.fixture(scope="module")
def loaded(packed):
    return load_mlflow().pyfunc.load_model(str(packed))


@pytest.fixture(scope="module")
def url(packed):
    """`mlflow models serve`, as a user starts it, in its own process."""
    command = ["mlflow", "models", "serve", "-m", str(packed), "--env-manager", "local", "-p", str(port := free_port())]
    session = requests.Session()
    session.trust_env = False  # no proxy
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            deadline = time.monotonic() + 180
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    if session.get(f"http://127.0.0.1:{port}/ping", timeout=2).ok:
                        break
                except requests.RequestException:
                    time.sleep(0.2)
            else:
                pytest.fail("the server did not start")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_a_request_in_python_is_answered_too(loaded, bundle):
    found = loaded.predict({"reflectance": GOOD}, params=GIVEN)
    np.testing.assert_array_equal(found, answer(bundle, GOOD, GIVEN, LIMITS))
    scene = ground()
    found = loaded.predict({"reflectance": scene[None]}, params={"mode": "scene"})
    np.testing.assert_array_equal(found, answer(bundle, scene[None], {"mode": "scene"}, LIMITS))


def test_a_model_of_pixels_is_one_of_mlflow(pixel_bundle, tmp_path):
    write_mlflow_model(pixel_bundle.folder, tmp_path / "packed")
    described = yaml.safe_load((tmp_path / "packed/MLmodel").read_text())
    assert json.loads(described["signature"]["outputs"])[0]["tensor-spec"]["shape"] == [-1, -1, -1, 3]
    loaded = load_mlflow().pyfunc.load_model(str(tmp_path / "packed"))
    found = loaded.predict({"reflectance": PIXELS}, params=GIVEN)
    np.testing.assert_array_equal(found, answer(pixel_bundle, PIXELS, GIVEN, LIMITS))
    given, params = example_request(pixel_bundle.card)
    assert loaded.predict(given, params=params).shape == (2, 8, 8, 3)


def test_a_fault_of_the_model_is_not_called_the_clients(loaded, monkeypatch):
    def broken(*arguments):
        raise MemoryError("secret")

    monkeypatch.setattr("landfold.deploy.serving.pyfunc.answer", broken)
    with pytest.raises(MlflowException, match=r"^the server failed at this request; its log has the reason$") as caught:
        loaded.predict({"reflectance": GOOD}, params=GIVEN)
    assert caught.value.error_code == "INTERNAL_ERROR"


def test_the_mlflow_model_is_described(packed, bundle):
    described = yaml.safe_load((packed / "MLmodel").read_text())
    flavour = described["flavors"]["python_function"]
    assert flavour["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert (packed / "script.py").read_bytes() == SCRIPT.read_bytes()
    spec = {"name": "reflectance", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4, -1, -1]}}
    assert json.loads(described["signature"]["inputs"]) == [spec]
    assert json.loads(described["signature"]["outputs"])[0]["tensor-spec"]["shape"] == [-1, 3]
    assert [param["name"] for param in json.loads(described["signature"]["params"])] == ["mode", "sets", "low", "high"]
    assert described["metadata"]["bundle_digest"] == bundle.digest
    assert tree(packed / "artifacts/landfold") == tree(bundle.folder)
    pins = (packed / "requirements.txt").read_text().splitlines()
    assert f"numpy=={np.__version__}" in pins
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert len(json.loads((packed / "serving_input_example.json").read_text())["inputs"]["reflectance"]) == 2


def test_no_pickle_is_on_the_way(packed):
    files = [
        path for path in packed.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    ]  # of reading it
    suffixes = {path.suffix for path in files} - {""}
    assert suffixes == {".txt", ".yaml", ".json", ".py", ".safetensors"}


def test_the_requirements_are_what_serving_imports():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "ruamel": "ruamel.yaml"}
    names |= {"segmentation_models_pytorch": "segmentation-models-pytorch"}
    reached, pending, used = set(), ["landfold.deploy.serving.script"], set()
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += imported_modules(file_of(module))
            used |= {name.split(".")[0] for name in imported_names(file_of(module))}
    assert {names.get(name, name) for name in used - sys.stdlib_module_names - {"landfold"}} == set(REQUIREMENTS)


def test_the_mlflow_model_is_whole_or_absent(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(MlflowModelError, match=r"mine: exists and is no MLflow model; name a new folder"):
        write_mlflow_model(folder, tmp_path / "mine")
    with pytest.raises(BundleError, match="no such folder"):
        write_mlflow_model(tmp_path / "nothing", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    write_mlflow_model(folder, tmp_path / "target")
    write_mlflow_model(folder, tmp_path / "target", limits=ServingLimits(max_windows=1, max_pixels=9, device="cpu"))
    described = yaml.safe_load((tmp_path / "target/MLmodel").read_text())
    assert described["flavors"]["python_function"]["config"]["max_windows"] == 1
    assert leftovers(tmp_path) == []


def test_mlflow_models_serve_answers_what_predict_gives(url, bundle, packed):
    given, params = example_request(bundle.card)
    found = ask(url, json.loads((packed / "serving_input_example.json").read_text()))
    assert found.status_code == 200
    expected = answer(bundle, given["reflectance"], params, LIMITS)
    # float32 has an exact text; another number of threads may show in the last digit
    np.testing.assert_allclose(np.float32(found.json()["predictions"]), expected, atol=1e-6)
    scene = ground()
    body = {"inputs": {"reflectance": [np.where(np.isnan(scene), None, scene).tolist()]}, "params": {"mode": "scene"}}
    assert "NaN" not in json.dumps(body, allow_nan=False)
    found = ask(url, body)
    assert "NaN" not in found.text
    expected = answer(bundle, scene[None], {"mode": "scene"}, LIMITS)
    np.testing.assert_allclose(np.float32(found.json()["predictions"]), expected, atol=1e-6)


BAD_REQUESTS = {
    "shape": (body_of(GOOD[..., :7]), "windows of 8 x 7 px; the model expects 8 x 8"),
    "bands": (body_of(GOOD[:, :3]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "rank": (body_of(GOOD[0]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "empty": (body_of([]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "strings": (body_of([[[["a"]]]]), "could not convert string to float: 'a'"),
    "ragged": ({"inputs": {"reflectance": [[[1.0], [1.0, 2.0]]]}, "params": GIVEN}, "inhomogeneous shape"),
    "NaN": (body_of(GOOD * np.nan), "no valid pixel in window 0, 1"),
    "infinite": (body_of(GOOD + np.inf), "infinite values"),
    "oversize": (body_of(np.zeros((4097, 4, 8, 8), dtype=int)), "4097 windows; a request may have 4096"),
    "missing": ({"inputs": {}, "params": GIVEN}, r"missing inputs \['reflectance'\]"),
    "statistics": ({"inputs": {"reflectance": GOOD.tolist()}}, "needs the params low and high"),
    "words": (body_of(GOOD, low=["a"] * 5), "Invalid parameters found"),
    "no inputs": ({"params": GIVEN}, "exactly one of the input fields"),
    "list": ([1, 2], "Received a list"),
    "malformed": (b'{"inputs": [', "valid JSON"),
    "not text": (b"\xff\xfe", "valid JSON"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_mlflow_models_serve_answers_a_bad_request_with_400_and_stays_up(url, name):
    body, message = BAD_REQUESTS[name]
    found = ask(url, body)
    assert found.status_code == 400
    told = found.json()["message"]
    assert re.search(message, told)
    assert "Traceback" not in found.text
    again = ask(url, body_of(GOOD))
    assert again.status_code == 200
