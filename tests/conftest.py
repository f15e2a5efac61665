"""Options of the whole suite."""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skip for want of a data file a failure where LASG_NEED_DATA=1."""
    report = yield
    for_want_of_data = report.skipped and "LASG_DATA" in str(report.longrepr)
    if for_want_of_data and os.environ.get("LASG_NEED_DATA") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, but LASG_NEED_DATA=1: {report.longrepr}"
    return report
