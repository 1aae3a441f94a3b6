"""Learning rates over the steps: the schedule of warmup and cosine, and how any schedule is moved on by one step."""

from typing import Any, ClassVar

from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class RateSchedule(LambdaLR):
    """Multiplies learning rates by a factor of the step, of which a ``StackOptimizer`` is told exactly.

    A factor that stays as it is leaves ``group["lr"]`` alone, whatever a callback has set it to.
    """

    capturable: ClassVar[bool] = True

    def get_lr(self) -> list[Any]:
        for group, factor in zip(self.optimizer.param_groups, self.lr_lambdas, strict=True):
            if "factor" in group:
                group["factor"] = factor(self.last_epoch)
        return super().get_lr()

    def go_to(self, step: int) -> None:
        """Sets the learning rates of a step, if they differ from those of the step before."""
        if all(factor(step) == factor(step - 1) for factor in self.lr_lambdas):
            self.last_epoch, self._step_count = step, step + 1
        else:
            self.last_epoch, self._step_count = step - 1, step
            self.step()

    def state_dict(self) -> dict[str, Any]:
        """The state; of a ``StackOptimizer`` with factors in place of rates, as in the optimizer's own."""
        return super().state_dict() | {key: factors for key, (factors, _) in self._rates().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {key: rates for key, (_, rates) in self._rates().items()})

    def _rates(self) -> dict[str, tuple[list[float], list[Any]]]:
        """What a state holds as factors: these, and the rates."""
        groups = self.optimizer.param_groups
        if not all("factor" in group for group in groups):
            return {}
        base = ([1.0] * len(groups), self.base_lrs)
        return {
            "base_lrs": base,
            "_last_lr": ([group["factor"] for group in groups], [group["lr"] for group in groups]),
        }


def advance(schedule: LRScheduler, step: int) -> None:
    """Moves a schedule on after an update.

    Args:
        schedule: Of class ``RateSchedule``, or any that is stepped once after each update.
        step: The step whose update comes next.
    """
    if isinstance(schedule, RateSchedule):
        schedule.go_to(step)
    else:
        schedule.step()


def can_be_captured(schedule: LRScheduler) -> bool:
    """Whether a schedule changes nothing but the learning rates, which a captured step reads anew."""
    if isinstance(schedule, RateSchedule):
        return True
    ours = type(schedule).__module__ == "torch.optim.lr_scheduler"
    return ours and not getattr(schedule, "cycle_momentum", False)
