"""Steps as pytest items."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

from .active import ACTIVE, Active, Running
from .fixtures import step_body
from .keywords import ITEM, marks_of
from .plan import graph
from .plan.model import Step
from .run.mains.python import call


class StepFile(pytest.Module):
    """The task list as a collector.

    A ``Module``, since module-scoped fixtures and ``request.module`` need one above the items.
    """

    obj = None

    @classmethod
    def of(cls, parent: pytest.Collector, active: Active) -> StepFile:
        # The id is given: a list outside the root directory would otherwise lose its name.
        file: StepFile = cls.from_parent(parent, path=active.frozen.path, nodeid=active.frozen.nodeid)
        file.active = active
        return file

    active: Active

    def collect(self) -> Iterator[pytest.Item]:
        frozen = self.active.frozen
        shared: dict[str, Any] = {}
        for name in (*frozen.selection.ids, *(step.id for step in frozen.ends)):
            item: StepItem = StepItem.from_parent(
                self, name=f"step_{name}", callobj=step_body, step=frozen.by_id[name], **shared
            )
            if not shared:
                # The same body for all, so what it asks for is worked out once.
                self._refuse_parametrized(item)
                shared = {"fixtureinfo": item._fixtureinfo}
            yield item

    def _refuse_parametrized(self, item: StepItem) -> None:
        for name, definitions in item._fixtureinfo.name2fixturedefs.items():
            if definitions and definitions[-1].params is not None:
                # What pytest shows without a traceback.
                raise self.CollectError(
                    f"{self.nodeid}: the fixture {name!r} is parametrized and applies to steps; "
                    "a step runs once: limit it to the tests, or drop its parameters"
                )


class StepItem(pytest.Function):
    """One step.

    Attributes:
        step: what it runs.
        skipped: why it does not run, once that is known.
        running: its run, once that has begun.
    """

    skipped = ""
    running: Running | None = None

    def __init__(self, *, step: Step, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        # The end of a job goes with the step whose job it is.
        name = (step.ends or step.id).lower()
        for mark in marks_of(step):
            self.add_marker(mark)
        self.extra_keyword_matches.update({ITEM, f"{ITEM}{name}::", step.title})

    def setup(self) -> None:
        if self.skipped:
            pytest.skip(self.skipped)  # reached only where pytest's own skipping is switched off
        active = self.config.stash[ACTIVE]
        self.running = active.begin(self.step, self)
        # Before the fixtures, so that it is the last thing that is torn down.
        self.session._setupstate.addfinalizer(active.end, self)
        super().setup()

    def runtest(self) -> None:
        super().runtest()
        # Whoever answers in place of pytest's own call has run nothing: that must not become a tick.
        if self.running is None or not self.running.done:
            pytest.fail(
                "its body was not run: -p no:python is given, or a plugin or a conftest.py answers "
                "pytest_pyfunc_call; leave steps out there",
                pytrace=False,
            )

    def reportinfo(self) -> tuple[Any, int, str]:
        return self.path, self.step.box.line - 1, f"{self.name} {self.step.title}"

    @cached_property
    def location(self) -> tuple[str, int | None, str]:
        """As pytest finds it, but for making the path absolute: it is."""
        path, line, title = self.reportinfo()
        return self.session._node_location_to_relpath(path), line, title

    def _traceback_filter(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        # A Python main begins where the user's code begins.
        for index, entry in enumerate(excinfo.traceback):
            if entry.frame.code.raw is call.__code__:
                return type(excinfo.traceback)(excinfo.traceback[index + 1 :])
        return super()._traceback_filter(excinfo)

    def repr_failure(  # type: ignore[override] # as in pytest.Function, which takes no style either
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        # What we say ourselves is complete; a traceback of ours is of no use to anybody.
        if isinstance(excinfo.value, pytest.fail.Exception) and not excinfo.value.pytrace:
            return str(excinfo.value)
        return super().repr_failure(excinfo)


def in_list_order(items: list[pytest.Item]) -> None:
    """Put the steps among the items into the order of the list, in the places that steps have.

    Other plugins shuffle items or put failed ones first; a plan has an order. A step that needs one further
    down comes behind that.
    """
    places = [index for index, item in enumerate(items) if isinstance(item, StepItem)]
    found = {item.step.id: item for item in items if isinstance(item, StepItem)}
    own = {name: item.step.index for name, item in found.items()}

    def place_of(item: StepItem) -> tuple[int, int]:
        # The end of a job has the place of the first step that waits for it, or of the step itself.
        step = item.step
        return step.index, 1 if not step.ends else 2 if own.get(step.ends) == step.index else 0

    listed = [item.step for item in sorted(found.values(), key=place_of)]
    for place, step in zip(places, graph.in_turn(listed), strict=True):
        items[place] = found[step.id]


def deadline(step: Step) -> float:
    """Seconds after which pytest-timeout ends the body of a step: the outer net.

    Every process has a deadline of its own, so the net only has to lie outside all of them; for a
    main that runs in this process it is the only one, and it is taken away before the
    post-validations begin.
    """
    definition = step.definition
    if definition is None:
        return 60.0
    main = definition.main
    first = main.test_first.timeout if main.test_first else 0.0
    runs = main.timeout if main.mode in ("foreground", "background") and not step.ends else main.max_runtime
    total = (first + runs) * main.retry.attempts
    if main.recover is not None:
        total += main.timeout * (main.retry.attempts - 1)
    delay = main.retry.delay
    for _ in range(main.retry.attempts - 1):
        total += delay * (1 + main.retry.jitter)
        delay *= main.retry.backoff
    if main.kind == "python":
        return total
    posts = sum((c.timeout + c.retry.delay) * 2 * c.retry.attempts for c in definition.post_validation)
    return total + (posts + 60.0) * main.retry.attempts
