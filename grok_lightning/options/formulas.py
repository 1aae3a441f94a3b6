"""Formulas as the field writes them, and the formula of this package that each stands for."""

import ast
import copy
import re
from collections.abc import Collection
from difflib import get_close_matches

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import Nested, class_of, lookup, put

OPERATIONS = {  # by names in words, and the operators that the original code takes for `math_operator`
    "x + y": "addition add sum plus modular_addition +",
    "x - y": "subtraction subtract sub minus difference modular_subtraction -",
    "x * y": "multiplication multiply mul mult product times modular_multiplication *",
    "x / y": "division divide div quotient modular_division /",
    "x / y if y % 2 else x - y": "mixed",
    "x + y if x % 2 == 0 else x * y": "even-sum +*",
    "x + y if x % 2 == 0 else x - y": "even-difference +-",
    "x**2 + y": "square-plus **2+",
    "x**3 + y": "cube-plus **3+",
    "x**2 + y**2": "sum_of_squares x2y2",
    "x**2 + x*y + y**2": "quadratic quadratic_form x2xyy2",
    "x**3 + x*y": "cubic",
    "x**3 + x*y**2 + y": "hard",
}
_OF_OPERATION = {word.replace("-", "_") if len(word) > 2 else word: formula
                 for formula, words in OPERATIONS.items() for word in words.split()}  # fmt: skip
_GROUP = {"s5": "x * y", "s5conj": "x * y * x**-1", "s5aba": "x * y * x"}
_OURS = "grok_lightning.data."
_MODULAR = f"{_OURS}ModularArithmeticDataModule"
_HAS_CONSTANT_A = f"{_OURS}FiniteFieldDataModule"
_LETTERS = "abcd"  # operands in papers
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"})
_MODS = (  # (mod 97), mod 97, mod p, _mod_97 at the end
    re.compile(r"[\s,]*\(\s*mod\s*([0-9]+|p)\s*\)$"),
    re.compile(r"[\s,]*(?:_|\b)mod[\s_]*([0-9]+|p)(?=\)*$)"),
)


def read_formulas(options: Nested) -> dict[str, str]:
    """Puts the formulas of this package in the place of those written otherwise.

    Args:
        options: All options in the short form, with the defaults of classes; changed in place.

    Returns:
        What was written for each formula that was, both as errors show them.

    Raises:
        UserError: As ``canonical_formula``.
    """
    data, value = class_of("data", lookup(options, "data") or {}), lookup(options, "data.formula")
    replaced: dict[str, str] = {}
    if isinstance(value, str | list) and data.startswith(_OURS):
        given = value if isinstance(value, list) else [value]
        moduli = [str(lookup(options, "data.modulus"))]
        found = [canonical_formula(each, data, moduli) if isinstance(each, str) else each for each in given]
        replaced = {show(new): show(old) for new, old in zip(found, given, strict=True) if new != old}
        put(options, "data.formula", found if isinstance(value, list) else found[0])
    return replaced


def canonical_formula(text: str, data: str, moduli: Collection[str]) -> str:
    """The formula of this package that a text stands for; the text itself where it is one, or stands for none.

    Names of operations, operands ``a, b, ...``, ``^`` and signs of print are replaced; over integers mod p also
    ``(a + b) % p`` and ``a + b mod p``, for the whole table is mod p.

    Args:
        text: What was written for ``data.formula``.
        data: The class of the data.
        moduli: ``data.modulus`` of all runs that are asked for, as text.

    Raises:
        UserError: If the text has another modulus than the data, or is the table of a group that is another class.
    """
    if not data.startswith(_OURS):
        return text
    word = text.strip().lower()
    word = re.sub(r"[\s-]+", "_", word) if len(word) > 3 else word
    if word in _OF_OPERATION:
        return _OF_OPERATION[word]
    if word in _GROUP and not data.endswith("PermutationDataModule"):
        formula = f'--data PermutationDataModule --data.degree 5 --data.formula "{_GROUP[word]}"'
        raise UserError(f"--data.formula is {show(text)}, a table of permutations: write {formula}")
    if word in _GROUP:
        return _GROUP[word]
    if re.fullmatch("[a-z_]{3,}", word) and (near := get_close_matches(word, _OF_OPERATION, 1, 0.75)):
        raise UserError(f"--data.formula is {show(text)}; did you mean {near[0]}?")
    modular, found = data == _MODULAR, text.strip().translate(_SIGNS)
    match = next((match for each in _MODS if (match := each.search(found))), None) if modular else None
    if match is not None:
        found = found[: match.start()] + found[match.end() :]
    try:
        root = ast.parse(found, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    reader = _Reader(_rename_operands(root, data), modular)
    changed = reader.visit(copy.deepcopy(root))
    if match is None and found == text.strip() and ast.dump(changed) == ast.dump(root):
        return text
    formula = re.sub(r" ?\*\* ?(?:\((-[0-9]+)\))?", lambda power: f"**{power[1] or ''}", ast.unparse(changed))
    other = next(
        (each for each in [*reader.moduli, *([match[1]] if match else [])] if each not in ("p", *moduli)), None
    )
    if other is not None and match is None and not (_is_remainder(root) and set(reader.moduli) == {other}):
        raise UserError(
            f"--data.formula is {show(text)}, which takes a remainder by {other} within arithmetic mod p; "
            f"there {show('%')} belongs in a condition, such as y if x % {other} == 0 else x"
        )
    if other is not None:
        written = f'--data.formula "{formula}" --data.modulus {other}'
        raise UserError(f"--data.formula is {show(text)}, but the modulus is an option of its own: write {written}")
    return formula


def _is_remainder(root: ast.expr) -> bool:
    return isinstance(root, ast.BinOp) and isinstance(root.op, ast.Mod)


def _rename_operands(root: ast.expr, data: str) -> dict[str, str]:
    """Our names of operands that are called a, b, ...; none where they are called otherwise."""
    names = {node.id for node in ast.walk(root) if isinstance(node, ast.Name)} - {"p"}
    if data == _HAS_CONSTANT_A or not names or names != set(_LETTERS[: len(names)]):
        return {}
    return {name: "xyz"[k] if len(names) <= 3 else f"x{k + 1}" for k, name in enumerate(sorted(names))}


class _Reader(ast.NodeTransformer):
    """Renames operands, and takes ``% modulus`` out of arithmetic mod p, not out of conditions.

    Attributes:
        moduli: Those taken out, as text.
    """

    def __init__(self, operands: dict[str, str], modular: bool) -> None:
        self.operands, self.modular, self.moduli = operands, modular, list[str]()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self.operands.get(node.id, node.id), node.ctx)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        condition = _Reader(self.operands, False).visit(node.test)
        return ast.IfExp(condition, self.visit(node.body), self.visit(node.orelse))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        right = ast.unparse(node.right)
        if self.modular and isinstance(node.op, ast.Mod) and re.fullmatch("[0-9]+|p", right):
            self.moduli.append(right)
            return self.visit(node.left)
        return ast.BinOp(self.visit(node.left), node.op, self.visit(node.right))
