"""Finds and ends processes: by a marker in their environment, by group and session, by descent.

Loaded by the guardian without the package around it, so it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

RAW = sys.platform == "linux"
"""Whether /proc is read directly; elsewhere psutil is asked."""

Identity = tuple[int, float]
"""Process id and start identity: together never the same for two processes."""

Signals = Sequence[tuple[int, float]]
"""Signal numbers in the order in which they are sent, each with the seconds to wait after it."""

_Row = tuple[int, int, int, int, float, bool]
"""Process id, parent, group, session, start, and whether it has ended and only waits to be reaped."""

_ENVIRON_PIECE = 65536
_NO_ENVIRON = b"\0\0"
_KERNEL_THREADS = 2
_LONGEST_EXEC = 0.5
"""Seconds after which a process that shows no environment is taken at its word."""
_ENV_END = 48
"""Place of field 51 of ``/proc/PID/stat`` behind the name: where the environment ends in memory."""
_PASSES = 10
_FEW = 30
"""Process ids that are asked one by one."""
_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.05


def started(pid: int) -> float | None:
    """The start identity of a process, or None when there is no such process.

    It is only good for comparison: clock ticks since boot on Linux (field 22 of ``/proc/PID/stat``, proc(5)),
    seconds of the epoch elsewhere.
    """
    row = _row(pid)
    return None if row is None else row[4]


def alive(pid: int, start: float) -> bool:
    """Whether the process with this id and start still runs; one that only waits to be reaped does not."""
    row = _row(pid)
    return row is not None and row[4] == start and not row[5]


def boot() -> str:
    """Which boot of the machine this is: in another one the same identity means another process."""
    if RAW:
        return _read("/proc/sys/kernel/random/boot_id", 64).decode().strip()
    import psutil

    return f"{psutil.boot_time():.0f}"


def group_lives(number: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def still_theirs(groups: Mapping[int, float | None]) -> list[int]:
    """The groups and sessions whose number has not been given to another process meanwhile.

    A number is not given away while the group or session has members, so a leader that is gone speaks for the
    group; a process that has the number but not the leader's start speaks against it.

    Args:
        groups: numbers, each with the start identity of the leader (None when it was gone already).
    """
    return [number for number, start in groups.items() if started(number) in (None, start)]


def last_pid() -> int | None:
    """The process id given out last, where the system says it (Linux)."""
    if not RAW:
        return None
    data = _read("/proc/loadavg", 256)
    return int(data.split()[4]) if data else None


def find(
    marker_name: str, value: str, *, newer_than_pid: int | None = None, groups: Iterable[int] = ()
) -> list[Identity]:
    """All living processes of this user that belong to a marker, with all their descendants, never ourselves.

    Args:
        marker_name, value: what the initial environment must hold.
        newer_than_pid: look only at higher ids, which is faster. Only for a short time after that id was
            given out; ignored when the ids have begun anew since.
        groups: numbers of process groups and sessions whose members belong, whatever their environment.
    """
    marker, wanted = f"{marker_name}={value}", set(groups)
    if not wanted and newer_than_pid is not None and _surely_nobody(newer_than_pid, marker):
        return []
    return _family(wanted, newer_than_pid, marker)[0]


def members(groups: Iterable[int], *, newer_than_pid: int | None = None) -> tuple[list[Identity], set[int]]:
    """The living processes of these groups and sessions with all their descendants; and their sessions.

    Args:
        newer_than_pid: as for ``find``.
    """
    return _family(set(groups), newer_than_pid, None)


def leader(found: Iterable[Identity]) -> tuple[Identity | None, Identity | None]:
    """Who leads processes that belong together, and its first child.

    The leader of a session counts when it was there before all the others; one of them may have opened a
    session of its own. Without a leader, or without a child of it, there is None in its place; without a
    leader the second is the process that was there first.
    """
    living = []
    for pid, began in dict(found).items():
        match _row(pid):
            case (_, parent, _, session, start, False) if start == began:
                living.append((start, pid, parent, session))
    living.sort()  # by number too: the clock ticks slower than processes are started
    oldest = living[0][0] if living else 0.0
    first = next(((p, start) for start, p, _, session in living if p == session and start == oldest), None)
    below = ((p, start) for start, p, parent, _ in living if first is None or parent == first[0])
    return first, next(below, None)


def end(
    find_again: Callable[[], list[Identity]],
    *,
    signals: Signals = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)),
    on_signal: Callable[[int], None] | None = None,
) -> int:
    """Ends processes, also those that are forked meanwhile.

    Args:
        find_again: gives the processes that still live; called again and again until there are none.
        signals: sent in this order.
        on_signal: told of each signal before it is sent.

    Returns:
        How many distinct processes were found.
    """
    seen: set[Identity] = set()
    for number, seconds in signals:
        told: set[Identity] = set()
        deadline = time.monotonic() + seconds
        pause = _SHORTEST_PAUSE
        while found := find_again():
            if not told and on_signal is not None:
                on_signal(number)
            for process in found:
                if process not in told:
                    send(process, number)
            told.update(found)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        seen |= told
        if not found:
            break
    return len(seen)


def send(process: Identity, number: int) -> None:
    """Sends a signal to this very process; to none when it is gone, or not ours."""
    pid, start = process
    descriptor = None
    # Once we hold a descriptor, the number cannot come to mean another process between look and signal.
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.pidfd_open(pid)
    try:
        if started(pid) != start:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if descriptor is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def writers(descriptor: int) -> set[int]:
    """The sessions of the other processes that hold the writing end of a pipe, by any of its descriptors.

    Says nothing (an empty set) where the system has no ``/proc/PID/fd``.
    """
    if not RAW:
        return set()
    pipe = f"pipe:[{os.fstat(descriptor).st_ino}]"
    return {row[3] for row in _rows(None)[0] if row[0] != os.getpid() and _writes_to(row[0], pipe)}


def _writes_to(pid: int, pipe: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"{folder}/{name}") == pipe and _for_writing(f"/proc/{pid}/fdinfo/{name}"):
                    return True
    except OSError:
        pass
    return False


def _for_writing(fdinfo: str) -> bool:
    for line in _read(fdinfo, 4096).splitlines():
        if line.startswith(b"flags:"):
            return bool(int(line[6:], 8) & os.O_ACCMODE)
    return False


def _surely_nobody(newer_than_pid: int, marker: str) -> bool:
    """Whether no process above a number shows a marker, where so few were started that each can be asked.

    It is what nearly every search comes to, and a list of all processes costs more. No means: look closely.
    """
    latest = last_pid()
    if latest is None or not newer_than_pid <= latest <= newer_than_pid + _FEW:
        return False
    needle = _needle(marker)
    for pid in range(newer_than_pid + 1, latest + 1):
        environ = _environ(pid)
        if needle in environ or (environ == _NO_ENVIRON and _row(pid) is not None):
            return False
    # One that had ended when it was asked may have forked before: its child has a higher number.
    return last_pid() == latest


def _family(
    groups: set[int], newer_than_pid: int | None, marker: str | None
) -> tuple[list[Identity], set[int]]:
    latest = last_pid()
    if newer_than_pid is not None and (latest is None or latest < newer_than_pid):
        newer_than_pid = None
    rows: list[_Row] = []
    for _ in range(_PASSES if latest is not None else 2):
        seen, vanished = _rows(newer_than_pid)
        rows += seen
        chosen, unclear = _chosen(seen, groups, marker)
        # One that has ended since it was listed may have forked: its child is newer than the list.
        if chosen or not (vanished or unclear):
            break
        newer_than_pid, latest = latest, last_pid()
    if not chosen:
        return [], set()
    ours = os.getpid()
    children: dict[int, list[int]] = {}
    for row in rows:
        children.setdefault(row[1], []).append(row[0])
    grown = list(chosen)
    for pid in grown:
        fresh = [child for child in children.get(pid, ()) if child not in chosen and child != ours]
        chosen.update(fresh)
        grown.extend(fresh)
    living = {row[0]: row for row in rows if row[0] in chosen and not row[5]}.values()
    return [(row[0], row[4]) for row in living], {row[3] for row in living}


def _chosen(rows: list[_Row], groups: set[int], marker: str | None) -> tuple[set[int], bool]:
    """Who belongs to the groups or carries the marker; and whether one could not be asked any more."""
    chosen = {row[0] for row in rows if row[2] in groups or row[3] in groups}
    chosen.discard(os.getpid())
    ended = {row[0] for row in rows if row[5]}
    if marker is not None:
        needle = _needle(marker)
        empty = []
        for pid, parent, *_ in rows:
            if pid in chosen or pid in ended or pid == os.getpid():
                continue
            environ = _environ(pid)
            if needle in environ:
                chosen.add(pid)
            elif environ == _NO_ENVIRON and _KERNEL_THREADS not in (pid, parent):
                empty.append(pid)
        chosen.update(pid for pid in empty if needle in _environ_after_exec(pid))
        ended.update(pid for pid in empty if (row := _row(pid)) is None or row[5])
    return chosen - ended, bool(ended)


def _needle(marker: str) -> bytes:
    return b"\0" + os.fsencode(marker) + b"\0"


def _read(path: str, size: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        data = os.read(descriptor, size)
        if len(data) == size:
            while more := os.read(descriptor, size):
                data += more
        return data
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _row(pid: int) -> _Row | None:
    return _parsed(pid, _read(f"/proc/{pid}/stat", 4096)) if RAW else _asked(pid)


def _rows(newer_than_pid: int | None) -> tuple[list[_Row], bool]:
    """All processes; and whether one ended between being listed and being looked at."""
    if RAW:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        import psutil

        pids = psutil.pids()
    floor = newer_than_pid or 0
    latest = last_pid() if floor else None
    # Ids above the one given out last are older than the floor: the numbers have begun anew since.
    above = latest if latest is not None and latest >= floor else max(pids, default=0)
    wanted = [pid for pid in pids if floor < pid <= above]
    rows = [row for pid in wanted if (row := _row(pid)) is not None]
    # Without /proc the processes of others are left out as well, so the numbers tell nothing.
    return rows, RAW and len(rows) < len(wanted)


def _parsed(pid: int, stat: bytes) -> _Row | None:
    # The name, field 2, may itself hold spaces and brackets.
    fields = stat[stat.rfind(b")") + 2 :].split(None, 20)
    if len(fields) < 20:
        return None
    return (pid, int(fields[1]), int(fields[2]), int(fields[3]), float(fields[19]), fields[0] in (b"Z", b"X"))


def _environ_after_exec(pid: int) -> bytes:
    """The environment of a process that has just shown none: in the middle of an exec it has none yet."""
    deadline = time.monotonic() + _LONGEST_EXEC
    while _in_exec(pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    return _environ(pid)  # read last: what was read before it came out of the exec is nothing


def _in_exec(pid: int) -> bool:
    """Whether the kernel has not laid out the memory of a process of this user yet (Linux)."""
    stat = _read(f"/proc/{pid}/stat", 4096) if RAW else b""
    fields = stat[stat.rfind(b")") + 2 :].split()
    # An exec computes or waits for the disk; whoever sleeps is what must not be looked at, and says 0, too.
    if len(fields) <= _ENV_END or fields[_ENV_END] != b"0" or fields[0] not in (b"R", b"D"):
        return False
    try:
        # So does a process of somebody else.
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()  # noqa: PTH116 - the guardian does without pathlib
    except OSError:
        return False


def _asked(pid: int) -> _Row | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.uids().real != os.getuid():
            return None
        ended = process.status() == psutil.STATUS_ZOMBIE
        return (pid, process.ppid(), os.getpgid(pid), os.getsid(pid), process.create_time(), ended)
    except (psutil.Error, OSError):
        return None


def _environ(pid: int) -> bytes:
    """The initial environment, each variable between zero bytes; as an empty one when it may not be read."""
    if RAW:
        return b"\0" + _read(f"/proc/{pid}/environ", _ENVIRON_PIECE) + b"\0"
    import psutil

    try:
        variables = psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return _NO_ENVIRON
    return b"\0" + b"\0".join(os.fsencode(f"{name}={value}") for name, value in variables.items()) + b"\0"
