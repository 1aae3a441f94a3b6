"""Shares and losses per representation: of networks that are made of one, and against projections written out."""

import numpy as np
import pytest
import torch
from hand_built import Cosines, LookUp, addition, float64, measured, random_logits
from torch.nn.functional import cross_entropy

from grok_lightning.data import (
    AlternatingDataModule,
    CyclicProductDataModule,
    DihedralDataModule,
    FiniteFieldDataModule,
    MatrixDataModule,
    PermutationDataModule,
    TableDataModule,
    TabulatedAlgebra,
    TextDataModule,
)
from grok_lightning.errors import UserError
from grok_lightning.groups import group
from grok_lightning.groups.irreps import find_irreps
from grok_lightning.measures import Fourier, IrrepLosses, Irreps, Progress
from grok_lightning.measures.irreps import find_components
from grok_lightning.models import SequenceModel, Transformer

SEEDS = (0, 1)
DATA = {
    "S4": lambda formula="x * y", **o: PermutationDataModule(formula, 4, seeds=SEEDS, **o),
    "A4": lambda formula="x * y", **o: AlternatingDataModule(formula, 4, seeds=SEEDS, **o),
    "D5": lambda formula="x * y", **o: DihedralDataModule(formula, 5, seeds=SEEDS, **o),
    "C2 x C4": lambda formula="x + y", **o: CyclicProductDataModule(formula, (2, 4), seeds=SEEDS, **o),
    "GF(9)": lambda formula="x + y", **o: FiniteFieldDataModule(formula, 3, 2, seeds=SEEDS, **o),
    "C7": lambda formula="x + y", **o: addition(formula, 7, **o),
}
every_data = pytest.mark.parametrize("name", DATA)


def table_of(data: TableDataModule) -> torch.Tensor:
    size = data.operation.algebra.size
    return torch.from_numpy(data.operation.results_N).reshape(size, size)


def character_logits(data: TableDataModule, names: list[str], scale: float = 5.0) -> torch.Tensor:
    """Logit of z: the character of (z^-1 x y) in a representation of each run, real part; 0 of what is no element."""
    operation = data.operation
    law = find_components(operation).law
    group = law.group
    logits = torch.zeros(len(names), len(operation), data.vocabulary_size, dtype=torch.float64)
    quotients = group.table_GG[group.inverses_G][:, operation.results_N].T  # (rows, z)
    irreps = {irrep.name: irrep for irrep in find_irreps(group, law.algebra)}
    for run, name in enumerate(names):
        logits[run, :, : len(group)] = torch.from_numpy(scale * irreps[name].characters_G.real[quotients])
    return logits


@every_data
def test_logits_that_are_a_character_have_all_their_power_there(name) -> None:
    data = DATA[name]()
    names = find_components(data.operation).basis.names
    own = [names[1], names[-1]]
    logits_RNV = character_logits(data, own)
    shares = measured(Irreps(), LookUp(data, logits_RNV), data)
    losses = measured(IrrepLosses(), LookUp(data, logits_RNV), data)
    size = data.operation.algebra.size
    results = torch.from_numpy(data.operation.results_N)
    for run in range(2):
        for other in names[1:]:
            assert shares[f"irreps/logits_{other}"][run] == pytest.approx(float(other == own[run]), abs=1e-9)
            uniform, whole = np.log(size), cross_entropy(logits_RNV[run, :, :size], results).item()
            restricted, excluded = (losses[f"irreps/{kind}_loss_{other}"][run] for kind in ("restricted", "excluded"))
            assert restricted == pytest.approx(whole if other == own[run] else uniform)
            if other == own[run]:
                assert excluded == pytest.approx(uniform)
    assert names[0] not in {key.rpartition("_")[2] for key in shares}


def projections(data: TableDataModule) -> dict[str, torch.Tensor]:
    """Of functions of x and y: on the matrix elements of each representation of the product, over all pairs."""
    law = find_components(data.operation).law
    found: dict[str, torch.Tensor] = {}
    irreps = find_irreps(law.group, law.algebra)
    for irrep in irreps:
        elements = irrep.matrices_GDD.reshape(len(law.group), -1)[law.products_N]
        units = elements / np.linalg.norm(elements, axis=0)
        whole = units @ units.conj().T
        partner = next(
            other.name for other in irreps if np.allclose(other.characters_G, irrep.characters_G.conj(), atol=1e-9)
        )
        key = min(irrep.name, partner, key=[each.name for each in irreps].index)
        found[key] = found.get(key, 0) + torch.from_numpy(whole)
    return {key: value.real for key, value in found.items()}


@every_data
def test_shares_and_losses_are_those_of_the_projections_over_all_pairs(name) -> None:
    data = DATA[name](train_fraction=[0.4, 0.7], answer_noise=0.3)
    logits_RNV = random_logits(data, spread=2.0)
    shares, losses = (measured(measure, LookUp(data, logits_RNV), data) for measure in (Irreps(), IrrepLosses()))
    results, shown = torch.from_numpy(data.operation.results_N), torch.from_numpy(data.answers_XN)
    size = data.operation.algebra.size
    for irrep, project in list(projections(data).items())[1:]:
        for run in range(2):
            logits = logits_RNV[run, :, :size]
            centered = logits - logits.mean(1, keepdim=True)
            centered = centered - centered.mean(0)
            expected = (project @ centered).square().sum() / centered.square().sum()
            assert shares[f"irreps/logits_{irrep}"][run] == pytest.approx(expected.item())
            restricted = cross_entropy(project @ logits + logits.mean(0), results)
            rows = torch.from_numpy(data.splits[run].train)
            excluded = cross_entropy((logits - project @ logits)[rows], shown[run, rows])
            assert losses[f"irreps/restricted_loss_{irrep}"][run] == pytest.approx(restricted.item())
            assert losses[f"irreps/excluded_loss_{irrep}"][run] == pytest.approx(excluded.item())


def test_of_a_cyclic_group_they_are_the_measures_of_addition() -> None:
    for formula in ("x + y", "x - y", "x * y", "x / y", "(x + y)**2"):
        data = addition(formula, 13, train_fraction=[0.4, 0.6])
        network = LookUp(data, random_logits(data, 2.0))
        losses, shares = measured(IrrepLosses(), network, data), measured(Irreps(), network, data)
        for frequency in (1, 3, 6):
            expected = measured(Progress(frequencies=[frequency]), network, data)
            for kind in ("restricted_loss", "excluded_loss"):
                torch.testing.assert_close(losses[f"irreps/{kind}_{frequency}"], expected[f"progress/{kind}"])
        top = measured(Fourier(), network, data)
        for matrix in ("embedding", "unembedding"):
            for run in range(2):
                if top[f"fourier/{matrix}_key_1"][run].isnan():
                    assert shares[f"irreps/{matrix}_1"][run].isnan()
                    continue
                key = int(top[f"fourier/{matrix}_key_1"][run])
                assert shares[f"irreps/{matrix}_{key}"][run] == pytest.approx(
                    top[f"fourier/{matrix}_share_1"][run].item()
                )


def test_a_network_of_cosines_has_its_frequencies() -> None:
    data = addition()
    found = measured(Irreps(), Cosines(data), data)
    for frequency in range(1, 12):
        expected = [1 / 3 if frequency in own else 0.0 for own in ([1, 4, 9], [11, 2, 7])]
        torch.testing.assert_close(found[f"irreps/embedding_{frequency}"], float64(*expected))


def test_an_embedding_of_matrix_elements_is_all_of_its_representation() -> None:
    data = DATA["S4"]()
    network = LookUp(data, random_logits(data))
    irreps = find_irreps(find_components(data.operation).law.group, data.operation.algebra)
    with torch.no_grad():
        for run, number in enumerate((1, 2)):
            flat = torch.from_numpy(irreps[number].matrices_GDD.reshape(24, -1))[:, :4]
            network.embeddings["tokens"][run, :24, : flat.shape[1]] = flat + 7.0  # the constant does not count
            network.embeddings["tokens"][run, :24, flat.shape[1] :] = 0
            network.head[run] = network.embeddings["tokens"][run].T
    found = measured(Irreps(), network, data)
    for matrix in ("embedding", "unembedding"):
        assert found[f"irreps/{matrix}_{irreps[1].name}"].tolist() == pytest.approx([1, 0])
        assert found[f"irreps/{matrix}_{irreps[2].name}"].tolist() == pytest.approx([0, 1])


def test_shares_add_up_and_do_not_see_a_renaming_by_the_group() -> None:
    data = DATA["S4"]()
    network = Transformer(data.vocabulary_size, data.length, SEEDS, layers=1, width=8, heads=2).double()
    found = measured(Irreps(), network, data)
    names = find_components(data.operation).basis.names[1:]
    for matrix in ("embedding", "unembedding", "neurons"):
        total = torch.stack([found[f"irreps/{matrix}_{name}"] for name in names]).sum(0)
        torch.testing.assert_close(total, float64(1, 1))
    table = table_of(data)
    for moved in (table[5], table[:, 7]):
        other = Transformer(data.vocabulary_size, data.length, SEEDS, layers=1, width=8, heads=2).double()
        with torch.no_grad():
            other.embeddings.tokens.weight[:, :24] = network.embeddings.tokens.weight[:, moved]
        same = measured(Irreps(), other, data)
        for name in names:
            key = f"irreps/embedding_{name}"
            torch.testing.assert_close(same[key], found[key])


@pytest.mark.parametrize("formula", ["x / y", "x * y * x**-1", "x * y * x", "e * y * x", "x**-1 * y"])
def test_other_formulas_over_a_group(formula) -> None:
    data = DATA["S4"](formula, train_fraction=0.6)
    network = Transformer(data.vocabulary_size, data.length, SEEDS, layers=1, width=8, heads=2).double()
    found = measured(Irreps(), network, data) | measured(IrrepLosses(), network, data)
    assert all(value.isfinite().all() for value in found.values())
    assert {key.rpartition("_")[2] for key in found} == {"3-1", "2-2", "2-1-1", "1-1-1-1"}
    plain = measured(Irreps(), network, DATA["S4"]())
    for name in ("3-1", "2-2"):
        torch.testing.assert_close(found[f"irreps/embedding_{name}"], plain[f"irreps/embedding_{name}"])


def test_named_representations_alone_are_recorded() -> None:
    data = addition("x + y", 11)
    network = LookUp(data, random_logits(data))
    found = measured(Irreps(irreps=[3, "1"]), network, data)
    assert list(found) == [f"irreps/{part}_{k}" for part in ("embedding", "unembedding", "logits") for k in (3, 1)]
    whole = measured(Irreps(), network, data)
    assert all(torch.equal(whole[key], value) for key, value in found.items())


class Bare(LookUp):
    embedding = SequenceModel.embedding
    unembedding = SequenceModel.unembedding


def test_a_network_without_matrices_has_the_values_of_its_logits() -> None:
    data = DATA["D5"]()
    keys = measured(Irreps(), Bare(data, random_logits(data)), data).keys()
    assert keys == {f"irreps/logits_{name}" for name in ("A2", "E1", "E2")}


class Quaternions(TableDataModule):
    def algebra(self) -> TabulatedAlgebra:
        units = ["1", "i", "j", "k"]
        signs = {"ij": "k", "jk": "i", "ki": "j"}

        def multiply(g: tuple[int, str], h: tuple[int, str]) -> tuple[int, str]:
            (s, a), (t, b) = g, h
            if "1" in (a, b):
                return s * t, b if a == "1" else a
            if a == b:
                return -s * t, "1"
            return (s * t, signs[a + b]) if a + b in signs else (-s * t, signs[b + a])

        return TabulatedAlgebra(
            [(s, u) for s in (1, -1) for u in units], {"*": multiply}, "over Q8", lambda e: f"{e[0]}{e[1]}"
        )


def test_a_group_of_the_users_own_is_known_from_its_table() -> None:
    data = Quaternions("x * y", seeds=SEEDS)
    names = find_components(data.operation).basis.names
    assert names == ["1a", "1b", "1c", "1d", "2a"]
    logits_RNV = character_logits(data, ["2a", "1c"])
    found = measured(Irreps(), LookUp(data, logits_RNV), data)
    assert found["irreps/logits_2a"].tolist() == pytest.approx([1, 0])
    assert found["irreps/logits_1c"].tolist() == pytest.approx([0, 1])


def test_invertible_matrices_are_a_group_of_their_own() -> None:
    data = MatrixDataModule("x * y", 2, seeds=SEEDS)
    found = measured(IrrepLosses(), LookUp(data, random_logits(data)), data)
    assert {key.rpartition("_")[2] for key in found} == {"1b", "2a"}  # GL(2, 2) is S3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: addition("x**2 + x*y + y**2", 7), r"needs a formula that is a product in a group.*'x\*\*2 \+ x\*y"),
        (lambda: addition("x + y + z", 5), "needs a formula that is a product in a group"),
        (lambda: DATA["S4"]("x * y * x**-1 * y**-1"), "every element as an answer"),
        (lambda: PermutationDataModule("x * y", 4, rows=100), "with 100 rows"),
        (lambda: PermutationDataModule("x * y", 4, rows=570), "with 570 rows"),
        (lambda: addition("x + y", 7, tokenizer="characters"), "data.tokenizer elements"),
        (lambda: TextDataModule("abcabcabc"), "needs a formula that is a product in a group"),
        (lambda: addition("x + y", 131), r"65 representations; name up to 64 in measures\.\w+\.irreps, of 1, 2"),
        (lambda: addition("0*x + 0*y", 5), "trivial"),
    ],
)
@pytest.mark.parametrize("measure", [Irreps(), IrrepLosses()], ids=lambda measure: type(measure).__name__)
def test_what_has_no_group_is_refused_in_one_line(measure, data, message) -> None:
    of = data()
    network = Transformer(of.vocabulary_size, of.length, of.seeds, layers=1, width=8, heads=2)
    with pytest.raises(UserError, match=message) as error:
        measure.check(network, of)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("formula", ["x + y", "x * y", "x - 2*y"])
def test_a_group_that_is_too_large_is_refused_in_one_line(formula, monkeypatch) -> None:
    monkeypatch.setattr(group, "LARGEST", 11)
    data = addition(formula, 13)
    with pytest.raises(UserError, match=r"^measures names Irreps, and data\.formula .* elements; .* of at most 11$"):
        Irreps().check(LookUp(data, random_logits(data)), data)


@pytest.mark.parametrize("kind", [Irreps, IrrepLosses])
def test_names_that_are_none_are_refused(kind) -> None:
    data = DATA["S4"]()
    network = LookUp(data, random_logits(data))
    with pytest.raises(UserError, match=rf"^measures\.{kind.__name__}\.irreps has '5'; expected are some of 3-1, 2-2,"):
        kind(irreps=["3-1", 5]).check(network, data)
    for wrong in ([], ["3-1", "3-1"]):
        with pytest.raises(UserError, match=rf"^measures\.{kind.__name__}\.irreps is "):
            kind(irreps=wrong)
