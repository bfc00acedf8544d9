"""What is said of a crawl's row: only that changes it. One table of what there is to say.

What was not said says nothing, whatever its default. The names are those of the command line's options; what is wrong
is told as ``FIELD: why``, by the name of the record's field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider import secret
from sqspider.checks import texts_of
from sqspider.crawl_row import Crawl, Identity
from sqspider.crawl_settings import CrawlSettings, named_types
from sqspider.url import Scope, origin_of


class RowOption(NamedTuple):
    """An option that sets a field of a crawl's row."""

    name: str  # without its dashes; it is the key in a file, too
    part: str  # of the row
    field: str  # of the part
    is_reversed: bool = False  # it switches off what the field says

    def of(self, crawl: Crawl) -> Any:
        """What a row has, as the option has it."""
        value = getattr(getattr(crawl, self.part), self.field)
        return not value if self.is_reversed else value


_OPTIONS: Final = (
    *(RowOption(name, "settings", name) for name in ("scope",)),
    RowOption("depth", "settings", "max_depth"),
    RowOption("include", "settings", "include"),
    RowOption("exclude", "settings", "exclude"),
    RowOption("follow-nofollow", "settings", "obey_nofollow", is_reversed=True),
    RowOption("keep-skipped", "settings", "keep_skipped"),
    RowOption("check-external", "settings", "check_external"),
    RowOption("assets", "settings", "assets"),
    RowOption("meta-refresh", "settings", "meta_refresh"),
    RowOption("srcset", "settings", "srcset"),
    RowOption("drop-tracking", "settings", "drop_tracking"),
    RowOption("delay", "settings", "delay_seconds"),
    RowOption("max-crawl-delay", "settings", "max_crawl_delay_seconds"),
    RowOption("per-host", "settings", "per_host"),
    RowOption("ignore-robots", "settings", "obey_robots", is_reversed=True),
    RowOption("host-pages", "settings", "host_pages"),
    RowOption("host-bytes", "settings", "host_bytes"),
    RowOption("max-repeats", "settings", "max_repeats"),
    RowOption("max-parameters", "settings", "max_parameters"),
    RowOption("keep", "settings", "keep"),
    RowOption("only", "settings", "only"),
    RowOption("keep-bytes", "settings", "keep_bytes"),
    RowOption("limit-pages", "limits", "pages"),
    RowOption("limit-bytes", "limits", "bytes"),
    RowOption("limit-seconds", "limits", "seconds"),
    RowOption("limit-dollars", "limits", "dollars"),
    RowOption("timeout", "identity", "timeout_seconds"),
    RowOption("max-body", "identity", "max_bytes"),
    RowOption("allow-private", "identity", "allow_private"),
    RowOption("allow-any-port", "identity", "allow_any_port"),
    RowOption("user-agent", "identity", "user_agent"),
    RowOption("contact", "identity", "contact"),
    RowOption("proxy", "identity", "proxy"),
    RowOption("ca-file", "identity", "ca_file"),
    RowOption("client-cert", "identity", "client_cert"),
    RowOption("client-key", "identity", "client_key"),
    RowOption("http2", "identity", "http2"),
    RowOption("header", "identity", "headers"),
    RowOption("cookie", "identity", "cookies"),
    RowOption("login", "identity", "login"),
    RowOption("bearer", "identity", "bearer"),
    RowOption("send-to", "identity", "origins"),
)
OPTIONS: Final = {option.name: option for option in _OPTIONS}
"""All that set a field of a row, by name, in the order of ``--help``."""

TO_ORIGINS: Final = ("header", "cookie", "login", "bearer")
"""Those that are sent to some origins alone."""

TYPED: Final = ("keep", "only")
"""Those that say media types, by short names, too."""

MOST_ORIGINS: Final = 100  # that headers and log-ins go to without a word

Said = Mapping[str, Any]
"""Values by the names of their options."""

NEW: Final = Crawl(name="default", id="0", settings=CrawlSettings(scope=Scope.HOST))
"""A crawl of which nothing was said."""


def with_said(crawl: Crawl, said: Said) -> Crawl:
    """A row that says what was said. Raises ``TypeError`` or ``ValueError`` for what it cannot."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in said.items():
        option = OPTIONS[name]
        field = Scope(value) if name == "scope" else value
        if name in TYPED:
            field = named_types(texts_of(name, value))
        parts.setdefault(option.part, {})[option.field] = not field if option.is_reversed else field
    changed = {part: msgspec.structs.replace(getattr(crawl, part), **fields) for part, fields in parts.items()}
    return msgspec.structs.replace(crawl, **changed)


def checked_said(said: Said) -> Crawl:
    """A crawl that says it and nothing else. Raises as :func:`with_said` for what can be said of none, whatever its
    URLs."""
    return with_said(NEW, {**said, "send-to": said.get("send-to") or ("https://example.com",)})


def with_links(said: Said, scope: Scope) -> dict[str, Any]:
    """What was said; whoever says how far links are followed wants some to be followed: those on the host."""
    is_meant = bool(said.get("depth")) and "scope" not in said and scope is Scope.PAGE
    return {**said, "scope": Scope.HOST} if is_meant else dict(said)


def with_origins(said: Said, crawl: Crawl, urls: Sequence[str]) -> dict[str, Any]:
    """What was said, and where headers and log-ins go: to the origins of the URLs that they were given with."""
    told = dict(said)
    if not any(told.get(name) for name in TO_ORIGINS) or told.get("send-to") or crawl.identity.origins:
        return told
    checked_said(told)  # what is wrong with them is said first
    origins = origins_of(urls)
    if not origins or len(origins) > MOST_ORIGINS:
        why = f"the URLs given have {len(origins):,}" if origins else "no URL is given"
        raise ValueError(f"origins: say to which origins headers and log-ins go: {why}")
    return {**told, "send-to": origins}


def with_names_of(said: Said, crawl: Crawl) -> dict[str, Any]:
    """What was said, with the names that a row has for what is secret: that another process of Python gave it another
    name changes nothing."""
    return {name: _named(value, OPTIONS[name].of(crawl)) for name, value in said.items()}


def _named(value: Any, there: Any) -> Any:
    if isinstance(value, str) and isinstance(there, str):
        return secret.as_named_there(value, there)
    if isinstance(value, tuple) and all(isinstance(each, tuple) for each in (*value, *there)):  # headers, cookies
        known = dict(there)
        return tuple((name, _named(text, known.get(name))) for name, text in value)
    return value


def identity_said(said: Said, urls: Sequence[str] = ()) -> Identity:
    """What was said of how a crawl fetches: log-ins only where it was said to which origins they go."""
    told = {"send-to": origins_of(urls), **said}
    if not told["send-to"]:
        told = {name: value for name, value in told.items() if name not in TO_ORIGINS}
    return with_said(NEW, told).identity


def origins_of(urls: Sequence[str]) -> tuple[str, ...]:
    """The origins of some canonical URLs."""
    return tuple(dict.fromkeys(origin_of(url) for url in urls))


def written(option: RowOption, crawl: Crawl) -> Any:
    """What a row has of an option, as it is written in a file: texts, numbers, flags, and lists of texts."""
    value = option.of(crawl)
    if option.name == "header":
        return [f"{name}: {said}" for name, said in value]
    if option.name == "cookie":
        return [f"{name}={said}" for name, said in value]
    if isinstance(value, tuple):
        return list(value)
    return value.value if isinstance(value, Scope) else value
