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
from grok_lightning.reading import read_json
from grok_lightning.sweep.file import Grid, build_options
from grok_lightning.sweep.places import Places

KEPT = "precision.json"
SIZES = ("model", "model.network", "data", "data.batch_size", "data.modulus", "data.degree", "data.train_rows",
         "data.train_fraction", "trainer", "trainer.accelerator")  # fmt: skip
MOST_SIZES = 1000
MOST_RUNS = 64  # that a GPU is taken to train at once


def decide_precision(grid: Grid, places: Places) -> Precision | None:
    """Decide the precision of all runs whose precision is not set or ``auto``.

    It is the same for the whole sweep, chosen by the largest matrix product: conditions of different precision could
    not be compared.

    Args:
        grid: Parameter grid of the sweep.
        places: Directories of the experiment, which keep the precision that it began with.

    Returns:
        The precision; None if the file sets it for every run.
    """
    if not _requested_precisions(grid) & {None, AUTO}:
        return None
    return _read_kept(places) or choose_precision(_find_largest(grid), min(MOST_RUNS, len(grid.points)))


def find_slow_precision(grid: Grid) -> str | None:
    """Warning if a sweep sets bf16-mixed on a CPU that is slower with it, else None."""
    return slowness_of_half(_find_largest(grid)) if HALF in _requested_precisions(grid) else None


def keep_precision(places: Places, precision: Precision) -> bool:
    """Record the precision that a sweep begins with, unless it has begun.

    Args:
        places: Directories of the experiment.
        precision: Precision that its runs were planned with.

    Returns:
        False if another process has begun the sweep with another precision, so that it must be planned again.
    """
    path = places.own / KEPT
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            json.dump({PRECISION: precision.name}, file)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        kept = _read_kept(places)
        return kept is None or kept.name == precision.name
    return True


def _read_kept(places: Places) -> Precision | None:
    """Read the precision that an experiment began with."""
    path = places.own / KEPT
    for _ in range(20):
        try:
            name = read_json(path)[PRECISION]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{str(path)!r} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            time.sleep(0.05)  # it is being written
            continue
        if name in (FULL, HALF):
            return Precision(name, None)
        break
    raise UserError(f"{str(path)!r} is damaged; remove it, and write {PRECISION} into the sweep's file")


def _requested_precisions(grid: Grid) -> set[Any]:
    """Precisions that the file sets; None stands for runs without one."""
    return {lookup(build_options(grid, point), PRECISION) for point in _distinct_points(grid, ("trainer", PRECISION))}


def _find_largest(grid: Grid) -> Nested:
    """Config with the largest matrix product."""
    sizes = [option for option in grid.options if option in SIZES or option.startswith("model.network.")]
    configs = [complete(build_options(grid, point)) for point in _distinct_points(grid, sizes)]
    return max(configs, key=lambda config: work_of(config).product.multiplications)


def _distinct_points(grid: Grid, options: Iterable[str]) -> list[Sequence[Any]]:
    """Points that cover all combinations of values of some options; at most 1,000."""
    places = [place for place, option in enumerate(grid.options) if option in set(options)]
    found: dict[str, Sequence[Any]] = {}
    for point in grid.points if places else grid.points[:1]:
        found.setdefault(repr([point[place] for place in places]), point)
        if len(found) == MOST_SIZES:
            break
    return list(found.values())
