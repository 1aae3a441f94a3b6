"""A run may start from another run's weights, when both speak of the same tokens."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY

from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import load

Command = Callable[..., tuple[int, str, str]]
START = ["--init_from", "checkpoints/e/first/last.ckpt", "--experiment", "e", "--run", "second"]


@pytest.fixture
def first(command: Command, fitted: Callable[..., None]) -> Command:
    """A directory with a run of subtraction, 20 steps long."""
    budget = ["--trainer.max_steps", "20", "--experiment", "e", "--run", "first"]
    fitted(*TINY, *budget, "--data.formula", "x - y")
    return command


def weights(run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(Path(f"checkpoints/e/{run}/last.ckpt"))["state_dict"]
    return state


def test_the_weights_are_the_other_runs_and_all_else_is_fresh(first: Command) -> None:
    still = ["--model.optimizer.lr", "0", "--trainer.max_steps", "3"]
    other = ["--data.formula", "x / y if y % 2 else x - y", "--seed_everything", "5"]
    assert first("fit", *TINY, *START, *still, *other)[0] == 0
    taken, given = weights("second"), weights("first")
    assert taken.keys() == given.keys()
    assert all(torch.equal(taken[name], given[name]) for name in given)
    assert load(Path("checkpoints/e/second/last.ckpt"))["global_step"] == 3


def test_a_directory_of_checkpoints_will_do(first: Command) -> None:
    start = ["--init_from", "checkpoints/e/first", "--experiment", "e", "--run", "second"]
    assert first("fit", *TINY, *start, "--model.optimizer.lr", "0", "--trainer.max_steps", "1")[0] == 0
    assert torch.equal(weights("second")["network.head.weight"], weights("first")["network.head.weight"])


def test_weights_that_are_taken_are_brought_to_the_start_as_initial_ones_are(first: Command) -> None:
    rows = [
        "--model.constraints",
        "ClipRows",
        "--model.constraints.max_norm",
        "5",
        "--model.constraints.initial_norm",
        "2",
    ]
    still = ["--model.optimizer.lr", "0", "--trainer.max_steps", "1"]
    assert first("fit", *TINY, *START, *still, *rows)[0] == 0
    norms = weights("second")["network.head.weight"][0].norm(dim=0)
    torch.testing.assert_close(norms, torch.full_like(norms, 2.0))


def test_a_resumed_run_does_not_start_anew(first: Command) -> None:
    """Even when the other run has gone."""
    assert first("fit", *TINY, *START, "--trainer.max_steps", "6")[0] == 0
    assert first("fit", *TINY, *START[:5], "third", "--trainer.max_steps", "12")[0] == 0
    Path("checkpoints/e/first/last.ckpt").unlink()
    more = ["--experiment", "e", "--run", "second", "--ckpt_path", "last", "--trainer.max_steps", "12"]
    assert first("fit", *more)[0] == 0
    second, third = weights("second"), weights("third")
    assert all(torch.equal(second[name], third[name]) for name in third)


NO_FIT = [
    (["--data.modulus", "7"], "its vocabulary has 13 tokens, this run's has 9"),
    (["--data.formula", "x + y + z"], "its equations have 4 input tokens, this run's have 6"),
    (["--data.operator_token", "false"], "its equations have 4 input tokens, this run's have 3"),
    (["--model.network.layers", "1"], "which this run's model has not"),
    (
        ["--model.network.layers", "3"],
        "its weight 'layers.2.attention.query.weight' is missing, this run's has shape",
    ),
    (["--model.network.width", "8"], "has shape (1, 13, 16), this run's has shape (1, 13, 8)"),
    (["--init_from", "checkpoints/none.ckpt"], "'checkpoints/none.ckpt' cannot be read"),
    (["--init_from"], "--init_from needs a value"),
]


def test_what_does_not_fit_is_refused_in_one_line(first: Command) -> None:
    for options, message in NO_FIT:
        status, _, err = first("fit", *TINY, *START, *options)
        assert (status, err.count("\n")) == (2, 1)
        assert message in err
        assert not Path("lightning_logs/e/second").exists()


@pytest.mark.slow
def test_a_run_that_died_at_once_still_starts_from_the_other(first: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """All it left is the checkpoint of step 0."""
    assert first("fit", *TINY, *START, "--trainer.max_steps", "8")[0] == 0

    def die(*_: object) -> None:
        raise OSError("the machine went down")

    with monkeypatch.context() as patch:
        patch.setattr(GrokModule, "training_step", die)
        assert first("fit", *TINY, *START[:5], "died", "--trainer.max_steps", "8")[0] == 1
    assert load(Path("checkpoints/e/died/last.ckpt"))["global_step"] == 0
    assert first("fit", "--experiment", "e", "--run", "died", "--ckpt_path", "last")[0] == 0
    died, second = weights("died"), weights("second")
    assert all(torch.equal(died[name], second[name]) for name in second)
