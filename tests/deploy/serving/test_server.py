"""`landfold serve` as a process, its port, and its connections."""

import socket
import threading
import time
from contextlib import suppress

import pytest
import requests
from fastapi import FastAPI, Response

from landfold import cli
from landfold.cli import _parser
from landfold.deploy.serving import LIMITS, server
from landfold.deploy.serving.app import create_app
from landfold.deploy.serving.server import ServerError, bound
from tests.deploy.serving.client import ask, body_of, free_port
from tests.deploy.serving.test_app import running
from tests.deploy.serving.test_scoring import GOOD

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def test_the_command_answers(folder, monkeypatch, capsys):
    made, codes, make_server = [], [], server.make_server
    monkeypatch.setattr(server, "make_server", lambda app: made.append(make_server(app)) or made[0])
    url = f"http://127.0.0.1:{free_port()}"
    arguments = ["serve", "-m", str(folder), "--max-windows", "2", "--port", url.rpartition(":")[2]]
    command = threading.Thread(target=lambda: codes.append(cli.main(arguments)), daemon=True)
    command.start()
    while not (made and made[0].started):
        assert command.is_alive()
        time.sleep(0.01)
    assert requests.get(f"{url}/metadata", timeout=9).json()["limits"]["max_windows"] == 2
    assert ask(f"{url}/invocations", body_of(GOOD)).status_code == 200
    told = {"message": "3 windows; a request may have 2: send several requests"}
    assert ask(f"{url}/predict", body_of([GOOD[0]] * 3)).json() == told
    made[0].should_exit = True
    command.join()
    assert codes == [0]
    assert capsys.readouterr() == (f"{folder}: {url}/predict, until Ctrl-C\n", "")


@pytest.fixture
def port(bundle, monkeypatch):
    """A server that waits half a second for a request."""
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    with running(create_app(bundle, LIMITS, max_bytes=10_000, max_s=9)) as url:
        yield int(url.rpartition(":")[2])


def connected(port, sent=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(sent)
    return connection


def answered(connection):
    """The status of the next answer."""
    received = b""
    while not received.endswith(b"}") and (part := connection.recv(9999)):
        received += part
    return received[9:12]


def test_connections_without_a_whole_request_are_closed(port):
    """Nothing, half a head, half a second head after an answer: none stays, and others are answered meanwhile."""
    waiting = [connected(port, sent) for sent in [b"", b"G", HEAD] * 66]
    kept = connected(port, HEAD + b"\r\n")
    assert answered(kept) == b"200"
    kept.sendall(HEAD)
    started = time.monotonic()
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    for connection in [*waiting, kept]:
        assert connection.recv(1) == b"", "closed"
        connection.close()
    assert time.monotonic() - started < 4


def test_a_request_that_arrives_in_time_is_answered_however_long_it_takes(port):
    with connected(port, HEAD + b"\r\n" + HEAD) as connection:  # and half of the next
        assert answered(connection) == b"200"
        time.sleep(0.3)
        connection.sendall(b"\r\n")
        assert answered(connection) == b"200"
    body = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    with connected(port, body) as connection:
        time.sleep(0.8)  # the head was whole: the body has its own time
        connection.sendall(b"{}")
        assert answered(connection) == b"400"


def test_a_client_that_does_not_take_its_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    monkeypatch.setattr(server, "SEND_S", 0.1)
    large = FastAPI()
    large.add_api_route("/health", lambda: Response(bytes(50_000_000)))
    with running(large) as url, connected(int(url.rpartition(":")[2]), HEAD + b"\r\n") as connection:
        time.sleep(1)
        received = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(2**20):
                received += len(part)
        assert received < 50_000_000


def test_odd_http_is_refused_and_the_server_stays_up(port):
    no_length = b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
    for sent in (b"\x16\x03\x01\x00\xff", b"GET / HTTP/9\r\n\r\n", no_length, HEAD + b"X: " + b"x" * 70_000):
        with connected(port, sent) as connection:
            assert connection.recv(9999).startswith(b"HTTP/1.1 4")
    with connected(port, HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n") as connection:
        assert answered(connection) == b"200"


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
    remedy = "give an address of this machine as --host, or another --port"
    told = f"landfold serve: 127.0.0.1:{port}: nothing can listen there (Address already in use); {remedy}"
    assert capsys.readouterr() == ("", f"{told}\n")
    with pytest.raises(ServerError, match=r"^--port 70000: expected 1 to 65535$"):
        bound("127.0.0.1", 70000)
    with pytest.raises(ServerError, match=r"^no\.such\.host\.invalid:5001: nothing can listen there"):
        bound("no.such.host.invalid", 5001)


def test_limits_that_no_server_can_have_are_refused(folder, capsys):
    assert cli.main(["serve", "-m", str(folder), "--max-mb", "0"]) == 1
    assert capsys.readouterr().err == "landfold serve: --max-mb 0: expected 1 or more\n"
    assert cli.main(["serve", "-m", str(folder), "--max-seconds", "0"]) == 1
    assert capsys.readouterr().err == "landfold serve: --max-seconds 0: expected 1 or more\n"
    assert cli.main(["serve", "-m", str(folder), "--max-windows", "0"]) == 1
    assert "limits.max_windows: found 0" in capsys.readouterr().err
