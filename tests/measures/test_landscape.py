"""Measures of the training loss as a function of the weights, against dense, brute-force computations."""

import copy

import numpy as np
import pytest
import torch
from hand_built import addition, measured
from torch import Tensor, nn
from torch.func import functional_call

from grok_lightning.errors import UserError
from grok_lightning.measures import Commutator, Hessian, LearningCoefficient, NoiseScale, Objective, View
from grok_lightning.measures.commutator import commutator_defect
from grok_lightning.measures.hessian import lanczos
from grok_lightning.measures.landscape import Landscape, differentiable
from grok_lightning.measures.noise_scale import noise_scale
from grok_lightning.models import MLP, Transformer
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.randomness import generator_states

SEEDS = (3, 8)


def small(seeds=SEEDS, fraction=(0.4, 0.3)):
    data = addition(modulus=5, seeds=seeds, train_fraction=list(fraction)[: len(seeds)])
    return data, MLP(data.vocabulary_size, data.length, seeds, width=3, hidden=[4], activation="gelu").double()


def row_loss(network, data, weights, run: int, rows) -> Tensor:
    """The mean cross-entropy of rows of one run of a stack of MLPs, from its own table of rows."""
    tokens = torch.from_numpy(data.rows().prompts_NT)[rows].expand(len(data.seeds), -1, -1)
    logits = functional_call(network, weights, (tokens,))[run, :, 0]
    return nn.functional.cross_entropy(logits, torch.from_numpy(data.rows().answers_XNA)[0, rows, 0])


def landscape_of(network, data, objective=None) -> Landscape:
    return Landscape(View(network, data, objective=objective))


def test_the_extreme_eigenvalues_are_those_of_the_dense_hessian() -> None:
    data, network = small()
    found = measured(Hessian(iterations=60, rows=None), network, data)
    names, weights = zip(*network.named_parameters(), strict=True)
    for run in range(2):
        sizes = [weight[run].numel() for weight in weights]
        rows = torch.from_numpy(data.splits[run].train)

        def loss(flat: Tensor, run=run, sizes=sizes, rows=rows) -> Tensor:
            own = {}
            for name, weight, part in zip(names, weights, flat.split(sizes), strict=True):
                pieces = list(weight.detach())
                pieces[run] = part.view(weight.shape[1:])
                own[name] = torch.stack(pieces)
            return row_loss(network, data, own, run, rows)

        flat = torch.cat([weight[run].detach().flatten() for weight in weights])
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
        torch.testing.assert_close(found["hessian/largest"][run], values[-1], rtol=1e-8, atol=0)
        torch.testing.assert_close(found["hessian/smallest"][run], values[0], rtol=1e-8, atol=0)
        assert 0 <= found["hessian/error"][run] < 1e-6


@pytest.mark.parametrize("iterations", [1, 4, 9, 40])
def test_lanczos_bounds_its_error_on_matrices_of_every_kind(iterations) -> None:
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(6, 30, 30, dtype=torch.float64, generator=generator)
    matrices = noise + noise.mT
    matrices[1] = 3 * torch.eye(30)  # ends after one product
    matrices[2] = -noise[2, :, :2] @ noise[2, :, :2].T  # of rank 2 and without a positive eigenvalue
    matrices[3] *= 1e-9
    matrices[4] = 0
    matrices[5, 0, 0] = torch.nan
    start = torch.randn(6, 30, dtype=torch.float64, generator=generator)
    largest, smallest, error = lanczos(lambda v: (matrices @ v[..., None])[..., 0], start, iterations)
    assert torch.stack([largest, smallest, error])[:, 5].isnan().all()
    values = torch.linalg.eigvalsh(matrices[:5])
    scale = values.abs().amax(1)
    assert ((values - largest[:5, None]).abs().amin(1) <= error[:5] + 1e-10 * scale).all()
    assert (largest[:5] <= values[:, -1] + 1e-10 * scale).all()
    assert (smallest[:5] >= values[:, 0] - 1e-10 * scale).all()
    if iterations == 40:
        torch.testing.assert_close(largest[:5], values[:, -1], rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(smallest[:5], values[:, 0], rtol=1e-8, atol=1e-12)


def test_the_commutator_defect_is_that_of_steps_really_taken() -> None:
    data, network = small()
    rate = 0.05
    landscape = landscape_of(network, data)
    first_RB, second_RB = landscape.batches(2, 3, "test")
    found = commutator_defect(landscape, first_RB, second_RB, rate)
    for run in range(2):
        assert not {*first_RB[run].tolist()} & {*second_RB[run].tolist()}
        assert {*first_RB[run].tolist(), *second_RB[run].tolist()} <= {*data.splits[run].train.tolist()}

        def walk(batches, run=run) -> tuple[Tensor, list[Tensor]]:
            trained = copy.deepcopy(network)
            steps = []
            for batch in batches:
                trained.zero_grad()
                row_loss(trained, data, dict(trained.named_parameters()), run, batch[run]).backward()
                steps.append(torch.cat([weight.grad[run].flatten() for weight in trained.parameters()]))
                with torch.no_grad():
                    for weight in trained.parameters():
                        weight -= rate * weight.grad
            return torch.cat([weight.detach()[run].flatten() for weight in trained.parameters()]), steps

        (there, (first, _)), (back, (second, _)) = walk([first_RB, second_RB]), walk([second_RB, first_RB])
        expected = (there - back).norm() / ((rate * first).norm() * (rate * second).norm())
        torch.testing.assert_close(found[run], expected, rtol=1e-7, atol=0)


def test_the_median_of_the_pairs_is_taken() -> None:
    data, network = small()
    landscape = landscape_of(network, data)
    each = [commutator_defect(landscape, *landscape.batches(2, 256, "commutator", pair), 1e-3) for pair in range(3)]
    found = measured(Commutator(pairs=3), network, data)["commutator/defect"]
    torch.testing.assert_close(found, torch.stack(each).sort(0).values[1])


def test_the_noise_scale_is_that_of_the_single_rows() -> None:
    data, network = small(fraction=(0.8, 0.8))
    found = measured(NoiseScale(batches=20, rows=1), network, data)
    landscape = landscape_of(network, data)
    for run in range(2):
        rows = data.splits[run].train
        assert len(rows) == 20
        gradients = []
        for row in rows:
            loss = row_loss(network, data, dict(network.named_parameters()), run, torch.tensor([row]))
            parts = torch.autograd.grad(loss, list(network.parameters()))
            gradients.append(torch.cat([part[run].flatten() for part in parts]).numpy())
        trace = np.cov(np.array(gradients), rowvar=False).trace()
        squared = np.square(np.mean(gradients, 0)).sum() - trace / 20
        np.testing.assert_allclose(found["noise/trace"][run], trace, rtol=1e-9)
        np.testing.assert_allclose(found["noise/squared_gradient"][run], squared, rtol=1e-9)
    scale = found["noise/trace"] / found["noise/squared_gradient"]
    expected = torch.where(found["noise/squared_gradient"] > 0, scale, torch.nan)
    torch.testing.assert_close(found["noise/scale"], expected, equal_nan=True)
    whole = landscape.gradient(landscape.weights_RP, landscape.draw(None, "any"))
    parts = torch.stack([landscape.gradient(landscape.weights_RP, rows) for rows in landscape.batches(4, 5, "any")])
    torch.testing.assert_close(parts.mean(0), whole)


def test_the_noise_scale_is_unbiased() -> None:
    generator = torch.Generator().manual_seed(1)
    mean, deviation = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 2.0]).double()
    gradients = mean + deviation / 4**0.5 * torch.randn(5, 40_000, 3, generator=generator).double()
    trace, squared = noise_scale(gradients, torch.full((40_000,), 4.0).double())
    assert trace.mean() == pytest.approx(14, rel=0.01)
    assert squared.mean() == pytest.approx(5.25, rel=0.02)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "stablemax"])
def test_the_loss_is_that_of_training_on_blocks_of_any_size(loss, monkeypatch) -> None:
    data, network = small()
    objective = Objective(loss)
    landscape = landscape_of(network, data, objective)
    rows_RB, at = landscape.draw(None, "all"), landscape.weights_RP
    assert (rows_RB[1] < 0).sum() == 10 - 7
    direction = torch.ones_like(at)
    with differentiable(torch.device("cpu")):
        whole = landscape.gradient(at, rows_RB), landscape.hessian_product(at, rows_RB, direction)
        monkeypatch.setattr("grok_lightning.measures.landscape.ROWS_AT_ONCE", 6)
        torch.testing.assert_close(
            (landscape.gradient(at, rows_RB), landscape.hessian_product(at, rows_RB, direction)), whole
        )
        step = 1e-5
        ends = [landscape.gradient(at + sign * step * direction, rows_RB) for sign in (1, -1)]
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), whole[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "kind",
    [Commutator(pairs=1), NoiseScale(), Hessian(iterations=2), LearningCoefficient(chains=2, draws=1, burn_in=1)],
)
def test_within_an_evaluation_under_autocast_values_are_the_same_and_no_generator_moves(kind) -> None:
    data = addition(modulus=7, seeds=SEEDS)
    network = Transformer(data.vocabulary_size, data.length, SEEDS, width=8, heads=2, layers=1)
    before = generator_states()
    expected = measured(kind, network, data)
    data = addition(modulus=7, seeds=SEEDS)  # whose tensors are made within the evaluation
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(measured(kind, network, data), expected, equal_nan=True, rtol=0, atol=0)
    assert generator_states() == before


def test_what_is_not_trained_stays_as_it_is() -> None:
    data, network = small()
    network.head.weight.requires_grad_(False)
    assert landscape_of(network, data).weights_RP.shape[1] == sum(
        weight[0].numel() for weight in network.parameters() if weight.requires_grad
    )
    found = measured(LearningCoefficient(chains=2, draws=3, burn_in=0), network, data)
    assert found["learning/coefficient"].isfinite().all()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class Net(nn.Module):
    def __init__(self, vocabulary: int, length: int, how: str) -> None:
        super().__init__()
        self.embedding, self.head, self.how = nn.Embedding(vocabulary, 6), nn.Linear(6, vocabulary), how

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).sum(1)
        if self.how == "float32":
            return self.head(x @ torch.eye(6))
        return self.head(Once.apply(x) if self.how == "once" else x.relu())


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("once", Hessian, "measures names Hessian, but model.network is Net, which has no second derivative"),
        ("once", NoiseScale, None),
        ("float32", Commutator, "which has no derivative in float64: expected m1 and m2 to have the same dtype"),
        ("relu", Hessian, None),
    ],
)
def test_a_network_that_cannot_be_differentiated_so_often_is_refused_in_one_line(how, kind, reason) -> None:
    data = addition(modulus=5, seeds=(1,))
    network = ModuleStack(
        data.vocabulary_size, data.length, (1,), module=lambda vocabulary, length: Net(vocabulary, length, how)
    )
    if reason is None:
        kind().check(network, data)
        return
    with pytest.raises(UserError) as refused:
        kind().check(network, data)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Hessian(iterations=0), "measures.Hessian.iterations is 0"),
        (lambda: Hessian(rows=0), "measures.Hessian.rows is 0"),
        (lambda: Commutator(rate=0.0), "measures.Commutator.rate is 0.0"),
        (lambda: NoiseScale(batches=1), "measures.NoiseScale.batches is 1; it must be at least 2"),
        (lambda: LearningCoefficient(localization=-1.0), "measures.LearningCoefficient.localization is -1.0"),
        (lambda: Hessian(every=0), "measures.Hessian.every is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(build, words) -> None:
    with pytest.raises(UserError, match=words):
        build()


def test_the_noise_scale_of_fewer_rows_than_batches_does_not_exist() -> None:
    data, network = small(fraction=(0.8, 0.2))
    assert [len(split.train) for split in data.splits] == [20, 5]
    for name, value in measured(NoiseScale(batches=8, rows=1), network, data).items():
        assert value.isnan().tolist()[1], name
    assert not measured(NoiseScale(batches=8, rows=1), network, data)["noise/trace"][0].isnan()
