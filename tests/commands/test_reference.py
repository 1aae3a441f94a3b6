"""The shipped models answer from a fresh clone, and their cards say what they are."""

import json
import re
import shlex
from math import fmod
from pathlib import Path

import pytest
import torch

import grok_lightning
from grok_lightning.__main__ import main
from grok_lightning.records.checkpoint import CONFIG_KEY, load
from grok_lightning.run import load_run

SHIPPED = Path(grok_lightning.__file__).parents[1] / "checkpoints" / "reference"
NAMES = sorted(path.stem for path in SHIPPED.glob("*.ckpt"))


@pytest.mark.parametrize("name", NAMES)
def test_it_knows_the_whole_table(name):
    run = load_run(SHIPPED / f"{name}.ckpt")
    places = [run.data.vocabulary.index(element) for element in run.data.operation.algebra.names]
    with torch.no_grad():
        logits_BV = run.model(run.data.tokens(run.operands_NK), 1)[0, :, -1]
    right = logits_BV[:, places].argmax(-1).numpy() == run.results_N
    assert right.mean() >= 0.99


ANSWERS = {  # signed remainders keep the sign
    ("x + y", False): lambda x, y, p: (x + y) % p,
    ("x / y", False): lambda x, y, p: x * pow(y, -1, p) % p,
    ("x - y", True): lambda x, y, p: int(fmod(x - y, p)),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_command_on_its_card_works(name, capsys, monkeypatch):
    monkeypatch.chdir(SHIPPED.parents[1])
    card = (SHIPPED / f"{name}.md").read_text()
    command = re.search(r"^    grok-lightning (.*)$", card, re.MULTILINE)[1]
    assert main(shlex.split(command)) == 0
    data = load(SHIPPED / f"{name}.ckpt")[CONFIG_KEY]["data"]
    right = ANSWERS[data["formula"], "Signed" in data["class_path"]]
    answers = [int(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    for prompt, answer in zip(shlex.split(command)[2:], answers, strict=True):
        x, y = map(int, re.findall(r"\d+", prompt))
        assert answer == right(x, y, data["modulus"])


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_tells_no_place(name):
    path = SHIPPED / f"{name}.ckpt"
    assert path.stat().st_size < 2.5e6
    config = load(path)[CONFIG_KEY]
    assert config["trainer"]["default_root_dir"] is None
    assert not re.search(r'"/(home|tmp|root|work)', json.dumps(config, default=str))


def test_it_cannot_be_resumed_and_says_what_to_do_instead(capsys):
    assert main(["fit", "--ckpt_path", str(SHIPPED / f"{NAMES[0]}.ckpt")]) == 2
    assert "--init_from" in capsys.readouterr().err


def test_every_model_has_a_card_and_every_card_a_model():
    assert NAMES
    assert sorted(path.stem for path in SHIPPED.glob("*.md")) == NAMES
