"""Step 1: settle which engine the plan runs on, and prove the key when there is one.

Without ``TINKER_API_KEY`` the engine is ``local`` and no service is contacted. With it, the key's
form is checked and then the service is asked. The key itself is never printed or written.
``--key-form`` only looks at the key's form; ``--check`` reads the record that the step wrote.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from distillation import client, events, install, settings
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json

RECORD = "engine.json"

ANSWER_TIMEOUT = 30.0
"""Seconds until the service must have answered. The SDK itself would retry for ever."""

_KEY = re.compile(r"tml-[\x21-\x7e]{4,}|eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""The two forms the SDK takes: a key of the service, or a JSON Web Token."""

_ADVICE = {
    "AuthenticationError": "the service refused the key; make a new one in the console and export it",
    "PermissionDeniedError": "the key is known but may not use this service; ask the organisation's owner",
    "BillingError": "the account has no billing yet; set it up in the console",
    "APIConnectionError": "the service cannot be reached; check the network and TINKER_BASE_URL",
    "APITimeoutError": "the service cannot be reached; check the network and TINKER_BASE_URL",
}
"""What to do, by the name of the SDK's error class."""


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What step 1 found out, as it stands in ``engine.json``.

    Attributes:
        engine: ``tinker`` or ``local``.
        host: of the service that answered; ``None`` when no service was contacted.
        authenticated: whether that service took the key.
        sdk_version: of the installed SDK, if there is one.
        checked_at: UTC, ISO 8601.
    """

    engine: settings.Engine
    host: str | None
    authenticated: bool
    sdk_version: str | None
    checked_at: str


def check_key_form(key: str) -> None:
    """Refuse what cannot be a key, before it is sent anywhere.

    Raises:
        DistillationError: one line, which does not contain the key.
    """
    if not _KEY.fullmatch(key):
        raise DistillationError(
            f"{settings.KEY_VARIABLE} does not look like a key ({len(key)} characters): it must start with "
            "tml- or be a JSON Web Token, without blanks; export the right one, or unset it to go on locally"
        )


def authenticate(key: str, timeout: float = ANSWER_TIMEOUT) -> str:
    """Ask the service whether it takes the key.

    The SDK reads key and address from the environment here; the check makes one request, so that a
    missing billing set-up is an error at once and not the pause of up to an hour it is elsewhere.

    Args:
        key: the value of ``TINKER_API_KEY``; only used to keep it out of error texts.
        timeout: seconds.

    Returns:
        the host that answered.

    Raises:
        DistillationError: refused, unreachable, or no answer in time.
    """
    tinker = importlib.import_module("tinker")
    host = client.service_host(tinker)
    try:
        _within(timeout, tinker.auth.raise_if_tinker_not_accessible)
    except TimeoutError as cause:
        raise DistillationError(
            f"{host} gave no usable answer within {timeout:g} s; check the network and "
            f"{settings.BASE_URL_VARIABLE}, then run the step again"
        ) from cause
    except Exception as cause:
        kind = type(cause).__name__
        text = " ".join(str(cause).replace(key, "<key>").split())[:200]
        advice = _ADVICE.get(kind, "see the service's status page, then run the step again")
        raise DistillationError(f"{host}: {kind}: {text}; {advice}") from None
    return host


def _within(seconds: float, action: Callable[[], object]) -> None:
    """Call ``action``, and raise ``TimeoutError`` when it takes longer than ``seconds``."""
    failures: list[BaseException] = []

    def call() -> None:
        try:
            action()
        except BaseException as cause:
            failures.append(cause)

    # A daemon: the SDK's endless retries must not keep the process alive after the deadline.
    worker = threading.Thread(target=call, name="authenticate", daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise TimeoutError
    if failures:
        raise failures[0]


def _sdk_version() -> str | None:
    try:
        return importlib.metadata.version("tinker")
    except importlib.metadata.PackageNotFoundError:
        return None


def settle(timeout: float = ANSWER_TIMEOUT) -> EngineRecord:
    """Find out which engine is used; with a key, install the SDK if it is missing and authenticate.

    Raises:
        DistillationError: the key's form is wrong, the SDK cannot be installed, or the key is not taken.
    """
    key = settings.api_key()
    host = None
    if key is not None:
        check_key_form(key)
        sdk = [r for r in install.read_requirements(install.REQUIREMENTS) if r.name == "tinker"]
        if install.ensure(sdk):
            print(f"installed the SDK first: tinker {_sdk_version()}", flush=True)
        host = authenticate(key, timeout)
    return EngineRecord(
        engine=settings.engine(),
        host=host,
        authenticated=host is not None,
        sdk_version=_sdk_version(),
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def check_record() -> dict[str, Any]:
    """Read ``engine.json`` and hold it against the environment.

    Raises:
        DistillationError: missing, written for another engine, or without a proven key.
    """
    path = settings.run_folder() / RECORD
    record = read_json(path)
    if record.get("engine") != settings.engine():
        raise DistillationError(f"{path}: written for engine {record.get('engine')}; run step 1 again")
    if settings.engine() == "tinker" and not (record.get("authenticated") is True and record.get("host")):
        raise DistillationError(f"{path}: the key was not proven; run step 1 again")
    if settings.engine() == "local" and record.get("host") is not None:
        raise DistillationError(f"{path}: names a host although there is no key; run step 1 again")
    return record


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 1."""
    parser = argparse.ArgumentParser(prog="python -m distillation.auth", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--key-form", action="store_true", help="look at the key's form and contact nobody")
    mode.add_argument("--check", action="store_true", help="read the record that the step wrote")
    options = parser.parse_args(argv)
    if options.key_form:
        key = settings.api_key()
        if key is not None:
            check_key_form(key)
        print(f"key form: {'good' if key else 'no key'}\nengine: {settings.engine()}")
        return
    if options.check:
        record = check_record()
        print(f"authenticated: {int(bool(record.get('authenticated')))}\nengine: {record['engine']}")
        return
    settled = settle()
    write_json(settings.run_folder() / RECORD, asdict(settled))
    if settled.host is None:
        events.note("engine: local, no service was contacted")
    else:
        events.note(f"engine: tinker, authenticated at {settled.host} with SDK {settled.sdk_version}")
    events.criterion("Engine settled and recorded")
    events.criterion("No key left unproven")


if __name__ == "__main__":
    execute(main)
