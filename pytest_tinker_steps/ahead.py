"""Workers of xdist that start while the plan is still read.

xdist starts one worker after another when everything else is ready, and waits for the interpreter of each.
Nothing of that depends on the plan. So where the workers are plain processes of this machine they are started
first, side by side, and load pytest meanwhile. xdist is given them when it asks for its workers.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from concurrent.futures import Future

    import execnet

PLAIN = "popen"
"""What ``-n`` makes of each worker."""

_LOAD = """
import importlib, os, sys
channel.send(dict(
    executable=sys.executable,
    version_info=sys.version_info[:5],
    platform=sys.platform,
    cwd=os.getcwd(),
    pid=os.getpid(),
))
sys.path[:] = channel.receive()
try:
    from _pytest import config
    for name in config.default_plugins:
        importlib.import_module("_pytest." + name)
except Exception:
    pass  # what is missing is told when xdist asks for it
environ, folder = channel.receive()
os.environb.clear()
os.environb.update(environ)
os.chdir(folder)
"""
"""What a worker does until xdist has it: from then on it is as if it had been started in that moment."""


class Workers:
    """Workers that nobody has asked for yet.

    Args:
        count: of them.
    """

    def __init__(self, count: int) -> None:
        from concurrent.futures import ThreadPoolExecutor  # only sessions with workers pay for it

        import execnet

        self._group = execnet.Group(execmodel="main_thread_only")
        self._make = self._group.makegateway
        self._threads = ThreadPoolExecutor(min(count, os.cpu_count() or 1), "tinker-steps-ahead")
        specs = [execnet.XSpec(PLAIN) for _ in range(count)]
        for spec in specs:
            self._group.allocate_id(spec)
        self._started: dict[str, Future[tuple[execnet.Gateway, execnet.Channel]]] = {
            str(spec.id): self._threads.submit(self._start, spec) for spec in specs
        }

    def _start(self, spec: execnet.XSpec) -> tuple[execnet.Gateway, execnet.Channel]:
        from execnet.gateway import RInfo

        gateway = self._make(spec)
        channel = gateway.remote_exec(_LOAD)
        # xdist asks for it first. Asked by a thread, execnet would parse its own source, while pytest parses
        # the modules in which it rewrites assertions; Python 3.11 can do only one of these at a time.
        gateway._cache_rinfo = RInfo(channel.receive())
        channel.send([place for place in sys.path if isinstance(place, str)])
        return gateway, channel

    def give(self, manager: Any) -> None:
        """Let xdist find them when it makes its workers.

        Args:
            manager: xdist's ``NodeManager``, which has none yet.
        """
        # Its method is asked for each worker, also for one in place of another that died.
        setattr(self._group, "makegateway", self._take)  # noqa: B010 - to a method nothing may be assigned
        manager.group = self._group

    def _take(self, spec: execnet.XSpec) -> execnet.Gateway:
        started = self._started.pop(str(spec.id), None)
        if started is None:
            return self._make(spec)
        gateway, channel = started.result()
        # Whatever was configured meanwhile may have changed these, for the workers to inherit.
        channel.send((dict(os.environb), os.getcwdb()))  # noqa: PTH109 - as bytes, whatever its name
        channel.waitclose()
        return gateway

    def close(self) -> None:
        """End those that nobody has asked for."""
        self._threads.shutdown()
        if self._started:
            self._group.terminate(timeout=1.0)


AHEAD = pytest.StashKey[Workers]()
"""Where pytest's configuration keeps them."""


def start(config: pytest.Config) -> None:
    """Start the workers of this session if they are plain processes of this machine."""
    option = config.option
    wanted: list[str] = getattr(option, "tx", None) or []
    others = option.collectonly or getattr(option, "px", None) or set(wanted) != {PLAIN}
    if others or getattr(option, "dist", "no") == "no":
        return
    config.stash[AHEAD] = workers = Workers(len(wanted))
    config.add_cleanup(workers.close)
