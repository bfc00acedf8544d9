"""What must not be written down: user names and passwords in URLs, well-formed or not; and secrets that were used.

Whoever finds out what a secret says has it learned here first. So no log line, traceback or error of this process
shows it, whoever writes that.
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote, quote_plus

_BLANK: Final = r"\s"


def _user_info(blank: str) -> str:
    """User info and its @, in a text in which ``blank`` ends a URL.

    An authority ends at a slash, ? or #, but a password that should have been percent-encoded may
    hold one: what follows the first colon and is no port belongs to it. (A bracket begins an IPv6 address.)
    """
    unencoded = rf"(?!\[)[^{blank}/?#\\@:]*+:(?!\d*(?:[{blank}/?#\\]|$))[^{blank}@]{{0,200}}+@"
    return rf"(?:[^{blank}/?#\\]*@|{unencoded})"


_IN_URL: Final = re.compile(rf"(^[\x00-\x20]*(?:[a-z][a-z0-9+.\-]*:)?[/\\]*|[/\\]{{2}}){_user_info('')}", re.I)
_IN_TEXT: Final = re.compile(rf"(//){_user_info(_BLANK)}")


def redact_url(text: str) -> str:
    """A text that was meant as a URL, with ``***`` for what stands before the @ of an authority."""
    if "@" not in text:
        return text
    # The URL standard drops line ends and tabs wherever they are.
    return _IN_URL.sub(r"\1***@", text.translate({9: None, 10: None, 13: None}))


def redact(text: str) -> str:
    """A text of any kind, with ``***`` for the user info of the URLs in it, and for what was learned to be secret."""
    text = without_secrets(text)
    return _IN_TEXT.sub(r"\1***@", text) if "@" in text else text


def without_secrets(text: str, instead: str = "***") -> str:
    """A text of any kind, with something else in place of what was learned to be secret."""
    return text if _learned is None else _learned.sub(lambda _: instead, text)


LEAST_CHARACTERS: Final = 4
"""Of a secret: what is shorter would be found in every other line."""

_secrets: set[str] = set()  # as they may stand in a text
_learned: re.Pattern[str] | None = None  # any of them


def learn_secret(value: str) -> None:
    """Show a value nowhere from now on: as it is, quoted as in a URL, or escaped as in a string or in JSON."""
    global _learned
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    if not forms <= _secrets:
        _secrets.update(forms)
        # The longest first: one may begin as another does.
        _learned = re.compile("|".join(re.escape(form) for form in sorted(_secrets, key=len, reverse=True)))
