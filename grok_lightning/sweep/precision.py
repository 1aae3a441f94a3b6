"""The precision of a sweep that leaves it to ``auto``: measured once, and kept for all of its runs."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.hardware.products import FULL, HALF
from grok_lightning.options.choices import AUTO, PRECISION, Precision, choose_precision, slowness_of_half, work_of
from grok_lightning.options.classes import Nested, lookup
from grok_lightning.options.merging import complete
from grok_lightning.sweep.grid import Grid, given
from grok_lightning.sweep.places import Places

KEPT = "precision.json"
SIZES = ("model", "model.network", "data", "data.batch_size", "data.modulus", "data.degree", "data.train_rows",
         "data.train_fraction", "trainer", "trainer.accelerator")  # fmt: skip
MOST_SIZES = 1000
MOST_RUNS = 64  # that a GPU is taken to train at once


def sweep_precision(grid: Grid, places: Places | None) -> Precision | None:
    """The precision of all runs for which nobody says one, or says ``auto``.

    It is one for the whole sweep, chosen by its largest matrix product: conditions that differed in precision could not
    be compared.

    Args:
        grid: The sweep's file.
        places: The experiment's directories; what it began with stays. None: it has not begun.

    Returns:
        None where the file says the precision of every run.
    """
    if not _said(grid) & {None, AUTO}:
        return None
    return (places and _kept(places)) or choose_precision(_largest(grid), min(MOST_RUNS, len(grid.points)))


def slow_precision(grid: Grid) -> str | None:
    """What to tell of a sweep that asks for bf16-mixed on a CPU that is slower with it; None where there is nothing."""
    return slowness_of_half(_largest(grid)) if HALF in _said(grid) else None


def keep_precision(places: Places, precision: Precision) -> bool:
    """Writes down the precision that a sweep begins with, unless it has begun.

    Args:
        places: The experiment's directories.
        precision: What its runs were planned with.

    Returns:
        False if another process has begun it with another precision meanwhile, so that it must be planned anew.
    """
    path = places.own / KEPT
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            json.dump({PRECISION: precision.name}, file)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        kept = _kept(places)
        return kept is None or kept.name == precision.name
    return True


def _kept(places: Places) -> Precision | None:
    """The precision that an experiment began with."""
    path = places.own / KEPT
    for _ in range(20):
        try:
            name = json.loads(path.read_text(encoding="utf-8"))[PRECISION]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            time.sleep(0.05)  # it is being written
            continue
        if name in (FULL, HALF):
            return Precision(name, None)
        break
    raise UserError(f"{str(path)!r} is damaged; remove it, and write {PRECISION} into the sweep's file")


def _said(grid: Grid) -> set[Any]:
    """The precisions that runs are given; None for those that are given none."""
    return {lookup(given(grid, point), PRECISION) for point in _distinct(grid, ("trainer", PRECISION))}


def _largest(grid: Grid) -> Nested:
    """The config with the largest matrix product."""
    sizes = [option for option in grid.options if option in SIZES or option.startswith("model.network.")]
    configs = [complete(given(grid, point)) for point in _distinct(grid, sizes)]
    return max(configs, key=lambda config: work_of(config).product.multiplications)


def _distinct(grid: Grid, options: Iterable[str]) -> list[Sequence[Any]]:
    """Points that have between them all combinations of values of some options; at most 1,000."""
    places = [place for place, option in enumerate(grid.options) if option in set(options)]
    found: dict[str, Sequence[Any]] = {}
    for point in grid.points if places else grid.points[:1]:
        found.setdefault(repr([point[place] for place in places]), point)
        if len(found) == MOST_SIZES:
            break
    return list(found.values())
