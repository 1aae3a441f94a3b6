"""Small LSTMs and GRUs in float64, and torch's own with their weights."""

import pytest
import torch

from grok_lightning.batch import Draw
from grok_lightning.models import GRU, LSTM

VOCABULARY, LENGTH, SEEDS = 13, 5, [3, 1, 4]
THEIRS = {LSTM: torch.nn.LSTM, GRU: torch.nn.GRU}
every_kind = pytest.mark.parametrize("kind", [LSTM, GRU], ids=lambda kind: kind.__name__)
every_option = pytest.mark.parametrize(
    "options", [{}, {"layers": 1}, {"layers": 3, "hidden": 6}, {"initialization": "scaled", "width": 4}], ids=str
)


def build(kind, seeds=SEEDS, padded=False, **options):
    options = {"embedding_std": 1.0, "init_scale": 2.0, "hidden": 5, "width": 7} | options
    return kind(VOCABULARY, LENGTH, seeds, padded, **options).double()


def tokens(runs=3, batch=6, length=LENGTH):
    single = torch.randint(VOCABULARY, (1, batch, length), generator=torch.Generator().manual_seed(0))
    return single.expand(runs, -1, -1).clone()


def draw(step, first_row=0):
    return Draw(torch.tensor(step), first_row)


def assert_same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


class Theirs(torch.nn.Module):
    """Torch's modules with the weights of one run; each layer a module of its own."""

    def __init__(self, model, run) -> None:
        super().__init__()
        named = {name: weight[run].detach().clone() for name, weight in model.named_parameters()}
        table, head = named["embeddings.tokens.weight"], named["head.weight"]
        self.table = torch.nn.Embedding(*table.shape, _weight=table)
        self.head = torch.nn.Linear(*head.shape, dtype=torch.float64)
        self.ours = {"embeddings.tokens.weight": self.table.weight}
        self._take("head", self.head.weight, self.head.bias, named)
        self.layers = torch.nn.ModuleList()
        for number in range(len(model.recurrent)):
            inputs = named[f"recurrent.{number}.from_input.weight"].shape[0]
            layer = THEIRS[type(model)](inputs, head.shape[0], batch_first=True, dtype=torch.float64)
            self._take(f"recurrent.{number}.from_input", layer.weight_ih_l0, layer.bias_ih_l0, named)
            self._take(f"recurrent.{number}.from_hidden", layer.weight_hh_l0, layer.bias_hh_l0, named)
            self.layers.append(layer)

    def _take(self, name, weight, bias, named) -> None:
        weight.data, bias.data = named[f"{name}.weight"].T, named[f"{name}.bias"][0]
        self.ours |= {f"{name}.weight": weight, f"{name}.bias": bias}

    def forward(self, tokens_BT, between=lambda number, x: x):
        x = self.table(tokens_BT)
        for number, layer in enumerate(self.layers):
            x, _ = layer(between(number - 1, x) if number else x)
        return self.head(x)
