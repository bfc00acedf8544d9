"""What a user has allowed a crawl: remembered on this machine, for nobody else to write.

A crawl's row may ask for what goes beyond the ordinary: private addresses, a proxy, secrets for some origins. Whoever
can write to the frontier can write the row; so the row alone allows nothing. What was said to `crawl` here is kept in
a folder of the user's own, as one empty file for each crawl and all that it asks for, and holds when the crawl goes on.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sqspider.crawl_row import Crawl, Identity
from sqspider.redact import redact
from sqspider.work.allowed import Allowed, NotAllowedError, sends_secrets


def asked_for(identity: Identity) -> str:
    """What an identity asks for beyond the ordinary, as the options that allow it."""
    said = []
    for name, value in _beyond(identity):
        for each in value if isinstance(value, tuple) else (value,):
            said += [f"--{name.replace('_', '-')}", *([shlex.quote(each)] if isinstance(each, str) else [])]
    return " ".join(said)


def asked_in_python(identity: Identity) -> str:
    """The same, as the arguments."""
    told = ((name, list(value) if isinstance(value, tuple) else value) for name, value in _beyond(identity))
    return ", ".join(f"{name}={value!r}" for name, value in told)


def _beyond(identity: Identity) -> Iterator[tuple[str, str | bool | tuple[str, ...]]]:
    for name in ("allow_private", "allow_any_port"):
        if getattr(identity, name):
            yield name, True
    for name in ("proxy", "ca_file", "client_cert", "client_key"):
        if (value := getattr(identity, name)) is not None:
            yield name, redact(value)
    if sends_secrets(identity):
        yield "send_to", identity.origins


def is_within(identity: Identity, *said: Identity) -> bool:
    """Whether it asks for nothing beyond the ordinary but what was said."""
    allowed = Allowed()
    for each in said:
        allowed = allowed.with_all_of(each)
    try:
        allowed.check(identity)
    except NotAllowedError:
        return False
    return True


def is_allowed(identity: Identity, crawl: Crawl, said: Identity) -> bool:
    """Whether all that an identity asks for is said now, or was allowed here to a crawl whose row is this one.

    What the row has, and was never allowed, does not count, even if it is nothing by itself: as where a secret goes
    that is said only now.
    """
    return is_within(identity, said, crawl.identity if _file_of(crawl).exists() else Identity())


def allow(crawl: Crawl) -> str | None:
    """Remember that a row may ask for what it does; why that cannot be, if so."""
    if is_within(crawl.identity):
        return None
    file = _file_of(crawl)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        return f"{file.parent}: {error.strerror}"
    return None


def _file_of(crawl: Crawl) -> Path:
    """By a crawl's id, which no other has, and all of its identity: who changes the row has allowed nothing by it."""
    told = msgspec.json.encode((crawl.id, crawl.identity))
    return state_folder() / "allowed" / hashlib.sha256(told).hexdigest()


def state_folder() -> Path:
    """What is remembered on this machine lies below it, and is the user's own."""
    if sys.platform == "win32":
        state, otherwise = os.environ.get("LOCALAPPDATA", ""), Path.home() / "AppData" / "Local"
    else:  # the XDG Base Directory Specification: a relative path is to be ignored
        state, otherwise = os.environ.get("XDG_STATE_HOME", ""), Path.home() / ".local" / "state"
    return (Path(state) if os.path.isabs(state) else otherwise) / "sqspider"
