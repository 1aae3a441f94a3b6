"""The workflow of continuous integration covers what setup.cfg promises: systems, Pythons, the oldest dependencies."""

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

HOME = Path(__file__).parents[2]
WORKFLOW: dict[str, Any] = yaml.safe_load((HOME / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
SETUP = configparser.ConfigParser()
SETUP.read(HOME / "setup.cfg", encoding="utf-8")
CLASSIFIERS = SETUP["metadata"]["classifiers"].split("\n")
MATRIX = WORKFLOW["jobs"]["fast"]["strategy"]["matrix"]


def requirements() -> dict[str, Requirement]:
    """What is installed with the tests, by name."""
    lines = f"{SETUP['options']['install_requires']}\n{SETUP['options.extras_require']['test']}".split("\n")
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pins(name: str) -> dict[str, Version]:
    """The versions of a file of constraints, by name."""
    lines = (HOME / name).read_text(encoding="utf-8").split("\n")
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_every_promised_python_is_tested_on_every_system() -> None:
    promised = [found[1] for line in CLASSIFIERS if (found := re.fullmatch(r"Programming .* :: (3\.\d+)", line))]
    assert MATRIX["python"] == promised == sorted(promised, key=Version)
    assert all(version in SpecifierSet(SETUP["options"]["python_requires"]) for version in promised)
    assert SETUP["options"]["python_requires"] == f">={promised[0]}"
    assert {system.removesuffix("-latest") for system in MATRIX["os"]} == {"ubuntu", "macos", "windows"}


def test_the_oldest_dependencies_are_the_lower_bounds() -> None:
    oldest = pins("constraints-oldest.txt")
    for name, requirement in requirements().items():
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        assert oldest[name] == Version(bound.version), name


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_constraints_are_allowed_and_used(name: str) -> None:
    pinned = pins(name)
    assert all(pinned[package] in requirement.specifier for package, requirement in requirements().items())
    assert f"-c {name} -e .[test]" in str(WORKFLOW)


def test_one_job_takes_the_newest_dependencies_and_one_runs_everything() -> None:
    commands = {name: [step.get("run", "") for step in job["steps"]] for name, job in WORKFLOW["jobs"].items()}
    assert not any("-c " in command for command in commands["newest"])
    assert "make test-all" in commands["everything"]
    for name in ("fast", "newest", "oldest"):
        assert 'python -m pytest -m "not slow"' in commands[name]


def test_the_workflow_has_no_secrets_and_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets" not in str(WORKFLOW)
