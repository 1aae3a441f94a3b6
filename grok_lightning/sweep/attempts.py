"""Trains stacks that may fail: halved until the runs that fail are alone, begun anew where a checkpoint is no use."""

import gc
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch

from grok_lightning.callbacks.signals import StopRequested
from grok_lightning.errors import UserError
from grok_lightning.records.checkpoint import CONFIG_KEY, LAST, load
from grok_lightning.records.record import METRICS, NOT_RESULTS, counted_options
from grok_lightning.sweep.failures import no_space, record_failure, result_of, succeeded
from grok_lightning.sweep.stack import Stack, close_up, train


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
