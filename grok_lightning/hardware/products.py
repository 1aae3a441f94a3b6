"""Measurements of this machine: the time of a matrix product by precision and by number of threads."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

FULL, HALF = "32-true", "bf16-mixed"
WORTH_HALF = 1.25  # how many times as fast bf16-mixed must be to be preferred to 32-true
WORTH_THREADS = 1.15  # how many times as fast more threads must be to be preferred to fewer
MOST_MULTIPLICATIONS = 2**25  # of a measured product; a larger one is measured with fewer rows
SECONDS = 0.015  # of repetitions of one measurement, two repetitions at least
REPETITIONS = 20
PATIENCE = 0.1
PYTHON_SECONDS = 0.0009  # what ``python_slowness`` calls 1: its loop on a core of a 2024 server


@dataclass(frozen=True)
class Product:
    """A matrix product of a network's linear map.

    Attributes:
        rows: Rows of the left matrix.
        inputs: Its columns.
        outputs: Columns of the right matrix.
    """

    rows: int
    inputs: int
    outputs: int

    @property
    def multiplications(self) -> int:
        """Multiplications of numbers in the product."""
        return self.rows * self.inputs * self.outputs

    def measurable(self) -> "Product":
        """The same product with as many rows as can be measured in milliseconds."""
        most = max(1, MOST_MULTIPLICATIONS // max(1, self.inputs * self.outputs))
        return Product(min(self.rows, most), self.inputs, self.outputs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets the number of CPU threads of torch, and restores the previous one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_type(accelerator: str) -> str:
    """Device type that a Trainer's ``accelerator`` selects on this machine: cpu, cuda, mps, or its own name."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(name for name, there in available.items() if there)
    if accelerator == "gpu":
        return next(name for name, there in available.items() if there or name == "mps")
    return accelerator


def product_seconds(product: Product, precision: str, device: str = "cpu", runs: int = 1, count: int = 1) -> float:
    """Median time of a product and its two gradients, with the casts that the precision needs.

    Args:
        product: The product; it is measured with the rows that it has.
        precision: ``32-true``, or ``bf16-mixed`` as autocast computes it.
        device: A type of device of torch.
        runs: Number of products computed at once, one for each run of a stack.
        count: CPU threads.

    Returns:
        Seconds; infinity where the device cannot compute it.
    """
    try:
        with threads(count), torch.enable_grad():
            return _product_seconds(product, precision == HALF, torch.device(device), runs)
    except (RuntimeError, NotImplementedError, AssertionError):
        return float("inf")


def _product_seconds(product: Product, half: bool, device: torch.device, runs: int) -> float:
    def matrices(rows: int, columns: int) -> torch.Tensor:
        numbers = torch.linspace(-1, 1, runs * rows * columns, device=device)  # no global generator is moved
        return numbers.view(runs, rows, columns).requires_grad_()

    left, right = matrices(product.rows, product.inputs), matrices(product.inputs, product.outputs)

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out = torch.bmm(left, right)
        torch.autograd.grad(out, (left, right), out.detach())
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        return time.perf_counter() - began

    first = step()  # it loads kernels
    if first > PATIENCE:  # emulated by the CPU: one measurement is enough
        return first
    end = time.perf_counter() + SECONDS
    seconds = [step(), step()]
    while len(seconds) < REPETITIONS and time.perf_counter() < end:
        seconds.append(step())
    return median(seconds)


def speed_of_half(product: Product, device: str = "cpu", runs: int = 1) -> float:
    """How many times as fast bf16-mixed computes a product as 32-true, on one CPU thread.

    The two are measured in turn, twice, so that other load on the machine meets both.

    Args:
        product: The product.
        device: A type of device of torch.
        runs: Number of products computed at once.

    Returns:
        The ratio of the times; 0 where bf16-mixed cannot be computed.
    """
    small = product.measurable()
    seconds = [[product_seconds(small, precision, device, runs) for precision in (FULL, HALF)] for _ in range(2)]
    full, half = (min(column) for column in zip(*seconds, strict=True))
    return full / half if full < float("inf") else 0.0


def fastest_threads(product: Product, precision: str, most: int) -> tuple[int, float]:
    """The number of CPU threads with which a product is computed fastest.

    Candidates are the powers of two, and ``most``; more threads are taken only where they are clearly faster. The
    median is compared and not the least: threads that wait for each other on a busy machine are slow now and then.

    Args:
        product: The product.
        precision: In which it is computed.
        most: Threads that may be used.

    Returns:
        The number, and how many times as fast it is as one thread.
    """
    small = product.measurable()
    first = best = product_seconds(small, precision)
    chosen, count = 1, 2
    while chosen < most and count < 2 * most:
        count = min(count, most)
        seconds = product_seconds(small, precision, count=count)
        if seconds * WORTH_THREADS > best:
            break
        chosen, best, count = count, seconds, 2 * count
    return chosen, first / best


def python_slowness() -> float:
    """How many times as long Python takes here as on the machine that estimates of compilation times come from."""

    def loop() -> float:
        began = time.perf_counter()
        sum(number % 7 for number in range(20_000))
        return time.perf_counter() - began

    return median(loop() for _ in range(5)) / PYTHON_SECONDS
