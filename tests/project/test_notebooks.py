"""The notebooks run from top to bottom, and show what they say."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = PROJECT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
MOST_BYTES = 600_000


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return found


def printed(cell: Any) -> str:
    """What a cell of code printed and returned, as text."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return "".join("".join(text) for text in texts)


def test_there_are_three() -> None:
    assert NAMES == ["first-run", "inside", "sweep"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_was_run_without_an_error(name: str) -> None:
    notebook = NOTEBOOKS / f"{name}.ipynb"
    assert notebook.stat().st_size < MOST_BYTES
    code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])
    whole = "".join(map(printed, code))
    assert "Traceback" not in whole
    assert "Warning" not in whole
    assert "\x1b" not in whole
    assert not re.search(r"/(home|root|tmp|work)/", whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="pip install -e '.[docs]'")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    place = tmp_path / "docs" / "notebooks"  # where a notebook finds the shipped checkpoints, and leaves its own runs
    place.mkdir(parents=True)
    (tmp_path / "checkpoints").symlink_to(PROJECT / "checkpoints")
    shutil.copy(NOTEBOOKS / f"{name}.ipynb", place)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    program = "from nbclient.cli import main; main()"
    command = [sys.executable, "-c", program, "--inplace", "--timeout=800", f"{name}.ipynb"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=890)
    assert done.returncode == 0, done.stderr
    text = "\n".join(map(printed, cells(place / f"{name}.ipynb")))
    expected = {"first-run": "grokked at step", "inside": "key frequencies:", "sweep": "grokked of 5"}
    assert expected[name] in text
