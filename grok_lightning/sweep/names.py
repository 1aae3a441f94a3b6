"""Options of a sweep's file under their own names, and formulas in their own form, before anything else is read."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.options.aliases import Names
from grok_lightning.options.arguments import option_name
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    Nested,
    class_defaults,
    class_path,
    lookup,
)
from grok_lightning.options.formulas import canonical_formula
from grok_lightning.options.yamls import nest, undotted

_FORMULA, _MODULUS = "data.formula", "data.modulus"


def find_names(content: Nested, base: Nested) -> Names:
    """The names that a sweep's file may use: options of all classes that any of its runs may have.

    Args:
        content: The file, as it is written.
        base: Options of its base.
    """
    static, found = Names(), dict[str, list[str]]()
    for nested in (base, *_each(static, content)):
        for owner in CLASS_OPTIONS:
            named = lookup(nested, owner)
            named = named.get("class_path") if isinstance(named, dict) else named
            if isinstance(named, str):
                with suppress(UserError):  # which is raised where its value is read
                    found.setdefault(owner, []).append(class_path(owner, named))
    return Names(found)


def rename_options(content: Nested, base: Nested, names: Names) -> Nested:
    """A sweep's file under the options' own names; its base's formula is replaced in place.

    Args:
        content: The file, as it is written; what is no mapping of options is left for its reader to refuse.
        base: Options of its base.
        names: From ``find_names``.

    Raises:
        UserError: A short name fits several options, an option is then given twice, or a formula names another modulus.
    """
    renamed = {place: _rename_place(names, place, written) for place, written in content.items()}
    every = [base, *_each(names, renamed)]
    moduli = {str(found) for nested in every if (found := lookup(nested, _MODULUS)) is not None}
    classes = names.classes.get("data") or [CLASS_OPTIONS["data"].default]
    moduli = moduli or {str(class_defaults("data", name).get("modulus")) for name in classes}
    one = moduli if len(moduli) == 1 else set()

    def read(text: str) -> str:
        found = {canonical_formula(text, name, one) for name in classes}
        return found.pop() if len(found) == 1 else text

    base.update(_read_formulas(base, "", read))
    return {
        place: _read_formulas(written, "", read) if place in ("set", "grid", "zip", "exclude") else written
        for place, written in renamed.items()
    }


def _each(names: Names, content: Nested) -> Iterator[Nested]:
    """Every value of every option of a file, each as nested options."""
    for place in ("set", "grid", "zip"):
        written = content.get(place)
        for group in written if isinstance(written, list) else [written]:
            for key, value in group.items() if isinstance(group, dict) else ():
                for each in value if place != "set" and isinstance(value, list) else [value]:
                    with suppress(UserError):
                        yield names.rename(undotted({option_name(str(key)): each}, place), place)


def _rename_place(names: Names, place: str, written: Any) -> Any:
    if place not in ("set", "grid", "zip", "exclude"):
        return written
    if isinstance(written, list):
        return [_rename_place(names, place, each) for each in written]
    if not isinstance(written, dict):
        return written
    renamed: Nested = {}
    for key, value in written.items():
        found = key
        if isinstance(key, str):
            found = names.find(option_name(key), value if not isinstance(value, list) or not value else value[0])
            found = key if found == option_name(key) else found
            value = _rename_value(names, f"{place}: {key}", found, value)
        if found in renamed:
            raise UserError(f"{found} is given twice in {place}; give it once")
        renamed[found] = value
    return renamed


def _rename_value(names: Names, where: str, option: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_rename_value(names, where, option, each) for each in value]
    if not isinstance(value, dict):
        return value
    name = option_name(option)
    return lookup(names.rename(undotted(nest(name, value), where), where), name)


def _read_formulas(value: Any, path: str, read: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _read_formulas(inner, f"{path}.{key}".removeprefix("."), read) for key, inner in value.items()}
    if isinstance(value, list):
        return [_read_formulas(each, path, read) for each in value]
    own = path.replace(".init_args", "") == _FORMULA
    return read(value) if own and isinstance(value, str) and ".." not in value else value
