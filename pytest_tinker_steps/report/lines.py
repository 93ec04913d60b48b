"""What is printed of a step: lines from events, in the words that the documentation uses.

An event is a dict as it stands in the journal (``event``, ``status``, ``step``, ``task_id``, ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MARKS = {
    "passed": "✓",
    "failed": "✗",
    "warned": "!",
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


def of(event: Mapping[str, Any], *, title: str = "", journal: str = "") -> Iterator[str]:
    """The lines of one event; most events have one, some none.

    Args:
        title: of the step, for its headline.
        journal: name of the journal, for the hint at the end.
    """
    kind = event["event"]
    if kind in ("attempt_started", "verify_started"):
        yield from _started(event, title)
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
        yield f"[RETRY] {event['cause']} failed: attempt {event['attempt']} of {event['attempts']}{after}"
    elif kind in ("ticked", "unticked", "tick_failed"):
        yield from _tick(event)
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
    return f"  {MARKS[event['status']]} {event['name']}{message}{took}"


def _phase(event: Mapping[str, Any]) -> Iterator[str]:
    name, _ = PHASES[event["phase"]]
    if event["phase"] in ("pre_flight", "post_validation"):
        return  # its checks have lines of their own
    mark = MARKS[event["status"]]
    message = f" {event['message']}" if event.get("message") else ""
    yield f"[{name}] {mark}{message} [{duration(event['seconds'])}]"


def progress(event: Mapping[str, Any]) -> str:
    """``500/5000 [10%] 12.3/s eta 6:05``"""
    done, total = event["done"], event["total"]
    text = f"{_number(done)}/{_number(total)}"
    if total:
        text += f" [{int(100 * done / total)}%]"  # 100 only when nothing is left
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
    else:
        yield f"Step {step} {status} after {took}."
    yield f'To view logs: grep "{event["task_id"]}" {journal}'
