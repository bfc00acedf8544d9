"""Secrets as a crawl's row names them: where one is to be found, never what it says. No I/O lives here.

env:SQSPIDER_SECRET_NAME   a variable of the worker's environment; one of another name is none of ours
file:NAME                  a file below the folder that the worker's start names
process:KEY                what this process was given as a :class:`Secret`: no other process has it
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from sqspider.checks import check_header, check_line, shown

ENVIRONMENT_PREFIX: Final = "SQSPIDER_SECRET_"
_REFERENCE: Final = re.compile(r"(env|file|process):(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(rf"{ENVIRONMENT_PREFIX}[A-Z0-9_]{{1,100}}")
_FILE: Final = re.compile(r"(?!/)(?:(?!\.\.?(?:/|$))[A-Za-z0-9._-]{1,255}(?:/(?!$)|$)){1,8}")
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_OF_PROCESS: Final = re.compile(r"\bprocess:([0-9a-f]{32})\Z")
_TELLS: Final = re.compile(r"auth|cookie|credential|key|passw|secret|session|signature|token", re.I)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.6.2
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"})
IN_PYTHON: Final = "; in Python Secret(value)"
HOW: Final = f"env:{ENVIRONMENT_PREFIX}NAME or file:NAME{IN_PYTHON}"

_given: dict[str, str] = {}  # what this process holds, by key


class Secret:
    """A value that is to be kept secret, from Python: rows name it, and hold no more than that name.

    It is good in this process alone: whoever goes on with the crawl in another says it again.
    """

    def __init__(self, value: str) -> None:
        try:
            check_header("secret", value)
        except (TypeError, ValueError) as error:  # which show what they are about
            raise type(error)("secret: a text of printable ASCII characters in one line") from None
        self._key = secrets.token_hex(16)
        _given[self._key] = value

    @property
    def reference(self) -> str:
        """By which a row names it."""
        return f"process:{self._key}"

    def __str__(self) -> str:
        return self.reference

    def __repr__(self) -> str:
        return "Secret('***')"


def given_to_this_process(key: str) -> str | None:
    """The value of a :class:`Secret`, if this process has it."""
    return _given.get(key)


def as_named_there(said: str, there: str) -> str:
    """What is said of a field, as a row says it: the same but for the name that another process gave the secret.

    Then this process has its own secret by that name, too: no name tells what is secret, and so rows need not change.
    """
    ours, theirs = _OF_PROCESS.findall(said), _OF_PROCESS.findall(there)
    if _OF_PROCESS.sub("", said) != _OF_PROCESS.sub("", there) or not _given.keys() >= set(ours):
        return said
    _given.update({other: _given[own] for own, other in zip(ours, theirs, strict=True)})
    return there


def kind_of(text: str) -> tuple[str, str] | None:
    """The kind of a reference and its name; none: it is no reference."""
    match = _REFERENCE.fullmatch(text)
    return (match[1], match[2]) if match else None


def is_reference(text: str) -> bool:
    """Whether it says where a secret is, and is none."""
    return kind_of(text) is not None


def tells_a_secret(name: str) -> bool:
    """Whether what goes by this name is likely to be one."""
    return _TELLS.search(name) is not None


def _how(before: str) -> str:
    return f"{before}env:{ENVIRONMENT_PREFIX}NAME or {before}file:NAME{IN_PYTHON}"


def check_secret(field: str, text: object, before: str = "") -> None:
    """Raise ``TypeError`` or ``ValueError`` for what does not name a secret as it must: the value itself, above all,
    which is not said again. ``before``: what stands before it."""
    if not isinstance(text, str):
        raise TypeError(f"{field}: where a secret is to be found, as a text")
    found = kind_of(text)
    if found is None:
        raise ValueError(f"{field}: a secret is not written down: say where it is to be found, {_how(before)}")
    kind, name = found
    pattern = {"env": _VARIABLE, "file": _FILE, "process": _KEY}[kind]
    if not pattern.fullmatch(name):
        raise ValueError(f"{field}: a secret is named {_how(before)}; {shown(text)} is neither")


def check_value(field: str, name: str, text: object) -> None:
    """The same for what may be written down, if its name does not tell of a secret."""
    if isinstance(text, str) and not is_reference(text) and not tells_a_secret(name):
        check_header(field, text)
    else:
        check_secret(f"{field} {name}", text)


def check_field_name(field: str, name: object) -> None:
    """Raise for what names no header or cookie, or a header that we write ourselves."""
    check_line(field, name)
    if not _TOKEN.fullmatch(str(name)):
        raise ValueError(f"{field}: a name of letters, digits and signs, not {shown(name)}")
    if field == "headers" and str(name).lower() in _OURS:
        raise ValueError(f"{field}: {name} is written by the crawler itself")


def check_login(field: str, text: object) -> None:
    """A user's name, a colon, and where the password is to be found."""
    if not isinstance(text, str):
        raise TypeError(f"{field}: {_how('USER:')}")
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise ValueError(f"{field}: USER:env:{ENVIRONMENT_PREFIX}NAME, a name and where its password is")
    check_header(field, user)
    check_secret(field, password, "USER:")
