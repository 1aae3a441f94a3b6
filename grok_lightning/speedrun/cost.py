"""What one step of an entry costs, measured on real steps: rows, floating-point operations, parameters."""

import contextlib
import copy
import io
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.errors import UserError
from grok_lightning.fit import Fit
from grok_lightning.hardware.products import FULL
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config
from grok_lightning.speedrun.rules import OPEN

STEPS = 2


@dataclass(frozen=True)
class Cost:
    """What an entry costs on a task.

    Attributes:
        parameters: Numbers that its network holds: parameters, frozen ones too, buffers, and tensors and arrays in
            attributes of its modules.
        training_rows: Rows of the training split.
        rows: Rows whose loss is taken in a step.
        flops: Floating-point operations of a step on a CPU, the optimizer's included: those of matrix products,
            convolutions and attention; elementwise ones are not counted.
    """

    parameters: int
    training_rows: int
    rows: int
    flops: int


def measure_cost(options: Nested, most_parameters: int, last_step: int = 0) -> Cost:
    """Measure a step by training a few in a directory that is removed.

    Args:
        options: Resolved options of a run.
        most_parameters: The largest number that is accepted.
        last_step: The last step that a run may take, which its scheduler must reach.

    Raises:
        UserError: It cannot be built, has too many parameters, takes the loss more than once in a step or of more rows
            than there are to train on, or has a scheduler that ends too soon.
    """
    with TemporaryDirectory() as scratch:
        fit = Fit(_make_config(options, Path(scratch)))
        network, data = fit.cli.model.network, fit.cli.datamodule
        parameters, training_rows = (
            count_numbers(network),
            data.counts("train")[0],
        )
        if parameters > most_parameters:
            raise UserError(
                f"--model.network has {parameters:,} parameters on {data.title}; by the speedrun's rules at most "
                f"{most_parameters:,} are accepted"
            )
        if data.batch_size > training_rows:
            raise UserError(
                f"--data.batch_size is {data.batch_size:,}, more than the {training_rows:,} training rows of "
                "one of the speedrun's tasks; full takes them all"
            )
        _check_schedule(fit, last_step)
        passes, rows, flops = _count(fit)
    if passes > STEPS:
        raise UserError(
            f"--model.optimizer takes the loss {passes / STEPS:g} times in a step; by the speedrun's rules a step is "
            "one update, from the loss of each of its rows once"
        )
    return Cost(parameters, training_rows, rows, flops)


def count_numbers(network: nn.Module) -> int:
    """Numbers that a network holds, each once: those of a checkpoint, and what modules of one's own hold besides."""
    held: list[Tensor | np.ndarray] = [*network.parameters(), *network.state_dict(keep_vars=True).values()]
    for part in network.modules():
        if not type(part).__module__.startswith(OPEN):
            held += _tensors_in(vars(part))
    counts = {id(each): each.size if isinstance(each, np.ndarray) else each.numel() for each in held}
    return sum(counts.values())


def _tensors_in(value: Any) -> Iterator[Tensor | np.ndarray]:
    if isinstance(value, Tensor | np.ndarray):
        yield value
    elif isinstance(value, dict):
        yield from _tensors_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _tensors_in(inner)


def _check_schedule(fit: Fit, last_step: int) -> None:
    """Refuses a scheduler whose number of steps is fixed and too small."""
    module = fit.cli.model
    optimizer = module.new_optimizer(list(module.network.named_parameters()))
    schedule = module.new_schedule(optimizer, module.warmup_factor)
    last = getattr(schedule, "total_steps", None)
    if isinstance(last, int) and last < last_step:
        raise UserError(
            f"--model.scheduler {type(schedule).__name__} ends at step {last:,}, and the speedrun goes on to step "
            f"{last_step:,}; use --after 0, or another scheduler"
        )


def _make_config(options: Nested, root: Path) -> Config:
    own = copy.deepcopy(options)
    own["trainer"] |= {"max_steps": STEPS, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    own["trainer"] |= {"callbacks": None, "default_root_dir": str(root), "precision": FULL}  # as many in any precision
    own["evaluation"] |= {"per_decade": 0, "every": 0, "stop_after": 0}
    own["model"]["compile"], own["measures"] = False, []
    return Config("fit", own | {"experiment": "cost", "run": "0", "seed_everything": 0}, root)


def _count(fit: Fit) -> tuple[int, int, int]:
    """Forward passes of all steps, the most rows of one, and a step's operations; evaluations are left out."""
    module, passes, rows, flops = fit.cli.model, 0, 0, 0
    train = module.training_step

    @wraps(train)
    def count(*arguments: Any) -> Any:  # of all steps up to the next evaluation, or of one
        nonlocal flops
        with FlopCounterMode(display=False) as counter:
            taken = train(*arguments)
        flops += counter.get_total_flops()
        return taken

    def note(network: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal passes, rows
        if network.training and torch.is_grad_enabled():
            tokens_RBT: Tensor = arguments[0]
            passes, rows = passes + 1, max(rows, tokens_RBT.shape[1])

    module.training_step = count
    module.network.register_forward_pre_hook(note)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Diverged):
        try:
            fit.run()
        except StopRequested as stop:
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + stop.signum)
    return passes, rows, round(flops / STEPS)
