"""The README names every room, and its targets and files exist."""

import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_tree_names_every_room_and_no_other() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    assert len(tree.strip().splitlines()) <= 10
    rooms = {path.parent.name for path in (PROJECT / "grok_lightning").glob("*/__init__.py")}
    assert set(re.findall(r"(\w+)/(?=[, ])", tree.split("\nconfigs/")[0])) - {"grok_lightning"} == rooms
    named = re.findall(r"\w+\.py", tree)
    assert named
    assert all((PROJECT / "grok_lightning" / name).is_file() for name in named)


def test_every_target_of_the_makefile_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_the_python_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = "{data: {modulus: 11}, model.network: {layers: 1, width: 16}, trainer: {max_steps: 20, accelerator: cpu}}"
    Path("addition").write_text(small)  # a file of that name comes before the shipped config
    (block,) = re.findall(r"<!-- python api -->.*?```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["run"].config["data"]["train_fraction"] == 0.4
    assert names["run"].step == 20
    assert names["run"].model(names["tokens"]).shape == (1, 5, 1, names["run"].data.vocabulary_size)
