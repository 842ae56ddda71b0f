"""Requests of the tests."""

import json
import socket

import numpy as np
import requests

from tests.deploy.serving.test_scoring import GIVEN


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def ask(url, body, **headers):
    """Status and content of an answer; each request in its own connection."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    return requests.post(url, data=data, headers=headers, timeout=60, proxies={"http": ""})


def body_of(reflectance, **params):
    """A request for windows."""
    return {"inputs": {"reflectance": np.asarray(reflectance).tolist()}, "params": GIVEN | params}
