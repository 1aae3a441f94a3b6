"""Randomness as a pure function of (seed, purpose, counter), the same on every device and in every stack.

Nothing here reads or moves a global generator. That is what makes run ``r`` of a stack equal its single run, and a
resumed run equal the one that was never stopped. Code of others draws from the global generators; it is run inside
``seeded``, which sets them and puts them back.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def derive_key(seed: int, *purpose: str | int) -> int:
    """Derives a 32-bit key for one purpose of one seed.

    Args:
        seed: The run's seed, any integer.
        purpose: What the key is for, such as ``("dropout", 3)``; different purposes give unrelated keys.

    Returns:
        An integer in ``[0, 2**32)``.
    """
    text = repr((int(seed), *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def derive_keys(seeds: Sequence[int], *purpose: str | int) -> Tensor:
    """``derive_key`` for each run of a stack: an int64 tensor of shape (R,)."""
    return torch.tensor([derive_key(seed, *purpose) for seed in seeds], dtype=torch.int64)


@lru_cache(maxsize=256)
def purpose_keys(seeds: tuple[int, ...], purpose: str, device: torch.device) -> Tensor:
    """``derive_keys`` on a device, the same tensor at every call; it must not be changed."""
    return derive_keys(seeds, purpose).to(device)


def generator_states() -> tuple[Any, ...]:
    """The states of the global generators of torch (on the CPU), numpy and random, to be compared."""
    name, numbers, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().numpy().tobytes(), (name, np.asarray(numbers).tobytes(), *rest), random.getstate()


@contextmanager
def seeded(seed: int, *purpose: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds the global generators of torch, NumPy and Python for one purpose of one seed, and restores them at the end.

    Args:
        seed: The run's seed.
        purpose: As for ``derive_key``.
        device: Torch's generator of this (current) device is seeded too, if it has one of its own.
    """
    key, python, numpy = derive_key(seed, *purpose), random.getstate(), np.random.get_state()
    own = {"cuda": torch.cuda, "mps": torch.mps}.get("" if device is None else device.type)
    generators = [torch.random, *([own] if own is not None and own.is_available() else [])]
    states = [generator.get_rng_state() for generator in generators]
    try:
        torch.default_generator.manual_seed(key)
        for generator in generators[1:]:
            generator.manual_seed(key)
        np.random.seed(key)
        random.seed(key)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_rng_state(state)
        random.setstate(python)
        np.random.set_state(numpy)


def mix(x: Tensor) -> Tensor:
    """A bijective scramble of 32-bit integers held in int64, after the "lowbias32" family of hash functions.

    The two multipliers are kept below 2**31, so that no product overflows int64 and every device agrees.
    """
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x31848BAB) & _MASK
    return x ^ (x >> 16)


def hashed(key: Tensor, counter: Tensor) -> Tensor:
    """Random 32-bit integers, one for each counter under each key (broadcast against each other)."""
    return mix(mix((counter + 0x1E3779B1) & _MASK) ^ key)


def uniform(key: Tensor, counter: Tensor) -> Tensor:
    """Random float32 numbers in [0, 1), one for each counter under each key (broadcast against each other)."""
    return (hashed(key, counter) >> 8).to(torch.float32) * 2.0**-24


def permutations(keys_R: Tensor, length: int) -> Tensor:
    """One random order of ``range(length)`` for each key: an int64 tensor of shape (R, length)."""
    counter = torch.arange(length, device=keys_R.device)
    return torch.argsort(hashed(keys_R[:, None], counter), dim=1, stable=True)


def normal(shape: Sequence[int], seed: int, *purpose: str | int) -> Tensor:
    """A float32 tensor of standard normal numbers on the CPU, a pure function of seed and purpose."""
    generator = torch.Generator().manual_seed(derive_key(seed, *purpose))
    return torch.randn(*shape, generator=generator)


def gaussian(keys_R: Tensor, step: Tensor | int, like: Tensor) -> Tensor:
    """Standard normal numbers for one tensor of a stack at one step, drawn on its device (Box and Muller's method).

    Args:
        keys_R: Each run's key for this purpose and tensor, int64.
        step: The optimizer step; a tensor without dimensions, on the same device, where the host must not wait for it.
        like: A tensor that leads with R; the numbers have its shape, device and type.

    Returns:
        A pure function of (key, step, place in the run's part of the tensor), the same in every stack.
    """
    size = like[0].numel()
    half = (size + 1) // 2
    step_T = torch.as_tensor(step, dtype=torch.int64, device=like.device)
    keys = mix(mix(step_T) ^ keys_R.to(like.device))[:, None]
    counter = torch.arange(2 * half, device=like.device)
    first, second = uniform(keys, counter).split(half, dim=1)
    radius = torch.sqrt(-2 * torch.log1p(-first))
    angle = 2 * torch.pi * second
    numbers = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :size]
    return numbers.reshape(like.shape).to(like.dtype)


def gaussians(keys_R: Tensor, step: Tensor | int, likes: Sequence[Tensor], scales_RL: Tensor) -> list[Tensor]:
    """``gaussian`` for several tensors of one type in a single draw: some 50 operations, however many there are.

    Args:
        keys_R: Each run's key for this purpose, int64.
        step: The optimizer step.
        likes: L tensors that lead with R.
        scales_RL: Standard deviation in each run of each tensor's numbers, broadcastable to (R, L).

    Returns:
        Numbers in the shape of each. They depend on the tensors' order and sizes too, not only on their own place.
    """
    runs, sizes = len(likes[0]), [like[0].numel() for like in likes]
    numbers = gaussian(keys_R, step, likes[0].new_empty(()).expand(runs, sum(sizes)))
    scales = scales_RL.to(numbers).expand(runs, len(likes))
    numbers = numbers * torch.cat([scales[:, place, None].expand(-1, size) for place, size in enumerate(sizes)], dim=1)
    return [part.view(like.shape) for part, like in zip(numbers.split(sizes, dim=1), likes, strict=True)]
