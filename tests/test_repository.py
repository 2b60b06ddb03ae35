"""What GitHub reads: workflows that test and publish, and forms for reports."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from command_line import call
from test_rooms import ROOMS

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = [form.stem for form in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if form.stem != "config"]
WORKFLOWS = [workflow.stem for workflow in sorted((GITHUB / "workflows").glob("*.yml"))]


def read(*names: str) -> Any:
    # YAML calls the key `on` True.
    return yaml.safe_load(GITHUB.joinpath(*names).read_text(encoding="utf-8"))


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in read("workflows", f"{workflow}.yml")["jobs"].values() for step in job.get("steps", [job])]


def test_three_systems_and_four_pythons_are_tested() -> None:
    matrix = read("workflows", "tests.yml")["jobs"]["everywhere"]["strategy"]["matrix"]
    assert matrix == {"system": ["ubuntu", "macos", "windows"], "python": ["3.11", "3.12", "3.13", "3.14"]}
    assert f'requires-python = ">={matrix["python"][0]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_what_must_hold_before_a_change_lands_is_one_command() -> None:
    assert ".ci/run" in [step.get("run") for step in steps("tests")]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_an_action_is_pinned_to_what_was_looked_at(workflow: str) -> None:
    """A tag can be moved to other code, a commit cannot."""
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}|\./\S+", name)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_may_read_and_its_jobs_say_what_more_they_may(workflow: str) -> None:
    given = read("workflows", f"{workflow}.yml")
    assert given["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in given[True]  # it would run a stranger's code with our rights


def test_only_tested_packages_are_published_without_a_token_and_with_attestations() -> None:
    jobs = read("workflows", "release.yml")["jobs"]
    assert jobs["package"]["needs"] == ["tests", "build"]
    assert (jobs["package"]["environment"], jobs["package"]["permissions"]) == ("pypi", {"id-token": "write"})
    assert jobs["package"]["steps"][-1]["with"] == {"packages-dir": "dist/package", "attestations": True}
    assert {name: jobs[name]["needs"] for name in ("bundle", "registry")} == {
        "bundle": "package",
        "registry": "package",
    }
    assert "secrets." not in (GITHUB / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_whatever_is_pinned_is_kept_up_to_date() -> None:
    assert [(update["package-ecosystem"], update["directory"]) for update in read("dependabot.yml")["updates"]] == [
        ("pip", "/"),
        ("npm", "/tests/node"),
        ("github-actions", "/"),
    ]
    assert (ROOT / "tests" / "node" / "package.json").is_file()


def test_there_is_a_form_for_each_kind_of_trouble() -> None:
    assert FORMS == ["agent", "run", "start"]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_asks_for_lines_that_the_doctor_has(form: str) -> None:
    checks = {check["name"] for check in json.loads(call("doctor", "--json").stdout)["checks"]}
    (field,) = (field for field in read("ISSUE_TEMPLATE", f"{form}.yml")["body"] if field.get("id") == "doctor")
    named = re.findall(r"`(\w+)`", field["attributes"]["description"].split(".")[0])
    assert "version" in named
    assert set(named) <= checks


def test_the_constraints_pin_whatever_a_user_installs_by_version_and_hash() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [
        Requirement(line.split(" \\\n")[0]) for line in re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", text, flags=re.M))
    ]
    assert [pin.name for pin in pins if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []
    assert len(re.findall(r"^\w.*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(pins)
    assert "://" not in text  # it says what, not from where
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [wanted for name, extra in project["optional-dependencies"].items() if name != "dev" for wanted in extra]
    pinned = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    for wanted in map(Requirement, project["dependencies"] + extras):
        assert wanted.specifier.contains(pinned[wanted.name]), wanted.name


def test_no_arrow_points_up_in_the_drawing_of_the_rooms() -> None:
    _, drawing, *_ = (GITHUB / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")
    floors = [set(floor.split()) for floor in drawing.strip().splitlines()]
    assert set().union(*floors) <= ROOMS.keys()
    up = [ROOMS[room] & set().union(*floors[:number]) for number, floor in enumerate(floors) for room in floor]
    assert not any(up)


def test_the_changelog_is_in_the_form_of_keep_a_changelog() -> None:
    first, *rest = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading) for heading in rest]
    assert first == "[Unreleased]"
    assert None not in released
    kinds = re.findall(r"^### (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
