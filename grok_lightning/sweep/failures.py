"""Training of stacks that may fail, and the results of runs: complete, missing, damaged or the record of a failure."""

import errno
import gc
import json
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

from grok_lightning.callbacks.signals import StopRequested
from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested
from grok_lightning.records.checkpoint import CONFIG_KEY, LAST, load
from grok_lightning.records.defaults import HASH_VERSION
from grok_lightning.records.record import FAILED, METRICS, NOT_RESULTS, RESULT, counted_options, write_json
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.stack import Stack, close_up, train

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
NOTHING_RECORDED = (
    "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step",
    "best", "commutative_fraction", "seconds", "steps_per_second", "device", "precision",
)  # fmt: skip


class AnotherRun(UserError):
    """A run's last checkpoint is of other options: somebody goes on with it, and it is theirs now."""


def attempt(stack: Stack, tell: Callable[..., None]) -> None:
    """Trains a stack until each of its runs is over or has failed; the error of one that failed is its record.

    Args:
        stack: The runs.
        tell: Called once a second with how far it is.

    Raises:
        StopRequested: If a signal asked for it.
        OSError: If no more can be written.
    """
    try:
        _refuse_another(stack)
        train(stack, tell)
        return
    except StopRequested:
        raise
    except Exception as error:
        full = no_space(error)
        if full is not None:
            raise full from None
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        if len(stack.configs) == 1:
            _record(stack, error)
            return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for half in _halves(stack):
        attempt(half, tell)


def _refuse_another(stack: Stack) -> None:
    path = stack.directory / LAST
    if len(stack.configs) > 1 or not path.exists():
        return
    found, own = (counted_options(config, {}, NOT_RESULTS) for config in (load(path)[CONFIG_KEY], stack.configs[0]))
    other = next((option for option in {**found, **own} if found.get(option) != own.get(option)), None)
    if other is not None:
        raise AnotherRun(f"{path} was trained with {other} {found.get(other)!r}, not {own.get(other)!r}")


def _record(stack: Stack, error: Exception) -> None:
    """Writes down a run's failure, unless it cannot be or its record is another's."""
    if isinstance(error, AnotherRun):
        return
    try:
        record_failure(stack.places, stack.configs[0], stack.hashes[0], error)
    except OSError as unwritable:
        if no_space(unwritable) is not None:
            raise
        print(f"{unwritable}; the failure is not recorded", file=sys.stderr, flush=True)


def _halves(stack: Stack) -> list[Stack]:
    """A stack in two, without the runs that are over; each half has its part of the checkpoint if there is one."""
    left = [run for run, config in enumerate(stack.configs) if not succeeded(result_of(stack.places, config))]
    parts = [part for part in (left[: len(left) // 2], left[len(left) // 2 :]) if part]
    halves = [stack.take(part) for part in parts]
    if (stack.directory / LAST).exists():
        try:
            halves = [close_up(stack, part, keep=True) for part in parts]
        except UserError as error:
            print(f"{error}; its runs begin anew", file=sys.stderr, flush=True)
    shutil.rmtree(stack.directory, ignore_errors=True)
    return halves


def drop_useless(stack: Stack) -> bool:
    """Removes a checkpoint that cannot be read, or whose records have gone: the runs begin anew.

    Returns:
        Whether that was so.
    """
    path = stack.directory / LAST
    if not path.exists():
        return False
    try:
        load(path)
        records = [stack.places.of_run(config["run"])[0] / METRICS for config in stack.configs]
        reason = "".join(f"{record} is gone; " for record in records if not record.is_file())
    except UserError as error:
        reason = f"{error}; "
    if reason:
        print(f"{reason}{path.parent} begins anew", file=sys.stderr, flush=True)
        path.unlink()
    return bool(reason)


def without_result(stack: Stack) -> list[Stack]:
    """The runs of a stack of several that had left it, and whose results have been damaged since."""
    runs: Any = range(len(stack.configs)) if len(stack.configs) > 1 else ()
    return [stack.take([run]) for run in runs if result_of(stack.places, stack.configs[run]) is None]


def result_of(places: Places, config: Nested) -> Nested | None:
    """The result of a run; None if it has none, or a damaged one."""
    try:
        result = json.loads((places.of_run(config["run"])[0] / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "status" in result else None


def succeeded(result: Nested | None) -> bool:
    """Whether a run has a result that is not the record of a failure."""
    return result is not None and result["status"] != FAILED


def record_failure(places: Places, config: Nested, hashed: str, error: BaseException | str) -> None:
    """Writes the ``result.json`` of a run that failed: the error, and where it came from."""
    directory = places.of_run(config["run"])[0]
    trace = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    name = "" if isinstance(error, str | UserError) else f"{type(error).__name__}: "
    result = {"status": FAILED, "error": f"{name}{' '.join(str(error).split())}"[:500], "traceback": trace}
    rest = dict.fromkeys(NOTHING_RECORDED)
    write_json(
        directory / RESULT,
        result | rest | {"config": config, "config_hash": hashed, "config_hash_version": HASH_VERSION},
    )


def mark_dead(places: Places, configs: Sequence[Nested], hashes: Sequence[str], reason: str) -> dict[str, Any]:
    """Records as failed those runs of a stack that are not over.

    Args:
        places: The experiment's.
        configs: The resolved configs of the runs.
        hashes: Their hashes.
        reason: Why no further attempt is made.

    Returns:
        What the stack came to by it, as of ``run_job``.
    """
    left = [run for run, config in enumerate(configs) if not succeeded(result_of(places, config))]
    for run in left:
        record_failure(places, configs[run], hashes[run], reason)
    return {"done": len(left), "failed": len(left)}


def no_space(error: BaseException | None) -> OSError | None:
    """What says that no more can be written, if an error came of that."""
    while error is not None and not (isinstance(error, OSError) and error.errno in FULL):
        error = error.__cause__ or error.__context__
    return error
