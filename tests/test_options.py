"""Options: what was given, in whatever form and order, means one thing, and a mistake is told in one line."""

import re
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import yaml

from grok_lightning.arguments import find_config, given_options, shipped_configs
from grok_lightning.classes import Nested, class_defaults, class_path
from grok_lightning.errors import UserError
from grok_lightning.options import check_names, complete, expand, merge, normalize, plain

CLASSES = {
    "model.optimizer": [
        "grok_lightning.optim.AdamW",
        "grok_lightning.optim.Muon",
        "torch.optim.SGD",
        "torch.optim.Adam",
        "torch.optim.RMSprop",
    ],
    "model.network": [f"grok_lightning.models.{name}" for name in ("Transformer", "MLP", "LSTM", "GRU")],
    "data": [
        f"grok_lightning.data.{name}DataModule"
        for name in ("ModularArithmetic", "Permutation", "SignedRemainders", "Text")
    ],
}
SHARED = [
    pytest.param(option, old, new, name, id=f"{name}: {old.rsplit('.', 1)[-1]} to {new.rsplit('.', 1)[-1]}")
    for option, classes in CLASSES.items()
    for old, new in permutations(classes, 2)
    for name in sorted(class_defaults(option, old).keys() & class_defaults(option, new).keys())
]
MARKER = 0.123
KNOWN = {
    *("run", "experiment", "overwrite", "trainer.max_steps", "trainer.logger", "trainer.logger.help", "model.warmup"),
    *("model.filters", "measures"),
}


def given(*arguments: str, flags: tuple[str, ...] = ("overwrite",)) -> Nested:
    return given_options(list(arguments), flags, {})[0]


def whole(nested: Nested) -> Nested:
    """Checked and completed, as the command does."""
    check_names(nested, KNOWN)
    return complete(nested)


def nest(option: str, value: Any) -> Nested:
    for part in reversed(option.split(".")):
        value = {part: value}
    return value


def within(nested: Nested, option: str) -> Nested:
    for part in option.split("."):
        nested = nested[part]
    return nested


@pytest.fixture
def config(tmp_path: Path) -> Callable[[Nested | str], str]:
    """Writes a YAML file: its path."""

    def write(content: Nested | str) -> str:
        path = tmp_path / f"config{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data.modulus", "7"], {"data": {"modulus": "7"}}),
        (["--data.modulus=7"], {"data": {"modulus": "7"}}),
        (["--data.formula=x == y"], {"data": {"formula": "x == y"}}),
        (["--data.init_args.modulus", "7"], {"data": {"modulus": "7"}}),
        (["--ckpt-path", "a-b"], {"ckpt_path": "a-b"}),
        (["--trainer.max_steps=-1"], {"trainer": {"max_steps": "-1"}}),
        (["--trainer.max-steps", "-1"], {"trainer": {"max_steps": "-1"}}),
        (["--run="], {"run": ""}),
        (["--run", "1", "--run", "2"], {"run": "2"}),
        (["--overwrite"], {"overwrite": "true"}),
        (["--overwrite", "--run", "1"], {"overwrite": "true", "run": "1"}),
        (["--overwrite", "false"], {"overwrite": "false"}),
        (["--checkpoint.steps+=5", "--checkpoint.steps+", "9"], {"checkpoint": {"steps": ["5", "9"]}}),
        (
            ["--trainer.callbacks+=A", "--trainer.callbacks.x=1", "--trainer.callbacks+=B"],
            {"trainer": {"callbacks": [{"class_path": "A", "init_args": {"x": "1"}}, "B"]}},
        ),
        ([], {}),
    ],
)
def test_arguments_as_nested_options(arguments: list[str], expected: Nested) -> None:
    assert given(*arguments) == expected


def test_the_order_of_a_class_and_its_options_does_not_matter() -> None:
    pairs = [("--data", "PermutationDataModule"), ("--data.degree", "4"), ("--data.formula", "x * y")]
    found = [given(*(word for pair in order for word in pair)) for order in permutations(pairs)]
    assert found == [
        {"data": {"class_path": "grok_lightning.data.PermutationDataModule", "degree": "4", "formula": "x * y"}}
    ] * len(found)


@pytest.mark.parametrize("named", ["--model.optimizer", "--model.optimizer.class_path", "--model.optimizer.class-path"])
def test_a_class_is_named_by_its_class_path_too_in_either_order(named: str) -> None:
    expected = {"model": {"optimizer": {"class_path": "grok_lightning.optim.Muon", "lr": "3"}}}
    assert given(named, "Muon", "--model.optimizer.lr", "3") == expected
    assert given("--model.optimizer.lr", "3", named, "Muon") == expected


def test_an_option_of_any_named_class_goes_to_that_class_in_either_order() -> None:
    named, option = "--trainer.logger=A", "--trainer.logger.x=1"
    expected = {"trainer": {"logger": {"class_path": "A", "init_args": {"x": "1"}}}}
    assert given(named, option) == expected
    assert given(option, named) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["--"],
        ["-x", "1"],
        ["--run", "1", "2"],
        ["--config", "no such config"],
    ],
)
def test_what_is_no_option_is_refused(arguments: list[str]) -> None:
    refusal(lambda: given(*arguments))


@pytest.mark.parametrize(
    "arguments", [["--run"], ["--run", "--overwrite"], ["--data"], ["--checkpoint.steps+"], ["--config"]]
)
def test_a_missing_value_is_refused(arguments: list[str]) -> None:
    known = {*KNOWN, "checkpoint.steps"}
    assert refusal(lambda: check_names(given(*arguments), known)).startswith(
        f"{arguments[0].rstrip('+')} needs a value"
    )


def test_a_misspelt_option_without_a_value_gets_the_nearest_one() -> None:
    assert refusal(lambda: check_names(given("--experimnt"), KNOWN)).endswith("did you mean --experiment?")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data={formula: x"],
        ["--model.optimizer", ".SGD"],
        ["--model.optimizer", "..SGD"],
        ["--a=1", "--a+=2"],
        ["--a.b=1", "--a+=2"],
    ],
)
def test_malformed_arguments_are_refused(arguments: list[str]) -> None:
    refusal(lambda: given(*arguments))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "fit",
        "a: [",
        "a: b: c",
        "data: [1]",
        "data: 3",
        "model: {optimizer: [SGD]}",
        "run: 2024-13-45",
        "data: {class_path: 3}",
        "data: {class_path: [PermutationDataModule]}",
        "data: {init_args: [1]}",
        "model: 3",
    ],
)
def test_malformed_files_are_refused(config: Callable, text: str) -> None:
    refusal(lambda: whole(given("--config", config(text))))


@pytest.mark.parametrize("text", ["data:", "model:", "model: {network: }", "model: {optimizer: null}"])
def test_a_group_left_empty_in_a_file_is_as_if_not_given_or_refused(config: Callable, text: str) -> None:
    try:
        found = whole(given("--config", config(text)))
    except UserError:
        return
    assert found == complete({})


def test_the_command_line_wins_over_later_files_over_earlier_files(config: Callable) -> None:
    first = config({"run": "a", "experiment": "a", "data": {"modulus": 5, "formula": "x"}})
    second = config({"run": "b", "data": {"modulus": 7}})
    words = [("--run=c",), ("--config", first), (f"-c={second}",)]
    for order in permutations(words):
        found, configs = given_options([word for group in order for word in group], ())
        late_first = order.index(words[1]) > order.index(words[2])
        assert found["run"] == "c"
        assert found["data"] == {"modulus": 5 if late_first else 7, "formula": "x"}
        assert found["experiment"] == "a"
        assert list(map(str, configs)) == ([second, first] if late_first else [first, second])


def test_items_are_added_to_the_list_of_a_file(config: Callable) -> None:
    listed = config({"trainer": {"callbacks": ["A"]}})
    assert given("--trainer.callbacks+=B", "--config", listed) == {"trainer": {"callbacks": ["A", "B"]}}


def test_options_meet_across_files_and_command_line_whatever_names_the_class(config: Callable) -> None:
    named, option = config({"model": {"optimizer": {"class_path": "SGD", "momentum": 0.5}}}), "--model.optimizer.lr=3"
    expected = {"class_path": "torch.optim.SGD", "momentum": 0.5, "lr": "3"}
    assert given("--config", named, option)["model"]["optimizer"] == expected
    assert given("--config", named, option, "--model.optimizer=SGD")["model"]["optimizer"] == expected
    assert given("--config", named, option, "--model.optimizer=Adam")["model"]["optimizer"] == {
        "class_path": "torch.optim.Adam",
        "lr": "3",
    }


@pytest.mark.parametrize(("option", "old", "new", "name"), SHARED)
def test_naming_another_class_starts_from_its_own_defaults(option: str, old: str, new: str, name: str) -> None:
    base = nest(option, {"class_path": old, name: MARKER})
    whole = complete(merge(base, normalize(nest(option, new))))
    assert within(whole, option) == {"class_path": new, **class_defaults(option, new)}


@pytest.mark.parametrize(("option", "old", "new", "name"), SHARED)
def test_naming_another_class_keeps_what_is_given_with_it(option: str, old: str, new: str, name: str) -> None:
    whole = complete(merge(nest(option, {"class_path": old, name: 7}), nest(option, {"class_path": new, name: MARKER})))
    assert within(whole, option)[name] == MARKER


@pytest.mark.parametrize(("option", "name"), [(option, name) for option, names in CLASSES.items() for name in names])
def test_naming_the_same_class_keeps_its_options(option: str, name: str) -> None:
    key = min(class_defaults(option, name))
    for again in (name, name.rsplit(".", 1)[-1], {"class_path": name}):
        merged = merge(nest(option, {"class_path": name, key: MARKER}), normalize(nest(option, again)))
        assert within(merged, option)[key] == MARKER


@pytest.mark.parametrize("option", CLASSES)
def test_the_default_class_counts_as_named(option: str) -> None:
    default, other = CLASSES[option][:2]
    key = min(class_defaults(option, default).keys() & class_defaults(option, other).keys())
    kept = merge(nest(option, {key: MARKER}), nest(option, {"class_path": default}))
    dropped = merge(nest(option, {key: MARKER}), nest(option, {"class_path": other}))
    assert within(kept, option)[key] == MARKER
    assert key not in within(dropped, option)


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("model.optimizer", "torch.optim.SGD", "torch.optim.sgd.SGD"),
        ("model.optimizer", "AdamW", "grok_lightning.optim.adamw.AdamW"),
        ("data", "PermutationDataModule", "grok_lightning.data.datamodule.PermutationDataModule"),
    ],
)
def test_a_class_by_another_path_is_the_same_class(option: str, one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        merged = merge(normalize(nest(option, {"class_path": first, "lr": 3})), normalize(nest(option, second)))
        assert within(merged, option)["lr"] == 3


@pytest.mark.parametrize(
    "value",
    [
        {"class_path": "torch.optim.SGD", "lr": 3},
        {"class_path": "SGD", "lr": 3},
        {"class_path": "SGD", "init_args": {"lr": 3}},
        {"class_path": "torch.optim.SGD", "init_args": {"lr": 3}},
    ],
)
def test_every_form_of_a_class_is_normalized_alike(value: Nested) -> None:
    assert normalize({"model": {"optimizer": value}}) == {
        "model": {"optimizer": {"class_path": "torch.optim.SGD", "lr": 3}}
    }


def test_normalizing_takes_bare_names_and_leaves_its_argument_alone() -> None:
    before = {"data": "PermutationDataModule", "model": {"network": "Transformer", "optimizer": None}, "run": "1"}
    after = normalize(before)
    assert after["data"] == {"class_path": "grok_lightning.data.PermutationDataModule"}
    assert after["model"]["network"] == {"class_path": "grok_lightning.models.Transformer"}
    assert before["data"] == "PermutationDataModule"


@pytest.mark.parametrize(
    ("option", "name", "near"),
    [
        ("model.optimizer", "AdmW", "AdamW"),
        ("model.optimizer", "RMSProp", "RMSprop"),
        ("model.network", "Tranformer", "Transformer"),
        ("data", "PermutationModule", "PermutationDataModule"),
    ],
)
def test_an_unknown_class_gets_the_nearest_name(option: str, name: str, near: str) -> None:
    message = refusal(lambda: class_path(option, name))
    assert option in message
    assert repr(name) in message
    assert message.endswith(f"did you mean {near}?")


@pytest.mark.parametrize("name", ["torch.optim.Nothing", "no.such.module", "torch.optim.functional"])
def test_a_dotted_name_that_is_no_class_is_refused(name: str) -> None:
    assert name in refusal(lambda: class_path("model.optimizer", name))


@pytest.mark.parametrize(
    ("nested", "near"),
    [
        ({"trainer": {"max_step": 1}}, "--trainer.max_steps"),
        ({"max_steps": 1}, "--trainer.max_steps"),
        ({"experimnt": "a"}, "--experiment"),
        ({"model": {"warm_up": 3}}, "--model.warmup"),
        ({"data": {"modulo": 3}}, "--data.modulus"),
        ({"model": {"optimizer": {"betaz": 1}}}, "--model.optimizer.betas"),
        ({"model": {"optimizer": {"class_path": "torch.optim.SGD", "momentun": 1}}}, "--model.optimizer.momentum"),
        ({"lr": 1}, "--model.optimizer.lr"),
    ],
)
def test_a_misspelt_option_gets_the_nearest_one(nested: Nested, near: str) -> None:
    assert refusal(lambda: check_names(nested, KNOWN)).endswith(f"did you mean {near}?")


def test_an_option_that_the_class_does_not_have_is_refused() -> None:
    adamw, sgd = (
        {"model": {"optimizer": {"class_path": name, "momentum": 0.9}}} for name in CLASSES["model.optimizer"][:2]
    )
    assert "no option of AdamW" in refusal(lambda: check_names(adamw, KNOWN))
    check_names(sgd, KNOWN)


def test_everything_complete_is_known() -> None:
    for data, optimizer in product(CLASSES["data"], CLASSES["model.optimizer"]):
        whole = complete({"data": {"class_path": data}, "model": {"optimizer": {"class_path": optimizer}}, "run": "1"})
        check_names(whole, KNOWN)
    check_names({"trainer": {"logger": {"anything": 1}}}, KNOWN)


@pytest.mark.parametrize("name", shipped_configs())
def test_a_shipped_config_is_found_by_name_and_by_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spelled = (name, f"{name}.yaml", f"configs/{name}.yaml", str(shipped_configs()[name]))
    assert {find_config(spelling) for spelling in spelled} == {shipped_configs()[name]}
    Path(f"{name}.yaml").write_text("run: mine")
    assert find_config(f"{name}.yaml") == Path(f"{name}.yaml"), "a user's own file comes first"


def test_an_unknown_config_gets_the_nearest_name() -> None:
    assert refusal(lambda: find_config("additon")).endswith("did you mean addition?")
    refusal(lambda: find_config("elsewhere/addition.yaml"))


@pytest.mark.parametrize("option", CLASSES)
def test_the_short_and_the_long_form_are_inverse(option: str) -> None:
    for name in CLASSES[option]:
        whole = complete(nest(option, {"class_path": name}) | {"trainer": {"max_steps": 5}})
        long = expand(whole)
        assert set(within(long, option)) == {"class_path", "init_args"}
        assert normalize(long) == whole
        assert expand(normalize(long)) == long


def test_completing_twice_adds_nothing() -> None:
    whole = complete({"data": {"modulus": 5}})
    assert complete(whole) == whole
    assert whole["data"]["modulus"] == 5


def test_plain_values_can_be_written_anywhere() -> None:
    found = plain({"path": Path("a/b"), 3: (1, 2.5, None, True), "set": {7}, "nested": {"list": [Path("c")]}})
    assert found == {
        "path": "a/b",
        "3": [1, 2.5, None, True],
        "set": [7],
        "nested": {"list": ["c"]},
    }
    assert yaml.safe_load(yaml.safe_dump(found)) == found
    assert plain(found) == found


EMA, CLIP = "grok_lightning.optim.GrokfastEMA", "grok_lightning.optim.Clip"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
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
    ],
)
def test_a_list_of_classes_is_written_in_many_ways(arguments: list[str], expected: list[Nested]) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.filters", "Grokfast"], "model.filters names the class 'Grokfast', which does not exist"),
        (["--model.filters", "AdamW"], "model.filters names the class 'AdamW', which does not exist"),
        (["--model.filters", "torch.optim.SGD"], "extends GradientFilter"),
        (["--model.filters", "[{alpha: 0.9}]"], "names no class"),
        (["--model.filters", "[3]"], "model.filters is 3; a class name or a mapping"),
        (["--model.filters", "[Clip"], "cannot be read as a mapping of options or a list"),
        (["--model.filters", "Clip", "--model.filters.alpha", "1"], "model.filters: alpha is no option of Clip"),
        (["--model.filters", "GrokfastEMA", "--model.filters.alpa", "1"], "did you mean alpha?"),
        (["--model.filters", "Clip", "--model.filters.norm"], "--model.filters.norm needs a value"),
        (["--measures", "Fourie"], "did you mean Fourier?"),
    ],
)
def test_mistakes_in_lists_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_names(given(*arguments), KNOWN)
