"""The Fourier transform of functions on a finite group, and an orthonormal real basis in its order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grok_lightning.groups.irreps import Irrep, Matrices

Real = NDArray[np.float64]


def transform(function_GX: Matrices, irrep: Irrep) -> Matrices:
    """The sum over g of f(g) ρ(g).

    Args:
        function_GX: Values by element, (n, ...).
        irrep: ρ, of dimension d.

    Returns:
        (d, d, ...).
    """
    coefficients: Matrices = np.einsum("g...,gij->ij...", function_GX, irrep.matrices_GDD)
    return coefficients


def invert(coefficients: Sequence[Matrices], irreps: Sequence[Irrep]) -> NDArray[np.complex128]:
    """The function whose transforms are given: f(g) = 1/n sum over ρ of d trace(ρ(g)^-1 f^(ρ)), (n, ...), complex.

    Args:
        coefficients: Of each irrep, as from ``transform``.
        irreps: All irreps of the group.
    """
    parts = [
        irrep.dimension * np.einsum("gij,ij...->g...", irrep.matrices_GDD.conj(), found)
        for found, irrep in zip(coefficients, irreps, strict=True)
    ]
    whole: NDArray[np.complex128] = sum(parts[1:], parts[0]).astype(np.complex128) / len(irreps[0].matrices_GDD)
    return whole


def power(function_GX: Matrices, irreps: Sequence[Irrep]) -> Real:
    """Each irrep's part of the squared norm: d / n times that of the transform; their sum is that of f (Parseval).

    Args:
        function_GX: Values by element, (n, ...).
        irreps: All irreps of the group, K of them.

    Returns:
        (K, ...).
    """
    return np.stack(
        [
            irrep.dimension / len(function_GX) * (np.abs(transform(function_GX, irrep)) ** 2).sum((0, 1))
            for irrep in irreps
        ]
    )


def power_of_pairs(function_GGX: Matrices, irreps: Sequence[Irrep]) -> Real:
    """Power on G x G, whose irreps are the products ρ x σ of those of G, by ρ and σ.

    A function of x alone has all of it at σ trivial, one of y alone at ρ trivial; one of the product x y at σ = ρ, one
    of x / y at σ conjugate to ρ.

    Args:
        function_GGX: Values by x and y, (n, n, ...).
        irreps: All irreps of the group, K of them.

    Returns:
        (K, K, ...); the sum over both is the squared norm.
    """
    rows = []
    for irrep in irreps:
        of_x = np.einsum("xy...,xij->yij...", function_GGX, irrep.matrices_GDD)
        rows.append(irrep.dimension / len(function_GGX) * power(of_x, irreps).sum((1, 2)))
    return np.stack(rows)


@dataclass(frozen=True, eq=False)
class RealBasis:
    """An orthonormal basis of the real functions on a group, ordered by irreps; of C_n it is sines and cosines.

    An irrep and its complex conjugate cannot be told apart in real functions. They are one component here, under the
    name of the first.

    Attributes:
        names: The components' names, K of them, the trivial one first.
        basis_GG: The basis, one function a row, (n, n) float64.
        component_G: The component of each row, 0..K-1.
    """

    names: list[str]
    basis_GG: Real
    component_G: NDArray[np.int64]

    def projector(self, component: int) -> Real:
        """The orthogonal projection of functions on a component: (n, n)."""
        rows = self.basis_GG[self.component_G == component]
        return rows.T @ rows


def build_real_basis(irreps: Sequence[Irrep]) -> RealBasis:
    """Builds the basis from matrix elements, which are orthogonal (Schur), by a QR factorization where complex.

    Args:
        irreps: All irreps of the group.
    """
    size = len(irreps[0].matrices_GDD)
    characters = np.stack([irrep.characters_G for irrep in irreps])
    overlaps = np.abs(characters @ characters.T) / size  # 1 where one is the other's conjugate
    names: list[str] = []
    rows: list[Real] = []
    component: list[int] = []
    for number, irrep in enumerate(irreps):
        partner = int(overlaps[number].argmax())
        if partner < number:
            continue
        elements = irrep.matrices_GDD.reshape(size, -1).T * np.sqrt(irrep.dimension / size)
        count = len(elements) * (1 + (partner != number))
        if np.iscomplexobj(elements):
            _, _, vectors = np.linalg.svd(np.concatenate([elements.real, elements.imag]), full_matrices=False)
            elements = vectors[:count]
        rows.append(elements)
        component += [len(names)] * count
        names.append(irrep.name)
    return RealBasis(names, np.concatenate(rows), np.array(component))
