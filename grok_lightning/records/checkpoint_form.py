"""The form of a checkpoint: what is checked before torch reads it, and of what it has read."""

import copy
import io
import math
import pickletools
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

RUNS_KEY = "runs"  # in an optimizer's state: the states of each run's own optimizers
CONFIG_KEY = "grok_lightning_config"
FILTERS_KEY, KEPT_NORMS_KEY, DIVERGED_KEY = "gradient_filters", "kept_norms", "diverged_at"
INTERVENTIONS_KEY = "interventions"  # for each run, the steps at which they were made, -1 for those that were not
AVERAGED_KEY = "current_model_state"  # of a callback that averages: the weights that training goes on from
ROWS_KEY = "rows"  # for each run: a hash of the rows that it is trained on, where its options do not decide them
MOST_PICKLED = 16 * 2**20  # bytes of everything but the numbers of tensors
MOST_OPERATIONS = 2_000_000  # of the pickle; a model of 100 tensors with AdamW's state has 17,000
MOST_VALUES = 1_000_000
MOST_DEPTH = 60
LARGEST = 10**300  # of an integer: it must fit a float
LAST_STEP = 2**53

_ENTRY = re.compile(r"[^/\\\0]+(/[A-Za-z0-9_.-]+)+")  # the first part is the name of the file as it was saved
# what builds tensors and plain containers: nothing that makes room for more than the file holds
_BUILDERS = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor_v2|parameter)|torch (\w+Storage|Size|device)|"
    r"torch (float|bfloat|int|uint|complex|bool)\d*|builtins (set|complex)|_codecs encode"
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_VERSION = re.compile(r"[2-9]\.\d{1,5}(\.\d{1,5})?((a|b|rc|\.?post|\.?dev)\d{0,8})?", re.ASCII)


def check_archive(content: bytes, also: re.Pattern[str] | None = None) -> list[str]:
    """Refuses a file that torch could not read in about the memory that the file takes.

    Args:
        content: The file.
        also: Which globals a pickle may name, as ``module name``, beside what builds tensors and containers.

    Returns:
        Those that it names.

    Raises:
        ValueError: It is no zip archive of stored entries, is larger than the file when unpacked, or its pickle is too
            long or calls anything but what builds tensors and containers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename.lower() for entry in entries]  # torch finds entries whatever their case
            pickles = [entry for entry in entries if entry.filename.lower().endswith("/data.pkl")]
            if len(set(names)) < len(names) or not all(map(_ENTRY.fullmatch, names)) or len(pickles) != 1:
                raise ValueError("it is no archive of one checkpoint")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("its entries are compressed; stored ones are expected")
            if sum(max(entry.file_size, entry.compress_size) for entry in entries) > len(content):
                raise ValueError("its entries are larger than the file")
            if pickles[0].file_size > MOST_PICKLED:
                raise ValueError(f"it has {pickles[0].file_size:,} bytes beside tensors; at most {MOST_PICKLED:,}")
            return _check_pickle(archive.read(pickles[0]), also)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, UnicodeError) as error:
        raise ValueError(f"it is no archive of a checkpoint ({error})") from None


def _check_pickle(pickled: bytes, also: re.Pattern[str] | None) -> list[str]:
    named: list[str] = []
    for count, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if count > MOST_OPERATIONS:
            raise ValueError(f"it holds more than {MOST_OPERATIONS:,} parts")
        if operation.name == "GLOBAL" and also is not None and also.fullmatch(str(argument)):
            named.append(str(argument))
        elif operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4") or (
            operation.name == "GLOBAL" and not _BUILDERS.fullmatch(str(argument))
        ):
            called = str(argument or operation.name)[:80]
            raise ValueError(f"it holds more than plain data and was not run (it calls {called!r})")
    return named


def check_form(checkpoint: Any, size: int) -> None:
    """Checks the types of all that is read from a checkpoint, whatever its model.

    Args:
        checkpoint: What torch has read.
        size: Bytes of the file.

    Raises:
        ValueError: It is not of the form that a fit saves; the message names the key.
    """
    config = checkpoint.get(CONFIG_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(config, dict) or not {"data", "model", "trainer", "seed_everything"} <= config.keys():
        raise ValueError("it has no config of a run")
    check_plain(checkpoint, size)
    for key, (accepts, expected) in _KEYS.items():
        if key in checkpoint and not accepts(checkpoint[key]):
            raise ValueError(f"its {key} is {_show(checkpoint[key])}; expected: {expected}")
    missing = {"state_dict", "global_step"} - checkpoint.keys()
    if "optimizer_states" in checkpoint:  # it can be resumed
        missing |= {"loops", "lr_schedulers", "callbacks", "pytorch-lightning_version", "epoch"} - checkpoint.keys()
    if missing:
        raise ValueError(f"its {min(missing)} is missing")


def check_plain(checkpoint: dict[Any, Any], size: int) -> None:
    """Goes through everything once, without recursion.

    Args:
        checkpoint: What torch has read.
        size: Bytes of the file.

    Raises:
        ValueError: There is too much of it, it is nested too deeply, or its tensors are no plain ones or larger than
            the file.
    """
    waiting: list[tuple[Any, int, str]] = [(checkpoint, 0, "")]
    count = bytes_of_tensors = 0
    while waiting:
        value, depth, where = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            raise ValueError(f"its {where.split('.')[1]} is nested more than {MOST_DEPTH} deep")
        if isinstance(value, dict):
            if not all(isinstance(key, str | int) for key in value):
                raise ValueError(f"its {where[1:]} has a key that is neither text nor a number")
            waiting += [(inner, depth + 1, f"{where[:100]}.{str(key)[:50]}") for key, inner in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(inner, depth + 1, where) for inner in value]
        elif isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
                raise ValueError(f"its {where[1:]} is no plain tensor")
            bytes_of_tensors += value.numel() * value.element_size()
            if bytes_of_tensors > 4 * size:  # tied weights stand in the file once
                raise ValueError("its tensors are larger than the file")
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"its {where[1:]} is an integer of more than 300 digits")
        elif where.startswith(f".{CONFIG_KEY}.") and not isinstance(value, bool | int | float | str | None):
            raise ValueError(f"its {where[1:]} is {_show(value)}, which is no value of an option")


def find_foreign(value: Any, where: str) -> str | None:
    """What a state holds beside plain data, in words: a checkpoint with it could not be read. None if there is nothing.

    Args:
        value: A state.
        where: What to call it.
    """
    if isinstance(value, Mapping):
        odd = next((key for key in value if type(key) not in (str, int)), None)
        if odd is not None:
            return f"{where} has a key of type {type(odd).__name__}; text or integers are expected"
        if type(value) not in (dict, OrderedDict, Counter):
            return f"{where} is of type {type(value).__name__}; a dict is expected"
        return next((wrong for key, inner in value.items() if (wrong := find_foreign(inner, f"{where}.{key}"))), None)
    if type(value) in (list, tuple, set):
        return next((wrong for inner in value if (wrong := find_foreign(inner, where))), None)
    kinds = (
        bool,
        int,
        float,
        complex,
        str,
        NoneType,
        Tensor,
        torch.nn.Parameter,
        torch.dtype,
        torch.device,
        torch.Size,
    )
    if type(value) in kinds:
        return None
    return f"{where} is of type {type(value).__name__}; tensors, numbers, text, lists and dicts are expected"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LAST_STEP


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_step(value: Any) -> bool:
    """Whether a value is a step, or -1 for none."""
    return type(value) is int and -1 <= value < LAST_STEP


def _is_texts(value: Any, inner: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and inner(part) for key, part in value.items())


def _is_list(value: Any, inner: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(inner, value))


def _is_weights(value: Any) -> bool:
    if not _is_texts(value, lambda weight: isinstance(weight, Tensor)):
        return False
    floats = [weight.dtype for weight in value.values() if weight.is_floating_point()]
    return not value or (bool(floats) and set(floats) <= set(_FLOATS))


def _is_config(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and (not isinstance(inner, dict) or _is_config(inner)) for key, inner in value.items()
    )


def _are_callbacks(value: Any) -> bool:
    if not _is_texts(value, lambda state: isinstance(state, dict)):
        return False
    recorder = {"stack": 1} | value.get("Recorder", {"seconds": 0.0})
    seconds = recorder.get("seconds")
    return _is_finite(seconds) and seconds >= 0 and _is_count(recorder["stack"])


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    CONFIG_KEY: (_is_config, "a mapping of options"),
    "state_dict": (_is_weights, "weights by name, of 16 to 64 bits"),
    "global_step": (_is_count, "a step"),
    "epoch": (_is_count, "a number of epochs"),
    "pytorch-lightning_version": (
        lambda value: isinstance(value, str) and _VERSION.fullmatch(value.partition("+")[0]) is not None,
        "a version of Lightning, 2.0 or later",
    ),
    "loops": (lambda value: _is_texts(value, lambda loop: isinstance(loop, dict)), "the state of each loop"),
    "callbacks": (_are_callbacks, "the state of each callback, with the Recorder's seconds and stack"),
    "optimizer_states": (
        lambda value: _is_list(value, lambda state: isinstance(state, dict)) and len(value) == 1,
        "a list with the state of one optimizer",
    ),
    "lr_schedulers": (
        lambda value: _is_list(value, lambda state: isinstance(state, dict)) and len(value) == 1,
        "a list with the state of one schedule",
    ),
    KEPT_NORMS_KEY: (lambda value: _is_list(value, lambda norm: _is_finite(norm) and norm >= 0), "a list of norms"),
    DIVERGED_KEY: (
        lambda value: _is_list(value, _is_step),
        "a list of steps, or -1",
    ),
    INTERVENTIONS_KEY: (
        lambda value: _is_list(value, lambda steps: _is_list(steps, _is_step)),
        "for each run a list of steps, or -1",
    ),
    ROWS_KEY: (lambda value: _is_list(value, lambda rows: isinstance(rows, str)), "a list of texts"),
    FILTERS_KEY: (
        lambda value: _is_list(value, lambda state: isinstance(state, dict)),
        "a list with the state of each filter",
    ),
}


def check_state(checkpoint: dict[str, Any], module: Any, trainer: Any, training: bool) -> None:
    """Checks what Lightning, the module, its optimizer and its filters restore, on copies of them.

    Args:
        checkpoint: A checkpoint of the form of ``check_form``.
        module: The GrokModule that is to be restored.
        trainer: Its Trainer.
        training: Whether training goes on, so that everything is needed.

    Raises:
        ValueError: Something is missing, has another type or shape than theirs, or cannot be restored.
    """
    wrong = "its pytorch-lightning_version is missing" if "pytorch-lightning_version" not in checkpoint else None
    for name in _LOOPS if "loops" in checkpoint else ():
        wanted = getattr(trainer, name).state_dict()
        found = checkpoint["loops"].get(name)
        wrong = wrong or find_difference(wanted, found, f"loops.{name}", frozenset(wanted))
    if wrong is None and training:
        wrong = _find_other_step(checkpoint["loops"]["fit_loop"], checkpoint["global_step"])
    kept = module.weight_norm != "free" and (training or KEPT_NORMS_KEY in checkpoint)
    kept |= module.interventions.keeps_norms and bool(checkpoint.get(KEPT_NORMS_KEY))
    kept &= bool(checkpoint["global_step"] or checkpoint.get(KEPT_NORMS_KEY))  # initial norms are known from step 1 on
    for key, count in ((KEPT_NORMS_KEY, module.runs * kept), (DIVERGED_KEY, module.runs), (FILTERS_KEY, None)):
        count = len(module.filters) if count is None else count
        if len(checkpoint.get(key, [None] * count)) != count or (training and count and key not in checkpoint):
            wrong = wrong or f"its {key} is {_show(checkpoint.get(key))}; a list of {count} is expected"
    wrong = wrong or _find_unfit_interventions(checkpoint, module, training)
    wrong = wrong or _find_unfit_filter(checkpoint.get(FILTERS_KEY, []), module)
    if training:
        wrong = wrong or _find_unfit_optimizer(checkpoint, module)
    if wrong is not None:
        raise ValueError(wrong)


def _find_unfit_interventions(checkpoint: dict[str, Any], module: Any, training: bool) -> str | None:
    """What contradicts the interventions: each was made before the update of an earlier step, or not at all."""
    own, step = module.interventions, checkpoint["global_step"]
    made: list[list[int]] = checkpoint.get(INTERVENTIONS_KEY, [] if training and own else own.steps)
    counts = [len(steps) for steps in made]
    if counts != [len(own.list)] * module.runs or any(each >= step for steps in made for each in steps if each >= 0):
        expected = f"for each run a list of {len(own.list)} steps below {step}, or -1, is expected"
        return f"its {INTERVENTIONS_KEY} is {_show(made)}; {expected}"
    if training and own.keeps_norms and not checkpoint.get(KEPT_NORMS_KEY) and any(max(steps) >= 0 for steps in made):
        return f"its {KEPT_NORMS_KEY} is {_show(checkpoint.get(KEPT_NORMS_KEY))}; a list of {module.runs} is expected"
    return None


_LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
_BATCHES = "epoch_loop.batch_progress"
_UPDATES = ("epoch_loop.manual_optimization.optim_step_progress", "epoch_loop.automatic_optimization.optim_progress")
_OF_A_SCHEDULE = ("base_lrs", "last_epoch", "_step_count", "lr_lambdas")  # others depend on the version of torch


def _find_other_step(loop: dict[str, Any], step: int) -> str | None:
    """What contradicts a checkpoint's step: the loops count for themselves."""
    manual, automatic = (loop.get(name) for name in _UPDATES)
    counted = manual["total"]["completed"] if manual else 0
    counted = counted or (automatic["optimizer"]["step"]["total"]["completed"] if automatic else 0)
    if counted != step:
        return f"its loops have taken {counted} steps, but its global_step is {step}"
    for kind, counts in loop.get(_BATCHES, {}).items():
        for name, count in counts.items() if isinstance(counts, dict) else ():
            if abs(count - step) > 1:  # one may be under way
                return f"its loops.fit_loop.{_BATCHES}.{kind}.{name} is {count} at step {step}"
    return None


def _copy_weights(module: Any) -> dict[str, Tensor]:
    """Copies of a network's weights, with gradients of zeros."""
    copies = {name: weight.detach().clone().requires_grad_() for name, weight in module.network.named_parameters()}
    for weight in copies.values():
        weight.grad = torch.zeros_like(weight)
    return copies


def _find_unfit_filter(states: list[dict[str, Any]], module: Any) -> str | None:
    for place, (gradient_filter, state) in enumerate(zip(module.filters, states, strict=True)):
        fresh, weights = copy.deepcopy(gradient_filter), _copy_weights(module)

        def use(filter_: Any = fresh, weights: dict[str, Tensor] = weights) -> None:
            with torch.no_grad():
                gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
                filter_(weights, gradients, torch.zeros((), dtype=torch.int64), module.seeds)

        use()
        where = f"{FILTERS_KEY}.{place}"
        wrong = find_difference(fresh.state_dict(), state, where, frozenset(weights))
        wrong = wrong or _try(where, partial(fresh.load_state_dict, copy.deepcopy(state)), use)
        if wrong is not None:
            return wrong
    return None


def _find_unfit_optimizer(checkpoint: dict[str, Any], module: Any) -> str | None:
    optimizer = module.new_optimizer(_copy_weights(module).items())
    schedule = module.new_schedule(optimizer, partial(pow, 1.0))

    def step() -> None:
        optimizer.step(lambda: torch.zeros(()))

    step()
    (state,), where = checkpoint["optimizer_states"], "optimizer_states"
    wanted = optimizer.state_dict()
    own = RUNS_KEY in wanted  # whose form is that of classes which nothing is known of
    wrong = _find_other_runs(wanted[RUNS_KEY], state, where) if own else _find_other_parts(wanted, state, where)
    wrong = wrong or _try(where, lambda: optimizer.load_state_dict(copy.deepcopy(state)), step)
    return wrong or _find_unfit_schedule(checkpoint, schedule)


def _find_other_runs(wanted: list[Any], state: dict[str, Any], where: str) -> str | None:
    found = state.get(RUNS_KEY, [None])  # of earlier versions without, of a single run
    if not isinstance(found, list) or len(found) != len(wanted) or not _is_count(state.get("taken", 0)):
        return f"its {where} is {_show(found)}; a list of {len(wanted)} is expected"
    if RUNS_KEY not in state:
        groups = isinstance(state.get("param_groups"), list) and isinstance(state.get("state"), dict)
        return None if groups else f"its {where} has no state of an optimizer"
    for states, own in zip(found, wanted, strict=True):
        whole = isinstance(states, list) and len(states) == len(own)
        if not whole or not all(
            isinstance(one, dict)
            and all(isinstance(one.get(key), dict) for key in ("optimizer", "attributes"))
            and find_difference(
                [group["params"] for group in other["optimizer"]["param_groups"]],
                [group.get("params") for group in one["optimizer"].get("param_groups") or [{}]],
                where,
            )
            is None
            for one, other in zip(states, own, strict=True)
        ):
            return f"its {where} has other parameters"
    return None


def _find_other_parts(wanted: dict[str, Any], state: dict[str, Any], where: str) -> str | None:
    places = frozenset(range(len(wanted["state"]) + len(wanted["param_groups"][0]["params"])))
    wrong = find_difference(wanted["state"], state.get("state"), f"{where}.state", places, surplus=True)
    if wrong is None and not places.issuperset(state["state"]):
        wrong = f"its {where}.state has other parameters"
    groups = state.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(wanted["param_groups"]):
        wrong = wrong or f"its {where}.param_groups is {_show(groups)}; a list is expected"
    for own, group in zip(wanted["param_groups"], (groups or []) if wrong is None else [], strict=False):
        options = frozenset(own) - {"params", "lr", "initial_lr"}
        wrong = wrong or find_difference(own, group, f"{where}.param_groups", options, surplus=True)
        if wrong is None and group["params"] != own["params"]:
            wrong = f"its {where}.param_groups has other parameters"
    return wrong


def _find_unfit_schedule(checkpoint: dict[str, Any], schedule: LRScheduler) -> str | None:
    (found,), wanted = checkpoint["lr_schedulers"], schedule.state_dict()
    options = frozenset(wanted) - {*_OF_A_SCHEDULE}
    ours = isinstance(schedule, LambdaLR)
    wrong = find_difference(wanted, found, "lr_schedulers", options, surplus=True) if ours else None
    hidden = [key for key in found if key not in wanted and (hasattr(type(schedule), str(key)) or key == "optimizer")]
    if wrong is None and hidden:
        return f"its lr_schedulers has {hidden[0]!r}"
    if wrong is None and ours and (found["base_lrs"] != wanted["base_lrs"] or any(found["lr_lambdas"])):
        wrong = "its lr_schedulers are not those of its optimizer"
    if wrong is None and not ours:
        wrong = _try("lr_schedulers", lambda: schedule.load_state_dict(copy.deepcopy(found)), schedule.step)
    return wrong


def _try(where: str, *actions: Callable[[], Any]) -> str | None:
    """Says what is wrong with a state that cannot be restored: whatever a class makes of it counts."""
    try:
        for act in actions:
            act()
    except Exception as error:
        return f"its {where} cannot be restored ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
    return None


def find_difference(
    wanted: Any, found: Any, where: str, optional: Collection[Any] = (), surplus: bool = False
) -> str | None:
    """Compares a state with one of the same form.

    Args:
        wanted: A state as a fresh object saves it.
        found: The state in a checkpoint.
        where: Its key.
        optional: Keys that may be missing.
        surplus: Whether there may be keys beside the wanted ones; else only whole mappings may be.

    Returns:
        What is wrong with the first part that has another type or shape, is missing, or is one too many (in Lightning's
        states it would replace a method); None if there is no such part.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return f"its {where} is {_show(found)}; a mapping is expected"
        leaves = any(not isinstance(value, Mapping) for value in wanted.values())
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            if key not in found:
                wrong = None if key in optional else f"its {where}.{key} is missing"
            elif key in wanted:
                wrong = find_difference(wanted[key], found[key], f"{where}.{key}", optional, surplus)
            else:
                known = surplus or (not leaves and isinstance(found[key], Mapping))
                wrong = None if known else f"its {where} has {str(key)[:50]!r}, which is not known"
            if wrong is not None:
                return wrong
        return None
    if isinstance(wanted, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            return f"its {where} is {_show(found)}; a list of {len(wanted)} is expected"
        parts = (find_difference(*pair, where, optional, surplus) for pair in zip(wanted, found, strict=True))
        return next((part for part in parts if part is not None), None)
    if isinstance(wanted, Tensor):
        fits = isinstance(found, Tensor) and found.shape == wanted.shape
        fits = fits and found.is_floating_point() == wanted.is_floating_point()
        return None if fits else f"its {where} is {_show(found)}; a tensor of shape {tuple(wanted.shape)} is expected"
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        fits = _is_count(found) if isinstance(wanted, int) else _is_finite(found)
        return None if fits else f"its {where} is {_show(found)}; a number is expected"
    fits = wanted is None or type(found) is type(wanted)
    return None if fits else f"its {where} is {_show(found)}; {_show(wanted)} or the like is expected"


def _show(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
