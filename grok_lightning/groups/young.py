"""Young's orthogonal form of the irreducible representations of symmetric groups."""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grok_lightning.groups.group import Numbers

Partition = tuple[int, ...]


def partitions(number: int, largest: int | None = None) -> Iterator[Partition]:
    """The partitions of n, (n) first, in reverse lexicographic order."""
    if number == 0:
        yield ()
    for first in range(min(number, largest or number), 0, -1):
        for rest in partitions(number - first, first):
            yield (first, *rest)


def conjugate(shape: Partition) -> Partition:
    """The conjugate partition: columns of its diagram as rows."""
    return tuple(sum(row > column for row in shape) for column in range(shape[0] if shape else 0))


def name_partition(shape: Partition) -> str:
    """A partition as text, such as ``3-1-1``."""
    return "-".join(map(str, shape))


def standard_tableaux(shape: Partition) -> list[tuple[int, ...]]:
    """The standard tableaux of a shape: for each, the row of 0, of 1, and so on."""
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), (0,) * len(shape))]
    for _ in range(sum(shape)):
        rows = [
            ((*places, row), (*lengths[:row], lengths[row] + 1, *lengths[row + 1 :]))
            for places, lengths in rows
            for row in range(len(shape))
            if lengths[row] < shape[row] and (row == 0 or lengths[row - 1] > lengths[row])
        ]
    return [places for places, _ in rows]


def transposition_matrices(shape: Partition) -> NDArray[np.float64]:
    """The matrices of the transpositions (i, i + 1) for i = 0..n-2: (n - 1, d, d).

    On a tableau T, with r the content (column less row) of i + 1 less that of i: 1 / r on the diagonal, and
    sqrt(1 - 1 / r^2) to the tableau in which i and i + 1 have changed places. James and Kerber, "The representation
    theory of the symmetric group", 1981, section 3.4.
    """
    tableaux = standard_tableaux(shape)
    numbers = {tableau: number for number, tableau in enumerate(tableaux)}
    matrices = np.zeros((max(sum(shape) - 1, 0), len(tableaux), len(tableaux)))
    for number, tableau in enumerate(tableaux):
        contents = [tableau[:i].count(row) - row for i, row in enumerate(tableau)]
        for i, (content, following) in enumerate(pairwise(contents)):
            distance = following - content
            matrices[i, number, number] = 1 / distance
            swapped = (*tableau[:i], tableau[i + 1], tableau[i], *tableau[i + 2 :])
            if abs(distance) > 1:
                matrices[i, numbers[swapped], number] = np.sqrt(1 - 1 / distance**2)
    return matrices


def young_orthogonal(shape: Partition, images_Gn: Numbers) -> NDArray[np.float64]:
    """The matrices of all permutations of n items, (n!, d, d): real, orthogonal, with ρ(x y) = ρ(x) ρ(y).

    Args:
        shape: A partition of n.
        images_Gn: All permutations, each as its images; a product acts with its right factor first.
    """
    simple = transposition_matrices(shape)
    numbers = {tuple(image): number for number, image in enumerate(images_Gn.tolist())}
    identity = tuple(range(images_Gn.shape[1]))
    matrices = np.zeros((len(images_Gn), *simple.shape[1:]) if len(simple) else (1, 1, 1))
    matrices[numbers[identity]] = np.eye(matrices.shape[1])
    waiting, seen = deque([identity]), {identity}
    while waiting:
        image = waiting.popleft()
        for i, matrix in enumerate(simple):
            following = tuple(i + 1 if item == i else i if item == i + 1 else item for item in image)
            if following not in seen:
                seen.add(following)
                waiting.append(following)
                matrices[numbers[following]] = matrix @ matrices[numbers[image]]
    return matrices
