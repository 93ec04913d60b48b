"""What tokens cost: a dated table that ships, which a file beside the configuration can override.

A file ``prices.json`` in the current folder, of the same form as the shipped one, is laid over it: its
models are added or replace those of the same name. ``python -m distillation.prices`` shows the result,
``--check`` judges it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from distillation import settings
from distillation.client import HOSTED_MODEL
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.jsonl import read_json

SHIPPED = settings.DATA / "prices.json"

OVERRIDE = Path("prices.json")
"""Relative to the current folder, which is that of the task list."""

MILLION = 1_000_000

_RATES = ("prefill", "sample", "train")


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs, in US dollars per million tokens.

    Attributes:
        model: its name at the service.
        prefill: tokens read before an answer begins.
        cached_prefill: those of them that the service has read before.
        sample: tokens of an answer.
        train: tokens of a training example, prompt and answer.
        date: day on which these were the prices, ISO 8601; empty when nothing is charged.
        source: where they stood.
    """

    model: str
    prefill: float
    cached_prefill: float
    sample: float
    train: float
    date: str
    source: str

    def cost(self, *, prefill: float = 0, cached: float = 0, sample: float = 0, train: float = 0) -> float:
        """US dollars for so many tokens.

        Args:
            prefill: all prompt tokens.
            cached: how many of these were cached.
            sample: tokens of answers.
            train: tokens trained on.
        """
        read = (prefill - cached) * self.prefill + cached * self.cached_prefill
        return (read + sample * self.sample + train * self.train) / MILLION


def free(model: str) -> Price:
    """The price of a model on the local engine: nothing."""
    return Price(model, 0.0, 0.0, 0.0, 0.0, "", "the local engine costs nothing")


def load_table() -> dict[str, Price]:
    """All known prices by model name: the shipped table, and over it the file of the current folder.

    Raises:
        DistillationError: a table has a mistake; names the file and the entry.
    """
    table = _read(SHIPPED)
    if OVERRIDE.is_file():
        table |= _read(OVERRIDE)
    return table


def hosted_price(model: str = HOSTED_MODEL) -> Price:
    """What a model costs at the hosted service, whichever engine is in use.

    Raises:
        DistillationError: the table does not have it; says how to add it.
    """
    table = load_table()
    if model not in table:
        raise DistillationError(
            f"{SHIPPED.name} has no price for {model}, only for {', '.join(sorted(table))}; "
            f"write one into a file {OVERRIDE} beside the configuration"
        )
    return table[model]


def price_of(model: str) -> Price:
    """What a model costs on the engine in use: nothing on the local one.

    Raises:
        DistillationError: the hosted engine is in use and the table does not have the model.
    """
    return hosted_price(model) if settings.engine() == "tinker" else free(model)


def _read(path: Path) -> dict[str, Price]:
    table = read_json(path)
    share = _number(table, "cached_prefill_share", path, high=1.0)
    models = table.get("models")
    if not isinstance(models, dict) or not models:
        raise DistillationError(f"{path}: 'models' must be an object that is not empty; see {SHIPPED.name}")
    return {name: _price(name, entry, share, path) for name, entry in models.items()}


def _price(name: str, entry: Any, share: float, path: Path) -> Price:
    where = f"{path}: model '{name}'"
    if not isinstance(entry, dict):
        raise DistillationError(f"{where} must be an object with {', '.join(_RATES)} and date")
    rates = {key: _number(entry, key, where) for key in _RATES}
    day = entry.get("date")
    try:
        date.fromisoformat(day if isinstance(day, str) else "")
    except ValueError:
        raise DistillationError(f"{where}: 'date' must be a day such as 2026-10-07, not {day!r}") from None
    return Price(
        name,
        cached_prefill=rates["prefill"] * share,
        date=str(day),
        source=str(entry.get("source", path.as_posix())),
        **rates,
    )


def _number(entry: dict[str, Any], key: str, where: object, high: float = 10_000.0) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise DistillationError(f"{where}: '{key}' must be a number from 0 to {high:g}, not {value!r}")
    return float(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Show the prices in use."""
    parser = argparse.ArgumentParser(prog="python -m distillation.prices", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only judge the tables and count the models")
    options = parser.parse_args(argv)
    table = load_table()
    if not options.check:
        for one in table.values():
            print(
                f"{one.model}: prefill {one.prefill:g} (cached {one.cached_prefill:g}), "
                f"sample {one.sample:g}, train {one.train:g} USD per million tokens, {one.date}"
            )
    print(f"models: {len(table)}\noverridden: {int(OVERRIDE.is_file())}")


if __name__ == "__main__":
    execute(main)
