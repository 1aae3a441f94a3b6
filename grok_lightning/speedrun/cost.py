"""What one step of an entry costs, measured on real steps: rows, floating-point operations, parameters."""

import contextlib
import copy
import io
import signal
import sys
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.errors import UserError
from grok_lightning.fit import Fit
from grok_lightning.hardware.products import FULL
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config

STEPS = 2


@dataclass(frozen=True)
class Cost:
    """What an entry costs on a task.

    Attributes:
        parameters: Numbers that its network holds: parameters, frozen ones too, and buffers that are saved.
        training_rows: Rows of the training split.
        rows: Rows whose loss is taken in a step.
        flops: Floating-point operations of a step on a CPU, the optimizer's included: those of matrix products,
            convolutions and attention; elementwise ones are not counted.
    """

    parameters: int
    training_rows: int
    rows: int
    flops: int


def measure_cost(options: Nested, most_parameters: int) -> Cost:
    """Measure a step by training a few in a directory that is removed.

    Args:
        options: Resolved options of a run.
        most_parameters: The largest number that is accepted.

    Raises:
        UserError: It cannot be built, has too many parameters, or takes more rows in a step than there are to train on.
    """
    with TemporaryDirectory() as scratch:
        fit = Fit(_make_config(options, Path(scratch)))
        network, data = fit.cli.model.network, fit.cli.datamodule
        parameters, training_rows = (
            sum(tensor.numel() for tensor in network.state_dict().values()),
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
        rows, flops = _count(fit)
    if rows > training_rows:
        raise UserError(
            f"--model.optimizer takes the loss of {rows:,} rows in a step; by the speedrun's rules it may take that of "
            f"the {training_rows:,} training rows once"
        )
    return Cost(parameters, training_rows, rows, flops)


def _make_config(options: Nested, root: Path) -> Config:
    own = copy.deepcopy(options)
    own["trainer"] |= {"max_steps": STEPS, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    own["trainer"] |= {"callbacks": None, "default_root_dir": str(root), "precision": FULL}  # as many in any precision
    own["evaluation"] |= {"per_decade": 0, "every": 0, "stop_after": 0}
    own["model"]["compile"], own["measures"] = False, []
    return Config("fit", own | {"experiment": "cost", "run": "0", "seed_everything": 0}, root)


def _count(fit: Fit) -> tuple[int, int]:
    """Rows passed forward in a step, and its floating-point operations; evaluations are left out."""
    module, rows, flops = fit.cli.model, 0, 0
    train = module.training_step

    @wraps(train)
    def count(*arguments: Any) -> Any:  # of all steps up to the next evaluation, or of one
        nonlocal flops
        with FlopCounterMode(display=False) as counter:
            taken = train(*arguments)
        flops += counter.get_total_flops()
        return taken

    def note(network: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal rows
        if network.training and torch.is_grad_enabled():
            tokens_RBT: Tensor = arguments[0]
            rows += tokens_RBT.shape[1]

    module.training_step = count
    module.network.register_forward_pre_hook(note)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Diverged):
        try:
            fit.run()
        except StopRequested as stop:
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + stop.signum)
    return round(rows / STEPS), round(flops / STEPS)
