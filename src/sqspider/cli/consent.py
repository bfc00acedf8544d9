"""What a user has allowed a crawl: remembered on this machine, for nobody else to write.

A crawl's row may ask for what goes beyond the ordinary: private addresses, a proxy, secrets for some origins. Whoever
can write to the frontier can write the row; so the row alone allows nothing. What was said to `crawl` here is kept in
a folder of the user's own, as one empty file for each crawl and all that it asks for, and holds when the crawl goes on.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from sqspider.crawl import Crawl, Identity
from sqspider.redact import redact

_ORDINARY: Final = {  # whoever asks for these reaches nothing that he could not reach otherwise
    name: getattr(Identity(), name) for name in ("user_agent", "contact", "timeout_seconds", "max_bytes", "http2")
}
_SENT: Final = ("headers", "cookies", "login", "bearer", "origins")


def wishes_of(identity: Identity) -> Identity:
    """An identity with nothing but what it asks for beyond the ordinary."""
    return msgspec.structs.replace(identity, **_ORDINARY)


def is_ordinary(identity: Identity) -> bool:
    """Whether it asks for nothing that must be allowed."""
    return wishes_of(identity) == Identity()


def asked_for(identity: Identity) -> list[str]:
    """What an identity asks for, as the options that allow it."""
    said = []
    for flag, is_said in (("--allow-private", identity.allow_private), ("--allow-any-port", identity.allow_any_port)):
        said += [flag] * is_said
    for name in ("proxy", "ca_file", "client_cert", "client_key", "login", "bearer"):
        if (value := getattr(identity, name)) is not None:
            said.append(f"--{name.replace('_', '-')} {redact(value)}")
    said += [f"--header '{name}: {value}'" for name, value in identity.headers]
    said += [f"--cookie {name}={value}" for name, value in identity.cookies]
    said += [f"--send-to {origin}" for origin in identity.origins]
    return said


def is_within(identity: Identity, other: Identity) -> bool:
    """Whether an identity asks for nothing beyond the ordinary that another does not ask for in the same words."""
    asked, said = wishes_of(identity), wishes_of(other)
    plain = [name for name in Identity.__struct_fields__ if name not in _SENT]
    if any(getattr(asked, name) not in (getattr(Identity(), name), getattr(said, name)) for name in plain):
        return False
    sent = tuple(getattr(asked, name) for name in _SENT)
    return sent[:-1] == ((), (), None, None) or sent == tuple(getattr(said, name) for name in _SENT)


def is_allowed(crawl: Crawl) -> bool:
    """Whether all that a row asks for was allowed here."""
    return is_ordinary(crawl.identity) or _file_of(crawl).exists()


def allow(crawl: Crawl) -> str | None:
    """Remember that a row may ask for what it does; why that cannot be, if so."""
    if is_ordinary(crawl.identity):
        return None
    file = _file_of(crawl)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        return f"{file.parent}: {error.strerror}"
    return None


def _file_of(crawl: Crawl) -> Path:
    """By a crawl's id, which no other has, and what it asks for: who changes the row has allowed nothing by it."""
    told = msgspec.json.encode((crawl.id, wishes_of(crawl.identity)))
    return _folder() / hashlib.sha256(told).hexdigest()


def _folder() -> Path:
    if sys.platform == "win32":
        state = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:  # the XDG Base Directory Specification: a relative path is to be ignored
        state = os.environ.get("XDG_STATE_HOME", "")
        state = state if os.path.isabs(state) else Path.home() / ".local" / "state"
    return Path(state) / "sqspider" / "allowed"
