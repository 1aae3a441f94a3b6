"""The README names every room, and its targets and files exist."""

import re
from pathlib import Path

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
