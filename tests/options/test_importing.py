"""Objects by dotted names: from the working directory too, and the true reason where there is none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grok_lightning.options.importing import NotImported, import_if_here, import_object


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what was imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def reason(name: str) -> str:
    with pytest.raises(NotImported) as caught:
        import_object(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_module_of_the_working_directory_is_found_and_its_siblings_too(here: Path) -> None:
    (here / "own_net.py").write_text("import own_part\nclass Net(own_part.Part): ...\n")
    (here / "own_part.py").write_text("class Part: ...\n")
    assert import_object("own_net.Net").__mro__[1].__name__ == "Part"
    (here / "own_pack").mkdir()
    (here / "own_pack/inner.py").write_text("class Deep: ...\n")
    assert import_object("own_pack.inner.Deep").__name__ == "Deep"


def test_the_directory_comes_last_and_only_for_its_own_modules(here: Path) -> None:
    (here / "csv.py").write_text("raise SystemExit('hijacked')\n")
    (here / "sched.py").write_text("class Mine: ...\n")
    (here / "own_optional.py").write_text("raise SystemExit('hijacked')\n")
    before = list(sys.path)
    found = reason("sched.Mine")
    assert "has no Mine" in found
    assert "sched.py here is another file" in found
    (here / "own_late.py").write_text("import csv\nwriter = csv.writer\n")
    assert import_object("own_late.writer")
    (here / "lib/site-packages").mkdir(parents=True)
    (here / "lib/site-packages/own_library.py").write_text(
        "try:\n    import own_optional\nexcept ImportError:\n    own_optional = None\nclass A: ...\n"
    )
    sys.path.append(str(here / "lib/site-packages"))
    assert import_object("own_library.A").__module__ == "own_library"
    assert sys.modules["own_library"].own_optional is None
    assert sys.path[:-1] == before


def test_a_function_of_the_working_directory_imports_another_module_when_it_is_called(here: Path) -> None:
    (here / "own_lazy.py").write_text("def load():\n    import own_later\n    return own_later.x\n")
    (here / "own_later.py").write_text("x = 3\n")
    import_if_here("own_lazy.load")
    assert sys.modules["own_lazy"].load() == 3
    import_if_here("own_lacking.load")
    assert "own_lacking" not in sys.modules


BROKEN = [
    ("import nothing_like_it\n", "own_bad.py, line 1: ModuleNotFoundError: No module named 'nothing_like_it'"),
    ("import os\n\n\nclass A(:\n    pass\n", "own_bad.py, line 4: SyntaxError: invalid syntax"),
    ("if True:\nx = 1\n", "own_bad.py, line 2: IndentationError: expected an indented block"),
    ("from os import no_such\n", "own_bad.py, line 1: ImportError: cannot import name 'no_such' from 'os'"),
    ("x = 1\ny = x / 0\n", "own_bad.py, line 2: ZeroDivisionError: division by zero"),
    ("def f():\n    raise ValueError('a\\nb')\n\nf()\n", "own_bad.py, line 4: ValueError: a b"),
    ("import sys\nsys.exit('no')\n", "own_bad.py, line 2: SystemExit: no"),
    ("import torch\ntorch.zeros(-1)\n", "own_bad.py, line 2: RuntimeError: zeros: Dimension"),
    ("import own_worse\n", "own_worse.py, line 2: NameError: name 'x' is not defined"),
    ("class Near: ...\n", "the module own_bad (own_bad.py) has no Neat; did you mean Near?"),
    ("x = '\0'\n", "the module own_bad: SyntaxError: source code string cannot contain null bytes"),
]


@pytest.mark.parametrize(("source", "expected"), BROKEN)
def test_what_is_wrong_in_a_module_is_told_with_its_line(here: Path, source: str, expected: str) -> None:
    (here / "own_worse.py").write_text("\nx\n")
    (here / "own_bad.py").write_text(source)
    assert reason("own_bad.Neat").startswith(expected)


def test_a_module_that_does_not_exist_gets_the_nearest_name(here: Path) -> None:
    (here / "own_nets.py").write_text("class A: ...\n")
    assert reason("own_net.A") == "there is no module own_net; did you mean own_nets?"
    assert reason("own_nets.B.C") == "there is no module B in own_nets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_optimizer", None)  # as if it was not installed
        expected = "there is no module pytorch_optimizer; pip install 'grok_lightning[optimizers]'"
        assert reason("pytorch_optimizer.Lion") == expected
    assert reason("torch.optm.SGD") == "there is no module optm in torch; did you mean optim?"
    assert reason("torch.optim.SDG").endswith("has no SDG; did you mean SGD?")


@pytest.mark.parametrize("name", ["", "Net", ".Net", "a..b", "a.", "../x.Net", "a b.c", "os:system"])
def test_what_is_no_dotted_name(name: str) -> None:
    assert "a dotted name is expected" in reason(name)


def test_a_mended_module_is_imported_by_the_same_process(here: Path) -> None:
    (here / "own_mended.py").write_text("x = \n")
    assert "SyntaxError" in reason("own_mended.A")
    (here / "own_mended.py").write_text("class A: ...\n")
    assert import_object("own_mended.A").__name__ == "A"


def test_a_working_directory_that_is_gone(here: Path) -> None:
    (here / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here / "gone")
        (here / "gone").rmdir()
        assert reason("own_gone.A").startswith("there is no module own_gone")
