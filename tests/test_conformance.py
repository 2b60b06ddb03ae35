"""The public conformance suite of MCP: its general scenarios on our server, its tasks scenarios on our extension."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tasks_server
from client_table import HTTP, rows, written
from command_line import COMMAND
from http_server import serving
from node_tools import conformance, version

HERE = Path(__file__).parent
Checks = dict[str, list[dict[str, Any]]]

# Scenario by revision, with the number of checks that must have passed: a scenario that does not reach them passes too.
GENERAL = {
    "2025-11-25": {
        "dns-rebinding-protection": 2,
        "ping": 2,
        "prompts-list": 2,
        "resources-list": 2,
        "server-initialize": 2,
        "tools-list": 3,
    },
    "2026-07-28": {
        "caching": 7,
        "dns-rebinding-protection": 2,
        "http-header-validation": 14,
        "input-required-result-unsupported-methods": 2,
        "prompts-list": 2,
        "resources-list": 2,
        "sep-2164-resource-not-found": 4,
        "server-sse-multiple-streams": 1,
        "server-stateless": 26,
        "tools-list": 4,
    },
}
TASKS = {
    "tasks-capability-negotiation": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-lifecycle": 9,
    "tasks-mrtr-composition": 2,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-request-state-removal": 3,
    "tasks-required-task-error": 3,
    "tasks-wire-fields": 4,
}
# They need tools, prompts or resources of the suite's own test server, or sessions, logging or completion, which we do
# not offer. Some pass all the same, on "Unknown tool": that proves nothing.
NOT_OURS = re.compile(
    r"tools-call-.*|prompts-get-.*|resources-(read|templates|subscribe|unsubscribe).*|elicitation-.*|json-schema-.*"
    r"|input-required-result-.*|completion-.*|logging-.*|server-session-.*|server-sse-.*|http-custom-header-.*"
    r"|tasks-.*"  # on a server that has their tools: below
)
# The suite skips it itself, until it can listen for notifications.
SKIPPED = {"tasks-status-notifications"}


def run(url: str, revision: str, folder: Path) -> Checks:
    """What came of everything that a revision requires, by scenario: one process, one report for each."""
    command = conformance("server", "--url", url, "--requirements", revision, "--output-dir", str(folder))
    subprocess.run(command, capture_output=True, check=False, timeout=120)
    reports = {
        re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", report.parent.name): report
        for report in folder.glob("*/checks.json")
    }
    return {scenario: json.loads(report.read_text(encoding="utf-8")) for scenario, report in reports.items()}


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checks]:
    with serving(*COMMAND, "serve", "--http", "--port", "0", MYROUTER_API_KEY="sandbox") as url:
        return {revision: run(url, revision, tmp_path_factory.mktemp(revision)) for revision in GENERAL}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Checks:
    with serving(sys.executable, tasks_server.__file__) as url:
        return run(url, "2026-07-28", tmp_path_factory.mktemp("tasks"))


def expected_failures(scenario: str) -> set[str]:
    lines = (HERE / "conformance-expected-failures.yml").read_text(encoding="utf-8").splitlines()
    entries = [re.fullmatch(r"  - ([\w-]+):([\w-]+) # \w.*", line) for line in lines if line.startswith("  - ")]
    assert all(entries), "every line names one check and its reason"
    return {entry[2] for entry in entries if entry and entry[1] == scenario}


def assert_passed(checks: list[dict[str, Any]], scenario: str, least: int) -> None:
    failed = {check["id"]: check.get("errorMessage") for check in checks if check["status"] in ("FAILURE", "WARNING")}
    expected = expected_failures(scenario)
    assert {check: why for check, why in failed.items() if check not in expected} == {}
    assert expected - failed.keys() == set(), "these pass now: remove them from the file"
    assert sum(check["status"] == "SUCCESS" for check in checks) >= least


@pytest.mark.parametrize(
    ("revision", "scenario"),
    [(revision, scenario) for revision, scenarios in GENERAL.items() for scenario in scenarios],
)
def test_our_server_conforms(general: dict[str, Checks], revision: str, scenario: str) -> None:
    assert_passed(general[revision][scenario], scenario, GENERAL[revision][scenario])


@pytest.mark.parametrize("scenario", TASKS)
def test_our_tasks_extension_conforms(tasks: Checks, scenario: str) -> None:
    assert_passed(tasks[scenario], scenario, TASKS[scenario])


def test_no_scenario_of_the_suite_is_overlooked(general: dict[str, Checks], tasks: Checks) -> None:
    for revision, checks in general.items():
        left_out = checks.keys() - GENERAL[revision].keys()
        assert {scenario for scenario in left_out if not NOT_OURS.fullmatch(scenario)} == set()
    assert {scenario for scenario in tasks if scenario.startswith("tasks-")} == TASKS.keys() | SKIPPED


def test_docs_clients_says_how_much_was_run() -> None:
    suite = "@modelcontextprotocol/conformance"
    client = f"`{suite}` {version(suite)}"
    for revision, scenarios in GENERAL.items():
        written("The conformance suite", client, revision, HTTP, f"{len(scenarios)} general scenarios conform")
    written("The conformance suite", client, "2026-07-28", HTTP, f"{len(TASKS)} Tasks scenarios conform")
    assert len(rows("The conformance suite")) == len(GENERAL) + 1
