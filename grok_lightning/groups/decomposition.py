"""Irreducible representations of any finite group, found numerically."""

from collections import Counter
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.groups.group import FiniteGroup

Complex = NDArray[np.complex128]
TOLERANCE = 1e-8
TRIES = 5


def decompose_regular(group: FiniteGroup) -> list[Complex]:
    """The matrices of all irreducible representations, up to equivalence, each (n, d, d) complex and unitary.

    A random Hermitian function c, c(1/g) the conjugate of c(g), makes an operator A f(g) = sum over h of c(h / g) f(h),
    with h / g for g^-1 h, that commutes with the left regular representation. With probability 1 each eigenspace of A
    is one irreducible subrepresentation, d equivalent ones for one of dimension d. J. Dixon, "Computing irreducible
    representations of groups", 1970, has the idea; n^3 steps. Drawn anew where the result fails its test: dimensions
    whose squares add up to n, and products. In the order of dimensions, then of characters, the trivial one first.

    Args:
        group: The group.
    """
    size, table, inverses = len(group), group.table_GG, group.inverses_G
    for seed in range(TRIES):
        generator = np.random.default_rng(seed)
        function = generator.normal(size=size) + 1j * generator.normal(size=size)
        function = function + function[inverses].conj()
        found: dict[bytes, Complex] = {}
        for space in _eigenspaces(function[table[inverses]]):
            # f moved by g is f(h / g); its character tells whether an equivalent one is there
            characters = np.array([np.vdot(space, space[moved]) for moved in table[inverses]])
            key = (np.round(characters, 4) + (0.0 + 0.0j)).tobytes()
            if key not in found:
                found[key] = np.stack([space.conj().T @ space[moved] for moved in table[inverses]])
        irreps = sorted(found.values(), key=_order)
        if sum(each.shape[1] ** 2 for each in irreps) == size and all(_is_homomorphism(each, group) for each in irreps):
            return irreps
    raise AssertionError(f"a group of {size} elements was not decomposed")


def split(matrices_GDD: NDArray[Any]) -> list[Complex]:
    """The irreducible parts of a unitary representation, by a random Hermitian matrix averaged over the group.

    Args:
        matrices_GDD: The matrix of each element.
    """
    generator = np.random.default_rng(0)
    shape = matrices_GDD.shape[1:]
    drawn = generator.normal(size=shape) + 1j * generator.normal(size=shape)
    adjoints = matrices_GDD.conj().transpose(0, 2, 1)
    averaged = (matrices_GDD @ (drawn + drawn.conj().T) @ adjoints).mean(0)
    parts = [space.conj().T @ matrices_GDD @ space for space in _eigenspaces(averaged)]
    return sorted(parts, key=_order)


def name_by_dimension(irreps: list[Complex]) -> list[str]:
    """Names of a dimension and a letter, such as ``1a``, ``1b``, ``2a``; after ``z`` comes ``aa``."""
    seen: Counter[int] = Counter()
    names = []
    for each in irreps:
        names.append(f"{each.shape[1]}{name_letters(seen[each.shape[1]])}")
        seen[each.shape[1]] += 1
    return names


def name_letters(place: int) -> str:
    """``a`` for 0, ``z`` for 25, ``aa`` for 26."""
    letters = ""
    while place >= 0:
        place, letter = divmod(place, 26)
        letters, place = ascii_lowercase[letter] + letters, place - 1
    return letters


def _eigenspaces(hermitian: Complex) -> list[Complex]:
    """Orthonormal bases, as columns, of the eigenspaces of a Hermitian matrix."""
    values, vectors = np.linalg.eigh(hermitian)
    scale = max(np.ptp(values), np.abs(values).max())
    return np.split(vectors, np.flatnonzero(np.diff(values) > TOLERANCE * scale) + 1, axis=1)


def _order(matrices: Complex) -> tuple[Any, ...]:
    characters = np.einsum("gii->g", matrices)
    rounded = np.round(-np.stack([characters.real, characters.imag], 1), 4) + 0.0
    return matrices.shape[1], *rounded.ravel().tolist()


def _is_homomorphism(matrices: Complex, group: FiniteGroup) -> bool:
    """Whether the products with one element and with its like agree for all others: a test of rounding, not a proof."""
    return all(
        np.allclose(matrices[group.table_GG[element]], matrices[element] @ matrices, rtol=0, atol=TOLERANCE)
        for element in range(min(len(group), 8))
    )
