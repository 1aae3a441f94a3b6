"""Runs of ordinary modules: hooks, and weights from files that they were exported to."""

from functools import partial
from pathlib import Path
from typing import Any

import ordinary_modules as kinds
import pytest
import torch
from torch import Tensor, nn

from grok_lightning import Experiment
from grok_lightning.errors import UserError
from grok_lightning.export import export
from grok_lightning.module import GrokModule
from grok_lightning.run import Run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def few_steps(kind: type[nn.Module], **options: Any) -> Run:
    given = {"modulus": 7, "batch_size": 8, "max_steps": 3, "threads": 1, "experiment": "few", **options}
    return Experiment("addition", network=kind, **given).fit()


@pytest.mark.parametrize("kind", [kinds.Plain, kinds.BatchNorm, kinds.Tied, kinds.Recurrent, kinds.Encoder])
def test_hooks_act_on_what_activations_shows(kind: type[nn.Module]) -> None:
    run = few_steps(kind)
    tokens = run.data.tokens(run.operands_NK[:5])
    shown, before = run.activations(run.operands_NK[:5]), run.model(tokens)
    seen: dict[str, Tensor] = {}
    with run.hooks({name: partial(seen.__setitem__, name) for name in shown}):
        torch.testing.assert_close(run.model(tokens), before)
    assert seen.keys() == shown.keys()
    for name, part in shown.items():
        torch.testing.assert_close(seen[name], part)
    other = run.activations(run.operands_NK[5:10])
    for name in (next(name for name in shown if name in ("hidden", "lstm", "encoder")), "logits"):
        with run.hooks({name: lambda _, name=name: other[name]}):
            torch.testing.assert_close(run.model(tokens), run.model(run.data.tokens(run.operands_NK[5:10])))
            torch.testing.assert_close(run.activations(run.operands_NK[:5])["logits"], other["logits"])
    torch.testing.assert_close(run.model(tokens), before)


def test_hooks_on_several_runs_or_unknown_parts_are_refused() -> None:
    module = GrokModule(9, 4, 1, seeds=[0, 1], network=kinds.Plain)
    with pytest.raises(UserError, match="hooks act on one run of Plain, here are 2"), module.network.hooks({}):
        pass
    with pytest.raises(UserError, match=r"'hiden'.*did you mean hidden"):
        few_steps(kinds.Plain).hooks({"hiden": print})


@pytest.mark.parametrize("kind", [kinds.BatchNorm, kinds.Tied, kinds.Causal])
def test_a_run_starts_from_an_exported_network_or_its_state_dict(kind: type[nn.Module], tmp_path: Path) -> None:
    run = few_steps(kind)
    export(run, "torch", tmp_path / "whole.pt")
    torch.save(run.plain().state_dict(), tmp_path / "bare.pt")
    wanted = run.metrics.iloc[-1]
    for number, name in enumerate(("whole.pt", "bare.pt")):
        begun = few_steps(kind, init_from=str(tmp_path / name), run=f"from{number}").metrics.iloc[0]
        assert begun["step"] == 0
        assert begun["val/loss"] == pytest.approx(wanted["val/loss"], rel=1e-6)
    with pytest.raises(UserError, match=r"init_from.*weight"):
        few_steps(kinds.Recurrent, init_from=str(tmp_path / "bare.pt"), run="other")
