"""Python processes that start with slow libraries imported: mlflow and torch take seconds each, and DVC runs many.

`tests.projects.launcher` makes commands ``python`` and ``dvc`` for the front of PATH. They ask a server, which has
imported the libraries, to fork a process with their folder, environment, arguments and standard streams; it dies with
them. Nothing of Landfold is imported beforehand: the code that runs is that of the command's folder.
"""

import json
import os
import socket
import sys
from array import array

SOCKET = "LANDFOLD_TESTS_SOCKET"


def command(program: str, arguments: list[str]) -> int:
    """Have a command run by the server; its exit code. This is all that ``python`` and ``dvc`` on PATH do."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        request = json.dumps([program, arguments, os.getcwd(), dict(os.environ)]).encode()
        fds = array("i", [0, 1, 2])
        connection.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        connection.sendall(request)
        answer = connection.recv(1)
    return answer[0] if answer else 70


def serve(path: str, libraries: list[str]) -> None:
    """Import the libraries, then fork a process for each request, until standard input closes."""
    import importlib
    import selectors
    import signal

    for library in libraries:
        importlib.import_module(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as ready:
        listening.bind(path)
        listening.listen(64)
        ready.register(listening, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            if any(key.fileobj is sys.stdin for key, _ in ready.select()):
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    run(connection)


def run(connection: socket.socket) -> None:
    """In the forked process: become the command."""
    import atexit
    import signal
    import threading

    import psutil

    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(1 << 20)
    program, arguments, folder, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    ended = threading.Event()

    def die_with_the_command() -> None:
        connection.recv(1)
        if not ended.is_set():  # the command was killed: so is what this process has begun
            for process in psutil.Process().children(recursive=True):
                process.kill()
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die_with_the_command, daemon=True).start()
    code = execute(program, arguments)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ended.set()
    connection.sendall(bytes([code]))
    os._exit(code)  # not by returning: to take all imported modules apart takes a second


def execute(program: str, arguments: list[str]) -> int:
    """Run a module or a script as Python's command line does; its exit code."""
    import runpy
    import traceback

    module = program == "dvc" or arguments[0] == "-m"
    name, *rest = ["dvc", *arguments] if program == "dvc" else arguments[1:] if module else arguments
    sys.argv = [name, *rest]
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.abspath(name))
    try:
        if module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(command(sys.argv[1], sys.argv[2:]))
