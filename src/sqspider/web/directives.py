"""Robots directives of a page: what its headers and ``meta`` elements ask of crawlers, ``noindex`` and ``nofollow``."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def robots_agents(product_token: str) -> tuple[str, str]:
    """The names under which robots directives address everybody, or us."""
    return "robots", product_token.lower()


def directives_of_header(value: str, agents: Sequence[str]) -> list[str]:
    """The directives of one X-Robots-Tag header that are addressed to everybody or to us.

    "nofollow", "otherbot: noindex, nofollow": a name holds for all that follows it.
    """
    directives, is_for_us = [], True
    for part in value.split(","):
        name, colon, directive = part.partition(":")
        if colon and not name.strip().lower().startswith(("unavailable", "max-")):
            is_for_us = name.strip().lower() in agents
        else:
            directive = part
        if is_for_us:
            directives.append(directive.strip().lower())
    return directives


def directives_of_meta(content: str) -> list[str]:
    """Those of a ``meta`` element that has one of these names."""
    return [directive.strip().lower() for directive in content.split(",")]


def forbids(what: str, directives: Collection[str]) -> bool:
    """Whether directives say ``noindex``, or ``nofollow``."""
    return what in directives or "none" in directives
