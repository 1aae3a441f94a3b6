"""The README's tree has a line for every room, and its targets exist."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()


def test_every_room_has_its_line_and_no_line_lacks_its_room() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    rooms = {path.parent.name for path in (PROJECT / "grok_lightning").glob("*/__init__.py")}
    assert set(re.findall(r"(\w+)/(?=[, ])", tree.split("\nconfigs/")[0])) == rooms
    named = re.findall(r"\w+\.py", tree)
    assert named
    assert all((PROJECT / "grok_lightning" / name).is_file() for name in named)


def test_every_target_of_the_makefile_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets | {"and"}
