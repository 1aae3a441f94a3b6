"""A mistake in an option is told in one line, with the nearest name where one is misspelt."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from options_as_given import CLASSES, KNOWN, config_file, given

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested, class_path
from grok_lightning.options.merging import check_names, complete
from grok_lightning.options.parsing import resolve
from grok_lightning.options.shipped import find_config


def whole(nested: Nested) -> Nested:
    """Checked and completed, as the command does."""
    check_names(nested, KNOWN)
    return complete(nested)


def from_file(folder: Path, text: str) -> Nested:
    return whole(given("--config", config_file(folder, text)))


def checked(*arguments: str) -> None:
    check_names(given(*arguments), {*KNOWN, "checkpoint.steps"})


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


NO_OPTIONS = [
    ["fit"],
    ["--"],
    ["-x", "1"],
    ["--run", "1", "2"],
    ["--config", "no such config"],
]


def test_what_is_no_option_is_refused() -> None:
    for arguments in NO_OPTIONS:
        refusal(given, *arguments)


VALUELESS = [["--run"], ["--run", "--overwrite"], ["--data"], ["--checkpoint.steps+"], ["--config"]]


def test_a_missing_value_is_refused() -> None:
    for arguments in VALUELESS:
        assert refusal(checked, *arguments).startswith(f"{arguments[0].rstrip('+')} needs a value")


def test_a_misspelt_option_without_a_value_gets_the_nearest_one() -> None:
    assert refusal(lambda: check_names(given("--experimnt"), KNOWN)).endswith("did you mean --experiment?")


MALFORMED = [
    ["--data={formula: x"],
    ["--model.optimizer", ".SGD"],
    ["--model.optimizer", "..SGD"],
    ["--a=1", "--a+=2"],
    ["--a.b=1", "--a+=2"],
]


def test_malformed_arguments_are_refused() -> None:
    for arguments in MALFORMED:
        refusal(given, *arguments)


MALFORMED_FILES = [
    "",
    "- 1",
    "fit",
    "a: [",
    "a: b: c",
    "data: [1]",
    "data: 3",
    "model: {optimizer: [SGD]}",
    "data: {class_path: 3}",
    "data: {class_path: [PermutationDataModule]}",
    "data: {init_args: [1]}",
    "model: 3",
]


def test_malformed_files_are_refused(tmp_path: Path) -> None:
    for text in MALFORMED_FILES:
        refusal(from_file, tmp_path, text)


@pytest.mark.parametrize("text", ["data:", "model:", "model: {network: }", "model: {optimizer: null}"])
def test_a_group_left_empty_in_a_file_is_as_if_not_given_or_refused(tmp_path: Path, text: str) -> None:
    try:
        found = whole(given("--config", config_file(tmp_path, text)))
    except UserError:
        return
    assert found == complete({})


UNKNOWN_CLASSES = [
    ("model.optimizer", "AdmW", "AdamW"),
    ("model.optimizer", "RMSProp", "RMSprop"),
    ("model.network", "Tranformer", "Transformer"),
    ("data", "PermutationModule", "PermutationDataModule"),
]


def test_an_unknown_class_gets_the_nearest_name() -> None:
    for option, name, near in UNKNOWN_CLASSES:
        message = refusal(class_path, option, name)
        assert option in message
        assert repr(name) in message
        assert message.endswith(f"did you mean {near}?")


def test_a_dotted_name_that_is_no_class_is_refused() -> None:
    for name in ("torch.optim.Nothing", "no.such.module", "torch.optim.functional"):
        assert name in refusal(class_path, "model.optimizer", name)


MISSPELT = [
    ({"trainer": {"max_step": 1}}, "--trainer.max_steps"),
    ({"max_steps": 1}, "--trainer.max_steps"),
    ({"experimnt": "a"}, "--experiment"),
    ({"model": {"warm_up": 3}}, "--model.warmup"),
    ({"data": {"modulo": 3}}, "--data.modulus"),
    ({"model": {"optimizer": {"betaz": 1}}}, "--model.optimizer.betas"),
    ({"model": {"optimizer": {"class_path": "torch.optim.SGD", "momentun": 1}}}, "--model.optimizer.momentum"),
    ({"lr": 1}, "--model.optimizer.lr"),
]


def test_a_misspelt_option_gets_the_nearest_one() -> None:
    for nested, near in MISSPELT:
        assert refusal(check_names, nested, KNOWN).endswith(f"did you mean {near}?")


def test_an_option_that_the_class_does_not_have_is_refused() -> None:
    adamw, sgd = (
        {"model": {"optimizer": {"class_path": name, "momentum": 0.9}}} for name in CLASSES["model.optimizer"][:2]
    )
    assert "no option of AdamW" in refusal(lambda: check_names(adamw, KNOWN))
    check_names(sgd, KNOWN)


def test_an_unknown_config_gets_the_nearest_name() -> None:
    assert refusal(lambda: find_config("additon")).endswith("did you mean addition?")
    refusal(lambda: find_config("elsewhere/addition.yaml"))


LISTS = [
    (["--model.filters", "Grokfast"], "model.filters names the class 'Grokfast', which does not exist"),
    (["--model.filters", "AdamW"], "model.filters names the class 'AdamW', which does not exist"),
    (["--model.filters", "torch.optim.SGD"], "does not extend GradientFilter"),
    (["--model.filters", "[{alpha: 0.9}]"], "names no class"),
    (["--model.filters", "[3]"], "model.filters is 3; a class name or a mapping"),
    (["--model.filters", "[Clip"], "cannot be read as a mapping of options or a list"),
    (["--model.filters", "Clip", "--model.filters.alpha", "1"], "model.filters: alpha is no option of Clip"),
    (["--model.filters", "GrokfastEMA", "--model.filters.alpa", "1"], "did you mean alpha?"),
    (["--model.filters", "Clip", "--model.filters.norm"], "--model.filters.norm needs a value"),
    (["--measures", "Fourie"], "did you mean Fourier?"),
]


def test_mistakes_in_lists_are_named() -> None:
    for arguments, message in LISTS:
        with pytest.raises(UserError, match=re.escape(message)):
            check_names(given(*arguments), KNOWN)


def test_a_config_whose_stem_is_no_name_of_an_experiment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my task.yaml").write_text("data.modulus: 7\n")
    message = refusal(resolve, ["fit", "--config", "my task.yaml"])
    assert message.startswith("--config 'my task.yaml' names the experiment 'my task'; at most 100 letters")
    assert message.endswith("; rename it, or add --experiment NAME")
    assert resolve(["fit", "--config", "my task.yaml", "--experiment", "mine"]).options["experiment"] == "mine"


INNER = "expected: initial or a number or a list of numbers"
TOLD = [
    (["--model.weight_norm.at_most", "abc"], f"--model.weight_norm.at_most is 'abc'; {INNER}"),
    (["--model.weight_norm.at_most", "true"], f"--model.weight_norm.at_most is True; {INNER}"),
    (["--model.weight_norm.at_most"], "--model.weight_norm.at_most needs a value"),
    (
        ["--model.weight_norm", "20", "--model.weight_norm.at_most", "30"],
        "--model.weight_norm.at_most and the value '20' of --model.weight_norm contradict each other",
    ),
    (["--trainer", "x"], "--trainer is 'x'; a mapping of options is expected, or --trainer.OPTION VALUE"),
    (["--trainer", "{max_stps: 5}"], "--trainer.max_stps is no option; did you mean --trainer.max_steps?"),
]


@pytest.mark.parametrize(("arguments", "said"), TOLD)
def test_an_option_within_a_mapping_is_named(arguments: list[str], said: str) -> None:
    assert refusal(resolve, ["fit", *arguments]) == said


def test_a_group_of_options_is_taken_as_a_mapping() -> None:
    found = given(
        "--model", "{loss: mse, optimizer: {wd: 2}}", "--trainer={max_steps: 5}", "--model.loss=cross_entropy"
    )
    assert found["trainer"] == {"max_steps": 5}
    assert found["model"] == {"loss": "cross_entropy", "optimizer": {"weight_decay": 2}}
    assert resolve(["fit", "--model.weight_norm.at_most", "[30]"]).options["model"]["weight_norm"] == {"at_most": [30]}
