"""What all tests share."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from grok_lightning.__main__ import main
from grok_lightning.callbacks import curves_figure
from grok_lightning.callbacks.images import Images
from grok_lightning.classes import Nested

torch.set_num_threads(1)  # the models here are so small that a second thread only waits

TINY = [
    *("--data.modulus", "11", "--data.batch_size", "16"),
    *("--model.network.layers", "2", "--model.network.width", "16", "--model.network.heads", "2"),
    *("--trainer.accelerator", "cpu", "--evaluation.every", "10", "--trainer.enable_progress_bar", "false"),
]


@pytest.fixture(autouse=True)
def no_images(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a second for each of hundreds of fits; tests of the pictures themselves say that they look."""
    if not getattr(request.module, "LOOKS_AT_IMAGES", False):
        monkeypatch.setattr(Images, "_show", lambda *_: None)
        monkeypatch.setattr(curves_figure, "png", lambda *_: b"")


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


if os.name == "nt":  # sweeps, signals, forks and limits of POSIX, and paths of Linux
    collect_ignore = [
        "browser",
        "callbacks/test_signals.py",
        "ray",
        "report/test_report_refusals.py",
        "sweep",
        "test_files_and_checkpoint.py",
        "test_portability.py",
        "test_processes.py",
    ]
