"""A class keeps the options that are its own, in whatever form it is named, and another starts from its defaults."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from options_as_given import CLASSES, KNOWN, given

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested, class_defaults
from grok_lightning.options.merging import check_names, complete, expand, merge, normalize
from grok_lightning.options.parsing import resolve

SHARED = [
    (option, old, new, name)
    for option, classes in CLASSES.items()
    for old, new in permutations(classes, 2)
    for name in sorted(class_defaults(option, old).keys() & class_defaults(option, new).keys())
]
MARKER = 0.123
EMA, CLIP = "grok_lightning.optim.GrokfastEMA", "grok_lightning.optim.Clip"


def nest(option: str, value: Any) -> Nested:
    for part in reversed(option.split(".")):
        value = {part: value}
    return value


def within(nested: Nested, option: str) -> Nested:
    for part in option.split("."):
        nested = nested[part]
    return nested


def test_naming_another_class_starts_from_its_own_defaults() -> None:
    for option, old, new, name in SHARED:
        base = nest(option, {"class_path": old, name: MARKER})
        whole = complete(merge(base, normalize(nest(option, new))))
        assert within(whole, option) == {"class_path": new, **class_defaults(option, new)}, (old, new, name)


def test_naming_another_class_keeps_what_is_given_with_it() -> None:
    for option, old, new, name in SHARED:
        base, given_with_it = {"class_path": old, name: 7}, {"class_path": new, name: MARKER}
        whole = complete(merge(nest(option, base), nest(option, given_with_it)))
        assert within(whole, option)[name] == MARKER, (old, new, name)


def test_naming_the_same_class_keeps_its_options() -> None:
    for option, name in ((option, name) for option, names in CLASSES.items() for name in names):
        key = min(class_defaults(option, name))
        for again in (name, name.rsplit(".", 1)[-1], {"class_path": name}):
            merged = merge(nest(option, {"class_path": name, key: MARKER}), normalize(nest(option, again)))
            assert within(merged, option)[key] == MARKER, (name, again)


@pytest.mark.parametrize("option", CLASSES)
def test_the_default_class_counts_as_named(option: str) -> None:
    default, other = CLASSES[option][:2]
    key = min(class_defaults(option, default).keys() & class_defaults(option, other).keys())
    kept = merge(nest(option, {key: MARKER}), nest(option, {"class_path": default}))
    dropped = merge(nest(option, {key: MARKER}), nest(option, {"class_path": other}))
    assert within(kept, option)[key] == MARKER
    assert key not in within(dropped, option)


OTHER_PATHS = [
    ("model.optimizer", "torch.optim.SGD", "torch.optim.sgd.SGD"),
    ("model.optimizer", "AdamW", "grok_lightning.optim.adamw.AdamW"),
    ("data", "PermutationDataModule", "grok_lightning.data.datamodule.PermutationDataModule"),
    ("data", "SignedRemaindersDataModule", "grok_lightning.data.datamodule.SignedRemaindersDataModule"),
    ("data", "ModularArithmeticDataModule", "grok_lightning.data.datamodule.ModularArithmeticDataModule"),
]


def test_a_class_by_another_path_is_the_same_class() -> None:
    for option, one, other in OTHER_PATHS:
        for first, second in ((one, other), (other, one)):
            merged = merge(normalize(nest(option, {"class_path": first, "lr": 3})), normalize(nest(option, second)))
            assert within(merged, option)["lr"] == 3


FORMS = [
    {"class_path": "torch.optim.SGD", "lr": 3},
    {"class_path": "SGD", "lr": 3},
    {"class_path": "SGD", "init_args": {"lr": 3}},
    {"class_path": "torch.optim.SGD", "init_args": {"lr": 3}},
]


def test_every_form_of_a_class_is_normalized_alike() -> None:
    for value in FORMS:
        assert normalize({"model": {"optimizer": value}}) == {
            "model": {"optimizer": {"class_path": "torch.optim.SGD", "lr": 3}}
        }


def test_normalizing_takes_bare_names_and_leaves_its_argument_alone() -> None:
    before = {"data": "PermutationDataModule", "model": {"network": "Transformer", "optimizer": None}, "run": "1"}
    after = normalize(before)
    assert after["data"] == {"class_path": "grok_lightning.data.PermutationDataModule"}
    assert after["model"]["network"] == {"class_path": "grok_lightning.models.Transformer"}
    assert before["data"] == "PermutationDataModule"


def test_everything_complete_is_known() -> None:
    for data, optimizer in product(CLASSES["data"], CLASSES["model.optimizer"]):
        whole = complete({"data": {"class_path": data}, "model": {"optimizer": {"class_path": optimizer}}, "run": "1"})
        check_names(whole, KNOWN)
    check_names({"trainer": {"logger": {"anything": 1}}}, KNOWN)


@pytest.mark.parametrize("option", CLASSES)
def test_the_short_and_the_long_form_are_inverse(option: str) -> None:
    for name in CLASSES[option]:
        whole = complete(nest(option, {"class_path": name}) | {"trainer": {"max_steps": 5}})
        long = expand(whole)
        assert set(within(long, option)) == {"class_path", "init_args"}
        assert normalize(long) == whole
        assert expand(normalize(long)) == long


LISTS = [
    (["--model.filters", "GrokfastEMA"], [{"class_path": EMA}]),
    (["--model.filters", "[GrokfastEMA, Clip]"], [{"class_path": EMA}, {"class_path": CLIP}]),
    (
        ["--model.filters+=Clip", "--model.filters+=GrokfastEMA", "--model.filters.alpha", "0.9"],
        [{"class_path": CLIP}, {"class_path": EMA, "alpha": "0.9"}],
    ),
    (
        ["--model.filters+=Clip", "--model.filters.norm=2", "--model.filters+=GrokfastEMA"],
        [{"class_path": CLIP, "norm": "2"}, {"class_path": EMA}],
    ),
    (["--model.filters", "[{class_path: Clip, norm: 3}]"], [{"class_path": CLIP, "norm": 3}]),
    (["--model.filters", "{class_path: Clip, init_args: {norm: 3}}"], [{"class_path": CLIP, "norm": 3}]),
    (["--model.filters", "[]"], []),
]


def test_a_list_of_classes_is_written_in_many_ways() -> None:
    for arguments, expected in LISTS:
        assert given(*arguments)["model"]["filters"] == expected


def test_lists_replace_each_other_and_the_command_line_adds_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {filters: [{class_path: Clip, norm: 2}]}")
    more = given("--config", str(file), "--model.filters+=GrokfastEMA", "--model.filters.strength", "5")
    assert more["model"]["filters"] == [{"class_path": CLIP, "norm": 2}, {"class_path": EMA, "strength": "5"}]
    other = given("--config", str(file), "--model.filters", "GrokfastEMA")
    assert other["model"]["filters"] == [{"class_path": EMA}]


def test_each_class_of_a_list_gets_its_own_defaults() -> None:
    whole = complete({"model": {"filters": [{"class_path": CLIP}, {"class_path": EMA, "alpha": 0.5}]}})
    clip, ema = whole["model"]["filters"]
    assert clip == {"class_path": CLIP, "norm": 1.0}
    assert (ema["alpha"], ema["strength"]) == (0.5, 2.0)
    assert complete({})["measures"] == complete({})["model"]["filters"] == []
    expanded = expand(whole)["model"]["filters"]
    assert expanded[0] == {"class_path": CLIP, "init_args": {"norm": 1.0}}


OPTIONAL = ("model.scheduler", "model.filters", "model.constraints", "measures")


@pytest.mark.parametrize("how", ["file", "python", "command line"])
def test_null_takes_out_the_classes_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(
        "model: {scheduler: {class_path: StepLR, step_size: 3}, filters: [Clip], constraints: [ClipRows]}\n"
        "measures: [Rank]\n"
    )
    Path("over.yaml").write_text("".join(f"{option}: null\n" for option in OPTIONAL))
    words = [word for option in OPTIONAL for word in (f"--{option}", "null")]
    further = {"file": ["--config", "over.yaml"], "python": [], "command line": words}[how]
    python = dict.fromkeys(OPTIONAL) if how == "python" else None
    found = resolve(["fit", "--config", "base.yaml", *further], python).options
    assert found == resolve(["fit"], {"experiment": found["experiment"]}).options


@pytest.mark.parametrize("option", ["data", "model.network", "model.optimizer"])
def test_null_is_refused_where_a_class_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(f"{option}: null\n")
    for words, python in ((["--config", "c.yaml"], None), ([f"--{option}", "null"], None), ([], {option: None})):
        with pytest.raises(UserError, match=f"^--{option} is null; leave it out, or give the name of a class"):
            resolve(["fit", *words], python)


NETWORK_WITH_MAPPINGS = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Shape:
    width: int = 8
    name: str = "3"

class Net(nn.Module):
    def __init__(self, vocabulary: int, opts: dict = {"width": 8}, shape: Shape = Shape(), depth: int = 1):
        super().__init__()
"""


def test_options_of_an_own_class_that_are_mappings_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net_with_mappings.py").write_text(NETWORK_WITH_MAPPINGS)
    words = ["fit", "--experiment", "e", "--run", "1", "--model.network", "net_with_mappings.Net"]
    found = resolve(words).options
    assert found["model"]["network"]["opts"] == {"width": 8}
    Path("config.yaml").write_text(yaml.safe_dump(found))
    assert resolve(["fit", "--config", "config.yaml"]).options == found
    changed = resolve([*words, "--model.network.opts.width", "9", "--model.network.shape.width", "10"]).options
    assert changed["model"]["network"]["opts"] == {"width": 9}
    assert changed["model"]["network"]["shape"] == {"width": 10, "name": "3"}
    for option in ("depth.x", "shapes.width"):
        with pytest.raises(UserError, match=f"--model.network.{option} is no option of Net"):
            resolve([*words, f"--model.network.{option}", "3"])
