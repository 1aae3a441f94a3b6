"""Classes of the working directory, by both commands and in a sweep, beside files with names of other modules."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

pytestmark = pytest.mark.slow
BOTH = [[sys.executable, "-m", "grok_lightning"], [str(Path(sys.executable).with_name("grok-lightning"))]]
OWN = """
import torch
from grok_lightning.measures import Measure
from lightning.pytorch import Callback

class Constant(Measure):
    def __call__(self, view):
        return {"own/constant": torch.full((view.runs,), 7.0, dtype=torch.float64)}

class Note(Callback):
    def on_fit_end(self, trainer, pl_module):
        print("own note")
"""
SHADOWS = ("random", "csv", "queue", "json", "copy", "triton", "tempfile", "difflib", "timeit", "numpy")
SHORT = ["--evaluation.per_decade", "0", "--threads", "1", "--trainer.precision", "32-true"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_room.py").write_text(OWN)
    for name in SHADOWS:
        Path(f"{name}.py").write_text(
            f"open('hijacked-{name}', 'w').close()\nraise SystemExit('{name} was hijacked')\n"
        )


def run(program: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments], capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.mark.parametrize("program", BOTH)
def test_classes_are_found_and_shadows_are_not(program: list[str]) -> None:
    own = ["--measures", "[Rank, own_room.Constant]", "--trainer.callbacks+=own_room.Note"]
    names = ["--experiment", "e", "--run", "a", "--trainer.max_steps"]
    done = run(program, "fit", *TINY, *SHORT, *names, "10", *own)
    assert done.returncode == 0, done.stderr
    assert "own note" in done.stdout
    assert "own/constant" in Path("lightning_logs/e/a/metrics.csv").read_text()
    other = next(each for each in BOTH if each != program)
    resumed = run(other, "fit", *names, "20", "--ckpt_path", "last")
    assert (resumed.returncode, "own note" in resumed.stdout) == (0, True), resumed.stderr
    assert not list(Path().glob("hijacked-*"))


def test_a_sweep_finds_them_in_its_workers_and_tells_what_is_wrong() -> None:
    tiny = dict(zip([name[2:] for name in (*TINY, *SHORT[:2])[::2]], (*TINY, *SHORT[:2])[1::2], strict=True))
    content = {
        "set": tiny | {"trainer.max_steps": 10, "measures": ["own_room.Constant"]},
        "grid": {"seed_everything": [0]},
    }
    Path("s.yaml").write_text(yaml.safe_dump(content))
    done = run(BOTH[1], "sweep", "s.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    (metrics,) = Path("lightning_logs/s").glob("*/metrics.csv")
    assert "own/constant" in metrics.read_text()
    Path("own_room.py").write_text("class A(:\n")
    broken = run(BOTH[1], "sweep", "s.yaml", "--workers", "1", "--dry_run")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (2, 1)
    assert "own_room.py, line 1: SyntaxError: invalid syntax" in broken.stderr
    assert not list(Path().glob("hijacked-*"))
