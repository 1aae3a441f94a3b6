"""The group in which an operation is a product, found from its table alone.

An operation T is a product if T(x, y) = H(f(x) g(y)) in a group, for functions f, g and H. ``x * y`` mod p is one on
the numbers but 0, in the cyclic group of p - 1 elements; ``x * y + x + y`` is one but for -1; ``(x + y)**2`` is one of
x + y, and H the square.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.algebra import Algebra
from grok_lightning.data.operation import Operation
from grok_lightning.groups.group import FiniteGroup, Numbers, find_group

LARGEST_TABLE = 2**11  # elements of an algebra whose operations are looked at
NONE = -1


@dataclass(frozen=True, eq=False)
class GroupLaw:
    """An operation as a product in a group of n elements.

    Attributes:
        group: The group.
        products_N: The product f(x) g(y) of each of the operation's N rows; -1 of a row that is left out.
        operand_G: The number, in the algebra, of the operand that stands for each group element: of x, or of y where
            f is not one to one. None where neither is, as in ``x**2 + y**2``.
        answer_G: The number of the answer that stands for each group element; None where H is not one to one.
        operands_G: The numbers of x and of y for which f(x) and g(y) are each element; None where one of them is not
            one to one.
        algebra: The algebra whose elements are the group's, in the same order; None where they are not.
    """

    group: FiniteGroup
    products_N: Numbers
    operand_G: Numbers | None
    answer_G: Numbers | None
    operands_G: tuple[Numbers | None, Numbers | None]
    algebra: Algebra | None = None

    @property
    def kept_N(self) -> NDArray[np.bool_]:
        """Mask of the rows that are not left out."""
        return self.products_N != NONE

    @property
    def is_cyclic(self) -> bool:
        """Whether the group is cyclic, and element k the k-th power of element 1."""
        every = np.arange(len(self.group))
        return np.array_equal(self.group.table_GG, (every[:, None] + every) % len(every))


_FOUND: WeakKeyDictionary[Operation, GroupLaw | None] = WeakKeyDictionary()


def find_law(operation: Operation) -> GroupLaw | None:
    """Finds the group in which an operation of two operands is a product; None if there is none, or none is found.

    Left out are the operands whose equations have fewer different answers than others' (those of 0 in ``x * y``, of
    what divides the modulus), if no other equation has one of their answers. On the rest it is exact, and finds:

    - products f(x) g(y), with any f and g, in a group of the algebra's own: of all its elements under ``*`` or ``+``,
      or of those that have an inverse under ``*``; one after the other, either in the first place;
    - H(f(x) y) and H(x g(y)) with any f, g and H in such a group, if commutative;
    - tables that are Latin squares and, with x, y and answers renamed, a group's. By Albert's theorem ("Quasigroups I",
      1943) it is enough to try one identity.

    Of a cyclic group the elements are numbered by their logarithm, to the base of the generator whose number is
    smallest: 1 under addition, the smallest primitive root under multiplication. n^2 log n steps; remembered.

    Args:
        operation: An operation of at most 2^11 elements. None is found of a sample.
    """
    if operation not in _FOUND:
        law = _find(operation)
        _FOUND[operation] = law if law is None else _number_by_logarithm(law)
    return _FOUND[operation]


def find_own_group(operation: Operation) -> GroupLaw | None:
    """For a formula that is no product, such as ``x * y * x**-1``: the group of all elements under ``*``, if it is one.

    Products are the answers, and operands and answers are the elements as they are. None is found of a sample.
    """
    size = operation.algebra.size
    if size > LARGEST_TABLE or "*" not in operation.algebra.operators or len(operation) != size**2:
        return None
    group = find_group(_tabulate(operation.algebra, "*"))
    if group is None:
        return None
    every = np.arange(size)
    return GroupLaw(group, operation.results_N, every, every, (every, every), operation.algebra)


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows of a table that are not left out: answers by x and y, and the operands' numbers."""

    answers_XY: Numbers
    x_X: Numbers
    y_Y: Numbers


def _find(operation: Operation) -> GroupLaw | None:
    size = operation.algebra.size
    if operation.formula.arity != 2 or size > LARGEST_TABLE or not len(operation):
        return None
    answers_EE = np.full((size, size), NONE)
    answers_EE[tuple(operation.operands_NK.T)] = operation.results_N
    every = np.arange(size)
    groups = list(_own_groups(operation.algebra))
    for part in (_Part(answers_EE, every, every), _leave_out(answers_EE)):
        if part is None or (part.answers_XY == NONE).any():
            continue
        for own in groups:
            found = _as_product(part, *own) or _as_translates(part, *own)
            if found is not None:
                return _spread(found, part, operation)
        found = _as_latin_square(part)
        if found is not None:
            return _spread(found, part, operation)
    return None


def _spread(law: GroupLaw, part: _Part, operation: Operation) -> GroupLaw:
    """A law whose products are by x and y of a part, with those of the operation's rows."""
    products_EE = np.full((operation.algebra.size,) * 2, NONE)
    products_EE[np.ix_(part.x_X, part.y_Y)] = law.products_N
    return replace(law, products_N=products_EE[tuple(operation.operands_NK.T)])


def _leave_out(answers_EE: Numbers) -> _Part | None:
    """The rows of operands with the most different answers; None if others share answers with them."""
    kept = []
    for lines in (answers_EE, answers_EE.T):
        ordered = np.sort(lines, 1)
        counts = ((ordered != NONE) & (np.diff(ordered, axis=1, prepend=NONE) != 0)).sum(1)
        kept.append(np.flatnonzero(counts == counts.max()))
    part = _Part(answers_EE[np.ix_(*kept)], *kept)
    others = answers_EE.copy()
    others[np.ix_(*kept)] = NONE
    return None if np.isin(part.answers_XY, others[others != NONE]).any() else part


def _tabulate(algebra: Algebra, operator: str) -> Numbers:
    every = np.arange(algebra.size)
    results, defined = algebra.binary(operator, np.repeat(every, len(every)), np.tile(every, len(every)))
    numbers = results if defined is None else np.where(defined, results, NONE)
    return numbers.reshape(len(every), -1)


def _own_groups(algebra: Algebra) -> Iterator[tuple[Numbers, FiniteGroup, Algebra | None]]:
    """Groups of an algebra: their elements' numbers, the group, and the algebra where these are all."""
    for operator in ("*", "+"):
        if operator not in algebra.operators:
            continue
        table = _tabulate(algebra, operator)
        every = np.arange(algebra.size)
        ones = np.flatnonzero((table == every).all(1) & (table == every[:, None]).all(0))
        if len(ones) != 1:
            continue
        units = np.flatnonzero((table == ones[0]).any(0) & (table == ones[0]).any(1))
        places = np.full(algebra.size + 1, NONE)  # the last one answers for -1
        places[units] = np.arange(len(units))
        group = find_group(places[table[np.ix_(units, units)]])
        if group is not None:
            yield units, group, algebra if len(units) == algebra.size else None


def _as_product(part: _Part, elements_U: Numbers, group: FiniteGroup, algebra: Algebra | None) -> GroupLaw | None:
    """T(x, y) = f(x) g(y), or g(y) f(x), in a group of the algebra's own."""
    places = np.full(max(elements_U.max(), part.answers_XY.max()) + 1, NONE)
    places[elements_U] = np.arange(len(elements_U))
    products_XY = places[part.answers_XY]
    if (products_XY == NONE).any():
        return None
    table, back = group.table_GG, group.inverses_G[products_XY[0, 0]]
    of_x, of_y = products_XY[:, :1], products_XY[:1]
    straight, turned = table[table[of_x, back], of_y], table[table[of_y, back], of_x]
    if not (np.array_equal(straight, products_XY) or np.array_equal(turned, products_XY)):
        return None
    law = GroupLaw(group, products_XY, None, elements_U, (None, None), algebra)
    if len(np.unique(products_XY)) < len(group):
        return _restrict(law, int(back))
    second = table[back, of_y[0]] if np.array_equal(straight, products_XY) else table[of_y[0], back]
    operands = _invert(of_x[:, 0], part.x_X, len(group)), _invert(second, part.y_Y, len(group))
    either = _invert(of_y[0], part.y_Y, len(group)) if operands[0] is None else operands[0]
    return replace(law, operand_G=either, operands_G=operands)


def _restrict(law: GroupLaw, back: int) -> GroupLaw | None:
    """A law of fewer answers than elements, in a subgroup; only where the group commutes.

    Operands stand for no single element then: a function that reaches a part only is not one to one.
    """
    moved = law.group.table_GG[back, law.products_N]  # so that the identity is one of them
    elements = np.unique(moved)
    places = np.full(len(law.group), NONE)
    places[elements] = np.arange(len(elements))
    group = find_group(places[law.group.table_GG[np.ix_(elements, elements)]])
    if group is None or not law.group.is_abelian or law.answer_G is None:
        return None
    answers = law.answer_G[law.group.table_GG[law.group.inverses_G[back], elements]]
    return GroupLaw(group, places[moved], None, answers, (None, None))


def _as_translates(part: _Part, elements_U: Numbers, group: FiniteGroup, algebra: Algebra | None) -> GroupLaw | None:
    """T(x, y) = H(f(x) y), or H(x g(y)): each line of the table is another, moved."""
    if not group.is_abelian:
        return None
    for turned, along in ((False, part.y_Y), (True, part.x_X)):
        answers = part.answers_XY.T if turned else part.answers_XY
        if not np.array_equal(along, elements_U):
            continue
        moved = {row.tobytes(): place for place, row in enumerate(answers[0][group.table_GG])}
        shifts = np.array([moved.get(row.tobytes(), NONE) for row in np.ascontiguousarray(answers)])
        if len(moved) < len(group) or (shifts == NONE).any():
            continue
        products = group.table_GG[shifts]
        products_XY = products.T if turned else products
        answer_G = np.empty(len(group), dtype=np.int64)
        answer_G[products_XY] = part.answers_XY
        one_to_one = len(np.unique(answer_G)) == len(group)
        moving = _invert(shifts, part.y_Y if turned else part.x_X, len(group))
        operands = (elements_U, moving) if turned else (moving, elements_U)
        return GroupLaw(group, products_XY, elements_U, answer_G if one_to_one else None, operands, algebra)
    return None


def _as_latin_square(part: _Part) -> GroupLaw | None:
    """T(x, y) = H(f(x) g(y)), with f, g and H all one to one, in a group that the table itself gives."""
    answers, places_XY = np.unique(part.answers_XY, return_inverse=True)
    places_XY = places_XY.reshape(part.answers_XY.shape)
    if places_XY.shape != (len(answers),) * 2 or any(
        (np.sort(lines, 1) != np.arange(len(answers))).any() for lines in (places_XY, places_XY.T)
    ):
        return None
    # of the first x and y: x stands for T(x, y0), y for T(x0, y), and T(x0, y0) for the identity
    of_x, of_y = np.argsort(places_XY[:, 0]), np.argsort(places_XY[0])
    group = find_group(places_XY[np.ix_(of_x, of_y)])
    operands = part.x_X[of_x], part.y_Y[of_y]
    return None if group is None else GroupLaw(group, places_XY, operands[0], answers, operands)


def _invert(elements: Numbers, numbers: Numbers, size: int) -> Numbers | None:
    """The number that each group element is given by, of numbers and their elements; None if not one to one."""
    if len(elements) != size or len(np.unique(elements)) != size:
        return None
    return numbers[np.argsort(elements)]


def _number_by_logarithm(law: GroupLaw) -> GroupLaw:
    """The same law, if its group is cyclic with elements numbered by logarithm."""
    size = len(law.group)
    if not law.group.is_abelian:
        return law
    powers = next((powers for powers in map(law.group.powers, range(size)) if len(powers) == size), None)
    if powers is None:
        return law
    logarithms = np.argsort(powers)
    every = np.arange(size)
    group = FiniteGroup((every[:, None] + every) % size, 0, -every % size)
    products = np.where(law.products_N == NONE, NONE, logarithms[law.products_N])
    operand, answer, of_x, of_y = (
        None if each is None else each[powers] for each in (law.operand_G, law.answer_G, *law.operands_G)
    )
    algebra = law.algebra if powers == list(every) else None
    return GroupLaw(group, products, operand, answer, (of_x, of_y), algebra)
