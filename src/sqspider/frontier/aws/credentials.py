"""What requests are signed with: from the environment, or from wherever botocore finds it."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote

from sqspider.frontier.values import FrontierUnavailableError
from sqspider.log import get_logger

CREDENTIALS_KEPT_SECONDS: Final = 60.0  # before a source outside the environment is asked again
SHORTEST_KEY: Final = 16  # of AWS's; what engines that stand in for it take may be any word of a text
_SIGNED: Final = re.compile(r"(Signature=|Basic )[\w+/=]+")  # and what a proxy is told

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with. They do not show themselves (as a tuple would to a JSON log)."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class KeySource(Protocol):
    """Where keys come from; asked before every call."""

    async def keys(self, refused: Keys | None = None) -> Keys:
        """The keys; others than those that AWS ``refused``, if there are any by now."""


class EnvironmentKeys:
    """Keys from the environment, as AWS Lambda hands them to a function."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def keys(self, refused: Keys | None = None) -> Keys:  # noqa: ARG002 - there are no others
        return self._keys


# What sources of keys raise besides botocore's own errors: a program that is missing or prints
# something else, keys that were renewed and are old all the same.
_KEY_TROUBLE: Final = (OSError, RuntimeError, ValueError, KeyError)


class BotocoreKeys:
    """Keys from wherever botocore finds them: profiles, SSO, containers, instances, assumed roles.

    botocore costs 15 MB and a quarter of a second, so it is imported only where the environment
    holds no keys.
    """

    def __init__(self) -> None:
        self._found: Any = None  # botocore's credentials, which refresh themselves
        self._current: Keys | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def keys(self, refused: Keys | None = None) -> Keys:
        async with self._lock:
            now = time.monotonic()
            is_known = self._current is not None and self._current != refused
            if self._current is None or not is_known or now - self._read_at > CREDENTIALS_KEPT_SECONDS:
                self._read_at = now
                try:
                    self._current = await asyncio.to_thread(self._read)
                except FrontierUnavailableError as error:
                    if self._current is None or not is_known:
                        raise
                    # They are renewed minutes before their end: until then the old ones do.
                    log.warning("credentials_not_renewed", error=str(error))
            return self._current

    def _read(self) -> Keys:
        try:
            import botocore.exceptions
            import botocore.session
        except ImportError:
            raise FrontierUnavailableError(
                "there are no AWS credentials in the environment: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY; profiles, SSO and roles need pip install 'sqspider[aws]'"
            ) from None

        try:
            if self._found is None:
                self._found = botocore.session.get_session().get_credentials()
            if self._found is None:
                raise FrontierUnavailableError(
                    "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "or AWS_PROFILE after 'aws configure' or 'aws sso login'"
                )
            frozen = self._found.get_frozen_credentials()
        except (*_KEY_TROUBLE, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise FrontierUnavailableError(
                f"the AWS credentials cannot be had ({error}): log in again, or see AWS_PROFILE"
            ) from error
        return _usable(Keys(frozen.access_key, frozen.secret_key, frozen.token))


def find_keys(environment: Mapping[str, str]) -> KeySource:
    """The keys in the environment, or else whatever botocore finds."""
    key_id, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key_id and secret:
        return EnvironmentKeys(_usable(Keys(key_id, secret, environment.get("AWS_SESSION_TOKEN") or None)))
    return BotocoreKeys()


def _usable(keys: Keys) -> Keys:
    """The same keys. Raises :class:`FrontierUnavailableError` if they cannot stand in a header."""
    for name in Keys.__slots__:
        value = getattr(keys, name)
        if value is not None and not (value.isascii() and value.isprintable() and " " not in value):
            raise FrontierUnavailableError(
                f"the AWS credentials are not whole: a blank, a line end or a character that is not ASCII is in the "
                f"{name.replace('_', ' ')}: copy it again"
            )
    return keys


def masked(text: str, keys: Keys) -> str:
    """A text from outside, with ``***`` for the keys and what was signed with them, as HTML and JSON write them too."""
    for name in Keys.__slots__:
        value = getattr(keys, name) or ""
        if len(value) >= SHORTEST_KEY:
            for written in (value, value.replace("/", "\\/"), html.escape(value), quote(value), quote(value, safe="")):
                text = text.replace(written, "***")
    return _SIGNED.sub(r"\1***", text)
