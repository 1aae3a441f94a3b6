"""Neurons that are constant on cosets have concentration 1, and noise what is expected of it."""

import numpy as np
import pytest
import torch
from hand_built import addition, measured
from torch import Tensor, nn

from grok_lightning.data import DihedralDataModule, FiniteFieldDataModule, PermutationDataModule, TableDataModule
from grok_lightning.errors import UserError
from grok_lightning.groups.cosets import find_cosets, find_partitions, find_subgroup_classes
from grok_lightning.measures import Cosets, View
from grok_lightning.measures.cosets import correct_for_chance, coset_concentration, neuron_means
from grok_lightning.measures.irreps import find_group_law
from grok_lightning.models import GRU, LSTM, MLP, SequenceModel, Transformer
from grok_lightning.models.ordinary import ModuleStack

SEEDS = (0, 1)


def permutations(formula: str = "x * y", degree: int = 4, **options) -> PermutationDataModule:
    return PermutationDataModule(formula, degree, seeds=SEEDS, **options)


class Neurons(SequenceModel):
    """Neurons that are the sum of a function of x and one of y, each given by its values: (R, n, F)."""

    def __init__(self, data: TableDataModule, of_x: Tensor, of_y: Tensor) -> None:
        super().__init__()
        self.of_x, self.of_y = nn.Parameter(of_x), nn.Parameter(of_y)
        self.feedforward = nn.ModuleDict({"inner": nn.Identity()})
        self.classes = data.vocabulary_size

    def forward(self, tokens_RBT, answer_length, draw=None, beginnings=None) -> Tensor:
        runs = torch.arange(len(tokens_RBT))[:, None]
        hidden = self.of_x[runs, tokens_RBT[:, :, 0]] + self.of_y[runs, tokens_RBT[:, :, -2]]
        return self.feedforward["inner"](hidden).sum(-1)[..., None, None].expand(-1, -1, 1, self.classes)

    causal = False


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_an_indicator_of_a_coset_has_one_and_a_constant_none() -> None:
    group = find_group_law(permutations().operation).group
    for each in find_subgroup_classes(group, 12):
        for cosets in find_partitions(group, each)[:3]:
            cosets_G = torch.from_numpy(cosets)
            indicator = (cosets_G == 1).double()[None, :, None]
            mixed = noise(1, int(cosets_G.max()) + 1, 1)[:, cosets_G]
            found = coset_concentration(torch.cat([indicator, mixed, 0.1 + 0 * mixed], 2), cosets_G)
            assert found[0, :2].tolist() == pytest.approx([1, 1])
            assert found[0, 2].isnan()
            assert correct_for_chance(found, cosets_G)[0, 0].item() == pytest.approx(1)


def test_noise_has_the_share_of_its_degrees_of_freedom() -> None:
    group = find_group_law(permutations().operation).group
    values = noise(1, 24, 20_000)
    for each in find_subgroup_classes(group, 12):
        cosets_G = torch.from_numpy(find_partitions(group, each)[-1])
        found = coset_concentration(values, cosets_G)
        count = 24 // each.order
        spread = found.std().item() / 20_000**0.5
        assert found.mean().item() == pytest.approx((count - 1) / 23, abs=5 * spread)
        assert correct_for_chance(found, cosets_G).mean().item() == pytest.approx(0, abs=0.01)


def test_it_is_the_analysis_of_variance() -> None:
    """Between and within add up, written out by loops."""
    values = noise(2, 12, 3)
    cosets_G = torch.tensor([0, 1, 2] * 4)
    for run in range(2):
        for neuron in range(3):
            own = values[run, :, neuron].numpy()
            within = sum(((own[cosets_G == k] - own[cosets_G == k].mean()) ** 2).sum() for k in range(3))
            expected = 1 - within / ((own - own.mean()) ** 2).sum()
            assert coset_concentration(values, cosets_G)[run, neuron].item() == pytest.approx(expected)


def test_a_network_of_coset_neurons_shows_its_subgroups() -> None:
    """Of x neurons of the stabilizers of S4 (order 6, index 4), left cosets; of y the alternating group's sign."""
    data = permutations()
    group = find_group_law(data.operation).group
    classes = {each.name: each for each in find_subgroup_classes(group, 12)}
    of_x = torch.stack(
        [
            torch.from_numpy(find_cosets(group, members, left=True) == 2).double()
            for members in classes["6a"].members_HG
        ],
        1,
    )
    sign = torch.from_numpy(find_cosets(group, classes["12a"].members_HG[0], left=False)).double()
    of_y = torch.stack([sign, 3 - sign, torch.zeros(24), sign * 2], 1)
    found = measured(Cosets(), Neurons(data, of_x.expand(2, -1, -1), of_y.expand(2, -1, -1)), data)
    assert found["cosets/x_6a"].tolist() == pytest.approx([1, 1])
    assert found["cosets/x"].tolist() == pytest.approx([1, 1])
    assert found["cosets/y_12a"].tolist() == pytest.approx([1, 1])  # the constant one does not count
    assert (found["cosets/x_12a"] < 0.2).all()
    assert (found["cosets/x_8a"] < 0.9).all()
    smaller = [name for name, each in classes.items() if each.order < 6]
    assert smaller  # of subgroups of the stabilizers the neurons are constant too
    assert found["cosets/y_4a"].tolist() == pytest.approx([1, 1])


def test_noise_is_between_and_each_run_has_its_own() -> None:
    data = permutations()
    of_x = noise(2, 24, 200)
    cosets_G = torch.from_numpy(find_partitions(find_group_law(data.operation).group, find_subgroup_classes(
        find_group_law(data.operation).group, 12)[0])[0])  # fmt: skip
    of_x[1] = cosets_G.double()[:, None]
    found = measured(Cosets(), Neurons(data, of_x, torch.zeros(2, 24, 200)), data)
    assert found["cosets/x_12a"][1] == pytest.approx(1)
    assert abs(found["cosets/x_12a"][0]) < 0.05  # one partition: no largest is taken
    assert 0.2 < found["cosets/x"][0] < 0.8
    assert found["cosets/y"].isnan().all()


NETWORKS = {
    "transformer": (lambda data: Transformer(data.vocabulary_size, data.length, SEEDS, width=8, heads=2),
                    "layers.1.feedforward.inner"),
    "mlp": (lambda data: MLP(data.vocabulary_size, data.length, SEEDS, width=8, hidden=[12, 10]), "feedforward.1"),
    "lstm": (lambda data: LSTM(data.vocabulary_size, data.length, SEEDS, width=8, hidden=6), "recurrent.1.hidden"),
    "gru": (lambda data: GRU(data.vocabulary_size, data.length, SEEDS, width=8, hidden=6, layers=1),
            "recurrent.0.hidden"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_means_are_those_of_the_activations(name, monkeypatch) -> None:
    monkeypatch.setattr("grok_lightning.measures.cosets.ROWS_AT_ONCE", 100)
    data = permutations(train_fraction=0.4)
    build, part = NETWORKS[name]
    network = build(data).double()
    law = find_group_law(data.operation)
    assert Cosets()._choose_part(network) == part
    found = neuron_means(View(network, data), data.operation, law, part)
    values = network.activations(data.tokens(data.operation.operands_NK))[part]
    last = values[:, :, -1] if values.dim() == 4 else values
    grid = last.unflatten(1, (24, 24))
    torch.testing.assert_close(found[0], grid.mean(2))
    torch.testing.assert_close(found[1], grid.mean(1))


def test_division_mod_p_is_taken_in_the_logarithm_and_without_zero() -> None:
    data = addition("x / y", 13)
    of_x = torch.zeros(2, 13, 2, dtype=torch.float64)
    squares = sorted({n * n % 13 for n in range(1, 13)})
    of_x[:, squares, 0] = 1.0  # cosets of the squares, of index 2
    of_x[:, 0, :] = 55.0
    of_x[:, [1, 5, 8, 12], 1] = 1.0  # the fourth roots of 1, of index 3
    found = measured(Cosets(), Neurons(data, of_x, torch.zeros_like(of_x)), data)
    assert set(found) == {f"cosets/{operand}{name}" for operand in "xy" for name in ("", "_6a", "_4a", "_3a", "_2a")}
    assert found["cosets/x"].tolist() == pytest.approx([1, 1])
    assert (found["cosets/x_6a"] < 0.6).all()
    assert (found["cosets/x_4a"] < 0.6).all()


class Plain(nn.Module):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, 6)
        self.inner = nn.Linear(6 * length, 9)
        self.out = nn.Linear(9, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.relu(self.inner(self.tokens(tokens).flatten(1))))


def test_neurons_of_a_users_module_are_named() -> None:
    data = permutations(degree=3)
    network = ModuleStack(data.vocabulary_size, data.length, SEEDS, module=Plain)
    with pytest.raises(UserError, match=r"^measures names Cosets, but .* no feed-.* one of tokens, inner, out"):
        Cosets().check(network, data)
    found = measured(Cosets(part="inner"), network, data)
    assert all(value.shape == (2,) and value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (lambda: addition("x + y", 7), {}, "has no subgroup of 2 to 12 cosets but the trivial one"),
        (lambda: DihedralDataModule("x * y", 31), {"largest_index": 1}, "largest_index is 1; it must be at least 2"),
        (lambda: permutations("x**2 * y**2"), {}, "Cosets, which needs"),
        (lambda: addition("x**2 + y**2", 13), {}, "an operand for each element"),
        (lambda: addition("x**2 + x*y", 7), {}, "needs a formula that is a product in a group"),
        (lambda: permutations(), {"part": "neurons"}, r"measures\.Cosets\.part is 'neurons', of which"),
        (lambda: permutations(), {"part": "layers.0.attention.pattern"}, "computes no vector of neurons"),
        (lambda: addition("x + y", 722), {}, "at most 720 elements; data.formula 'x . y' is over 722"),
    ],
)
def test_what_it_cannot_be_taken_of_is_refused_in_one_line(data, options, message) -> None:
    of = data()
    network = Transformer(of.vocabulary_size, of.length, of.seeds, layers=1, width=8, heads=2)
    with pytest.raises(UserError, match=message) as error:
        Cosets(**options).check(network, of)
    assert "\n" not in str(error.value)


def test_names_of_classes_do_not_depend_on_the_run() -> None:
    data = permutations()
    network = Transformer(data.vocabulary_size, data.length, SEEDS, width=8, heads=2)
    expected = [each.name for each in find_subgroup_classes(find_group_law(data.operation).group, 6)]
    found = measured(Cosets(largest_index=6), network, data)
    assert list(found) == [f"cosets/{o}{name}" for o in "xy" for name in ["", *(f"_{each}" for each in expected)]]
    assert np.all([value.isfinite().all() for value in found.values()])


def test_each_operand_counts_as_the_element_that_it_is_in_the_product() -> None:
    data = FiniteFieldDataModule("x + y**3", 2, 3, seeds=SEEDS)
    algebra = data.operation.algebra
    group = find_group_law(FiniteFieldDataModule("x + y", 2, 3).operation).group
    of_subgroup = find_partitions(group, find_subgroup_classes(group, 2)[0])[0]
    constant = noise(2, 2, 3)[:, of_subgroup]
    cubes, _ = algebra.power(np.arange(algebra.size), 3)
    found = measured(Cosets(), Neurons(data, constant, constant[:, cubes]), data)
    assert found["cosets/x"].tolist() == pytest.approx([1, 1])
    assert found["cosets/y"].tolist() == pytest.approx([1, 1])


def test_an_operand_that_stands_for_no_element_has_no_concentration() -> None:
    data = addition("x**2 + y", 9)
    values = noise(2, 9, 3)
    found = measured(Cosets(), Neurons(data, values, values), data)
    assert found["cosets/x"].isnan().all()
    assert found["cosets/y"].isfinite().all()
