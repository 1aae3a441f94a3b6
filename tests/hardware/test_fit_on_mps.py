"""A whole fit on a device without float64: the imitation of Apple's GPU in place of the CPU."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import TINY
from fake_mps import MPS, fake_mps
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from grok_lightning.records.record import read_metrics

Command = Callable[..., tuple[int, str, str]]
OPTIONS = {
    "plain": "",
    "noisy": "--model.optimizer.update_noise 0.1 --model.weight_noise 0.01 --model.network.dropout 0.1",
    "filtered": "--model.filters+=GrokfastEMA --model.filters+=Clip --model.filters.norm 1 --model.weight_norm initial",
    "equations": "--model.loss_on equation --model.loss stablemax --data.tokenizer characters",
    "muon": "--model.optimizer Muon",
    "measured": "--measures [Collapse,Fourier,LogitScale,Progress,Rank,Symmetry]",
}


@pytest.fixture
def on_mps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], object]]:
    """What puts the fits that follow on the imitation."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)

    def start() -> object:
        monkeypatch.setattr(SingleDeviceStrategy, "root_device", MPS)
        monkeypatch.setattr(CPUAccelerator, "setup_device", lambda *_: None)
        return fake_mps()

    yield start
    torch.__future__.set_overwrite_module_params_on_conversion(before)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, id=name, marks=() if name in ("noisy", "measured") else pytest.mark.slow)
        for name, options in OPTIONS.items()
    ],
)
def test_a_fit_needs_no_float64_on_the_device(command: Command, tmp_path: Path, on_mps, options: str) -> None:
    given = [*TINY, *options.split(), "--trainer.max_steps", "12", "--trainer.logger", "false"]
    assert command("fit", *given, "--run", "cpu")[0] == 0
    with on_mps():
        status, _, told = command("fit", *given, "--run", "mps")
    assert (status, told) == (0, "")
    found, expected = (read_metrics(tmp_path / "lightning_logs" / "default" / run) for run in ("mps", "cpu"))
    for row, same in zip(found, expected, strict=True):
        assert row == pytest.approx(same, rel=1e-3, abs=1e-3, nan_ok=True)
