"""Task of a run, from its config: its title, and the options that define it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

SHIPPED = "grok_lightning.data."
TEXT = "TextDataModule"
# options of the split, tokens and batches: runs that differ in these have the same task
NO_TASK = frozenset({
    "rows_seed", "train_fraction", "train_rows", "val_fraction", "split_seed", "pairing", "commutative_fraction",
    "answer_noise", "answer_noise_kind", "batch_size", "tokenizer", "operator_token", "equals_token", "seed", "seeds",
    "splits",
})  # fmt: skip
TITLES = {  # of the algebras of this package, by DataModule
    "ModularArithmeticDataModule": "mod {modulus}",
    "SignedRemaindersDataModule": "mod {modulus}, signed",
    "PermutationDataModule": "over S{degree}",
    "AlternatingDataModule": "over A{degree}",
    "DihedralDataModule": "over D{degree}",
    "CyclicProductDataModule": "over C{moduli[0]} × C{moduli[1]}",
    "FiniteFieldDataModule": "over GF({size})",
    "MatrixDataModule": "over 2×2 matrices mod {modulus}",
}
SHOWN = ("operands", "rows")


def task_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a DataModule that define its task, sorted by name, without those that are null.

    They include all options of a user's DataModule that ``TableDataModule`` does not have.

    Args:
        data: Group ``data`` of a resolved config, flat or nested.
    """
    return {name: data[name] for name in sorted(data) if name not in NO_TASK and data[name] is not None}


def algebra_title(data: Mapping[str, Any]) -> str:
    """Title of the algebra of a DataModule; for a user's DataModule, its class and options.

    Args:
        data: Group ``data`` of a resolved config.
    """
    if is_shipped(data):
        kind = TITLES.get(class_name(data), "over S{degree}" if "degree" in data else "mod {modulus}")
        with suppress(LookupError, TypeError, ValueError):  # an option of another version
            return kind.format_map({**data, "size": data.get("characteristic", 0) ** data.get("exponent", 0)})
    return f"over {_describe_class(data)}"


def _describe_class(data: Mapping[str, Any]) -> str:
    own = {key: value for key, value in task_options(data).items() if key not in ("class_path", "formula", *SHOWN)}
    return " ".join([class_name(data).removesuffix("DataModule"), *(f"{key}={value}" for key, value in own.items())])


def task_title(data: Mapping[str, Any], algebra: str | None = None) -> str:
    """Title of a task, such as ``x + y mod 97``; ``text`` for strings to memorize; without a formula, that of the data.

    Args:
        data: Group ``data`` of a resolved config.
        algebra: Title of the algebra or of the data in the record; None: it has none, or is older than these titles.
    """
    if data.get("formula") is None:
        is_text = data.get("strings") is not None or class_name(data) == TEXT
        return "text" if is_text else algebra or _describe_class(data)
    extra = "".join(f", {name} {data[name]}" for name in SHOWN if data.get(name) is not None)
    return f"{data['formula']} {algebra or algebra_title(data)}{extra}"


def is_memorized_text(data: Mapping[str, Any]) -> bool:
    """Whether the task is to memorize strings, none of which is held out for validation."""
    return class_name(data) == TEXT and data.get("val_fraction") is None


def is_held_out(data: Mapping[str, Any], first: Mapping[Any, Any]) -> bool:
    """Whether a run without a record has rows held out for validation.

    Args:
        data: Group ``data`` of its config.
        first: Its first evaluation, in which both losses are equal where validation is on the training rows.
    """
    return first.get("train/loss", 0.0) != first.get("val/loss") and not is_memorized_text(data)


def is_shipped(data: Mapping[str, Any]) -> bool:
    """Whether a DataModule belongs to this package, so that its options define its algebra."""
    return str(data.get("class_path", SHIPPED)).startswith(SHIPPED)


def class_name(data: Mapping[str, Any]) -> str:
    """Name of a DataModule's class, without its module."""
    return str(data.get("class_path", "")).rsplit(".", 1)[-1]
