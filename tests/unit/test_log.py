"""Where a line of the log goes."""

from __future__ import annotations

import json
import subprocess
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


def run(code: str) -> str:
    """What a program that has imported nothing yet writes, to either stream."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_line_below_the_level_imports_nothing() -> None:
    written = run(
        "import sys; from sqspider.log import get_logger, start_logging; log = get_logger('a')\n"
        "start_logging('warn', 'json'); log.info('below'); assert 'structlog' not in sys.modules\n"
        "log.warning('above', url='http://u:p@e.com/'); log.info('below'); log.debug('below')"
    )
    assert json.loads(written).keys() == {"event", "level", "timestamp", "url"}
    assert "http://***@e.com/" in written


@pytest.mark.parametrize("program", ["configure()", "log.info('below'); configure()"])
def test_how_a_program_has_configured_structlog_is_how_we_log(program: str) -> None:
    """Also where it does so after the first crawl was begun."""
    written = run(
        "from sqspider.log import get_logger; log = get_logger('a')\n"
        "def configure():\n"
        "    import structlog\n"
        "    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])\n"
        f"{program}; log.debug('as the program says', of=1)"
    )
    assert written == "of=1 event='as the program says'\n"


@pytest.mark.parametrize("before", ["", "import structlog\n"])
def test_where_nobody_says_how_to_log_warnings_go_to_standard_error(before: str) -> None:
    """structlog's own way is standard output, where answers go."""
    code = (
        f"{before}from sqspider.log import get_logger; log = get_logger('a'); log.info('below'); log.warning('above')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "above" in done.stderr
    assert "below" not in done.stderr


def test_a_program_that_has_imported_structlog_and_no_more_gets_our_configuration() -> None:
    written = run(
        "from sqspider.log import get_logger, start_logging; import structlog\n"
        "start_logging('warn', 'json')\n"
        "get_logger('a').info('below'); get_logger('a').warning('above')"
    )
    assert json.loads(written)["event"] == "above"


def test_an_exception_is_written_with_its_traceback() -> None:
    written = run(
        "from sqspider.log import get_logger, start_logging; start_logging('warn', 'json')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: get_logger('a').exception('internal_error')"
    )
    assert "ZeroDivisionError: division by zero" in json.loads(written)["exception"]
