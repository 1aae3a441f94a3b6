"""Training of stacks that may fail, and the results of runs: complete, missing, damaged or the record of a failure."""

import errno
import gc
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch

from grok_lightning.callbacks.guards import StopRequested
from grok_lightning.errors import UserError, trace_causes
from grok_lightning.options.classes import Nested
from grok_lightning.records.checkpoint import EVALUATIONS_KEY, LAST, load
from grok_lightning.records.defaults import HASH_VERSION
from grok_lightning.records.form import find_fault
from grok_lightning.records.record import FAILED, METRICS, RESULT, flatten, write_json
from grok_lightning.records.record import read_result as read_fields
from grok_lightning.sweep.plan.pending import COLUMNS, find_other_option
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.training import close_up, train

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
NOTHING_RECORDED = (
    "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step",
    "best", "commutative_fraction", "seconds", "steps_per_second", "device", "precision",
)  # fmt: skip


def attempt(stack: Stack, tell: Callable[..., None]) -> None:
    """Train a stack until each of its runs is over or has failed, and record the errors of runs that failed.

    A stack that fails is halved until the failing runs are alone.

    Args:
        stack: The runs.
        tell: Called once a second with the progress.

    Raises:
        StopRequested: A signal asked to stop.
        OSError: The disk is full or read-only.
    """
    try:
        other = find_resumed(stack)
        if other is None:
            train(stack, tell)
        else:
            print(f"{other}; another process has resumed the run, which is left alone", file=sys.stderr, flush=True)
        return
    except StopRequested:
        raise
    except Exception as error:
        full = find_full_disk(error)
        if full is not None:
            raise full from None
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        if len(stack.configs) == 1:
            try:
                _record_failure(stack, 0, error)
            except OSError as unwritable:
                if find_full_disk(unwritable) is not None:
                    raise
                print(f"{unwritable}; the failure is not recorded", file=sys.stderr, flush=True)
            return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for half in _halve(stack):
        attempt(half, tell)


def find_resumed(stack: Stack) -> str | None:
    """Description of an option in which the checkpoint of a single run differs from the run; None if there is none."""
    return find_other_option(stack.directory / LAST, stack.configs[0]) if len(stack.configs) == 1 else None


def _halve(stack: Stack) -> list[Stack]:
    """Split a stack in two, without the runs that are over; a checkpoint is split as well."""
    left = _find_unfinished(stack)
    parts = [part for part in (left[: len(left) // 2], left[len(left) // 2 :]) if part]
    halves = [stack.take(part) for part in parts]
    if (stack.directory / LAST).exists():
        try:
            halves = [close_up(stack, part, keep=True) for part in parts]
        except UserError as error:
            print(f"{error}; its runs begin anew", file=sys.stderr, flush=True)
    shutil.rmtree(stack.directory, ignore_errors=True)
    return halves


def drop_unusable(stack: Stack) -> bool:
    """Remove a checkpoint that cannot be read, or whose records are missing, so that its runs restart.

    Returns:
        Whether a checkpoint was removed.
    """
    path = stack.directory / LAST
    if not path.exists():
        return False
    try:
        older = EVALUATIONS_KEY not in load(path)
        records = [stack.record(run) / METRICS for run in range(len(stack.configs))]
        reason = "".join(f"{record} is gone; " for record in records if older and not record.is_file())
    except UserError as error:
        reason = f"{error}; "
    if reason:
        print(f"{reason}{path.parent} begins anew", file=sys.stderr, flush=True)
        path.unlink()
    return bool(reason)


def read_result(stack: Stack, run: int) -> Nested | None:
    """Read the result of a run; None if it is missing or damaged."""
    try:
        result = read_fields(str(stack.record(run) / RESULT))
    except (OSError, ValueError):
        return None
    fields = flatten(result)
    return None if find_fault({name: fields.get(name) for name in COLUMNS}, ()) else result


def _find_unfinished(stack: Stack) -> list[int]:
    """Runs without a result, or with only the record of a failure."""
    results = [read_result(stack, run) for run in range(len(stack.configs))]
    return [run for run, result in enumerate(results) if result is None or result["status"] == FAILED]


def _record_failure(stack: Stack, run: int, error: BaseException | str) -> None:
    """Write the ``result.json`` of a failed run, with its error and traceback."""
    trace = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    name = "" if isinstance(error, str | UserError) else f"{type(error).__name__}: "
    result = {"status": FAILED, "error": f"{name}{' '.join(str(error).split())}"[:500], "traceback": trace}
    own = {"config": stack.configs[run], "config_hash": stack.hashes[run], "config_hash_version": HASH_VERSION}
    write_json(stack.record(run) / RESULT, result | dict.fromkeys(NOTHING_RECORDED) | own)


def mark_dead(stack: Stack, reason: str) -> dict[str, Any]:
    """Record the unfinished runs of a stack as failed, with an error.

    Returns:
        Numbers of runs, ``done`` and ``failed``, as ``run_job`` returns them.
    """
    left = _find_unfinished(stack)
    for run in left:
        _record_failure(stack, run, reason)
    return {"done": len(left), "failed": len(left)}


def find_full_disk(error: BaseException) -> OSError | None:
    """The error of a full or read-only disk that caused an error; None if there is none among its causes."""
    return next((each for each in trace_causes(error) if isinstance(each, OSError) and each.errno in FULL), None)
