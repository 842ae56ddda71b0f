"""What is asked over HTTP or through MLflow is what `landfold predict` answers, and what cannot be answered is told."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import rasterio
import requests
import yaml

from landfold import cli
from landfold.cli import _parser
from landfold.deploy.bundle import Bundle, BundleError
from landfold.deploy.predict import Options, predict
from landfold.deploy.serving.package import (
    REQUIREMENTS,
    SCRIPT,
    PackageError,
    example,
    quiet_mlflow,
    write_mlflow_model,
)
from landfold.deploy.serving.scoring import LIMITS, RequestError, ServingLimits, answer
from landfold.deploy.serving.server import Guard, ServerError, application, bound, sentence
from landfold.geo.raster import Raster
from landfold.maps.export import NO_CLASS
from landfold.maps.inference import map_grid, slide
from landfold.scenes.indices import write_indices
from landfold.scenes.normalize import SceneStatistics, normalize_scene
from landfold.scenes.settings import IndexSettings
from tests.factories import leftovers, small_scene, tree, write_raster
from tests.imports import file_of, imported_modules, imported_names
from tests.served import BANDS, CHANNELS, CLASSES, INDICES, SIZE_PX, STRIDE_PX, make_bundle

HEIGHT, WIDTH = 50, 61


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("served") / "landfold")


@pytest.fixture(scope="module")
def bundle(folder):
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def packed(folder):
    target = folder.parent / "mlflow model"  # with a space, as folders of people have
    write_mlflow_model(folder, target)
    return target


@pytest.fixture(scope="module")
def loaded(packed):
    return quiet_mlflow().pyfunc.load_model(str(packed))


@contextmanager
def serving(*command):
    """A server in its own process on a free port of the loopback device: gives its URL when it is up."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    session = requests.Session()
    session.trust_env = False  # no proxy
    with subprocess.Popen(
        [sys.executable, "-m", *command, str(port)],
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


@pytest.fixture(scope="module")
def url(packed):
    """`mlflow models serve`, as a user starts it."""
    with serving("mlflow", "models", "serve", "-m", str(packed), "--env-manager", "local", "-p") as found:
        yield found


def ask(url, body, **headers):
    """Status and content of an answer; each request in its own connection."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    return requests.post(url, data=data, headers=headers, timeout=60, proxies={"http": ""})


def ground(height=HEIGHT, width=WIDTH, seed=0):
    """(band, y, x) reflectance that varies in every direction, with a corner of no data and a hole in one band."""
    random = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    smooth = np.stack([0.1 + 0.05 * i + 0.002 * rows + 0.001 * (i + 1) * columns for i in range(len(BANDS))])
    values = (smooth + random.normal(0, 0.01, smooth.shape)).astype(np.float32)
    values[:, :9, :11] = np.nan
    values[2, 30:33, 40:45] = np.nan
    return values


def windows_of(scene, count=5):
    """Windows of the scene's lower right, where there is data."""
    return np.stack([scene[:, 20 + i : 20 + i + SIZE_PX, 15 + 3 * i : 15 + 3 * i + SIZE_PX] for i in range(count)])


def through_files(bundle, scene, folder):
    """What the stages and slide give for a scene: its statistics, windows' probabilities and the cells' means."""
    valid = np.isfinite(scene).all(axis=0)
    path = write_raster(folder / "scene.tif", dict(zip(BANDS, np.nan_to_num(scene), strict=True)), valid=valid)
    write_indices(path, IndexSettings(names=INDICES), folder / "indices.tif")
    card = bundle.card
    normalize_scene([path, folder / "indices.tif"], card.normalize, folder / "s.json", folder / "normalized.tif")
    with Raster.open(folder / "normalized.tif") as raster:
        cells = np.zeros((*map_grid(raster.grid, STRIDE_PX).shape, len(CLASSES)), dtype=np.float32)
        for strip in slide(raster, bundle.models, STRIDE_PX):
            mean = strip.probabilities.mean(axis=0)
            cells[strip.window.toslices()] = np.where(strip.valid[..., None] >= card.export.min_valid, mean, 0)
        pixels = raster.read_raw(raster.grid.whole)
    return SceneStatistics.load(folder / "s.json"), pixels, cells


def params_of(statistics):
    return {end: [getattr(statistics.channels[name], end) for name in CHANNELS] for end in ("low", "high")}


def test_a_scene_is_answered_as_the_stages_map_it(bundle, loaded, tmp_path):
    scene = ground()
    statistics, pixels, cells = through_files(bundle, scene, tmp_path)
    assert cells.shape == (13, 16, 3)
    # no data: 2 x 3 cells of the corner of 9 x 11 px, and the 13 of the last column, of which 1 px in 4 is in the scene
    assert (cells.sum(axis=2) == 0).sum() == 19
    found = loaded.predict({"reflectance": scene[None]}, params={"mode": "scene"})
    np.testing.assert_array_equal(found[0], cells)
    given = loaded.predict({"reflectance": scene[None]}, params={"mode": "scene"} | params_of(statistics))
    np.testing.assert_array_equal(given[0], cells)
    windows = windows_of(scene)
    found = loaded.predict({"reflectance": windows}, params=params_of(statistics))
    np.testing.assert_array_equal(found, bundle.probabilities(windows_of(pixels)))


def test_each_scene_of_a_request_has_its_own_statistics(bundle):
    scenes = np.stack([ground(), ground(seed=1) * 0.3 + 0.2])
    both = answer(bundle, scenes, {"mode": "scene"}, LIMITS)
    assert both.shape == (2, 13, 16, 3)
    for scene, found in zip(scenes, both, strict=True):
        np.testing.assert_array_equal(answer(bundle, scene[None], {"mode": "scene"}, LIMITS)[0], found)
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_a_scene_is_answered_as_landfold_predict_maps_its_file(bundle, tmp_path):
    delivered = small_scene(tmp_path / "scenes")
    (outcome,) = predict(
        [delivered], bundle, tmp_path / "maps", Options(), bar=lambda name: nullcontext(lambda x: None)
    )
    assert outcome.outcome == "mapped", outcome.reason
    bands = []
    for path in sorted(delivered.glob("*.tif")):
        with rasterio.open(path) as dataset:
            bands.append(dataset.read(1))
    numbers = np.stack(bands)
    reflectance = np.where((numbers == 0).any(axis=0), np.nan, numbers * np.float32(1e-4)).astype(np.float32)
    found = answer(bundle, reflectance[None], {"mode": "scene"}, LIMITS)[0]
    with rasterio.open(tmp_path / f"maps/{delivered.name}_class.tif") as dataset:
        classes = dataset.read(1)
    with rasterio.open(tmp_path / f"maps/{delivered.name}_confidence.tif") as dataset:
        confidence = dataset.read(1)
    nodata = found.sum(axis=2) == 0
    np.testing.assert_array_equal(nodata, classes == NO_CLASS)
    assert nodata.any()
    assert len(np.unique(classes[~nodata])) > 1
    # the file's integers have exact percentiles, the request's float32 reflectance has those of its own digits
    np.testing.assert_allclose(found.max(axis=2)[~nodata], confidence[~nodata], atol=1e-5)
    sure = np.sort(found, axis=2)[..., -1] - np.sort(found, axis=2)[..., -2] > 1e-4
    np.testing.assert_array_equal(found.argmax(axis=2)[~nodata & sure] + 1, classes[~nodata & sure])


def test_the_mlflow_model_is_described(packed, bundle):
    described = yaml.safe_load((packed / "MLmodel").read_text())
    flavour = described["flavors"]["python_function"]
    assert flavour["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert (packed / "script.py").read_bytes() == SCRIPT.read_bytes()
    spec = {"name": "reflectance", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4, -1, -1]}}
    assert json.loads(described["signature"]["inputs"]) == [spec]
    assert json.loads(described["signature"]["outputs"])[0]["tensor-spec"]["shape"] == [-1, 3]
    assert [param["name"] for param in json.loads(described["signature"]["params"])] == ["mode", "low", "high"]
    assert described["metadata"]["bundle_digest"] == bundle.digest
    assert tree(packed / "artifacts/landfold") == tree(bundle.folder)
    pins = (packed / "requirements.txt").read_text().splitlines()
    assert f"numpy=={np.__version__}" in pins
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins)
    assert len(json.loads((packed / "serving_input_example.json").read_text())["inputs"]["reflectance"]) == 2


def test_no_pickle_is_on_the_way(packed):
    suffixes = {path.suffix for path in packed.rglob("*") if path.is_file()} - {""}
    assert suffixes == {".txt", ".yaml", ".json", ".py", ".safetensors"}


def test_the_requirements_are_what_serving_imports():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "uvicorn": "mlflow", "yaml": "pyyaml"}
    reached, pending, used = set(), ["landfold.deploy.serving.server", "landfold.deploy.serving.script"], set()
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += imported_modules(file_of(module))
            used |= {name.split(".")[0] for name in imported_names(file_of(module))}
    assert {names.get(name, name) for name in used - sys.stdlib_module_names - {"landfold"}} == set(REQUIREMENTS)


def test_the_mlflow_model_is_whole_or_absent(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(PackageError, match=r"mine: is there and is no MLflow model; name a new folder"):
        write_mlflow_model(folder, tmp_path / "mine")
    with pytest.raises(BundleError, match="no such folder"):
        write_mlflow_model(tmp_path / "nothing", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    write_mlflow_model(folder, tmp_path / "target")
    write_mlflow_model(folder, tmp_path / "target", limits=ServingLimits(max_windows=1, max_pixels=9, device="cpu"))
    described = yaml.safe_load((tmp_path / "target/MLmodel").read_text())
    assert described["flavors"]["python_function"]["config"]["max_windows"] == 1
    assert leftovers(tmp_path) == []


GOOD = np.full((2, len(BANDS), SIZE_PX, SIZE_PX), 0.2, dtype=np.float32)
GIVEN = {"low": [0.0] * len(CHANNELS), "high": [0.5] * len(CHANNELS)}


def changed(index, value):
    values = GOOD.copy()
    values[index] = value
    return values


REFUSED = {
    "bands": (GOOD[:, :3], GIVEN, r"3 bands; the model expects 4: B, G, R, N"),
    "size": (GOOD[..., :7], GIVEN, r"windows of 8 x 7 px; the model expects 8 x 8"),
    "empty": (GOOD[:0], GIVEN, r"shape \(0, 4, 8, 8\) is empty"),
    "no pixels": (GOOD[:, :, :0], GIVEN, r"shape \(2, 4, 0, 8\) is empty"),
    "rank": (GOOD[0], GIVEN, r"shape \(4, 8, 8\), float32; expected numbers of shape \(n, 4, y, x\)"),
    "ragged": (np.array([None], dtype=object), GIVEN, r"shape \(1,\), object"),
    "no array": (None, GIVEN, "reflectance has no array"),
    "infinite": (changed((0, 1, 2, 3), np.inf), GIVEN, "infinite values; send NaN"),
    "all NaN": (changed(1, np.nan), GIVEN, r"no valid pixel in window 1 \(counted from 0\)"),
    "a band NaN": (changed((0, 2), np.nan), GIVEN, "no valid pixel in window 0"),
    "digital numbers": (changed(slice(None), 1200), GIVEN, "band B has a median of 1200; expected reflectance"),
    "too many": (np.repeat(GOOD, 3, axis=0), GIVEN, "6 windows; a request may have 5"),
    "mode": (GOOD, {"mode": "map"}, "mode is 'map'; expected windows or scene"),
    "no statistics": (GOOD, {}, "mode windows needs the params low and high"),
    "one of them": (GOOD, {"low": GIVEN["low"]}, "high has 0 values; expected one for each of the 5 channels"),
    "short": (GOOD, {"low": [0.0], "high": [1.0]}, "low has 1 values"),
    "not finite": (GOOD, GIVEN | {"high": [np.nan] * 5}, "high has a value that is no finite number"),
    "crossed": (GOOD, GIVEN | {"low": [0.6] * 5}, "channel B: low is 0.6, above high, which is 0.5"),
    "large scene": (GOOD, {"mode": "scene"}, "128 pixels; a request may have 100"),
    "many scenes": (
        np.repeat(GOOD[:1, :, :1, :1], 6, axis=0),
        GIVEN | {"mode": "scene"},
        "6 scenes; a request may have",
    ),
    "little scene": (GOOD[:1], {"mode": "scene"}, "channel B has 64 valid pixels, the model asks for 100"),
    "empty scene": (changed(1, np.nan)[1:], {"mode": "scene"}, "channel B has 0 valid pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused(bundle, name):
    reflectance, params, message = REFUSED[name]
    limits = ServingLimits(max_windows=5, max_pixels=100, device="cpu")
    with pytest.raises((RequestError, BundleError), match=message):
        answer(bundle, reflectance, params, limits)


def test_nodata_pixels_are_as_in_a_normalized_scene(bundle):
    """Invalid in one band is invalid in all, and 0 after scaling, as ingest and normalize have it."""
    windows = GOOD.copy()
    windows[0, 3, 2, 5] = np.nan
    expected = bundle.channels_of({b: GOOD[:, i] for i, b in enumerate(BANDS)}, _statistics()).swapaxes(0, 1).copy()
    expected[0, :, 2, 5] = 0
    np.testing.assert_array_equal(answer(bundle, windows, GIVEN, LIMITS), bundle.probabilities(expected))
    for params in ({"low": [0.1] * 5, "high": [0.5] * 5}, {"low": [0.0] * 5, "high": [0.6] * 5}):
        assert np.abs(answer(bundle, windows, params, LIMITS) - answer(bundle, windows, GIVEN, LIMITS)).max() > 1e-4


def _statistics():
    from landfold.scenes.normalize import ChannelStatistics

    return SceneStatistics("s", 2, 98, {name: ChannelStatistics(0.0, 0.5, 1) for name in CHANNELS})


def test_mlflow_models_serve_answers_what_predict_gives(url, bundle, packed):
    given, params = example(bundle.card)
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


def request(reflectance, **params):
    return {"inputs": {"reflectance": np.asarray(reflectance).tolist()}, "params": GIVEN | params}


BAD_REQUESTS = {
    "shape": (request(GOOD[..., :7]), "windows of 8 x 7 px; the model expects 8 x 8"),
    "bands": (request(GOOD[:, :3]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "rank": (request(GOOD[0]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "empty": (request([]), r"does not match expected shape \(-1, 4, -1, -1\)"),
    "strings": (request([[[["a"]]]]), "could not convert string to float: 'a'"),
    "ragged": ({"inputs": {"reflectance": [[[1.0], [1.0, 2.0]]]}, "params": GIVEN}, "inhomogeneous shape"),
    "NaN": (request(GOOD * np.nan), "no valid pixel in window 0, 1"),
    "infinite": (request(GOOD + np.inf), "infinite values"),
    "oversize": (request(np.zeros((4097, 4, 8, 8), dtype=int)), "4097 windows; a request may have 4096"),
    "missing": ({"inputs": {}, "params": GIVEN}, r"missing inputs \['reflectance'\]"),
    "statistics": ({"inputs": {"reflectance": GOOD.tolist()}}, "needs the params low and high"),
    "words": (request(GOOD, low=["a"] * 5), "Invalid parameters found"),
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
    again = ask(url, request(GOOD))
    assert again.status_code == 200


@pytest.fixture(scope="module")
def app(folder):
    return application(folder, max_bytes=200_000)


def call(
    app, body=b"", *, path="/invocations", method="POST", content_type=b"application/json", length=None, encoding=None
):
    """Status and JSON of the answer of an ASGI application; ``length`` None: no Content-Length, in two parts."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [(b"content-type", content_type)] if content_type else []
    headers += [(b"content-length", str(length).encode())] if length is not None else []
    headers += [(b"content-encoding", encoding)] if encoding else []
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "headers": headers, "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "asgi": {"version": "3.0"},
    }  # fmt: skip
    half = len(body) // 2
    parts = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    sent = []

    async def receive():
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    text = b"".join(message.get("body", b"") for message in sent).decode()
    return sent[0]["status"], json.loads(text) if text.strip() else None


def test_the_guarded_server_answers_the_same(app, bundle):
    status, content = call(app, request(GOOD))
    assert status == 200
    expected = answer(bundle, GOOD, GIVEN, LIMITS)
    np.testing.assert_array_equal(np.float32(content["predictions"]), expected)
    assert call(app, path="/ping", method="GET", content_type=None) == (200, None)


@pytest.mark.parametrize("name", [name for name in BAD_REQUESTS if name != "oversize"])
def test_the_guarded_server_refuses_in_one_sentence(app, name):
    body, message = BAD_REQUESTS[name]
    status, content = call(app, body)
    assert status == 400
    assert list(content) == ["message"]
    assert len(content["message"]) <= 500
    assert not re.search(r"array\(|Traceback|\n", content["message"])
    shortened = "JSONDecodeError" if message == "valid JSON" else message
    assert re.search(shortened, content["message"])
    assert call(app, request(GOOD))[0] == 200


def test_the_guarded_server_refuses_what_mlflow_cannot(app):
    long = (413, {"message": "the body is too long; at most 200000 bytes are read"})
    assert call(app, b"", length=200_001) == long
    assert call(app, b"", length=-1) == long
    assert call(app, b" " * 200_001) == long
    assert call(app, b"[" * 100_000)[1] == {"message": "the body is no JSON that can be read: nested too deeply"}
    assert call(app, b"{}", content_type=None) == (415, {"message": "no Content-Type; send application/json"})
    # a megabyte of Parquet unpacks to gigabytes, whatever the limit of the body is
    for kind in ("text/plain", "text/csv", "application/vnd.apache.parquet"):
        refused = {"message": f"Content-Type {kind}; send application/json"}
        assert call(app, b"{}", content_type=kind.encode()) == (415, refused)
    status, content = call(app, b"{}", encoding=b"gzip")
    assert (status, content["message"][:22]) == (415, "the body is compressed")
    digits = call(app, b'{"inputs": ' + b"1" * 5000 + b"}")
    assert digits[0] == 400
    assert digits[1]["message"].startswith("the body is no JSON that can be read: Exceeds the limit")
    not_text = {"message": "the body is no JSON that can be read: it is not UTF-8"}
    assert call(app, b'{"inputs": "\xff\xfe"}') == (400, not_text)
    assert call(app, path="/elsewhere") == (404, {"message": "Not Found"})
    assert call(app, request(GOOD))[0] == 200


def converse(guard, messages):
    """The statuses that the guard sends to one who sends these parts of a body, and then nothing."""
    parts, sent = list(messages), []

    async def receive():
        return parts.pop(0) if parts else await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    asyncio.run(guard({"type": "http", "method": "POST", "headers": headers}, receive, send))
    return [message["status"] for message in sent if "status" in message]


def test_slow_and_broken_bodies_end_and_what_is_held_is_bounded():
    async def never(scope, receive, send):
        raise AssertionError("asked")

    guard = Guard(never, max_bytes=100, read_s=0.05)
    part = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    assert converse(guard, [part]) == [408]
    assert converse(guard, [part, {"type": "http.disconnect"}]) == [400]
    assert converse(guard, [part, part]) == [413]
    assert guard.held_bytes == 0  # of bodies that went no further nothing is kept
    guard.held_bytes = 350  # by others
    assert converse(guard, [part]) == [503]
    assert guard.held_bytes == 350


def test_few_requests_are_worked_on_at_once():
    most = now = 0

    async def inner(scope, receive, send):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    async def many():
        guard = Guard(inner)
        headers = [(b"content-type", b"application/json; charset=utf-8")]
        body = {"type": "http.request", "body": b"{}", "more_body": False}

        async def receive():
            return body

        scope = {"type": "http", "method": "POST", "headers": headers}
        await asyncio.gather(*(guard(scope, receive, None) for _ in range(7)))

    asyncio.run(many())
    assert most == 2


def test_a_fault_of_the_server_is_not_called_the_clients(loaded, monkeypatch, app):
    def broken(*arguments):
        raise MemoryError("secret")

    monkeypatch.setattr("landfold.deploy.serving.pyfunc.answer", broken)
    assert call(app, request(GOOD)) == (500, {"message": "the server failed at this request; its log tells more"})


def test_the_guard_passes_other_protocols_on():
    seen = []

    async def inner(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Guard(inner)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_the_reason_is_told_without_the_input():
    assert sentence("{\"message\": \"Failed to predict '[1]'. \\nError: Failed '[1]'. Error: Shape.\"}") == "Shape."
    assert sentence("Internal Server Error") == "Internal Server Error"
    assert sentence("") == "refused"
    assert len(sentence("x" * 9999)) == 500


def test_servers_are_for_this_machine_alone_unless_told():
    assert _parser().parse_args(["serve"]).host == "127.0.0.1"
    from mlflow.utils.cli_args import HOST

    defaults = {param.name: param.default for param in HOST(lambda: None).__click_params__}
    assert defaults == {"host": "127.0.0.1"}


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["serve", "-m", "nowhere", "--port", str(port)]) == 1
    told = f"landfold serve: 127.0.0.1:{port}: nothing can listen there (Address already in use); choose another --port"
    assert capsys.readouterr() == ("", f"{told}\n")
    with pytest.raises(ServerError, match=r"^--port 70000: expected 1 to 65535$"):
        bound("127.0.0.1", 70000)


def test_a_limit_that_no_server_can_have_is_refused(folder, capsys):
    assert cli.main(["serve", "-m", str(folder), "--max-mb", "0"]) == 1
    assert capsys.readouterr().err == "landfold serve: --max-mb 0: expected 1 or more\n"
