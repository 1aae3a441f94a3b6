"""Options that may be ``auto``: what a run's own size and this machine make of them, before anything is built."""

import os
import sys
from dataclasses import dataclass
from itertools import pairwise
from math import factorial, prod
from typing import Any

import torch

from grok_lightning.errors import UserError, count_from_environment, show
from grok_lightning.hardware import products as machine
from grok_lightning.hardware.compilation import Graph, can_compile, compile_seconds, is_worth
from grok_lightning.hardware.process import cores
from grok_lightning.hardware.products import FULL, HALF, Product, device_type, fastest_threads, speed_of_half
from grok_lightning.options.classes import Nested, is_module, lookup, put
from grok_lightning.reading import Malformed, parse_json

AUTO = "auto"
PRECISION, COMPILE, THREADS = "trainer.precision", "model.compile", "threads"
CHOSEN_BY_PARENT = "GROK_LIGHTNING_CHOSEN"  # what auto came to, for the other processes of a fit
SLOWER = 1.1  # how many times slower bf16-mixed must be for its user to be told
ROWS = 512  # where a batch's size is not known before the data are
LARGEST = 2**16
OVERHEAD = 0.002  # seconds of an eager step around its products
GPU_STEPS = 300  # from which on compiling is worth its seconds on a GPU, where a step is launches
COMPILED = ("Transformer",)  # networks that compiling was measured to pay for


@dataclass(frozen=True)
class Work:
    """The matrix products of a training step, estimated from the options alone.

    Attributes:
        product: The largest.
        products: How many of that size the step's are worth together.
    """

    product: Product
    products: float


@dataclass(frozen=True)
class Precision:
    """A precision that ``auto`` came to.

    Attributes:
        name: As Lightning names it.
        speed: How many times as fast bf16-mixed was measured to be as 32-true, 0 where it cannot be computed; None
            where a sweep had chosen it before.
    """

    name: str
    speed: float | None

    def __str__(self) -> str:
        if self.speed is None:
            return f"{self.name} (auto, chosen when the sweep began)"
        if self.name == HALF:
            return f"{self.name} (auto: {self.speed:.1f} times as fast as {FULL} here)"
        if self.speed == 0:
            return f"{self.name} (auto: {HALF} cannot be computed here)"
        if self.speed < 1:
            return f"{self.name} (auto: {HALF} is {1 / self.speed:.1f} times slower here)"
        return f"{self.name} (auto: {HALF} is only {self.speed:.1f} times as fast here)"


def work_of(config: Nested) -> Work:
    """The matrix products of a step of one run.

    Args:
        config: A config in the short form, with the defaults of all classes; it need not be typed.
    """
    network = config["model"]["network"]
    kind = _kind(network)
    rows = _batch_rows(config["data"])
    width = _number(network.get("width"), 128)
    layers = _number(network.get("layers"), 1)
    if kind == "ResidualMLP":
        maps = [(width, _number(network.get("feedforward"), width))] * 2 * layers
    elif kind == "MLP":
        sizes = [*_hidden(network), _number(config["data"].get("modulus"), 128)]
        sizes = sizes if network.get("inputs") == "one-hot" and len(sizes) > 1 else [2 * width, *sizes]
        maps = list(pairwise(sizes))
    elif "hidden" in network:  # recurrent: a map of the input and one of the state at each token
        hidden = (_hidden(network) or [128])[0]
        maps = [(hidden, (4 if kind == "LSTM" else 3) * hidden)] * (2 * 4 * layers)
    else:
        rows *= 2  # of an equation's tokens most are computed once for many equations
        inner = _number(network.get("feedforward"), 4 * width)
        gates = 3 if network.get("activation") == "swiglu" else 2
        maps = ([(width, inner)] * gates + [(width, width)] * 4) * layers
    largest = max(maps, key=prod)
    return Work(Product(min(rows, LARGEST), *largest), sum(map(prod, maps)) / prod(largest))


def _kind(network: Nested) -> str:
    """The name of a network's class; of one that is not of this package, its whole path."""
    return str(network["class_path"]).removeprefix("grok_lightning.models.")


def _device(config: Nested) -> str:
    return device_type(str(lookup(config, "trainer.accelerator") or AUTO))


def _hidden(network: Nested) -> list[int]:
    hidden = network.get("hidden")
    return [_number(size, 128) for size in (hidden if isinstance(hidden, list | tuple) else [hidden])]


def _batch_rows(data: Nested) -> int:
    """Rows a step; those of a batch that is given in words are estimated from the table's size."""
    size = data.get("batch_size", ROWS)
    if size != "full":
        return _number(size, ROWS)
    if data.get("train_rows") is not None:
        return _number(data["train_rows"], ROWS)
    elements = factorial(min(_number(data["degree"], 5), 9)) if "degree" in data else _number(data.get("modulus"), 23)
    fraction = data.get("train_fraction")
    return max(1, int(elements**2 * (fraction if isinstance(fraction, float) else 0.5)))


def _number(value: Any, otherwise: int) -> int:
    """An integer of at least 1 that arithmetic of floats can take; another number for what is none."""
    try:
        return min(max(1, int(value)), 2**63)
    except (TypeError, ValueError, OverflowError):
        return otherwise


def choose_precision(config: Nested, runs: int = 1) -> Precision:
    """bf16-mixed where the device is clearly faster with it at a product of the model's own size, else 32-true.

    Args:
        config: A config in the short form with all defaults.
        runs: How many runs a GPU trains at once.
    """
    speed = _speed_of_half(config, runs)
    return Precision(HALF if speed >= machine.WORTH_HALF else FULL, speed)


def _speed_of_half(config: Nested, runs: int = 1) -> float:
    device = _device(config)
    return speed_of_half(work_of(config).product, device, 1 if device == "cpu" else runs)


def slowness_of_half(config: Nested) -> str | None:
    """What to tell whoever asks for bf16-mixed on a CPU that is slower with it; None where it is not."""
    if _device(config) != "cpu":
        return None
    speed = _speed_of_half(config)
    if not 0 < speed < 1 / SLOWER:
        return None
    return (
        f"--{PRECISION} {HALF} is {1 / speed:.1f} times slower than {FULL} on this CPU; "
        f"write --{PRECISION} {AUTO} (or {FULL})"
    )


def choose_threads(config: Nested) -> tuple[int, float]:
    """CPU threads of one run: what OMP_NUM_THREADS says, else as many as make its products clearly faster.

    Args:
        config: A resolved config.

    Returns:
        The number, and how many times as fast it was measured to be as one thread; 1 where nothing was measured.
    """
    trainer = config["trainer"]
    if os.environ.get("OMP_NUM_THREADS") or _device(config) != "cpu":
        return torch.get_num_threads(), 1.0
    devices = _number(trainer["devices"], 1)
    if devices > 1:  # the processes share the cores out
        return max(1, cores() // devices), 1.0
    precision = trainer["precision"] if trainer["precision"] == HALF else FULL
    return fastest_threads(work_of(config).product, precision, cores())


def graph_of(config: Nested) -> Graph:
    """What the time of compiling a resolved config's training step depends on."""
    model, trainer = config["model"], config["trainer"]
    network = model["network"]
    kind, layers = _kind(network), _number(network.get("layers"), 1)
    device = _device(config)
    return Graph(kind, layers, device, str(trainer["precision"]), model.get("weight_noise", 0) != 0)


def step_seconds(config: Nested) -> float:
    """An eager training step of one run on one CPU thread, estimated from its largest product, which is measured."""
    work, trainer = work_of(config), config["trainer"]
    small = work.product.measurable()
    precision = trainer["precision"] if trainer["precision"] == HALF else FULL
    seconds = machine.product_seconds(small, precision, _device(config))
    # what stands between the products takes about as long as they do
    return OVERHEAD + 2 * work.products * seconds * work.product.rows / small.rows


def choose_compile(config: Nested, steps: int, fits: int = 1) -> bool:
    """Whether the training step is to be compiled.

    Args:
        config: A resolved config, its precision chosen.
        steps: Training steps to come in each fit, at most.
        fits: How many fits of the same graph one process trains one after the other.
    """
    graph = graph_of(config)
    if is_module(config["model"]["network"]):  # nobody knows whether it can be compiled
        return False
    if graph.device == "cuda":
        return steps * fits >= GPU_STEPS and can_compile(graph.device)
    if graph.network not in COMPILED or steps < 1 or fits < 1 or not can_compile(graph.device):
        return False
    cold, warm = compile_seconds(graph, "cold"), compile_seconds(graph, "warm")
    return is_worth(steps, step_seconds(config), cold, fits, warm)


def choose(options: Nested, given: Nested, step: int, fresh: bool, auto_precision: bool) -> tuple[Nested, list[str]]:
    """Puts what ``auto`` is resolved to into the options of a fit, before anything is built.

    Args:
        options: All options, typed.
        given: Those that were given.
        step: The step that the fit starts from.
        fresh: Whether a new run begins.
        auto_precision: Whether the precision is to be chosen.

    Returns:
        Precision and compilation as chosen here or by the parent process, by option; and a line for each choice.

    Raises:
        UserError: If several processes would each choose a precision.
    """
    chosen = _chosen_by_parent()
    notes = []
    several = count_from_environment("WORLD_SIZE", 1) > 1
    if auto_precision:
        if PRECISION not in chosen:
            if several:
                raise UserError(
                    f"--{PRECISION} is {AUTO}; several processes need one to agree on: write {FULL} or {HALF}"
                )
            precision = choose_precision(options)
            chosen[PRECISION] = precision.name
            notes.append(f"precision: {precision}")
        put(options, PRECISION, chosen[PRECISION])
    elif lookup(given, PRECISION) == HALF and count_from_environment("LOCAL_RANK", 0) == 0:
        slow = slowness_of_half(options)
        if slow is not None:
            print(f"grok-lightning: {slow}", file=sys.stderr)
    if is_auto(options, THREADS):
        threads, speed = choose_threads(options)
        put(options, THREADS, threads)
        if speed > 1:
            notes.append(f"threads: {threads} (auto: {speed:.1f} times as fast as 1 here)")
    # on a GPU a new run compiles as if compile were auto, unless it is given
    unasked = fresh and lookup(given, COMPILE) is None and _device(options) == "cuda"
    if unasked or is_auto(options, COMPILE):
        if COMPILE not in chosen:
            chosen[COMPILE] = not several and choose_compile(options, int(options["trainer"]["max_steps"]) - step)
            notes += ["compile: true (auto: it pays within the steps to come)"] if chosen[COMPILE] else []
        put(options, COMPILE, chosen[COMPILE])
    return chosen, notes


def _chosen_by_parent() -> Nested:
    """What the process that started this one has chosen."""
    text = os.environ.get(CHOSEN_BY_PARENT, "{}")
    kinds = {PRECISION: str, COMPILE: bool}
    try:
        chosen = parse_json(text)
    except Malformed:
        chosen = None
    if not isinstance(chosen, dict) or any(type(value) is not kinds.get(key) for key, value in chosen.items()):
        raise UserError(f"the environment variable {CHOSEN_BY_PARENT} is {show(text)}; leave it to the workbench")
    return chosen


def is_auto(config: Nested, option: str) -> bool:
    """Whether an option of a config is ``auto``."""
    return bool(lookup(config, option) == AUTO)
