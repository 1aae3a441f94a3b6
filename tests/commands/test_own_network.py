"""Networks that are ordinary modules: refused, trained, resumed and swept from the command line."""

from pathlib import Path

import pytest
import torch
from training_here import train_here

from grok_lightning.__main__ import main
from grok_lightning.run import load_run

MODELS = Path(__file__).parents[1] / "models"
SMALL = [
    "--data.modulus",
    "7",
    "--data.batch_size",
    "8",
    "--evaluation.every",
    "4",
    "--evaluation.per_decade",
    "0",
    "--threads",
    "1",
]
WRAPPER = """
from torch import nn
from grok_lightning.models import SequenceModel

class Wrapper(SequenceModel):
    causal = False
    def __init__(self, vocabulary, length, seeds, padded=False):
        super().__init__()
        self.inner = nn.Sequential(nn.Embedding(vocabulary, 8), nn.Flatten(), nn.Linear(8 * length, vocabulary))
    def forward(self, tokens_RBT, answer_length=1, draw=None, beginnings=None):
        return self.inner(tokens_RBT[0])[None, :, None]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(MODELS))
    monkeypatch.syspath_prepend(str(tmp_path))


def fit(network: str, *options: str, run: str = "0") -> int:
    named = ["--experiment", "own", "--run", run, "--model.network", network]
    return main(["fit", *named, *SMALL, "--trainer.enable_progress_bar", "false", *options])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("ordinary_modules.Detached", "on none of whose parameters the loss depends"),
        ("ordinary_modules.Counter", "gives other logits when it is repeated"),
        ("ordinary_modules.UnsavedCounter", "use persistent buffers"),
        ("ordinary_modules.TooFew", "whose forward gives (5, 5) for 5 x 4 tokens; logits (5, 9)"),
        ("wrapping.Wrapper", "whose parameter inner.0.weight has shape (9, 8), but parameters of a SequenceModel lead"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_nothing_is_written(
    network: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrapping.py").write_text(WRAPPER)
    assert fit(network) == 2
    found = capsys.readouterr().err
    assert message in found
    assert len(found.splitlines()) == 1
    assert not (tmp_path / "lightning_logs").exists()


def test_a_bug_in_forward_is_raised_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit("ordinary_modules.Buggy")
    assert not (tmp_path / "lightning_logs").exists()


def test_an_optimizer_that_takes_no_missing_gradients_fails_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "hasty.py").write_text(
        "import torch\n"
        "class Hasty(torch.optim.Optimizer):\n"
        "    def __init__(self, params, lr: float = 0.1):\n"
        "        super().__init__(params, {'lr': lr})\n"
        "    @torch.no_grad()\n"
        "    def step(self, closure=None):\n"
        "        for weight in self.param_groups[0]['params']:\n"
        "            weight.sub_(0.1 * weight.grad)\n"
    )
    with pytest.raises(TypeError, match="NoneType"):
        fit("ordinary_modules.Frozen", "--model.optimizer", "hasty.Hasty", "--trainer.max_steps", "2")
    assert not Path("checkpoints").exists()
    assert fit("ordinary_modules.Plain", "--model.optimizer", "hasty.Hasty", "--trainer.max_steps", "2") == 0


def test_options_are_those_of_the_constructor(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("ordinary_modules.Plain", "--model.network.widht", "3") == 2
    assert "--model.network.widht is no option of Plain; did you mean --model.network.width?" in capsys.readouterr().err
    assert fit("ordinary_modules.Plain", "--model.network.width", "wide") == 2
    assert "--model.network.width is 'wide'; expected: an integer" in capsys.readouterr().err
    assert fit("ordinary_modules.Plain", "--measures", "[Fourier]", "--model.network.vocabulary", "3") == 2
    assert "--model.network.vocabulary is no option of Plain" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["ordinary_modules.Dropout", "ordinary_modules.BatchNorm"])
def test_a_resumed_run_is_the_uninterrupted_one(network: str) -> None:
    torch.manual_seed(1)
    assert fit(network, "--trainer.max_steps", "12", run="whole") == 0
    torch.manual_seed(2)
    assert fit(network, "--trainer.max_steps", "8", run="cut") == 0
    assert main(["fit", "--ckpt_path", "checkpoints/own/cut/last.ckpt", "--trainer.max_steps", "12"]) == 0
    whole, cut = load_run("checkpoints/own/whole/last.ckpt"), load_run("checkpoints/own/cut/last.ckpt")
    weights = cut.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in whole.model.state_dict().items())
    assert whole.config["model"]["network"]["class_path"] == network
    assert "network.module.embedding.weight" in torch.load("checkpoints/own/whole/last.ckpt")["state_dict"]


def test_a_sweep_says_which_runs_are_not_stacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rates.yaml").write_text(
        "set: {data.modulus: 7, model.network: ordinary_modules.Dropout, trainer.precision: 32-true}\n"
        "grid: {seed_everything: [0, 1], model.network.rate: [0.0, 0.5]}\n"
    )
    assert main(["sweep", "rates.yaml", "--dry_run", "--stack_size", "2"]) == 0
    found = capsys.readouterr().out
    assert "stacks     2 of 1 run, 1 of 2 runs" in found
    assert "Dropout is trained in stacks of one: it draws random numbers" in found


@pytest.mark.slow
def test_a_stacked_run_is_its_single_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    (tmp_path / "seeds.yaml").write_text(
        "set: {data.modulus: 7, data.batch_size: 8, model.network: ordinary_modules.Plain, trainer.max_steps: 12,\n"
        "  trainer.precision: 32-true, evaluation.every: 4, evaluation.per_decade: 0}\n"
        "grid: {seed_everything: [0, 1]}\n"
    )
    assert main(["sweep", "seeds.yaml", "--workers", "1", "--stack_size", "2"]) == 0
    assert fit("ordinary_modules.Plain", "--trainer.max_steps", "12", "--seed_everything", "1") == 0
    (path,) = Path("checkpoints/seeds").glob("seed=1__*/last.ckpt")
    weights = load_run("checkpoints/own/0/last.ckpt").model.state_dict()
    for name, weight in load_run(path, trust=True).model.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-5)
