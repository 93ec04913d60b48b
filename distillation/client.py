"""The way to a service: the hosted one when there is a key, else a local engine of one's own.

    with connected() as service:
        training = service.create_lora_training_client(base_model(), rank=16, seed=0).result(timeout=60)

Always give ``result`` a timeout: the SDK itself would wait for ever.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distillation import settings
from distillation.engine.child import Child, engine
from distillation.errors import DistillationError

LOCAL_KEY = "tml-local"
"""What the local engine is given for a key, so that the SDK does not look for a real one."""

LOCAL_MODEL_VARIABLE = "DISTILLATION_LOCAL_MODEL"
SHIPPED_MODEL = Path(__file__).parent / "engine" / "base"

HOSTED_MODEL = "Qwen/Qwen3-8B"

FINISH_PATIENCE = 10.0
"""Seconds that saying goodbye to the service may take."""


def base_model(configured: str | None = None) -> str:
    """The base model of the current engine: a hosted name, or a model folder for the local engine.

    ``tokenizer_of(base_model())`` works for both. ``configured`` is the config's word, if it has one;
    without it the local engine takes ``DISTILLATION_LOCAL_MODEL`` or the model that ships with the plan.

    Raises:
        DistillationError: the folder for the local engine holds no model.
    """
    if settings.engine() == "tinker":
        return configured or HOSTED_MODEL
    folder = Path(configured or os.environ.get(LOCAL_MODEL_VARIABLE) or SHIPPED_MODEL).resolve()
    if not (folder / "config.json").is_file():
        raise DistillationError(
            f"{folder}: no model is there (no config.json); name the folder of a Hugging Face model in the "
            f"config or in {LOCAL_MODEL_VARIABLE}, or leave both empty for the shipped one"
        )
    return str(folder)


def local_root() -> Path:
    """Where the local engine keeps its checkpoints."""
    return settings.RUNS / "local" / "engine"


@contextmanager
def connected(
    model: str | None = None, *, root: Path | None = None, patience: float = 120.0
) -> Iterator[Any]:
    """A ``tinker.ServiceClient`` that works, to be used in a ``with`` statement.

    Args:
        model: as in ``base_model``.
        root: where the local engine keeps its checkpoints; ``local_root()`` unless given. Several engines
            may share it at a time.
        patience: seconds until the service must answer.

    Raises:
        DistillationError: no service could be reached, the engine ended, or the model is unknown.
    """
    try:
        tinker = importlib.import_module("tinker")
    except ImportError as cause:
        raise DistillationError("the SDK is not installed; run step 2") from cause
    wanted = base_model(model)
    child: Child | None = None
    host = service_host(tinker) if settings.engine() == "tinker" else "the local engine"
    with ExitStack() as stack:
        if settings.engine() == "local":
            child = stack.enter_context(engine(wanted, root or local_root(), patience))
            _bypass_proxies()
            service = tinker.ServiceClient(base_url=child.address, api_key=LOCAL_KEY)
        else:
            service = tinker.ServiceClient(base_url=os.environ.get(settings.BASE_URL_VARIABLE) or None)
        _greet(service, host, wanted, patience)
        # Before it was greeted there is no leave to take: the SDK holds a lock while it still tries.
        stack.callback(_take_leave, service)
        try:
            yield service
        except Exception as cause:
            # Whatever the SDK, or who used it, says of a call: that the engine is gone is the reason.
            obituary = child.obituary() if child is not None else None
            if obituary is None:
                raise
            raise DistillationError(obituary) from cause


def rest_client(service: Any) -> Any:
    """A ``tinker.RestClient`` of the same service: checkpoints, time to live, export."""
    with warnings.catch_warnings():
        # The SDK would rather have one made with address and key, which a ServiceClient does not tell.
        warnings.simplefilter("ignore", FutureWarning)
        return service.create_rest_client()


def service_host(tinker: Any) -> str:
    """The host that the SDK will ask, as the environment names it.

    Raises:
        DistillationError: what stands in ``TINKER_BASE_URL`` has none.
    """
    address = os.environ.get(settings.BASE_URL_VARIABLE)
    if not address:
        address = importlib.import_module(f"{tinker.__name__}.lib.base_url").DEFAULT_BASE_URL
    host = urlsplit(address).hostname
    if not host:
        raise DistillationError(f"{settings.BASE_URL_VARIABLE} is no address; write it as https://host/path")
    return host


def _greet(service: Any, host: str, model: str, patience: float) -> None:
    """Make sure that the service answers and has the model."""

    def ask() -> Any:
        return rest_client(service).get_server_capabilities().result(patience)

    capabilities = _within(patience, host, ask)
    known = [one.model_name for one in capabilities.supported_models]
    if model not in known:
        raise DistillationError(
            f"base model {model!r} is unknown to {host}, which has {', '.join(map(str, known))}; "
            "correct base_model in training_config.yaml and run step 11 again"
        )


def _within(patience: float, host: str, ask: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    failures: list[Exception] = []

    def call() -> None:
        try:
            answers.append(ask())
        except Exception as cause:
            failures.append(cause)

    # A thread, because the SDK tries for five minutes to reach a service before it first returns at all.
    asking = threading.Thread(target=call, name="greeting", daemon=True)
    asking.start()
    asking.join(patience)
    if answers:
        return answers[0]
    advice = f"check the network, the key and {settings.BASE_URL_VARIABLE}, then run the step again"
    if not failures or isinstance(failures[0], TimeoutError):
        raise DistillationError(f"{host} did not answer within {patience:g} s; {advice}")
    cause = failures[0]
    text = " ".join(str(cause).replace(settings.api_key() or LOCAL_KEY, "<key>").split())[:200]
    raise DistillationError(f"{host} cannot be used: {type(cause).__name__}: {text}; {advice}") from cause


def _take_leave(service: Any) -> None:
    # What was wanted of the service is over: that it cannot be told so, or not in time, changes nothing.
    with suppress(Exception):
        service.close("success").result(timeout=FINISH_PATIENCE)


def _bypass_proxies() -> None:
    """Keep the SDK from asking a proxy for the loopback."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        if "127.0.0.1" not in hosts:
            os.environ[name] = ",".join([*hosts, "127.0.0.1"])
