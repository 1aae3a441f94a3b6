"""A filter remembers each run by itself, keeps nothing that others may change, and goes on bit for bit when resumed."""

import io

import pytest
import torch
from filtered_gradients import (
    OPTIONS,
    SEEDS,
    WEIGHTS,
    assert_same,
    every_filter,
    every_filter_with_a_state,
    gradients_of,
    of_run,
    options_of_run,
    random_stack,
    train,
)


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


@every_filter
def test_a_resumed_filter_continues_bit_for_bit(kind) -> None:
    for saved_after in range(1, 10):
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
    second(elsewhere, elsewhere, torch.tensor(6), SEEDS)
    tensors = [leaf for leaf in leaves_of(second.state_dict()) if not isinstance(leaf, int)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@every_filter
def test_a_filter_keeps_nothing_that_it_was_given_or_gave(kind) -> None:
    undisturbed = train([kind(**OPTIONS[kind])], range(8))
    one = kind(**OPTIONS[kind])
    weights = {name: weight.clone().requires_grad_() for name, weight in WEIGHTS.items()}
    for step, expected in enumerate(undisturbed):
        given = gradients_of(step)
        new = one(weights, dict(given), torch.tensor(step), SEEDS)
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
        pairs = ((spoiled, ruined), (clean, gradients))
        one, other = (each(WEIGHTS, given, torch.tensor(step), SEEDS) for each, given in pairs)
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
        new = late(WEIGHTS, gradients, torch.tensor(step), SEEDS)
        if step >= 3:
            assert_same([{"bias": new["bias"]}], [apart(WEIGHTS, own, torch.tensor(step), SEEDS)])
