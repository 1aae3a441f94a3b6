"""Ordinary modules of users, looked into as far as their parts can be seen."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.inspection import ablation, arrays
from grok_lightning.inspection.gather import gather_moments
from grok_lightning.inspection.inspection import Inspection
from grok_lightning.inspection.subject import Subject
from grok_lightning.models.ordinary import build_network

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import ordinary_modules

DATA = ModularArithmeticDataModule(modulus=7)


class Activated(nn.Module):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.mixing = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner, self.act, self.outer = nn.Linear(8, 20), nn.GELU(), nn.Linear(20, 8)
        self.head = nn.Linear(8, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.mixing(x, x, x)[0]
        return self.head(x + self.outer(self.act(self.inner(x))))


def subject_of(kind: type[nn.Module]) -> Subject:
    network = build_network(kind, DATA.vocabulary_size, DATA.length, [0], classes=DATA.classes)
    return Subject(network.eval(), DATA, 3)


@pytest.mark.parametrize("kind", ["Plain", "BatchNorm", "Recurrent", "Encoder", "Causal", "Tied", "Classes"])
def test_every_kind_has_a_page(kind: str) -> None:
    found = Inspection(gather_moments([subject_of(getattr(ordinary_modules, kind))]), kind, [], 3)
    assert "<section" in found.html
    assert np.isfinite(found.arrays["accuracy"][0, :2]).all()


def test_neurons_are_the_activation_modules_or_the_linear_maps() -> None:
    assert subject_of(ordinary_modules.Plain).neuron_names == ["hidden"]
    subject = subject_of(Activated)
    assert subject.neuron_names == ["act"]
    module = subject.network.plain()  # type: ignore[operator]
    tokens = DATA.tokens(DATA.operands_NK)[0]
    with torch.no_grad():
        x = module.embedding(tokens)
        x = x + module.mixing(x, x, x)[0]
        hidden = module.act(module.inner(x))[:, -1]
        logits = module(tokens)[:, -1]
    assert np.allclose(arrays.map_neurons(subject, "act"), hidden.T.reshape(20, 7, 7), atol=1e-5)
    wanted = (logits - logits.mean(1, keepdim=True))[:, 4].reshape(7, 7)
    assert np.allclose(arrays.map_logits(subject, [4])[0], wanted, atol=1e-5)


def test_parts_are_direct_submodules_with_their_output_zero() -> None:
    subject = subject_of(Activated)
    names, losses = ablation.ablate_parts(subject)
    assert names == ["embedding", "mixing", "inner", "act", "outer", "head"]
    module = subject.network.plain()  # type: ignore[operator]
    nn.init.zeros_(module.outer.weight)
    nn.init.zeros_(module.outer.bias)
    rows = DATA.splits[0].val
    with torch.no_grad():
        logits = module(DATA.tokens(DATA.operands_NK[rows])[0])[:, -1]
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(DATA.operation.results_N[rows]))
    assert losses.loss[4, 1] == pytest.approx(float(loss), rel=1e-5)
    assert losses.loss[5, 1] == pytest.approx(np.log(DATA.vocabulary_size), rel=1e-5)


def test_a_stack_of_a_user_s_has_its_direct_submodules() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "howto"))
    import mine

    network = mine.Bag(DATA.vocabulary_size, DATA.length, [0]).eval()
    found = gather_moments([Subject(network, DATA, 3)])
    assert found.choice.parts == ["tokens", "inner", "head"]
    assert list(found.choice.neurons) == ["inner"]
    assert np.allclose(found.arrays["part_loss"][0, 3, :2], np.log(DATA.vocabulary_size))
