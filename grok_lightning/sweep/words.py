"""The values of a sweep as one reads them: what blocks have in common is left out."""

from typing import Any


def shown_value(value: Any, common: tuple[str, ...] = ()) -> str:
    """A value in words: a class by its bare name, then its options, without the common ones."""
    if isinstance(value, dict):
        inner = {key: item for key, item in value.items() if key not in common}
        name = str(inner.pop("class_path", "")).rsplit(".", 1)[-1]
        return " ".join([*([name] if name else []), *(f"{key}={shown_value(item)}" for key, item in inner.items())])
    if isinstance(value, list):
        return "[" + ", ".join(map(shown_value, value)) + "]"
    return str(value)


def words_of(values: list[Any]) -> dict[str, str]:
    """What each of an option's values is called, by its repr: blocks by what tells them apart.

    Args:
        values: Distinct values.
    """
    blocks = [value for value in values if isinstance(value, dict)]
    keys = [key for key in (blocks[0] if blocks else {}) if key != "class_path"]
    alike = [key for key in keys if all(key in block and block[key] == blocks[0][key] for block in blocks)]
    for common in (tuple(alike) if len(blocks) > 1 else (), ()):
        words = {repr(value): shown_value(value, common) or "{}" for value in values}
        if len(set(words.values())) == len(words):
            break
    return words
