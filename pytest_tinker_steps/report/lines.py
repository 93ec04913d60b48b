"""What is printed of a step: lines from events, in the words that the documentation uses.

An event is a dict as it stands in the journal (``event``, ``status``, ``step``, ``task_id``, ...).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..run.expectations import one_line
from ..run.probing.probe_context import size_text

LONGEST_SAMPLE = 160
"""Characters of what a monitor has seen or found wrong that are shown while a step runs."""

MARKS = {
    "passed": "✓",
    "failed": "✗",
    "warned": "!",
    "started": "→",
    "cancelled": "·",
    "not run": "-",
}

PHASES = {
    "pre_flight": ("PRE-FLIGHT", "checks"),
    "test_first": ("TEST", ""),
    "main": ("MAIN", ""),
    "post_validation": ("POST", "validations"),
}
"""The words of each phase, and what its parts are called."""


def duration(seconds: float) -> str:
    """Seconds for people: ``0.3s``, ``7m12s``, ``2h15m``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def showable(lines: Iterable[str], encoding: str | None) -> list[str]:
    """Lines in which what a stream of this encoding lacks is escaped, as pytest does it on its terminal."""
    name = encoding or "utf-8"
    return [line.encode(name, "backslashreplace").decode(name) for line in lines]


def of(event: Mapping[str, Any], *, title: str = "", journal: str = "") -> Iterator[str]:
    """The lines of one event; most events have one, some none.

    Args:
        title: of the step, for its headline.
        journal: name of the journal, for the hint at the end.
    """
    kind = event["event"]
    if kind in ("attempt_started", "verify_started"):
        yield from _started(event, title)
    elif kind == "job_resumed":
        yield from ("", f"[STEP {event['step']}: {title}] the end of its job")
        yield f"[TASK ID] {event['task_id']}"
    elif kind == "phase_started":
        name, noun = PHASES[event["phase"]]
        if event.get("what"):
            yield f"[{name}] Executing: {event['what']}"
            return
        count = event["count"]
        yield f"[{name}] {f'Parallel {noun}' if count > 1 else noun.capitalize()} ({count})..."
    elif kind == "check":
        yield _check(event)
    elif kind == "phase":
        yield from _phase(event)
    elif kind == "progress":
        yield f"[MAIN] {progress(event)}"
    elif kind == "note":
        yield f"[MAIN] {event['text']}"
    elif kind == "left_behind":
        yield f"[MAIN] ! {event['count']} process(es) were left running by this attempt and have been ended"
    elif kind == "retry":
        after = f" in {duration(event['delay'])}" if event["delay"] else ""
        why = event.get("message") or f"{event['cause']} failed"
        yield f"[RETRY] {why}: attempt {event['attempt']} of {event['attempts']}{after}"
    elif kind in ("ticked", "unticked", "tick_failed"):
        yield from _tick(event)
    elif kind in LONG_WORK:
        yield LONG_WORK[kind](event)
    elif kind in ("attempt_finished", "verify_finished"):
        yield from _finished(event, journal)


def _started(event: Mapping[str, Any], title: str) -> Iterator[str]:
    if event.get("attempt", 1) == 1:
        yield ""
        yield f"[STEP {event['step']}: {title}]"
    yield f"[TASK ID] Generated: {event['task_id']}"


def _check(event: Mapping[str, Any]) -> str:
    # A metric of the check's own name says it once.
    said = str(event.get("message") or "").removeprefix(f"{event['name']}: ")
    message = f": {said}" if said else ""
    tries = f", attempt {event['attempts']}" if event.get("attempts", 1) > 1 else ""
    took = "" if event["status"] in ("cancelled", "not run") else f" [{duration(event['seconds'])}{tries}]"
    # A stream that is not to stop yet has not failed.
    not_yet = event.get("phase") == "stop_when" and event["status"] == "failed"
    mark = MARKS["cancelled" if not_yet else event["status"]]
    return f"  {mark} {event['name']}{message}{took}"


def _phase(event: Mapping[str, Any]) -> Iterator[str]:
    name, _ = PHASES[event["phase"]]
    if event["phase"] in ("pre_flight", "post_validation"):
        return  # its checks have lines of their own
    mark = MARKS[event["status"]]
    message = f" {event['message']}" if event.get("message") else ""
    yield f"[{name}] {mark}{message} [{duration(event['seconds'])}]"


def progress(event: Mapping[str, Any]) -> str:
    """``500/5000 [10%] 12.3/s eta 6:05``; ``500 done 12.3/s`` when nobody knows of how much."""
    done, total = event["done"], event["total"]
    if total:
        # 100 only when nothing is left.
        text = f"{_number(done)}/{_number(total)} [{int(100 * done / total)}%]"
    else:
        text = f"{_number(done)} done"
    rate = event.get("rate")
    if rate:
        text += f" {rate:.1f}/s"
    if rate and total:
        left = max(0, round((total - done) / rate))
        clock = f"{left // 3600}:{left % 3600 // 60:02d}" if left >= 3600 else f"{left // 60}"
        text += f" eta {clock}:{left % 60:02d}"
    return text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _tick(event: Mapping[str, Any]) -> Iterator[str]:
    if event["event"] == "ticked":
        yield f"[SPEC] ✓ {event['place']} ticked"
    elif event["event"] == "unticked":
        yield f"[SPEC] ! {event['place']} un-ticked: {event['message']}"
    else:
        yield f"[SPEC] ✗ not ticked: {event['message']}"


def _finished(event: Mapping[str, Any], journal: str) -> Iterator[str]:
    if not event.get("final", True):
        return  # its retry has said so
    step, status = event["step"], event["status"]
    took = duration(event["seconds"])
    for text in event.get("unverified", ()):
        yield f"  ? unverified: {text}"
    if event["event"] == "verify_finished":
        yield f"Step {step}: its tick {'holds' if status == 'passed' else 'does not hold'} ({took})."
    elif status == "passed":
        ready = f" Ready for step {event['next']}." if event.get("next") else ""
        yield f"Step {step} complete in {took}.{ready}"
    elif status == "started":
        who = f" (pid {event['pid']})" if event.get("pid") else ""
        yield f"Step {step} started in {took}; its job goes on{who}."
    else:
        yield f"Step {step} {status} after {took}."
    yield f'To view logs: grep "{event["task_id"]}" {shlex.quote(journal)}'


# -- long work: jobs, monitors, pieces, recovery, budgets


def _job_ready(event: Mapping[str, Any]) -> str:
    took = duration(event["seconds"])
    return f"[MAIN] started as job: pid {event['pid']}, ready after {took}; log {event['log']}"


def _job_ended(event: Mapping[str, Any]) -> str:
    took = duration(event["seconds"])
    if event["status"] == "passed":
        return f"[JOB] ✓ step {event['step']}'s job ended well after {took}"
    why = f": {one_line(event['reason'])}" if event.get("reason") else ""
    return f"[JOB] ✗ step {event['step']}'s job failed after {took}{why}"


def _job_stopped(event: Mapping[str, Any]) -> str:
    return f"[JOB] ! step {event['step']}'s job was stopped by {one_line(event['by'])}"


def _waiting(event: Mapping[str, Any]) -> str:
    text = f"[WAIT] step {event['job']}'s job: {duration(event['seconds'])}"
    if event.get("progress"):
        done, total, rate = event["progress"]
        text += f", {progress({'done': done, 'total': total, 'rate': rate})}"
    return text


def newest(text: str) -> str:
    """The last line of a sample that says something: logs grow at their end."""
    said = [line for line in text.splitlines() if any(char.isalnum() for char in line)]
    return one_line(said[-1] if said else text)


def _sample(event: Mapping[str, Any]) -> str:
    return one_line(f"[MONITOR] {event['monitor']}: {newest(event['text'])}", LONGEST_SAMPLE)


def _alert(event: Mapping[str, Any]) -> str:
    return one_line(f"[MONITOR] ! {event['monitor']}: {event['text']}", LONGEST_SAMPLE)


def _piece(event: Mapping[str, Any]) -> str:
    of = f"/{event['of']}" if event.get("of") else ""
    text = f"[MAIN] {MARKS[event['status']]} {event['kind']} {event['index'] + 1}{of}"
    text += f" ({event['size']} {_plural('example', event['size'])} from {event['start']})"
    if event.get("message"):
        text += f": {one_line(event['message'])}"
    tries = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
    return f"{text} [{duration(event['seconds'])}{tries}]"


def _resumed(event: Mapping[str, Any]) -> str:
    count, of, kind = event["count"], event.get("of"), event.get("kind", "piece")
    if of:
        return f"[MAIN] resumed: {count} of {of} {_plural(kind, of)} are recorded as good"
    return f"[MAIN] resumed: {count} {_plural(kind, count)} {'is' if count == 1 else 'are'} recorded as good"


def _joined(event: Mapping[str, Any]) -> str:
    pieces = _plural(event.get("kind", "piece"), event["pieces"])
    return f"[MAIN] joined {event['pieces']} {pieces} into {event['path']} ({size_text(event['bytes'])})"


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 else f"{kind}es" if kind.endswith("ch") else f"{kind}s"


def _recover(event: Mapping[str, Any]) -> str:
    why = f": {one_line(event['message'])}" if event.get("message") else ""
    command = one_line(event["command"], LONGEST_SAMPLE)
    return f"[RECOVER] {MARKS[event['status']]} {command}{why} [{duration(event['seconds'])}]"


def _budget(event: Mapping[str, Any]) -> str:
    return f"[BUDGET] {MARKS[event['status']]} {event['message']}"


LONG_WORK: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "job_ready": _job_ready,
    "job_ended": _job_ended,
    "job_stopped": _job_stopped,
    "waiting": _waiting,
    "sample": _sample,
    "alert": _alert,
    "piece": _piece,
    "pieces_resumed": _resumed,
    "joined": _joined,
    "recover": _recover,
    "budget": _budget,
}
