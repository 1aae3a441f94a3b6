"""A run may end at a multiple of its grok step, alone and in a stack, and after it was resumed."""

from pathlib import Path

import pytest
from test_states import detection, evaluate, over, resume

from grok_lightning.callbacks.states import RunStates
from grok_lightning.errors import UserError


def test_each_run_is_watched_to_a_multiple_of_its_own_grok_step(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2, stop_at_grok_times=3, stop_after=1)
    assert found.states.may_stop_early()
    done = []
    for step, val in zip(range(0, 100, 10), [[0, 0], [1, 0], [1, 1], [0, 1], *[[0, 1]] * 6], strict=True):
        evaluate(found, step, [1.0, 1.0], [float(share) for share in val])
        done.append([found.states.is_done(0), found.states.is_done(1)])
    assert [each[0] for each in done].index(True) == 3, "3 times 10, though it is below the threshold again by then"
    assert [each[1] for each in done].index(True) == 6
    assert not RunStates([tmp_path], [{"train": 1, "val": 1}]).may_stop_early()


def test_an_evaluation_need_not_fall_on_the_multiple(tmp_path: Path) -> None:
    found = detection(tmp_path, stop_at_grok_times=2.5)
    for step, val in [(0, 0.0), (10, 1.0), (20, 1.0)]:
        evaluate(found, step, [1.0], [val])
        assert not found.states.is_done(0)
    evaluate(found, 30, [1.0], [1.0])
    assert found.states.is_done(0)


def test_a_run_that_never_grokked_is_not_over(tmp_path: Path) -> None:
    found = detection(tmp_path, stop_at_grok_times=1.5)
    for step in range(0, 200, 10):
        evaluate(found, step, [1.0], [0.5])
        assert not found.states.is_done(0)
    assert detection(tmp_path).states.is_done(0) is False, "without any evaluation"


def test_a_resumed_stack_has_the_members_that_it_had(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2, stop_at_grok_times=2)
    for step, val in [(0, [0.0, 0.0]), (10, [1.0, 0.0]), (20, [1.0, 0.0])]:
        evaluate(found, step, [1.0, 1.0], val)
    again = detection(tmp_path, runs=2, stop_at_grok_times=2)
    again.saved = found.states.rows
    resume(again, 25)
    assert over(again) == [True, False]
    evaluate(again, 30, [1.0, 1.0], [1.0, 1.0])
    assert again.states.milestones(1)["grok_step"] == 30
    assert not again.states.is_done(1)


@pytest.mark.parametrize("times", [-1, 0.5, 1, float("inf"), float("nan")])
def test_what_is_no_multiple_is_refused(tmp_path: Path, times: float) -> None:
    with pytest.raises(UserError, match=r"evaluation.stop_at_grok_times is .*; it must be 0, for never, or a number"):
        RunStates([tmp_path], [{"train": 1, "val": 1}], stop_at_grok_times=times)
