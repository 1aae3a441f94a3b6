"""A mistake in an option is told in one line, with the nearest name where one is misspelt."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from options_as_given import CLASSES, KNOWN, config_file, given

from grok_lightning.arguments import find_config
from grok_lightning.classes import Nested, class_path
from grok_lightning.errors import UserError
from grok_lightning.options import check_names, complete


def whole(nested: Nested) -> Nested:
    """Checked and completed, as the command does."""
    check_names(nested, KNOWN)
    return complete(nested)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


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
def test_malformed_files_are_refused(tmp_path: Path, text: str) -> None:
    refusal(lambda: whole(given("--config", config_file(tmp_path, text))))


@pytest.mark.parametrize("text", ["data:", "model:", "model: {network: }", "model: {optimizer: null}"])
def test_a_group_left_empty_in_a_file_is_as_if_not_given_or_refused(tmp_path: Path, text: str) -> None:
    try:
        found = whole(given("--config", config_file(tmp_path, text)))
    except UserError:
        return
    assert found == complete({})


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


def test_an_unknown_config_gets_the_nearest_name() -> None:
    assert refusal(lambda: find_config("additon")).endswith("did you mean addition?")
    refusal(lambda: find_config("elsewhere/addition.yaml"))


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
