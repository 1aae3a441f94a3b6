"""What all tests share."""

import gc
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings

from grok_lightning.__main__ import main
from grok_lightning.callbacks import run_figures
from grok_lightning.hardware import compilation
from grok_lightning.hardware import products as machine
from grok_lightning.options.classes import Nested

torch.set_num_threads(1)  # the models here are so small that a second thread only waits
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start, and so that no fit measures threads
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and a fit leaves it so
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.platform == "win32":  # sweeps, signals, forks and limits of POSIX, and paths of Linux
    collect_ignore = [
        "browser",
        "callbacks/test_signals.py",
        "ray",
        "report/test_report_refusals.py",
        "sweep",
        "records/test_files_and_checkpoint.py",
        "hardware/test_portability.py",
        "commands/test_life_of_a_run.py",
        "commands/test_processes.py",
        "records/test_claims.py",
    ]
# the same examples everywhere and every time, however slow the machine
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

TINY = [
    *("--data.modulus", "11", "--data.batch_size", "16"),
    *("--model.network.layers", "2", "--model.network.width", "16", "--model.network.heads", "2"),
    *("--evaluation.per_decade", "0", "--evaluation.every", "10"),
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
]


def pytest_collection_finish() -> None:
    """Leaves what imports have made out of garbage collection: scanning it costs up to a tenth of each command."""
    gc.collect()
    gc.freeze()


def leave_out_images(patch: pytest.MonkeyPatch) -> None:
    """Has fits draw nothing, which takes most of a second."""
    patch.setattr(run_figures.RunFigures, "show_images", lambda *_: None)
    patch.setattr(run_figures, "png", lambda *_: b"")


@pytest.fixture(autouse=True)
def no_images(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the pictures themselves say that they look."""
    if not getattr(request.module, "LOOKS_AT_IMAGES", False):
        leave_out_images(monkeypatch)


@pytest.fixture(autouse=True)
def equal_speeds(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every product takes as long as any other, whatever this machine is like, and no compilation is remembered."""
    monkeypatch.setattr(machine, "product_seconds", lambda *_, **__: 1e-3)
    remembered = tmp_path_factory.getbasetemp() / "compilations.json"
    monkeypatch.setattr(compilation, "_file", lambda: remembered)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the real command in this process, in an empty directory: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GROK_LIGHTNING_RUN", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with warnings.catch_warnings():
            status = main([str(argument) for argument in arguments])
        os.environ.pop("GROK_LIGHTNING_RUN", None)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A directory in which a fit of these options was run, the same for all who ask for it: to be read alone."""

    @cache
    def trained(*options: str) -> Path:
        directory = tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            leave_out_images(patch)
            patch.chdir(directory)
            assert main(["fit", *options]) == 0
        os.environ.pop("GROK_LIGHTNING_RUN", None)
        return directory

    return trained


@pytest.fixture
def fitted(
    trained_once: Callable[..., Path], command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> Callable[..., None]:
    """Runs a fit of these options as ``command`` does, or copies what it left when another test asked for it."""

    def copied(*options: object) -> None:
        shutil.copytree(trained_once(*map(str, options)), tmp_path, dirs_exist_ok=True)

    return copied


@pytest.fixture
def write_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a YAML file into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def written(content: Nested | str, name: str = "sweep.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return written
