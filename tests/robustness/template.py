"""A directory with everything that commands read, made once and copied for each case."""

import json
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

from confined import plant

TINY = (
    *("--experiment", "e", "--data.modulus", "5", "--data.batch_size", "8", "--threads", "1"),
    *("--model.network", "MLP", "--model.network.width", "4", "--trainer.accelerator", "cpu"),
    *("--evaluation.every", "10", "--trainer.enable_progress_bar", "false"),
)
SWEEP = """\
set:
  data: {modulus: 5, batch_size: 8}
  model: {network: {class_path: MLP, width: 4}, compile: false}
  trainer: {accelerator: cpu, max_steps: 20, precision: 32-true}
  evaluation.every: 10
grid:
  seed_everything: [0, 1]
"""
CHECKPOINT, ARCHIVE = "checkpoints/e/a/last.ckpt", "runs.parquet"
STRANGER = "stranger.ckpt"  # the same, but not in its own place
RESULT, METRICS = "lightning_logs/e/b/result.json", "lightning_logs/e/b/metrics.csv"
_OWN = "lightning_logs/s/.sweep"
NOTICE, PLANNED, INDEX = f"{_OWN}/workers/x-1.json", f"{_OWN}/planned.parquet", f"{_OWN}/index.parquet"


@cache
def base() -> Path:
    """The directory of everything that the harness writes; removed at the end of the process."""
    import atexit

    directory = Path(mkdtemp(prefix="robustness-")).resolve()
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(directory, ignore_errors=True) if os.getpid() == owner else None)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(directory / "inductor")
    os.environ["OMP_NUM_THREADS"] = "1"  # a forked process would wait for threads that it lacks
    import_module("matplotlib.font_manager")  # makes its cache where there is none
    plant(directory / "planted")
    return directory


def _run(directory: Path, *arguments: str) -> None:
    """Runs a command here and in this process, which fills the caches of whatever is parsed once."""
    from grok_lightning.__main__ import main

    here, printed = os.getcwd(), StringIO()
    os.chdir(directory)
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            status = main(list(arguments))
    finally:
        os.chdir(here)
        os.environ.pop("GROK_LIGHTNING_RUN", None)
    if status:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status}: {printed.getvalue()[-2000:]}")


@cache
def with_run() -> Path:
    """A directory with one finished run, ``a`` of experiment ``e``."""
    directory = base() / "run"
    directory.mkdir()
    _run(directory, "fit", *TINY, "--run", "a", "--trainer.max_steps", "20")
    shutil.copy(directory / CHECKPOINT, directory / STRANGER)
    _drop_events(directory)
    return directory


@cache
def with_records() -> Path:
    """The same with two more runs, one of them unfinished, their archive, and a sweep that was planned and begun."""
    directory = base() / "records"
    shutil.copytree(with_run(), directory)
    for seed, run in ((1, "b"), (2, "c")):
        _run(directory, "fit", *TINY, "--run", run, "--trainer.max_steps", "20", "--seed_everything", str(seed))
    (directory / "lightning_logs/e/c/result.json").unlink()
    _run(directory, "report", "e", "--out", "r")
    shutil.copy(directory / "r/runs.parquet", directory / ARCHIVE)
    shutil.rmtree(directory / "r")
    (directory / "s.yaml").write_text(SWEEP, encoding="utf-8")
    _run(directory, "sweep", "s.yaml", "--workers", "1", "--events", "off")
    (directory / NOTICE).parent.mkdir(exist_ok=True)
    notice = {"experiment": "s", "name": "x", "step": 1, "budget": 20, "runs": 1, "over": 0, "time": 4e9}
    (directory / NOTICE).write_text(json.dumps(notice), encoding="utf-8")
    _drop_events(directory)
    return directory


def _drop_events(directory: Path) -> None:
    for path in [*directory.rglob("events.*"), *directory.rglob("*.png"), *directory.rglob("worker-*.log")]:
        path.unlink()


def fresh_copy(template: Path | None) -> Path:
    """A new working directory with what a template holds; its parents are empty but for it."""
    work = base() / "cases/a/b/c/d/work"
    shutil.rmtree(base() / "cases", ignore_errors=True)
    if template is None:
        work.mkdir(parents=True)
    else:
        shutil.copytree(template, work)
    return work
