"""Options of the whole suite."""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failure where LASG_NO_SKIPS=1 says that none may be."""
    report = yield
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and os.environ.get("LASG_NO_SKIPS") == "1"
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped, but LASG_NO_SKIPS=1: {report.longrepr}"
    return report
