"""A release of Flower newer than those tested is said once."""

import pytest

from lasg_flwr.flower.release import NEWEST, warn_if_untested

pytestmark = pytest.mark.flower


def test_a_newer_release_gets_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    newer = f"{NEWEST[0]}.{NEWEST[1] + 1}.0"
    for _ in range(2):
        assert warn_if_untested(newer)
    assert caplog.text.count("was tested with, 1.36 to ") == 1
    assert newer in caplog.text
    assert not warn_if_untested("1.36.0")
