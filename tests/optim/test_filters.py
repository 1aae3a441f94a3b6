"""Gradient filters follow their formulas run by run, in any order, resumed or not."""

import io
from itertools import permutations

import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.optim import Clip, GradientNoise, GrokfastEMA, GrokfastMean, OrthogonalGradient
from grok_lightning.randomness import derive_keys, gaussian

SEEDS = (5, 0, 11)
SHAPES = {"matrix": (33, 7), "bias": (1, 33), "vector": (5,), "number": ()}
OPTIONS = {
    GrokfastEMA: {"alpha": [0.98, 0.5, 0.0], "strength": [2.0, 0.0, 5.0]},
    GrokfastMean: {"window": 4, "strength": [5.0, 0.0, 1.5]},
    OrthogonalGradient: {},
    Clip: {"norm": [1.0, 1e6, 14.0]},
    GradientNoise: {"std": [0.1, 0.0, 2.0], "decay": [0.0, 0.3, 0.55]},
}
every_filter = pytest.mark.parametrize("kind", OPTIONS)
every_filter_with_a_state = pytest.mark.parametrize("kind", [GrokfastEMA, GrokfastMean])


def random_stack(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, *shape, dtype=dtype, generator=generator) for name, shape in SHAPES.items()}


WEIGHTS = random_stack(0)


def gradients_of(step, dtype=torch.float64):
    return random_stack(1000 + step, dtype)


def of_run(run, stack):
    return {name: tensor[run : run + 1].clone() for name, tensor in stack.items()}


def options_of_run(run, options):
    return {name: value[run] if isinstance(value, list) else value for name, value in options.items()}


def train(filters, steps, weights=WEIGHTS, dtype=torch.float64, seeds=SEEDS, run=None):
    """What comes out at each step when gradients pass through filters in their order."""
    outputs = []
    for step in steps:
        new = gradients_of(step, dtype) if run is None else of_run(run, gradients_of(step, dtype))
        for one in filters:
            new = one(weights, new, step, seeds)
        outputs.append({name: tensor.clone() for name, tensor in new.items()})
    return outputs


def assert_same(outputs, expected, **tolerance):
    for output, right in zip(outputs, expected, strict=True):
        assert output.keys() == right.keys()
        for name in right:
            torch.testing.assert_close(
                output[name], right[name], **{"rtol": 0, "atol": 0, "equal_nan": True} | tolerance
            )


def ema_reference(history, weights, seed, alpha, strength):
    def slow(g):  # the average written out as a sum over all steps
        newer = sum((1 - alpha) * alpha ** (len(g) - 1 - step) * g[step] for step in range(1, len(g)))
        return alpha ** (len(g) - 1) * g[0] + newer

    return {name: history[-1][name] + strength * slow([past[name] for past in history]) for name in history[-1]}


def mean_reference(history, weights, seed, window, strength):
    if len(history) < window:
        return history[-1]
    means = {name: torch.stack([past[name] for past in history[-window:]]).mean(0) for name in history[-1]}
    return {name: history[-1][name] + strength * mean for name, mean in means.items()}


def orthogonal_reference(history, weights, seed):
    new = {}
    for name, gradient in history[-1].items():
        w, g = weights[name].reshape(-1, 1), gradient.reshape(-1, 1)
        if len(w) == 1:
            new[name] = torch.zeros_like(gradient)
            continue
        rest = g - w @ torch.linalg.lstsq(w, g).solution
        new[name] = (rest * g.norm() / rest.norm()).view_as(gradient)
    return new


def clip_reference(history, weights, seed, norm):
    leaves = {name: weights[name].clone().requires_grad_() for name in weights}
    for name, leaf in leaves.items():
        leaf.grad = history[-1][name].clone()
    torch.nn.utils.clip_grad_norm_(leaves.values(), norm)
    return {name: leaf.grad for name, leaf in leaves.items()}


def noise_reference(history, weights, seed, std, decay):
    step = len(history) - 1
    sigma = (std**2 / (1 + step) ** decay) ** 0.5
    return {
        name: gradient + sigma * gaussian(derive_keys([seed], "gradient noise", name), step, gradient)
        for name, gradient in history[-1].items()
    }


REFERENCES = {
    GrokfastEMA: ema_reference,
    GrokfastMean: mean_reference,
    OrthogonalGradient: orthogonal_reference,
    Clip: clip_reference,
    GradientNoise: noise_reference,
}


def by_hand(kind, run, inputs):
    options, weights = options_of_run(run, OPTIONS[kind]), of_run(run, WEIGHTS)
    return [REFERENCES[kind](inputs[: step + 1], weights, SEEDS[run], **options) for step in range(len(inputs))]


def assert_every_run_follows(kinds):
    outputs = train([kind(**OPTIONS[kind]) for kind in kinds], range(11))
    for run in range(3):
        expected = [of_run(run, gradients_of(step)) for step in range(11)]
        for kind in kinds:
            expected = by_hand(kind, run, expected)
        assert_same([of_run(run, output) for output in outputs], expected, rtol=1e-10, atol=1e-10)


@every_filter
def test_every_run_follows_the_formula(kind) -> None:
    assert_every_run_follows([kind])


@pytest.mark.parametrize(
    "kinds", list(permutations(OPTIONS, 2)), ids=lambda kinds: "-".join(kind.__name__ for kind in kinds)
)
def test_filters_are_applied_one_after_the_other_in_any_order(kinds) -> None:
    assert_every_run_follows(kinds)


def test_the_order_matters() -> None:
    def norms(filters):
        return torch.cat([part.reshape(3, -1) for part in train(filters, [0])[0].values()], dim=1).norm(dim=1)

    assert (norms([GradientNoise(1.0), Clip(0.5)]) <= 0.5).all()
    assert (norms([Clip(0.5), GradientNoise(1.0)]) > 5).all()


@pytest.mark.parametrize("listed", [False, True])
@every_filter
def test_a_run_of_a_stack_is_the_single_run_bit_for_bit(kind, listed) -> None:
    options = OPTIONS[kind] if listed else options_of_run(0, OPTIONS[kind])
    weights = random_stack(0, torch.float32)
    outputs = train([kind(**options)], range(6), weights, torch.float32)
    for run, seed in enumerate(SEEDS):
        alone = kind(**options_of_run(run, options))
        singles = train([alone], range(6), of_run(run, weights), torch.float32, (seed,), run)
        assert_same([of_run(run, output) for output in outputs], singles)


@pytest.mark.parametrize("saved_after", range(1, 10))
@every_filter
def test_a_resumed_filter_continues_bit_for_bit(kind, saved_after) -> None:
    undisturbed = train([kind(**OPTIONS[kind])], range(14), dtype=torch.float32)
    first = kind(**OPTIONS[kind])
    train([first], range(saved_after), dtype=torch.float32)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = kind(**OPTIONS[kind])
    second.load_state_dict(state)
    rest = range(saved_after, 14)
    assert_same(train([second], rest, dtype=torch.float32), undisturbed[saved_after:])
    third = kind(**OPTIONS[kind])
    third.load_state_dict(state)  # which the second has not changed
    assert_same(train([third], rest, dtype=torch.float32), undisturbed[saved_after:])


def leaves_of(state):
    return [leaf for part in state.values() for leaf in (leaves_of(part) if isinstance(part, dict) else [part])]


@every_filter_with_a_state
def test_a_state_is_plain_leads_with_runs_and_moves_to_the_device_of_the_gradients(kind) -> None:
    first = kind(**OPTIONS[kind])
    train([first], range(6))
    assert all(isinstance(leaf, int) or leaf.is_floating_point() for leaf in leaves_of(first.state_dict()))
    assert all(isinstance(leaf, int) or not leaf.dim() or len(leaf) == 3 for leaf in leaves_of(first.state_dict()))
    second = kind(**OPTIONS[kind])
    second.load_state_dict(first.state_dict())
    elsewhere = {name: gradient.to("meta") for name, gradient in gradients_of(6).items()}
    second(elsewhere, elsewhere, 6, SEEDS)
    tensors = [leaf for leaf in leaves_of(second.state_dict()) if not isinstance(leaf, int)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@every_filter
def test_a_filter_keeps_nothing_that_it_was_given_or_gave(kind) -> None:
    undisturbed = train([kind(**OPTIONS[kind])], range(8))
    one = kind(**OPTIONS[kind])
    weights = {name: weight.clone().requires_grad_() for name, weight in WEIGHTS.items()}
    for step, expected in enumerate(undisturbed):
        given = gradients_of(step)
        new = one(weights, dict(given), step, SEEDS)
        assert_same([new], [expected])
        for tensor in (*given.values(), *new.values()):
            tensor.fill_(torch.nan)
    assert_same([{name: weight.detach() for name, weight in weights.items()}], [WEIGHTS])


@every_filter
def test_a_run_that_is_not_finite_spoils_no_other(kind) -> None:
    spoiled, clean = kind(**OPTIONS[kind]), kind(**OPTIONS[kind])
    for step in range(8):
        gradients = gradients_of(step)
        ruined = {name: gradient.clone() for name, gradient in gradients.items()}
        ruined["matrix"][1, 3, 3] = [torch.nan, torch.inf][step % 2]
        one, other = (each(WEIGHTS, given, step, SEEDS) for each, given in ((spoiled, ruined), (clean, gradients)))
        assert not one["matrix"][1].isfinite().all()
        for run in (0, 2):
            assert_same([of_run(run, one)], [of_run(run, other)])


@every_filter_with_a_state
def test_a_tensor_whose_gradient_comes_later_has_its_own_beginning(kind) -> None:
    late, apart = kind(**OPTIONS[kind]), kind(**OPTIONS[kind])
    for step in range(9):
        gradients, own = gradients_of(step), {"bias": gradients_of(step)["bias"]}
        if step < 3:
            del gradients["bias"]
        new = late(WEIGHTS, gradients, step, SEEDS)
        if step >= 3:
            assert_same([{"bias": new["bias"]}], [apart(WEIGHTS, own, step, SEEDS)])


def test_the_window_is_off_until_it_is_full() -> None:
    outputs = train([GrokfastMean(window=7, strength=3.0)], range(7))
    assert_same(outputs[:6], [gradients_of(step) for step in range(6)])
    assert all((outputs[6][name] != gradient).all() for name, gradient in gradients_of(6).items())


def test_the_windows_mean_forgets_what_has_left() -> None:
    window, one = 5, GrokfastMean(window=5, strength=1.0)
    history = [gradient["matrix"] for gradient in (gradients_of(step, torch.float32) for step in range(400))]
    for step, gradient in enumerate(history):
        gradient *= 1e6 if step < 100 else 1e-3
        if step == 50:
            gradient[:] = torch.nan
        new = one({"w": gradient}, {"w": gradient.clone()}, step, SEEDS)["w"]
        if step >= window - 1:
            mean = torch.stack(history[step - window + 1 : step + 1]).double().mean(0)
            scale = float(max(past.abs().max() for past in history[step - window + 1 : step + 1]))
            torch.testing.assert_close(
                new, (gradient + mean).float(), rtol=0, atol=1e-6 * scale if scale == scale else 0, equal_nan=True
            )


def test_orthogonal_gradients_of_degenerate_tensors_are_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(3, 4, 5, generator=generator) for _ in range(2))
    zero = torch.zeros_like(weight)
    one = OrthogonalGradient()

    def new(w, g):
        return one({"w": w}, {"w": g}, 0, SEEDS)["w"]

    assert torch.equal(new(weight, zero), zero)
    assert torch.equal(new(zero, zero), zero)
    torch.testing.assert_close(new(zero, gradient), gradient)
    parallel = new(weight, 3 * weight)
    assert parallel.isfinite().all()
    assert (parallel.flatten(1).norm(dim=1) <= 3.001 * weight.flatten(1).norm(dim=1)).all()


def test_noise_is_normal_and_independent_between_runs_tensors_and_steps() -> None:
    std, count = 0.3, 40_000
    zeros = {name: torch.zeros(2, 200, 200) for name in ("one", "other")}
    samples = []
    for step in (0, 1):
        new = GradientNoise(std)(zeros, {name: zero.clone() for name, zero in zeros.items()}, step, (0, 1))
        samples += [tensor[run].flatten() / std for tensor in new.values() for run in range(2)]
    samples_SN = torch.stack(samples)
    assert (samples_SN.mean(1).abs() < 4 / count**0.5).all()
    products = samples_SN @ samples_SN.T / count
    torch.testing.assert_close(products, torch.eye(8), rtol=0, atol=5 * (2 / count) ** 0.5)
    assert (samples_SN.pow(4).mean(1) - 3).abs().max() < 5 * (96 / count) ** 0.5


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        *[(GrokfastEMA, "alpha", value) for value in (1.0, -0.1, float("nan"), [0.5, 1.5, 0.5])],
        *[(GrokfastEMA, "strength", value) for value in (-1.0, float("inf"), [1.0, float("nan"), 1.0])],
        *[(GrokfastMean, "window", value) for value in (0, -3)],
        *[(GrokfastMean, "strength", value) for value in (-1.0, float("nan"), float("inf"))],
        *[(OrthogonalGradient, "eps", value) for value in (0.0, -1e-30, 1e-50, float("nan"), float("inf"))],
        *[(Clip, "norm", value) for value in (0.0, -1.0, float("nan"), float("inf"), [1.0, 0.0, 1.0])],
        *[(GradientNoise, "std", value) for value in (-0.1, float("nan"), float("inf"))],
        *[(GradientNoise, "decay", value) for value in (-0.1, float("nan"), [float("inf")] * 3)],
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(kind, option, value) -> None:
    with pytest.raises(UserError, match=rf"^model\.filters: {kind.__name__}\.{option} is .*; it must be "):
        kind(**{option: value})


@every_filter
def test_lists_that_do_not_fit_the_stack_are_refused(kind) -> None:
    kind(**OPTIONS[kind]).check_stack(3)
    kind().check_stack(3)
    for option in (name for name, value in OPTIONS[kind].items() if isinstance(value, list)):
        with pytest.raises(
            UserError, match=rf"^model\.filters: {kind.__name__}\.{option} has 3 values for a stack of 2"
        ):
            kind(**{option: OPTIONS[kind][option]}).check_stack(2)
