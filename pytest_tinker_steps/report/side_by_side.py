"""How far a session is whose steps run side by side, on one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..plan.model import Step
from ..record.frozen import Frozen

DONE = ("passed", "done", "assumed")
MOST_RUNS = 7
"""Of neighbours that are done; more are only counted."""


class Tally:
    """What has become of the selected steps; to note and to tell a change costs the same in a longer list.

    Args:
        frozen: the session.
    """

    def __init__(self, frozen: Frozen) -> None:
        self._steps = frozen.plan.steps
        self._places = {name: frozen.by_id[name].index for name in frozen.selection.ids}
        self._done = bytearray(len(self._steps))
        self._count = 0
        self._others: dict[str, dict[str, None]] = {"started": {}, "failed": {}, "blocked": {}}
        for name in frozen.skips:
            self.note(name, "done")

    def note(self, name: str, verdict: str) -> None:
        """Note the verdict of a step, its last one so far."""
        place = self._places.get(name)
        if place is None:
            return
        for other, names in self._others.items():
            if other == verdict:
                names[name] = None
            else:
                names.pop(name, None)
        self._count += (verdict in DONE) - self._done[place]
        self._done[place] = verdict in DONE

    def line(self, running: Iterable[Step], waiting: tuple[Step, str, int] | None) -> str:
        """For example ``12/32 done (1-4, 7-9) · running: step_5 (A), step_10 (C) · failed: none``.

        Args:
            running: what workers have.
            waiting: a step that lacks only what it takes, what it waits for, and how many such there are.
        """
        said = f" ({', '.join(self._runs())})" if self._count else ""
        parts = [f"{self._count}/{len(self._places)} done{said}"]
        parts.append(f"running: {', '.join(map(_named, running)) or 'none'}")
        if waiting:
            step, why, count = waiting
            more = f" and {count - 1} more" if count > 1 else ""
            parts.append(f"waiting: {_named(step)} for {why}{more}")
        jobs, failed, blocked = self._others.values()
        if jobs:
            parts.append(f"jobs: {', '.join(f'step_{name}' for name in jobs)}")
        parts.append(f"failed: {_some(list(failed))}")
        if blocked:
            parts.append(f"blocked: {len(blocked)}")
        return " · ".join(parts)

    def _runs(self) -> Iterator[str]:
        end = -1
        for number in range(MOST_RUNS + 1):
            begin = self._done.find(1, end + 1)
            if begin < 0:
                return
            if number == MOST_RUNS:
                yield "..."
                return
            after = self._done.find(0, begin)
            end = len(self._done) if after < 0 else after
            names = [self._steps[begin].id, self._steps[end - 1].id]
            yield "-".join(dict.fromkeys(names))


def _some(names: list[str]) -> str:
    more = [f"... ({len(names)} in all)"] if len(names) > MOST_RUNS else []
    return ", ".join([*names[:MOST_RUNS], *more]) or "none"


def _named(step: Step) -> str:
    where = step.track or step.layer
    return f"{step.node_name} ({where})" if where else step.node_name


def elapsed(seconds: float) -> str:
    """Seconds for people, for a clock that goes on: ``2h 15m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
