"""The results of runs as a sweep meets them: whole, missing, damaged, or the record of a failure."""

import errno
import json
import traceback
from collections.abc import Sequence
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested
from grok_lightning.records.defaults import HASH_VERSION
from grok_lightning.records.record import FAILED, RESULT, write_json
from grok_lightning.sweep.places import Places

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
NOTHING_RECORDED = (
    "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step",
    "best", "commutative_fraction", "seconds", "steps_per_second", "device", "precision",
)  # fmt: skip


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


def bury(places: Places, configs: Sequence[Nested], hashes: Sequence[str], reason: str) -> dict[str, Any]:
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
