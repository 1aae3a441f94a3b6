"""Data go one way through a sweep: a file becomes a plan, the plan is run, and what it comes to is shown."""

import re
from pathlib import Path

import grok_lightning.sweep

ORDER = ("places", "names", "axes", "file", "plan", "run", "show", "command")
IMPORT = re.compile(r"^\s*from grok_lightning\.sweep\.(\w+)", re.MULTILINE)


def test_no_part_imports_a_later_one() -> None:
    top = Path(next(iter(grok_lightning.sweep.__path__)))
    seen = set()
    for path in sorted(top.rglob("*.py")):
        part = path.relative_to(top).parts[0].removesuffix(".py")
        for imported in IMPORT.findall(path.read_text(encoding="utf-8")):
            assert ORDER.index(imported) <= ORDER.index(part), f"{path} imports {imported}"
            seen.add((part, imported))
    assert {part for pair in seen for part in pair} == set(ORDER)
