"""The program that sums up the comparison of methods: what it chooses, and that the page's tables are its own."""

import importlib
import importlib.util
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import grok_lightning

HOME = Path(grok_lightning.__file__).parents[1]
sys.path.append(str(HOME / "benchmarks"))
compare, reproduce = importlib.import_module("compare"), importlib.import_module("reproduce")
TEXT = (HOME / "docs" / "science" / "reproductions.md").read_text(encoding="utf-8")
ADAMW, SUM = {"class_path": "AdamW", "lr": 0.001, "weight_decay": 1}, {"formula": "x + y"}
NEEDED = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="pip install -e '.[optimizers]'"
)


def setting(step: float, at_end: float = 0, data: Any = SUM, **model: Any) -> Any:
    return compare.Setting(data, {"optimizer": ADAMW} | model, step, at_end)


def test_methods_are_told_apart() -> None:
    clip = {"constraints": [{"class_path": "ClipRows", "max_norm": 2, "initial_norm": 2}]}
    lion = {"optimizer": {"class_path": "pytorch_optimizer.Lion", "lr": 0.001, "weight_decay": 0}}
    penalty = {"filters": [{"class_path": "grok_lightning.optim.L2", "strength": 1e-4}, "Egalitarian"]}
    found = {
        name: (compare.name_method(model), compare.describe_setting(model))
        for name, model in {
            "plain": {"optimizer": ADAMW},
            "clip": {"optimizer": ADAMW | {"weight_decay": 0}} | clip,
            "lion": lion | clip,
            "l2": {"optimizer": ADAMW | {"decay": "l2"}},
            "loss": {"optimizer": ADAMW, "loss": "stablemax"},
            "orthogonal": {"optimizer": ADAMW, "filters": [{"class_path": "optim.OrthogonalGradient"}]},
            "egalitarian": {"optimizer": {"class_path": "SGD", "lr": 0.7, "weight_decay": 0}} | penalty,
        }.items()
    }
    assert found == {
        "plain": ("AdamW", "lr 0.001, weight_decay 1"),
        "clip": ("Clip to Grok, Adam", "lr 0.001, max_norm 2"),
        "lion": ("Clip to Grok, Lion", "lr 0.001, max_norm 2"),
        "l2": ("Adam with L2", "lr 0.001, weight_decay 1"),
        "loss": ("StableMax", "lr 0.001, weight_decay 1"),
        "orthogonal": ("⊥Grad", "lr 0.001, weight_decay 1"),
        "egalitarian": ("Egalitarian", "lr 0.7, L2 0.0001"),
    }


def test_the_soonest_setting_that_stayed_is_chosen_and_of_equals_the_one_with_the_least_loss() -> None:
    other = {"formula": "x / y"}
    best, alone = setting(200, 0.1), setting(900, data=other, loss="stablemax")
    settings = [setting(300, 0.2), setting(200, 0.3), best, setting(math.inf), setting(math.inf, data=other), alone]
    assert compare.choose(settings) == [best, alone]
    table = compare.format_tuning(settings).splitlines()
    assert table[0] == "| method | x + y | x / y |"
    assert table[2:] == ["| AdamW | 200 (3 of 4) | none (0 of 1) |", "| StableMax | none (0 of 0) | 900 (1 of 1) |"]


def test_a_task_has_its_methods_from_the_soonest_on_with_their_tests_against_adamw() -> None:
    def runs(*steps: float, stable: bool = True) -> list[dict[str, Any]]:
        return [
            {"grok_step": step, "steps": 5000, "after_grok.stable": stable, "after_grok.lowest": 0.96, "seconds": 1}
            for step in steps
        ]

    groups = {
        "AdamW": (setting(0), runs(500, 510, 520, 530, 540)),
        "StableMax": (setting(0), runs(500, 510, 520, 530, 540, stable=False)),
        "Muon": (setting(0), runs(100, 110, 120, 130, 140)),
        "Egalitarian": (setting(0), runs(math.nan, math.nan, math.nan, math.nan, math.nan)),
    }
    taken = compare.pd.Series({"AdamW": 4.0, "Muon": 6.0})
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in compare.format_task("t", groups, taken)]
    assert [row[1] for row in cells] == ["Muon", "AdamW", "StableMax", "Egalitarian"]
    assert [row[3] for row in cells] == ["5/5", "5/5", "5/5", "0/5"]
    assert [row[4] for row in cells] == ["120 (from 100)", "520 (from 500)", "520 (from 500)", "not reached"]
    p = [row[5] for row in cells]
    assert float(p[0]) < 0.01
    assert (p[1], p[2]) == ("", "1")
    assert [row[6] for row in cells] == ["5/5", "5/5", "0/5", "-"]
    assert [row[7] for row in cells] == ["96.0 %", "96.0 %", "96.0 %", "-"]
    assert [row[8] for row in cells] == ["1.50", "1.00", "-", "-"]


@NEEDED
@pytest.mark.slow
def test_the_pages_tables_and_the_sweep_are_its_own() -> None:
    settings = [each for name in compare.TUNING for each in compare.read_settings(name)]
    assert block("compare") == compare.format_tuning(settings)
    written = compare.format_sweep(compare.choose(settings))
    assert compare.TUNED.read_text(encoding="utf-8") == written
    assert len(yaml.safe_load(written)["zip"]["data"]) == len(compare.choose(settings))
    ran = (compare.RECORDS / "compare-tuned.parquet").exists()
    assert block("compare-tuned") == (compare.format_tuned() if ran else reproduce.NOT_RUN)


def block(name: str) -> str:
    found = re.search(f"<!-- {name} -->\n(.*?)<!-- end of {name} -->", TEXT, re.DOTALL)
    assert found
    return found[1].strip()
