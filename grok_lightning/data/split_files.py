"""Splits of a table as CSV files: train.csv, val.csv and test.csv in one directory."""

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.split import Split, measure_commutative_fraction
from grok_lightning.errors import UserError, show
from grok_lightning.files import write_durably
from grok_lightning.reading import Malformed, read_bytes

SPLITS = ("train", "val", "test")
ANSWER = "answer"
MOST_BYTES = 2**28  # of a file
NO_ANSWER = -1


@dataclass(frozen=True)
class SplitFile:
    """One file.

    Attributes:
        path: Where it is.
        operands_NK: Element numbers of the operands.
        answers_N: Element numbers of the answers; -1 where the file has no such column.
        lines_N: The line of each row.
    """

    path: Path
    operands_NK: Column
    answers_N: Column
    lines_N: Column


class SplitFiles:
    """The splits in a directory, in the order of the files' lines.

    Needed are the columns of the operands; ``answer`` and all others may be missing. Elements are written as the
    algebra writes them. ``test.csv`` may be missing.

    Args:
        directory: The directory.
        elements: Number of each element, by its text.
        operands: Those that operands can be.
        names: Names of the operands.

    Attributes:
        fingerprint: Hash of all rows and answers.

    Raises:
        UserError: A file is missing or has no rows, lacks a column, or has a line that is no row of elements.
    """

    def __init__(self, directory: str, elements: Mapping[str, int], operands: range, names: list[str]) -> None:
        self.directory = directory
        self.parts = {
            name: part
            for name in SPLITS
            if (part := _read_file(Path(directory) / f"{name}.csv", elements, operands, names)) is not None
        }
        content = hashlib.sha256()
        for name, part in self.parts.items():
            content.update(repr((name, part.operands_NK.shape)).encode())
            content.update(part.operands_NK.tobytes() + part.answers_N.tobytes())
        self.fingerprint = content.hexdigest()[:16]

    @property
    def operands_NK(self) -> Column:
        """The operands of all files' rows, in lexicographic order."""
        return np.unique(np.concatenate([part.operands_NK for part in self.parts.values()]), axis=0)

    def split(self, operation: Operation) -> tuple[Split, Column]:
        """The row numbers of each part, and the table's answers with the training file's wrong ones in their place.

        Args:
            operation: The table.

        Raises:
            UserError: A row is not in the table, occurs twice, or is answered otherwise outside of training.
        """
        places: dict[str, Column] = {}
        seen = np.full(len(operation), NO_ANSWER)  # of each row the index of its split
        answers_N = operation.results_N
        for number, (name, part) in enumerate(self.parts.items()):
            rows_N = _find_rows(part, operation)
            self._refuse_twice(part, rows_N, seen)
            seen[rows_N] = number
            given = part.answers_N != NO_ANSWER
            other = np.flatnonzero(given & (part.answers_N != operation.results_N[rows_N]))
            if name == "train" and len(other):
                answers_N = answers_N.copy()
                answers_N[rows_N[other]] = part.answers_N[other]
            elif len(other):
                texts = operation.algebra.names
                own, true = part.answers_N[other[0]], operation.results_N[rows_N[other[0]]]
                raise UserError(
                    f"{_place(part, int(other[0]))}: the answer is {show(texts[own])}, but by data.formula it is "
                    f"{show(texts[true])}; only training answers may be wrong"
                )
            places[name] = rows_N
        train, val = places["train"], places["val"]
        reached = None
        if operation.formula.arity == 2:
            reached = measure_commutative_fraction(train, val, operation.mirrors_N)
        return Split(train, val, places.get("test", np.arange(0)), reached), answers_N

    def _refuse_twice(self, part: SplitFile, rows_N: Column, seen: Column) -> None:
        before = seen[rows_N] != NO_ANSWER
        _, first = np.unique(rows_N, return_index=True)
        before[np.setdiff1d(np.arange(len(rows_N)), first)] = True
        if before.any():
            place = int(np.argmax(before))
            other = seen[rows_N[place]]
            where = "above it" if other == NO_ANSWER else f"in {list(self.parts)[other]}.csv"
            raise UserError(f"{_place(part, place)}: this row is {where} too; leave one of the two out")


def _place(part: SplitFile, row: int) -> str:
    return f"data.splits: {str(part.path)!r}, line {part.lines_N[row]}"


def _find_rows(part: SplitFile, operation: Operation) -> Column:
    """The row numbers of a file's rows in a table."""
    rows = len(operation)
    _, number = np.unique(np.concatenate([operation.operands_NK, part.operands_NK]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    row_of = np.full(number.max() + 1, -1)
    row_of[number[:rows]] = np.arange(rows)
    found: Column = row_of[number[rows:]]
    if (found < 0).any():
        place = int(np.argmax(found < 0))
        names = operation.algebra.names
        operands = ", ".join(names[number] for number in part.operands_NK[place])
        raise UserError(
            f"{_place(part, place)}: the operands {show(operands)} have no answer by data.formula "
            f"{show(operation.formula.text)}, so that this is no row of its table"
        )
    return found


def _read_file(path: Path, elements: Mapping[str, int], operands: range, names: list[str]) -> SplitFile | None:
    """The rows of a file; None where there is no test file, or none in it."""
    where, optional = f"data.splits: {str(path)!r}", path.stem == "test"
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        if optional and path.parent.is_dir():
            return None
        raise UserError(f"{where} does not exist; expected are train.csv, val.csv and, if wanted, test.csv") from None
    except (OSError, UnicodeDecodeError, Malformed) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise UserError(f"{where} cannot be read: {reason}") from None
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        columns = _find_columns(header, names, where)
        rows, lines = [], []
        for cells in reader:
            if cells:
                rows.append(_read_row(cells, header, columns, elements, operands, f"{where}, line {reader.line_num}"))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}, is no line of CSV: {error}") from None
    if not rows:
        if optional:
            return None
        raise UserError(f"{where} has no rows; training and validation need one each")
    table = np.array(rows, dtype=np.int64)
    return SplitFile(path, table[:, :-1], table[:, -1], np.array(lines))


def _find_columns(header: list[str], names: list[str], where: str) -> dict[str, int]:
    """The places of the columns that are needed, and of the answer's if there is one."""
    for name in names:
        if header.count(name) != 1:
            wrong = "no column" if name not in header else "several columns"
            raise UserError(
                f"{where} has {wrong} {name}; its first line is {show(','.join(header))}, expected: "
                f"{','.join([*names, ANSWER])}"
            )
    return {name: header.index(name) for name in (*names, ANSWER) if name in header}


def _read_row(
    cells: list[str],
    header: list[str],
    columns: dict[str, int],
    elements: Mapping[str, int],
    operands: range,
    where: str,
) -> list[int]:
    """The element numbers of a row's operands and of its answer."""
    if len(cells) != len(header):
        raise UserError(
            f"{where} has {len(cells)} cells, the first line {len(header)}; an element with a comma is written in "
            "quotes"
        )
    row = []
    for name, place in columns.items():
        text = cells[place].strip()
        number = elements.get(text, -1)
        if number < 0 or (name != ANSWER and number not in operands):
            texts = list(elements)
            between = (texts[operands[0]], texts[operands[-1]]) if name != ANSWER else (texts[0], texts[-1])
            raise UserError(
                f"{where}: {name} is {show(text)}; expected is one of the elements {between[0]} ... {between[1]}, as "
                "the algebra writes them"
            )
        row.append(number)
    return row if ANSWER in columns else [*row, NO_ANSWER]


def write_splits(data: SequenceDataModule, directory: Path) -> dict[str, int]:
    """Writes the splits of the first run as CSV files, with the answers that are trained on.

    Args:
        data: The data.
        directory: Where the files go; it is made if it is missing.

    Returns:
        The number of rows of each split.
    """
    counts = {}
    for name in SPLITS:
        held = name != "val" or data.is_validated()  # else they are the training rows
        rows = getattr(data.splits[0], name).tolist() if held else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(data.columns)
        writer.writerows(map(data.shown, rows))
        write_durably(directory / f"{name}.csv", text.getvalue().encode())
        counts[name] = len(rows)
    return counts
