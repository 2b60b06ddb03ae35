"""What is reported: no skips where all is there, and figures. Its hooks are the suite's, by way of `conftest`."""

import os
from collections.abc import Generator
from textwrap import indent
from typing import TypeVar

import pytest

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport", "pytest_terminal_summary"]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped((yield))


def _not_skipped(report: Report) -> Report:
    """With REFVIDEO_NO_SKIPS=1, which says that nothing is missing here, a skip is a failure."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REFVIDEO_NO_SKIPS") == "1":
        assert isinstance(report.longrepr, tuple)
        file, line, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{file}:{line}: REFVIDEO_NO_SKIPS is set. {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured, `record_property("figures", "…")`, wherever they ran and though they passed."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    figures = [
        (report.nodeid, value)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "figures"
    ]
    if figures:
        terminalreporter.section("figures")
    for test, value in sorted(figures):
        terminalreporter.write_line(f"{test}\n{indent(str(value).strip(), '  ')}")
