"""Stands for a cluster engine in tests: a daemon that starts what it is given, a client that waits for it.

Run by path as a program of its own, with the path of a socket first::

    python fake_engine.py SOCKET serve
    python fake_engine.py SOCKET submit RUN COMMAND...
    python fake_engine.py SOCKET stop RUN
    python fake_engine.py SOCKET alone COMMAND...

What it starts is the daemon's child, in a session of its own, in another folder, with an empty environment. A
client that is killed leaves it running. ``alone`` needs no daemon: the client starts it itself, and waits.
Beside the socket, ``handed`` says in a line for each client what it was given.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

RUNNING: dict[str, subprocess.Popen[bytes]] = {}


def start(command: list[str], **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={}, cwd="/", start_new_session=True, **more)


class Serving(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        word, run, *command = json.loads(self.rfile.readline())
        if word == "stop":
            found = RUNNING.get(run)
            if found is None:
                self.answer({"text": f"there is no {run}\n", "exit": 4})
                return
            os.killpg(found.pid, signal.SIGKILL)
            self.answer({"text": f"stopped {run}\n", "exit": 0})
            return
        process = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        RUNNING[run] = process
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 65536):
            self.answer({"text": piece.decode()})
        self.answer({"exit": process.wait()})

    def answer(self, what: object) -> None:
        # The client may be dead; what it submitted goes on.
        with contextlib.suppress(OSError):
            self.wfile.write(json.dumps(what).encode() + b"\n")


class Daemon(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def client(place: Path, words: list[str]) -> int:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place))
        connection.sendall(json.dumps(words).encode() + b"\n")
        for line in connection.makefile():
            said = json.loads(line)
            print(said.get("text", ""), end="", flush=True)
            if "exit" in said:
                return int(said["exit"])
    return 70


def main(place: Path, words: list[str]) -> int:
    if words == ["serve"]:
        with Daemon(str(place), Serving) as daemon:
            print("serving", flush=True)
            threading.Thread(target=lambda: (sys.stdin.read(), daemon.shutdown()), daemon=True).start()
            daemon.serve_forever()
        for process in RUNNING.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return 0
    with place.with_name("handed").open("a") as file:
        file.write(json.dumps(words) + "\n")
    return start(words[1:]).wait() if words[0] == "alone" else client(place, words)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
