"""Hashes are computed against frozen defaults: a default that changes in the code makes no old run a new one."""

import json
from typing import Any

import pytest

from grok_lightning.options.classes import CLASS_OPTIONS, class_defaults, class_names, class_path
from grok_lightning.options.parsing import resolve_fit
from grok_lightning.records.defaults import frozen_defaults, frozen_table
from grok_lightning.records.record import CALLBACKS, NOT_RESULTS, OBSERVERS, config_hash, flatten

OURS = [
    (option, path)
    for option in CLASS_OPTIONS
    for name in class_names(option)
    if (path := class_path(option, name)).startswith("grok_lightning.")
]


def counts(option: str) -> bool:
    return not any(option == name or option.startswith(f"{name}.") for name in NOT_RESULTS)


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return flatten(resolve_fit({})[0])  # nothing is given, so these are the code's


def differing(current: dict[str, Any], table: dict[str, Any], prefix: str = "") -> set[str]:
    written = json.loads(json.dumps(current))  # with lists for tuples, as configs have them
    return {f"{prefix}{name}" for name, value in written.items() if name not in table or table[name] != value}


def test_every_default_is_that_of_the_table_or_noted(defaults: dict[str, Any]) -> None:
    """If this fails: a new option gets a row with the value that older runs had; a changed default gets a note."""
    table = frozen_table()
    groups = tuple(f"{option}." for option in CLASS_OPTIONS)
    current = {name: value for name, value in defaults.items() if counts(name) and not name.startswith(groups)}
    found = differing({name: value for name, value in current.items() if "trainer." not in name}, table["options"])
    # an option of Lightning's that another version has may be missing on either side
    found |= {name for name, value in current.items() if table["options"].get(name, value) != value}
    for option, path in OURS:
        found |= differing(class_defaults(option, path), table["classes"][option][path], f"{path}.")
    found |= {option for option, kept in CLASS_OPTIONS.items() if table["default_classes"][option] != kept.default}
    assert found == set(table["notes"])


def hashed(config: dict[str, Any], defaults: dict[str, Any]) -> str:
    return config_hash(config, frozen_defaults(defaults), NOT_RESULTS)


def test_a_changed_default_changes_no_hash() -> None:
    """The same resolved config has the same hash, whatever default the code has by then."""
    path = "grok_lightning.models.Transformer"

    def config(width: int, threshold: float, class_path: str = path) -> dict[str, Any]:
        network = {"class_path": class_path, "width": width}
        return {"model": {"network": network}, "evaluation": {"threshold": threshold}}

    then, now = config(128, 0.99), config(256, 0.95)  # the defaults of two versions of the code
    for run in (then, now, config(64, 0.99)):
        assert hashed(run, then) == hashed(run, now)
    assert len({hashed(run, now) for run in (then, now, config(64, 0.99))}) == 3
    assert hashed(then, then) == config_hash({}, {}, NOT_RESULTS), "what has the first defaults counts as nothing"


def test_a_new_option_at_its_first_default_changes_no_hash() -> None:
    old = {"evaluation": {"threshold": 0.99}}
    new = {"evaluation": {"threshold": 0.99, "novel": 3}}
    assert hashed(old, old) == hashed(new, new)
    assert hashed(new | {"evaluation": {"threshold": 0.99, "novel": 4}}, new) != hashed(new, new)


def test_a_class_counts_unless_it_is_the_first_default_one() -> None:
    mlp = {"model": {"network": {"class_path": "grok_lightning.models.MLP"}}}
    transformer = {"model": {"network": {"class_path": "grok_lightning.models.Transformer"}}}
    assert hashed(mlp, mlp) != hashed(transformer, transformer) == config_hash({}, {}, NOT_RESULTS)


def test_defaults_that_were_given_are_left_alone() -> None:
    given = {"evaluation": {"threshold": 0.5}}
    assert frozen_defaults(given) == {"evaluation": {"threshold": 0.99}}
    assert given == {"evaluation": {"threshold": 0.5}}


def hash_with(*callbacks: Any) -> str:
    return config_hash(*resolve_fit({"trainer": {"callbacks": [*callbacks]}}), NOT_RESULTS)


def test_callbacks_that_may_change_a_result_count_with_their_options() -> None:
    alone = config_hash(*resolve_fit({}), NOT_RESULTS)
    observers = [name.rpartition(".")[2] for name in OBSERVERS]
    assert {class_path(CALLBACKS, name) for name in observers} == OBSERVERS
    assert hash_with() == hash_with("LearningRateMonitor", "ModelCheckpoint", "TQDMProgressBar") == alone
    slow, fast = ({"class_path": "EMAWeightAveraging", "decay": decay} for decay in (0.9, 0.99))
    stopping = {"class_path": "EarlyStopping", "monitor": "val/loss"}
    assert len({alone, *map(hash_with, (slow, fast, stopping, "WeightAveraging"))}) == 5
    assert hash_with("ModelSummary", slow) == hash_with(slow)
