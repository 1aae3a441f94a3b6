"""Refusals before anything is built: options that the workbench decides, and those that contradict a checkpoint."""

import copy
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.data.batches import Chunk
from grok_lightning.errors import UserError, refusing, show
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested, class_of, find_object, import_object, listed, lookup
from grok_lightning.options.config import SavedRun
from grok_lightning.reading import Malformed
from grok_lightning.records.checkpoint_form import find_foreign
from grok_lightning.records.defaults import known_then
from grok_lightning.records.record import CALLBACKS, STOPPED, flatten, read_metrics, read_result, standing
from grok_lightning.training.separate import RunOptimizers

PRECISIONS = ("auto", "32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed")
_IN_STEPS = "a budget is counted in steps: use trainer.max_steps"
_SCHEDULE = "use evaluation.every and evaluation.per_decade"
_WHOLE = "evaluation covers whole splits"
_PER_RUN = "one run's NaN would reach all the others of a stack"
OWNED: dict[str, tuple[tuple[Any, ...], str]] = {
    # options of the Trainer that this workbench decides itself: values without effect, and what to do instead
    "gradient_clip_val": ((None, 0, 0.0), _PER_RUN),
    "gradient_clip_algorithm": ((None,), _PER_RUN),
    "accumulate_grad_batches": ((1,), "use data.batch_size"),
    "max_epochs": ((None, -1), _IN_STEPS),
    "min_epochs": ((None,), _IN_STEPS),
    "min_steps": ((None,), _IN_STEPS),
    "val_check_interval": ((1,), _SCHEDULE),
    "check_val_every_n_epoch": ((None,), _SCHEDULE),
    "num_sanity_val_steps": ((-1,), "the evaluation at step 0 takes its place"),
    "limit_train_batches": ((None,), "use data.train_fraction"),
    "limit_val_batches": ((None,), _WHOLE),
    "limit_test_batches": ((None,), _WHOLE),
    "limit_predict_batches": ((None,), _WHOLE),
    "overfit_batches": ((0, 0.0), "use data.train_fraction"),
    "max_time": ((None,), "a run that a clock ends cannot be repeated; use trainer.max_steps"),
    "fast_dev_run": ((False,), "use a small trainer.max_steps"),
    "reload_dataloaders_every_n_epochs": ((0,), "the data stay on the device"),
    "enable_checkpointing": ((True,), "use checkpoint.keep"),
    "barebones": ((False,), "evaluations and checkpoints are what a run is for"),
}
_WANTS_FUNCTION = "a function of the step is no value of an option; write a scheduler class of your own and name that"
_WANTS_OBJECTS = "schedulers that are built are no values of an option; write a class of your own that builds them"
REFUSED_SCHEDULERS = {
    "LambdaLR": _WANTS_FUNCTION,
    "MultiplicativeLR": _WANTS_FUNCTION,
    "SequentialLR": _WANTS_OBJECTS,
    "ChainedScheduler": _WANTS_OBJECTS,
}
ENDS = ("evaluation.stop_after", "evaluation.stop_at_grok_times")  # of a run that has grokked
FREE_ON_RESUME = ("trainer", "model.compile", "threads", "checkpoint", "overwrite", "split", "output")


def refuse_at_once(wanted: Nested) -> None:
    """Refuses values that are wrong whatever their type, with a clearer message than the check of types gives.

    Raises:
        UserError: If the seed is no integer, the precision unknown, the number of threads below 1, or the scheduler one
            that options cannot describe.
    """
    seed, precision = wanted.get("seed_everything", 0), (wanted.get("trainer") or {}).get("precision")
    if isinstance(seed, bool) or not re.fullmatch(r"-?[0-9]+", str(seed)):
        raise UserError(f"--seed_everything is {show(seed)}; expected: an integer")
    if precision is not None and str(precision) not in PRECISIONS:
        raise UserError(f"--trainer.precision is {show(precision)}; expected: {', '.join(PRECISIONS)}")
    threads = str(wanted.get("threads", "auto"))
    if re.fullmatch(r"-[0-9]+|0+", threads):
        raise UserError(f"--threads is {threads}; it must be at least 1, or auto")
    path = class_of("model.scheduler", lookup(wanted, "model.scheduler") or {})
    name = path.removeprefix("torch.optim.lr_scheduler.")
    reason = REFUSED_SCHEDULERS.get(name)
    if path and issubclass(import_object(path), ReduceLROnPlateau):
        reason = "it is driven by a measured value, schedulers here by the step alone; a callback can set group['lr']"
    if reason is not None:
        raise UserError(f"--model.scheduler is {name}, which is not available: {reason}")


def refuse_trainer_options(given: Nested, resolved: Nested, subcommand: str) -> None:
    """Refuses options of the Trainer that are decided here or not available.

    Args:
        given: The Trainer's options as the user gave them.
        resolved: All of them, typed.
        subcommand: fit, validate, test or predict.

    Raises:
        UserError: For the first such option.
    """
    for name, (harmless, reason) in OWNED.items():
        same = [value for value in harmless if type(value) is type(resolved[name]) and value == resolved[name]]
        if name in given and not same:
            raise UserError(f"--trainer.{name} is {show(given[name])} which is not accepted here; {reason}")
    on_gpu = torch.cuda.is_available() and resolved["accelerator"] in ("auto", "gpu", "cuda")
    if resolved["precision"] == "16-mixed" and not on_gpu:
        raise UserError("--trainer.precision is '16-mixed', which needs a GPU; on a CPU use bf16-mixed")
    if subcommand != "fit" and resolved["devices"] not in (1, "1"):
        raise UserError(f"--trainer.devices is {show(resolved['devices'])}; {subcommand} runs on 1 device")
    if type(resolved["max_steps"]) is not int or resolved["max_steps"] < 1:
        raise UserError(f"--trainer.max_steps is {resolved['max_steps']}; it must be at least 1")


def refuse_float64_on_mps(resolved: Nested) -> None:
    """Refuses float64 on MPS, which does not support it.

    Args:
        resolved: All options, typed.

    Raises:
        UserError: If an option asks for 64 bits and the accelerator is, or resolves to, MPS.
    """
    accelerator = resolved["trainer"]["accelerator"]
    if accelerator != "mps" and not (accelerator in ("auto", "gpu") and MPSAccelerator.is_available()):
        return
    for option, wide, narrow in (("trainer.precision", "64-true", "32-true"), ("model.loss_precision", 64, 32)):
        if lookup(resolved, option) == wide:
            raise UserError(
                f"--{option} is {wide!r}, which MPS does not support; use {narrow}, or --trainer.accelerator cpu"
            )


def refuse_changes(command: str, saved: SavedRun, options: Nested, recorded: bool) -> None:
    """Refuses options that contradict the checkpoint a command begins with.

    Args:
        command: fit, validate, test or predict; what is measured binds only fit, whose record goes on.
        saved: The checkpoint.
        options: The options asked for.
        recorded: Whether the run has its ``result.json``; a fit at the end of the budget only writes that.

    Raises:
        UserError: If an option that changes results differs from the checkpoint's, or a fit has nothing left to do.
    """
    # an option that the checkpoint's version did not have was as it was then
    before, after = known_then(flatten(saved.config)), flatten(options)
    path = str(saved.path)
    free = FREE_ON_RESUME if command == "fit" else (*FREE_ON_RESUME, "measures", "init_from", "init_parts")
    for key in {**flatten(saved.config), **after}:
        fixed = not f"{key}.".startswith(tuple(f"{name}." for name in free))
        fixed |= command == "fit" and key == "trainer.precision"  # which a checkpoint always holds, auto as what it was
        fixed &= not (key == "data.splits" and saved.rows is not None)  # the rows are compared, not where they lie
        fixed &= not (command == "fit" and key in ENDS and _ends_later(before.get(key), after.get(key)))
        if fixed and before.get(key) != after.get(key):
            own, saved_value = show(after.get(key)), show(before.get(key))
            raise UserError(
                f"--{key} is {own}, but the checkpoint {path!r} was trained with {saved_value}; "
                "leave the option out or start a fresh run"
            )
    if command == "fit" and saved.step:
        _refuse_other_averaging(saved, options)
    old, budget = before.get("trainer.max_steps"), after["trainer.max_steps"]
    if command == "fit" and after["model.schedule"] == "cosine" and old != budget:
        raise UserError(
            f"--trainer.max_steps is {budget}, but model.schedule cosine of the checkpoint {path!r} falls to 0 "
            f"at step {old}; leave the option out or start a fresh run"
        )
    if command == "fit" and (saved.step > budget or (saved.step == budget and recorded)):
        raise UserError(
            f"--trainer.max_steps is {budget}, but the checkpoint {path!r} is already at step {saved.step}; "
            "give a larger one to continue"
        )


def refuse_end(saved: SavedRun, options: Nested, result: Path) -> None:
    """Refuses to resume, as it is, a run that is over because it had stood at the threshold for long enough.

    Args:
        saved: The checkpoint.
        options: The options asked for.
        result: The run's record.

    Raises:
        UserError: If it is that, and the checkpoint is of its last step.
    """
    try:
        found = read_result(result)
    except (OSError, Malformed):
        return
    before, after = known_then(flatten(saved.config)), flatten(options)
    same = [key for key in ENDS if before.get(key) and before.get(key) == after.get(key)]
    by = next((key for key in same if _has_ended(key, before[key], found, result.parent)), None)
    if by is not None and found.get("status") == STOPPED and found.get("steps") == saved.step:
        raise UserError(
            f"the run of the checkpoint {str(saved.path)!r} was ended at step {saved.step} by {by} {before[by]}; "
            f"--{by} 0 trains it to the end of its budget"
        )


def _has_ended(option: str, number: float, found: Mapping[str, Any], directory: Path) -> bool:
    """Whether a run stands where an option of ``ENDS`` ends it; if not, something else has stopped it, a callback."""
    try:
        if option == "evaluation.stop_after":
            return standing(read_metrics(directory), found["counts"], found["threshold"]) >= number
        return bool(found["grok_step"] is not None and found["steps"] >= number * max(found["grok_step"], 1))
    except (OSError, Malformed, KeyError, TypeError):
        return True


def refuse_shorter(saved: SavedRun, budget: int, directory: Path) -> None:
    """Refuses to go back to an earlier checkpoint of a run for less than the run has already.

    Args:
        saved: The checkpoint.
        budget: The steps asked for.
        directory: Of the run's record.

    Raises:
        UserError: If evaluations beyond the budget would be lost, with the checkpoints of these steps.
    """
    try:
        last = int(max(row["step"] for row in read_metrics(directory)))
    except (OSError, Malformed, ValueError):
        return
    if budget < last:
        raise UserError(
            f"--trainer.max_steps is {budget}, but the run of the checkpoint {str(saved.path)!r} has evaluations up to "
            f"step {last}, which would be lost; give {last} or more, or another --trainer.default_root_dir"
        )


def _ends_later(before: Any, after: Any) -> bool:
    """Whether a run ends later, or never, by a number of evaluations or a multiple of its grok step; 0: never."""
    return before is not None and after is not None and bool(before) and (not after or after >= before)


def _refuse_other_averaging(saved: SavedRun, options: Nested) -> None:
    """Refuses to begin, leave out or change an averaging of the weights on the way: what is evaluated would change."""
    averaging = [
        item
        for item in listed(options, CALLBACKS)
        if issubclass(find_object(CALLBACKS, item["class_path"]), WeightAveraging)
    ]
    if bool(averaging) == saved.averaged and all(item in listed(saved.config, CALLBACKS) for item in averaging):
        return
    trained = "averages" if saved.averaged else "does not average"
    asked = show(averaging[0]) if averaging else "no averaging"
    do = "leave the option out" if averaging else f"give --{CALLBACKS} with its averaging again"
    raise UserError(
        f"--{CALLBACKS} has {asked}, but the run of the checkpoint {str(saved.path)!r} {trained} its weights"
        f"{' otherwise' if averaging and saved.averaged else ''}; {do}, or start a fresh run"
    )


def refuse_other_rows(data: Any, saved: SavedRun | None) -> None:
    """Refuses rows that are not those of the checkpoint, and rows that could not be had again on resume.

    Args:
        data: The DataModule.
        saved: The checkpoint that the command begins with, if any.

    Raises:
        UserError: If that is so.
    """
    if saved is None:
        data.check_repeatable()
    elif saved.rows is not None and saved.rows != data.fingerprints:
        name = getattr(data, "name", None) or type(data).__name__
        raise UserError(
            f"ckpt_path {str(saved.path)!r} was trained on other rows than {name} gives now; give it the same data, or "
            "start a fresh run"
        )
    data.identity()  # read while nothing has been written


def refuse_nothing_to_learn(module: Any, data: Any) -> None:
    """Refuses a ``model.mask_first_n`` that leaves an equation without a token to count.

    Args:
        module: The GrokModule.
        data: Its DataModule.

    Raises:
        UserError: If an equation of the train or val split has none.
    """
    for split in ("train", "val") if module.mask_first_n else ():
        batch = data.chunk(Chunk(split, 0, max(data.counts(split))), torch.device("cpu"))
        targets = module.targets(batch.tokens_RBT, batch.targets_RBA)
        if bool((targets == NOTHING_TO_ANSWER).flatten(1).all(1).any()):
            raise UserError(
                f"model.mask_first_n is {module.mask_first_n}, which leaves nothing of the {split} split to count"
            )


def refuse_optimizer(module: GrokModule, budget: int = 0) -> None:
    """Takes steps of a module's optimizer and scheduler on copies of its weights: bad options are refused early.

    Args:
        module: The module.
        budget: Its steps; 0 where it is not trained.

    Raises:
        UserError: If optimizer or scheduler does not accept its options, would keep what no checkpoint can hold, or the
            scheduler ends before the budget.
    """
    named = dict(module.network.named_parameters())
    weights = {name: weight.detach().clone() for name, weight in named.items()}
    frozen = {name for name, weight in named.items() if not weight.requires_grad}
    # torch.optim refuses by many kinds of exceptions
    optimizer = refusing(lambda: _build_on(module, weights), "model.optimizer: ", within="torch.optim")
    module.interventions.check_optimizer(_build_on(module, weights))
    if any(group.get("lr") is None for group in optimizer.param_groups):
        raise UserError(
            f"model.optimizer {type(optimizer).__name__} has no learning rate in its parameter groups for warmup and "
            "schedules to set; take another optimizer"
        )
    schedule = refusing(
        lambda: module.new_schedule(optimizer, module.warmup_factor), "model.scheduler: ", within="torch.optim"
    )
    refusing(lambda: _take_trial_step(optimizer, weights, 0, frozen), "model.optimizer: ", within="torch.optim")
    refusing(schedule.step, "model.scheduler: ", within="torch.optim")
    last = getattr(schedule, "total_steps", None)
    if isinstance(last, int) and last < budget:
        raise UserError(
            f"model.scheduler {type(schedule).__name__} ends at step {last}, but trainer.max_steps is {budget}; "
            "make them agree"
        )
    for option, state in (("optimizer", optimizer.state_dict()), ("scheduler", schedule.state_dict())):
        foreign = find_foreign(state, option)
        if foreign is not None:
            raise UserError(f"model.{option}: its state cannot be saved: {foreign}")
    if isinstance(optimizer, RunOptimizers):
        _refuse_forgetful(module, optimizer, weights, frozen)


def _build_on(module: GrokModule, weights: dict[str, Tensor]) -> Optimizer:
    return module.new_optimizer([(name, weight.requires_grad_()) for name, weight in weights.items()])


def _take_trial_step(optimizer: Optimizer, weights: dict[str, Tensor], step: int, frozen: Collection[str]) -> None:
    """A step of made-up gradients, different at each step; of zeros at the first, and none of frozen weights."""
    for weight in (weight for name, weight in weights.items() if name not in frozen):
        numbers = torch.arange(weight.numel(), device=weight.device) + step
        weight.grad = (0.01 * min(step, 1) * torch.sin(numbers)).to(weight).view_as(weight)
    optimizer.step(lambda: torch.zeros(()))  # type: ignore[arg-type, return-value]


def _refuse_forgetful(
    module: GrokModule, optimizer: RunOptimizers, weights: dict[str, Tensor], frozen: Collection[str]
) -> None:
    """Refuses an optimizer that a checkpoint does not restore exactly, after comparing the step that follows.

    Args:
        module: The module.
        optimizer: Its optimizer over ``weights``, which has taken a step.
        weights: Copies of its weights.
        frozen: Names of those that have no gradient.
    """
    for step in (1, 2):
        _take_trial_step(optimizer, weights, step, frozen)
    again = {name: weight.detach().clone() for name, weight in weights.items()}
    resumed = _build_on(module, again)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _take_trial_step(optimizer, weights, 3, frozen)
    _take_trial_step(resumed, again, 3, frozen)
    if not all(torch.equal(weight.nan_to_num(), again[name].nan_to_num()) for name, weight in weights.items()):
        raise UserError(
            f"model.optimizer {optimizer.name} cannot be resumed exactly: its state_dict lacks something that it "
            "remembers; keep that in self.state, in param_groups, or in attributes that are numbers, tensors or lists"
        )
