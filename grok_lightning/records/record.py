"""The record of a run: ``metrics.csv``, ``result.json``, when it memorized and grokked, and the hash of its options."""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from grok_lightning.errors import show
from grok_lightning.files import write_durably
from grok_lightning.reading import Malformed, read_bytes, read_json

METRICS = "metrics.csv"
RESULT = "result.json"
CONFIG = "config.yaml"
FINISHED, STOPPED, DIVERGED, FAILED = "finished", "stopped", "diverged", "failed"  # how a run ended
MOST_METRICS = 2**29  # bytes of metrics.csv
SCHEMA = 1  # version of result.json; a record without one has version 1

# options that cannot change a result: left out of the hash
NOT_RESULTS = tuple(f"trainer.{name}" for name in (
    "accelerator", "strategy", "devices", "num_nodes", "logger", "plugins", "profiler", "default_root_dir",
    "enable_progress_bar", "enable_model_summary", "log_every_n_steps", "deterministic", "benchmark", "inference_mode",
    "detect_anomaly", "use_distributed_sampler", "enable_autolog_hparams", "sync_batchnorm", "model_registry",
))  # fmt: skip
NOT_RESULTS += (
    *("model.compile", "threads", "checkpoint", "experiment", "run", "overwrite", "split", "output", "measures"),
    "evaluation.forecast",
)

CALLBACKS = "trainer.callbacks"
# those that only look: they change no weight, no evaluation and no end of a run
OBSERVERS = frozenset(f"lightning.pytorch.callbacks.{name}" for name in (
    "Checkpoint", "DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary",
    "OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "TQDMProgressBar", "ThroughputMonitor",
))  # fmt: skip

Row = dict[str, float]


def run_directories(root: Path, experiment: str, run: str) -> tuple[Path, Path]:
    """Directories of a run's record and of its checkpoints."""
    return root / "lightning_logs" / experiment / run, root / "checkpoints" / experiment / run


def append_metrics(directory: Path, row: Row, durably: bool = True) -> None:
    """Append an evaluation to ``metrics.csv``, with fsync if ``durably``; a new key adds a column."""
    path = directory / METRICS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = text.partition("\n")[0].split(",")
    if not text.endswith("\n") or any(key not in known for key in row):
        write_metrics(directory, [*(read_metrics(directory) if text else []), row])
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([_cell(row.get(key, math.nan), key) for key in known])
        file.flush()
        if durably:
            os.fsync(file.fileno())


def flush_metrics(directory: Path) -> None:
    """Call fsync on ``metrics.csv``."""
    with (directory / METRICS).open("ab") as file:
        os.fsync(file.fileno())


def write_metrics(directory: Path, rows: list[Row]) -> None:
    """Replace ``metrics.csv`` atomically."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(keys or ["step"])
    writer.writerows([_cell(row.get(key, math.nan), key) for key in keys] for row in rows)
    write_durably(directory / METRICS, text.getvalue().encode())


def read_metrics(directory: Path) -> list[Row]:
    """Read the evaluations of a run, oldest first; an incomplete last line (a killed process) is left out.

    Raises:
        OSError: The file cannot be read.
        Malformed: It is no table of evaluations with increasing steps.
    """
    names, body = split_metrics(path := directory / METRICS)
    try:
        rows = [
            {key: _parse_cell(key, cell) for key, cell in zip(names, row, strict=True)}
            for row in csv.reader(body.decode().splitlines())
            if len(row) == len(names)
        ]
    except (ValueError, csv.Error) as error:
        raise Malformed(f"a line is no evaluation: {error}", path) from None
    steps = [row["step"] for row in rows]
    if any(later <= step for step, later in pairwise([-1, *steps])):
        raise Malformed("its steps do not increase from line to line", path)
    return rows


def _parse_cell(key: str, cell: str) -> float:
    if key == "step":
        if not re.fullmatch("[0-9]{1,15}", cell):
            raise ValueError(f"step is {show(cell)}")
        return int(cell)
    return float(cell or math.nan)


def split_metrics(path: str | Path) -> tuple[list[str], bytes]:
    """Read ``metrics.csv`` as its columns and its complete lines.

    Raises:
        OSError: The file cannot be read.
        Malformed: It has no column ``step``, two columns of one name, or is too large.
    """
    head, _, rest = read_bytes(path, MOST_METRICS).partition(b"\n")
    try:
        names = head.decode().split(",")
    except UnicodeDecodeError:
        raise Malformed("its first line is no text", path) from None
    if "step" not in names or len(set(names)) < len(names):
        raise Malformed(f"it has the columns {show(','.join(names))}; expected: step and metrics, each once", path)
    return names, rest[: rest.rfind(b"\n") + 1]


def read_result(path: str | Path) -> dict[str, Any]:
    """Read the fields of a ``result.json``.

    Raises:
        OSError: The file cannot be read.
        Malformed: It is not JSON, or holds no fields.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise Malformed("it holds no fields", path)
    return content


def _cell(value: float, key: str) -> str:
    if key == "step":
        return str(int(value))
    return "" if math.isnan(value) and key == "norm/gradient" else repr(float(value))


def reaches(accuracy: float, count: int | None, threshold: float) -> bool:
    """Whether an accuracy is at the threshold, compared as whole numbers of right answers.

    Args:
        accuracy: A share, from 0 to 1; NaN is below every threshold.
        count: The number of equations; None: not recorded, then it is the least up to 2^20 that gives this accuracy.
        threshold: The share to reach.
    """
    if math.isnan(accuracy) or abs(accuracy - threshold) > 1e-3:  # far more than any rounding
        return accuracy > threshold
    if count is None:
        count = Fraction(accuracy).limit_denominator(2**20).denominator
    return round(accuracy * count) >= _to_fraction(repr(threshold)) * count


_to_fraction = cache(Fraction)


def milestones(
    rows: list[Row], counts: Mapping[str, int | None], threshold: float, sustain: int, validated: bool = True
) -> dict[str, int | None]:
    """Steps at which a run memorized and grokked, from its record.

    Args:
        rows: Its evaluations, oldest first.
        counts: Equations in the ``train`` and ``val`` splits, as for ``reaches``.
        threshold: The accuracy to reach, 0.99 say.
        sustain: k, how many evaluations must stand at the threshold, to the end, for it to be sustained; the first of
            them counts.
        validated: Whether rows are held out for validation; without, a run can memorize, but not grok.

    Returns:
        ``memorize_step``, ``grok_step``: the first evaluated step at the threshold, in training and in validation;
        ``memorize_after``, ``grok_after``: the last evaluated step before it, where accuracy was below;
        ``sustained_grok_step``. None where the threshold was not reached.
    """
    found: dict[str, int | None] = {}
    for name, split in (("memorize", "train"), ("grok", "val")):
        known = rows if validated or split == "train" else []
        reached = [reaches(row[f"{split}/acc"], counts[split], threshold) for row in known]
        first = reached.index(True) if True in reached else None
        found[f"{name}_step"] = None if first is None else int(rows[first]["step"])
        found[f"{name}_after"] = int(rows[first - 1]["step"]) if first else None
    lasting = standing(rows, counts, threshold) if validated else 0
    found["sustained_grok_step"] = int(rows[-lasting]["step"]) if lasting >= max(sustain, 1) else None
    return found


def standing(rows: list[Row], counts: Mapping[str, int | None], threshold: float) -> int:
    """Number of newest evaluations in a row with validation accuracy at the threshold."""
    lasting = 0
    for row in reversed(rows):
        if not reaches(row["val/acc"], counts["val"], threshold):
            break
        lasting += 1
    return lasting


def config_hash(config: Mapping[str, Any], defaults: Mapping[str, Any], ignored: Iterable[str]) -> str:
    """Hash of the options that change results, without ignored options and options at their default.

    Args:
        config: Resolved config, nested.
        defaults: Defaults of the same options, nested.
        ignored: Dotted options, or whole groups of them, that cannot change a result.
    """
    return hash_of(counted_options(config, defaults, ignored))


def counted_options(config: Mapping[str, Any], defaults: Mapping[str, Any], ignored: Iterable[str]) -> dict[str, Any]:
    """Dotted options that ``config_hash`` counts."""
    ignored = tuple(ignored)
    base, flat = flatten(defaults), flatten(config)
    if CALLBACKS in flat:
        flat[CALLBACKS] = counted_callbacks(flat[CALLBACKS])
    return {
        key: value
        for key, value in flat.items()
        if base.get(key, _MISSING) != value and not any(key == name or key.startswith(f"{name}.") for name in ignored)
    }


def counted_callbacks(callbacks: Any) -> Any:
    """The callbacks of a config that may change a result: all but ``OBSERVERS``; None if there are none."""
    if not isinstance(callbacks, list):
        return callbacks
    kept = [each for each in callbacks if not (isinstance(each, Mapping) and each.get("class_path") in OBSERVERS)]
    return kept or None


def hash_of(counted: Mapping[str, Any]) -> str:
    """Hash of the options of ``counted_options``."""
    return hashlib.sha256(json.dumps(counted, sort_keys=True, default=str).encode()).hexdigest()[:16]


_MISSING = object()


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; lists and empty mappings are leaves."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; numbers that are not finite become null."""
    write_durably(path, (json.dumps(_finite(content), indent=2, default=str) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
