"""Tasks on real data for the tests; without their files the test is skipped."""

import os
from typing import Any

import pytest

from experiments.data import DataError
from experiments.tasks import Task, build_task


def need_files(name: str) -> None:
    """Skip the test unless LASG_DATA is set: nothing is downloaded in a test."""
    if not os.environ.get("LASG_DATA"):
        pytest.skip(f"needs the {name} files: LASG_DATA is not set")


def task_or_skip(name: str, *arguments: Any) -> Task:
    """Build a task from the files in LASG_DATA; never download in a test."""
    need_files(name)
    try:
        return build_task(name, *arguments)
    except DataError as error:
        pytest.skip(f"needs the {name} files in LASG_DATA: {error}")
