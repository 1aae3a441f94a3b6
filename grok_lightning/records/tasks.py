"""The task of a run, read from its config: what it is called, and what tells two tasks apart."""

from collections.abc import Mapping
from typing import Any

SHIPPED = "grok_lightning.data."
TEXT = "TextDataModule"
# how a table is split, tokenized and fed: other values of these are other runs of the same task
NO_TASK = frozenset({
    "rows_seed", "train_fraction", "train_rows", "val_fraction", "split_seed", "pairing", "commutative_fraction",
    "answer_noise", "answer_noise_kind", "batch_size", "tokenizer", "operator_token", "equals_token", "seeds",
})  # fmt: skip
SHOWN = ("operands", "rows")


def task_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a DataModule that decide its task, sorted by name, those that are null left out.

    All options of a user's own DataModule count that ``TableDataModule`` does not have.

    Args:
        data: The group ``data`` of a resolved config, flat or nested.
    """
    return {name: data[name] for name in sorted(data) if name not in NO_TASK and data[name] is not None}


def algebra_title(data: Mapping[str, Any]) -> str:
    """What the algebra of a shipped DataModule is called; that of another is the class with its own options.

    Args:
        data: The group ``data`` of a resolved config.
    """
    name = class_name(data)
    if is_shipped(data) and "degree" in data:
        return f"over S{data['degree']}"
    if is_shipped(data) and "modulus" in data:
        return f"mod {data['modulus']}{', signed' * name.startswith('SignedRemainders')}"
    own = {key: value for key, value in task_options(data).items() if key not in ("class_path", "formula", *SHOWN)}
    return " ".join([f"over {name.removesuffix('DataModule')}", *(f"{key}={value}" for key, value in own.items())])


def task_title(data: Mapping[str, Any], algebra: str | None = None) -> str:
    """What a task is called, ``x + y mod 97`` for example; ``text`` if it is strings to be memorized.

    Args:
        data: The group ``data`` of a resolved config.
        algebra: The title that its record has of the algebra; None: the record is older than these titles.
    """
    if data.get("formula") is None and (data.get("strings") is not None or class_name(data) == TEXT):
        return "text"
    extra = "".join(f", {name} {data[name]}" for name in SHOWN if data.get(name) is not None)
    return f"{data.get('formula', '?')} {algebra or algebra_title(data)}{extra}"


def is_shipped(data: Mapping[str, Any]) -> bool:
    """Whether a DataModule is one of this package, so that its options say everything about its algebra."""
    return str(data.get("class_path", SHIPPED)).startswith(SHIPPED)


def class_name(data: Mapping[str, Any]) -> str:
    """The bare name of a DataModule's class."""
    return str(data.get("class_path", "")).rsplit(".", 1)[-1]
