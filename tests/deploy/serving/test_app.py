"""What is asked over HTTP is what `answer` gives, and odd requests are refused in one sentence and harm nothing."""

import asyncio
import json
import re
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import requests
from starlette.exceptions import HTTPException
from starlette.requests import Request

from landfold.deploy.serving import LIMITS, app
from landfold.deploy.serving.app import RequestQueue, create_app
from landfold.deploy.serving.scoring import answer
from landfold.deploy.serving.server import bound, make_server
from tests.deploy.serving.client import ask, body_of, free_port
from tests.deploy.serving.test_scoring import GIVEN, GOOD, PIXELS, ground


@contextmanager
def running(application):
    """The application at a port of this machine, served by a thread."""
    port = free_port()
    place = bound("127.0.0.1", port)
    server = make_server(application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    place.close()


@pytest.fixture(scope="module")
def url(bundle):
    with running(create_app(bundle, LIMITS, max_bytes=200_000, max_s=60)) as found:
        yield found


FORMS = {
    "named": lambda values: {"inputs": {"reflectance": values}},
    "not named": lambda values: {"inputs": values},
    "instances": lambda values: {"instances": values},
    "rows": lambda values: {"instances": [{"reflectance": window} for window in values]},
    "more": lambda values: {"inputs": {"reflectance": values, "other": 1}, "id": 7},
}


@pytest.mark.parametrize("path", ["predict", "invocations"])
@pytest.mark.parametrize("form", FORMS)
def test_windows_are_answered(url, bundle, form, path):
    found = ask(f"{url}/{path}", FORMS[form](GOOD.tolist()) | {"params": GIVEN | {"note": "of no use"}})
    assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
    np.testing.assert_array_equal(np.float32(found.json()["predictions"]), answer(bundle, GOOD, GIVEN, LIMITS))


def test_a_scene_is_answered(url, bundle):
    scene = ground(30, 41)
    sent = np.where(np.isnan(scene), None, scene).tolist()
    found = ask(f"{url}/predict", {"inputs": {"reflectance": [sent]}, "params": {"mode": "scene"}})
    expected = answer(bundle, scene[None], {"mode": "scene"}, LIMITS)
    np.testing.assert_array_equal(np.float32(found.json()["predictions"]), expected)


def test_the_model_is_described(url, bundle):
    assert [requests.get(f"{url}/{path}", timeout=9).json() for path in ("health", "ping")] == [{"status": "ok"}] * 2
    told = requests.get(f"{url}/metadata", timeout=9).json()
    assert told["digest"] == bundle.digest
    assert (told["classes"], told["channels"]) == (bundle.classes, bundle.card.channels)
    assert told["bands"][3] == {"name": "N", "description": "near infrared", "low": 0.01, "high": 0.5}
    assert (told["size_px"], told["resolution_m"], told["stride_px"]) == (8, 10, 4)
    assert told["accuracy"] == {
        "pooled": 0.7, "low": 0.6, "high": 0.8, "level": 0.95, "of": "patches of held-out zones",
    }  # fmt: skip
    assert (told["unit"], told["pixel_accuracy"]) == ("patch", None)
    assert told["answers"] == {"windows": ["n", 3], "scene": ["n", "rows", "columns", 3]}
    assert told["units"].startswith("surface reflectance")
    assert told["limits"] == LIMITS.model_dump() | {"max_bytes": 200_000, "max_s": 60}


def test_a_model_of_pixels_is_described_and_answers(pixel_bundle):
    with running(create_app(pixel_bundle, LIMITS, max_bytes=1_000_000, max_s=60)) as url:
        told = requests.get(f"{url}/metadata", timeout=9).json()
        assert [told[name] for name in ("unit", "size_px", "core_px", "stride_px")] == ["pixel", 68, 64, None]
        assert told["answers"] == {"windows": ["n", 64, 64, 3], "scene": ["n", "rows", "columns", 3]}
        assert told["pixel_accuracy"]["pooled"] == 0.9
        assert told["pixel_accuracy"]["of"] == "labelled pixels of held-out zones"
        path = requests.get(f"{url}/openapi.json", timeout=9).json()["paths"]["/predict"]["post"]
        shapes = "mode windows: predictions (n, 64, 64, 3); mode scene: predictions (n, rows, columns, 3)"
        assert path["responses"]["200"]["description"] == shapes
        example = path["requestBody"]["content"]["application/json"]["example"]
        assert np.shape(ask(f"{url}/predict", example).json()["predictions"]) == (1, 8, 8, 3)
        found = ask(f"{url}/predict", body_of(PIXELS))
        expected = answer(pixel_bundle, PIXELS, GIVEN, LIMITS)
        np.testing.assert_array_equal(np.float32(found.json()["predictions"]), expected)
        wrong = ask(f"{url}/predict", body_of(GOOD))
        assert (wrong.status_code, wrong.json()["message"]) == (
            400,
            "windows of 8 x 8 px; the model expects 68 x 68, of which it tells the central 64 x 64",
        )


def test_openapi_has_a_request_that_is_answered(url):
    described = requests.get(f"{url}/openapi.json", timeout=9).json()
    assert sorted(described["paths"]) == ["/health", "/metadata", "/predict"]
    example = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert ask(f"{url}/predict", example).status_code == 200


DEEP = b'{"inputs": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"
BAD_REQUESTS = {
    "shape": (body_of(GOOD[..., :7]), "windows of 8 x 7 px; the model expects 8 x 8"),
    "bands": (body_of(GOOD[:, :3]), r"shape \(2, 3, 8, 8\), float32; expected numbers of shape \(n, 4, y, x\)"),
    "rank": (body_of(GOOD[0]), r"shape \(4, 8, 8\), float32; expected"),
    "empty": (body_of([]), r"shape \(0,\), float32; expected"),
    "a number": (body_of(7), r"shape \(\), float32; expected"),
    "null": ({"inputs": {"reflectance": None}, "params": GIVEN}, r"shape \(\), float32; expected"),
    "strings": (body_of([[[["a"]]]]), "could not convert string to float: 'a'"),
    "a long string": ({"inputs": {"reflectance": "x" * 9000}}, "could not convert string to float: 'xxx"),
    "ragged": ({"inputs": {"reflectance": [[[1.0], [1.0, 2.0]]]}, "params": GIVEN}, "inhomogeneous shape"),
    "objects": ({"inputs": {"reflectance": [{}]}, "params": GIVEN}, "reflectance is no array of numbers"),
    "other rows": ({"inputs": [{"reflectance": 1}, 2, {}], "params": GIVEN}, "shape|array of numbers"),
    "NaN": (body_of(GOOD * np.nan), "no valid pixel in window 0, 1"),
    "infinite": (body_of(GOOD + np.inf), "infinite values"),
    "beyond float32": (body_of(np.full(GOOD.shape, 1e300)), "infinite values"),
    "a huge integer": (body_of([[[[10**400]]]]), "too large"),
    "windows": (body_of(np.zeros((4097, 4, 1, 1), dtype=int)), "windows of 1 x 1 px"),
    "missing": ({"inputs": {}, "params": GIVEN}, "inputs has no reflectance"),
    "statistics": ({"inputs": {"reflectance": GOOD.tolist()}}, "needs the params low and high"),
    "words": (body_of(GOOD, low=["a"] * 5), "low is no list of finite numbers"),
    "mode": (body_of(GOOD, mode=["scene"]), r"mode is .*; expected windows or scene"),
    "params": ({"inputs": {"reflectance": GOOD.tolist()}, "params": [1]}, "params is no object"),
    "no inputs": ({"params": GIVEN}, "expected a JSON object such as"),
    "list": ([1, 2], "expected a JSON object such as"),
    "malformed": (b'{"inputs": [', "no JSON that can be read: Expecting value"),
    "nothing": (b"", "no JSON that can be read: Expecting value"),
    "not text": (b'{"inputs": "\xff\xfe"}', "no JSON that can be read: 'utf-8' codec"),
    "deep": (DEEP, "no JSON that can be read: .*recursion"),
    "digits": (b'{"inputs": ' + b"1" * 5000 + b"}", "no JSON that can be read: Exceeds the limit"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_in_one_sentence_and_the_server_stays_up(url, name):
    body, message = BAD_REQUESTS[name]
    found = ask(f"{url}/predict", body)
    assert found.status_code == 400
    assert list(found.json()) == ["message"]
    told = found.json()["message"]
    assert re.search(message, told)
    assert len(told) <= 500
    assert not re.search(r"array\(|Traceback|\n", told)
    assert ask(f"{url}/predict", body_of(GOOD)).status_code == 200


def test_what_is_not_a_short_json_body_is_refused(url):
    def refused(body=b"{}", **headers):
        found = ask(f"{url}/predict", body, **headers)
        return found.status_code, found.json()["message"]

    assert refused(b" " * 200_001) == (413, "the body is too long; at most 200000 bytes are read")
    parts = requests.post(
        f"{url}/predict", data=iter([b" " * 150_000] * 2), headers={"Content-Type": "application/json"}, timeout=9
    )
    assert parts.status_code == 413, "no length was said"
    # a megabyte of Parquet unpacks to gigabytes, whatever the limit of the body is
    for kind in ("text/plain", "text/csv", "application/vnd.apache.parquet", ""):
        assert refused(**{"Content-Type": kind}) == (415, f"Content-Type is {kind}; send application/json")
    assert refused(**{"Content-Encoding": "gzip"})[0] == 415
    assert ask(f"{url}/elsewhere", {}).json() == {"message": "Not Found"}
    wrong = requests.get(f"{url}/predict", timeout=9)
    assert (wrong.status_code, wrong.json()) == (405, {"message": "Method Not Allowed"})
    assert ask(f"{url}/predict", body_of(GOOD), **{"Content-Type": "application/json; charset=utf-8"}).ok


def test_a_fault_of_the_server_is_not_called_the_clients(url, monkeypatch):
    def broken(*arguments):
        raise MemoryError("secret")

    monkeypatch.setattr(app, "answer", broken)
    found = ask(f"{url}/predict", body_of(GOOD))
    told = {"message": "the server failed at this request; its log has the reason"}
    assert (found.status_code, found.json()) == (500, told)


def sent(messages, headers=((b"content-type", b"application/json"),)):
    """A request whose client sends these messages, and then nothing."""
    parts = list(messages)

    async def receive():
        return parts.pop(0) if parts else await asyncio.sleep(60)

    return Request({"type": "http", "method": "POST", "path": "/predict", "headers": list(headers)}, receive)


def status(queue, *messages):
    try:
        asyncio.run(queue.answer(sent(messages)))
    except HTTPException as error:
        return error.status_code
    return 200


def test_slow_and_broken_bodies_end_and_what_is_held_is_bounded(monkeypatch):
    monkeypatch.setattr(app, "READ_S", 0.05)
    queue = RequestQueue(lambda body: pytest.fail("asked"), max_bytes=100, max_s=1)
    part = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    assert status(queue, part) == 408
    assert status(queue, part, {"type": "http.disconnect"}) == 400
    assert status(queue, part, part) == 413
    assert queue.held_bytes == 0, "of bodies that went no further nothing is kept"
    queue.held_bytes = 350  # by others
    assert status(queue, part) == 503
    assert queue.held_bytes == 350


WHOLE = {"type": "http.request", "body": b"{}", "more_body": False}


def test_few_requests_are_worked_on_at_once():
    lock, now, most = threading.Lock(), 0, 0

    def work(body):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return bytes(body)

    async def many():
        queue = RequestQueue(work, max_bytes=100, max_s=5)
        return await asyncio.gather(*(queue.answer(sent([WHOLE])) for _ in range(7)))

    assert asyncio.run(many()) == [b"{}"] * 7
    assert most == 2


def test_a_request_that_takes_too_long_is_given_up_and_keeps_its_place_until_it_ends():
    done, worked = threading.Event(), []

    def work(body):
        worked.append(body)
        done.wait(9)
        return b""

    queue = RequestQueue(work, max_bytes=100, max_s=0.05)
    assert [status(queue, WHOLE) for _ in range(4)] == [504] * 4
    assert len(worked) == 2, "the others waited, and were cancelled"
    assert queue.held_bytes == 0
    done.set()
    queue.work = lambda body: json.dumps("again").encode()
    assert status(queue, WHOLE) == 200
