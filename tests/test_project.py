"""What stands twice must say the same: dependencies, versions, notebooks, README."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import medlab

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"matplotlib-base": "matplotlib"}


def normal(text: str) -> tuple[str, str]:
    """A requirement as (name, versions), both in one spelling."""
    requirement = Requirement(text)
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    return CONDA_NAMES.get(name, name), str(requirement.specifier)


def test_conda_and_pip_install_the_same():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {normal(one) for one in listed if isinstance(one, str)}
    pip = {normal(one) for group in listed if isinstance(group, dict) for one in group["pip"]}
    assert ("python", PROJECT["requires-python"]) in conda
    wanted = {normal(one) for one in PROJECT["dependencies"]}
    assert (conda | pip) - {("python", PROJECT["requires-python"]), ("pip", "")} == wanted


def test_a_cap_has_its_reason_beside_it():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    capped = [number for number, line in enumerate(lines) if re.match(r'\s+"[\w-]+.*(<|==)[\d.]+', line)]
    for number in capped:
        before = [line.strip() for line in lines[number - 6 : number]]
        assert any(line.startswith("#") for line in before), lines[number]


def test_version_stands_once():
    assert medlab.__version__ == PROJECT["version"]


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "Makefile", ".ci/run", "environment.yml"])
def test_the_top_level_is_whole(name):
    assert (ROOT / name).stat().st_size > 100
