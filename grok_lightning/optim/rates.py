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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state; the initial rates are the optimizer's own, which earlier versions had as 1."""
        rates = {"base_lrs": self.base_lrs, "_last_lr": [group["lr"] for group in self.optimizer.param_groups]}
        super().load_state_dict(state_dict | rates)


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
