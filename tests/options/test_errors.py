"""A mistake of the user's is one line; a bug, also in a class of the user's, shows its traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from grok_lightning.__main__ import main
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.options.classes import suggestion

Command = Callable[..., tuple[int, str, str]]


class Buggy(ModularArithmeticDataModule):
    """Data whose constructor has a bug, or refuses an option."""

    def __init__(self, seeds: tuple[int, ...] = (0,), kind: str = "bug") -> None:
        if kind == "bug":
            {}["missing"]
        if kind == "value":
            raise ValueError("kind is 'value'; it must be another")
        super().__init__("x + y", modulus=11, seeds=seeds)


class BuggyOptimizer(torch.optim.SGD):
    """An optimizer whose step has a bug."""

    def step(self, closure=None):
        raise RuntimeError("a bug in my optimizer")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> str:
    return f"{__name__}."


def test_a_bug_in_a_class_of_the_users_is_raised_as_it_is(command: Command, mine: str) -> None:
    with pytest.raises(KeyError, match="missing"):
        command("fit", "--data", f"{mine}Buggy")
    with pytest.raises(RuntimeError, match="a bug in my optimizer"):
        command("fit", "--data.modulus", 11, "--model.optimizer", f"{mine}BuggyOptimizer")
    assert list(Path().iterdir()) == []


def test_a_value_that_a_class_refuses_is_one_line(command: Command, mine: str) -> None:
    status, out, err = command("fit", "--data", f"{mine}Buggy", "--data.kind", "value")
    assert (status, out) == (2, "")
    assert err == "grok-lightning: kind is 'value'; it must be another\n"
    status, _, err = command("fit", "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "-1")
    assert (status, err.count("\n")) == (2, 1)
    assert "model.optimizer: Invalid learning rate: -1" in err


def test_a_module_that_imports_what_is_missing_is_no_misspelt_name(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_broken_data.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    status, _, err = command("fit", "--data", "my_broken_data.Data")
    assert status == 2
    assert "my_broken_data.py, line 1: ModuleNotFoundError: No module named 'no_such_package_at_all'" in err
    assert command("fit", "--data", "my_missing_data.Data")[0] == 2


def test_debug_shows_the_traceback_of_a_mistake_with_all_causes(command: Command, mine: str) -> None:
    status, _, err = command("fit", "--debug", "--data", f"{mine}Buggy", "--data.kind", "value")
    assert status == 2
    assert "raise ValueError(" in err
    assert err.splitlines()[-1] == "grok-lightning: kind is 'value'; it must be another"


@pytest.mark.parametrize("name", ["report", "predict", "validate", "generate"])
def test_an_interruption_says_what_is_true_of_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("grok_lightning.__main__._dispatch", interrupted)
    assert main([name]) == 130
    err = capsys.readouterr().err
    assert "grok-lightning: interrupted" in err
    assert "resume" not in err
    assert ("not" in err) == (name != "generate")


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("data.modulus", ["data.rows", "data.degree"], ""),
        ("data.degre", ["data.rows", "data.degree"], "; did you mean data.degree?"),
        ("model.optimizer.betas", ["model.optimizer.lr", "model.optimizer"], ""),
        ("model.network.layers", ["model.network", "model.network_of"], ""),
        ("layers.0", ["recurrent.1.memory_at.0", "embeddings"], "; known are embeddings, recurrent.1.memory_at.0"),
        ("optimizer.weight_deca", ["model.optimizer.weight_decay"], "; did you mean model.optimizer.weight_decay?"),
    ],
)
def test_names_of_one_group_are_not_near_for_beginning_alike(name: str, known: list[str], said: str) -> None:
    many = [] if said else map(str, range(41))  # so many that they are not listed
    assert suggestion(name, [*known, *many]) == said
