"""Where a line of the log goes."""

from __future__ import annotations

import sys
from io import StringIO

import pytest
import structlog

from sqspider.log import start_logging


def test_a_line_goes_to_standard_error_as_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever redraws a line on a terminal stands in for it meanwhile, and puts what comes above that line."""
    try:
        start_logging("warn", "json")
        log = structlog.get_logger()
        log.warning("before")
        monkeypatch.setattr(sys, "stderr", redrawn := StringIO())
        log.warning("meanwhile")
    finally:
        structlog.reset_defaults()
    assert "meanwhile" in redrawn.getvalue()
