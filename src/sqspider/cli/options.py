"""What several commands share: the settings of a crawl as options, and the open frontier."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import structlog

from sqspider.cli.main import Shared
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.message import CrawlSettings
from sqspider.url import Scope
from sqspider.web.options import DEFAULT_USER_AGENT, FetchOptions

if TYPE_CHECKING:
    from sqspider.sitemaps import SitemapReport

_DEFAULTS: Final = CrawlSettings()
_FETCH: Final = FetchOptions()


def all_of(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order in which ``--help`` shall list them."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _patterns(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        try:
            re.compile(value)
        except re.error as error:
            raise click.BadParameter(f"{value!r} is no regular expression: {error}.", context, parameter) from None
    return tuple(values)


def settings_options(scope: Scope) -> Callable[[Any], Any]:
    """The options that make a :class:`CrawlSettings`; ``scope`` is the default one."""
    return all_of(
        click.option(
            "--scope",
            type=click.Choice([kind.value for kind in Scope]),
            default=scope.value,
            show_default=True,
            help="Which links are followed, measured from each URL given: none (page), below its folder "
            "(prefix), its host, its registrable domain, or any.",
        ),
        click.option("--depth", type=click.IntRange(min=0), help="Follow links at most this far."),
        click.option(
            "--include", multiple=True, metavar="REGEX", callback=_patterns,
            help="Follow only links whose URL matches. May be repeated: any of them.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="REGEX", callback=_patterns,
            help="Do not follow links whose URL matches. May be repeated.",
        ),
        click.option(
            "--delay", "delay_seconds", type=click.FloatRange(min=0), default=_DEFAULTS.delay_seconds,
            show_default=True, metavar="SECONDS",
            help="Least time between two requests to a host. 0 is for your own site.",
        ),
        click.option(
            "--per-host", type=click.IntRange(min=1), default=_DEFAULTS.per_host, show_default=True,
            help="Requests to a host at a time. (With --delay 0 only --concurrency limits them.)",
        ),
        click.option("--ignore-robots", is_flag=True, help="Do not ask for robots.txt. For your own sites only."),
        click.option("--follow-nofollow", is_flag=True, help="Also follow links marked nofollow."),
        click.option("--drop-tracking", is_flag=True, help="Take utm_… and the like out of URLs."),
        click.option("--meta-refresh", is_flag=True, help="Also follow meta refresh."),
        click.option("--srcset", is_flag=True, help="Also follow images' srcset."),
        click.option("--host-pages", type=click.IntRange(min=1), help="Fetch at most so many pages of a host."),
        click.option("--host-bytes", type=click.IntRange(min=1), help="Read at most so many bytes of a host."),
        click.option(
            "--max-repeats", type=click.IntRange(min=1), metavar="N",
            help="Block URLs in which one path segment occurs more than N times.",
        ),
        click.option(
            "--max-parameters", type=click.IntRange(min=0), metavar="N",
            help="Block URLs with more than N query parameters.",
        ),
    )  # fmt: skip


def to_settings(given: dict[str, Any]) -> CrawlSettings:
    """The settings of a crawl from its options."""
    same = (
        "include", "exclude", "delay_seconds", "per_host", "drop_tracking", "meta_refresh", "srcset",
        "host_pages", "host_bytes", "max_repeats", "max_parameters",
    )  # fmt: skip
    return CrawlSettings(
        scope=Scope(given["scope"]),
        max_depth=given["depth"],
        obey_robots=not given["ignore_robots"],
        obey_nofollow=not given["follow_nofollow"],
        **{name: given[name] for name in same},
    )


fetch_options = all_of(
    click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(min=0.1),
        default=_FETCH.timeout_seconds,
        show_default=True,
        metavar="SECONDS",
        help="Limit for one whole fetch, redirects included.",
    ),
    click.option(
        "--allow-private",
        is_flag=True,
        help="Also connect to addresses that are not public, such as 127.0.0.1. Only for networks that are yours.",
    ),
    click.option("--allow-any-port", is_flag=True, help="Also connect to ports of other known services."),
    click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help="How we call ourselves."),
    click.option("--contact", metavar="EMAIL", help="Sent as From: where a site's owner can write to."),
    click.option("--proxy", metavar="URL", help="Fetch through this proxy. The environment's are ignored."),
)
"""The options that make a :class:`FetchOptions`."""


def to_fetch_options(given: dict[str, Any]) -> FetchOptions:
    """How to fetch, from the options; what a command has no option for is left as it is."""
    return FetchOptions(**{name: given[name] for name in FetchOptions.__struct_fields__ if name in given})


def sitemap_line(report: SitemapReport) -> str:
    """What came of a sitemap, for a person."""
    numbers = f"{report.listed:,} listed, {report.new:,} new"
    if report.out_of_scope:
        numbers += f", {report.out_of_scope:,} out of scope"
    if not report.trouble:
        return f"sitemap {report.url}: {numbers}"
    return f"sitemap {report.url}: {report.trouble}" + (f" ({numbers})" if report.listed else "")


@asynccontextmanager
async def opened(shared: Shared, visibility_seconds: float = 60.0) -> AsyncIterator[Frontier]:
    """The frontier that the command line names, closed at the end."""
    if not structlog.is_configured():  # what a frontier has to say is no part of a command's output
        shared.start_logging("warn")
    settings = FrontierSettings(visibility_seconds=visibility_seconds)
    try:
        frontier = await open_frontier(shared.frontier, settings, clock=time.time)
    except ValueError as error:
        raise click.UsageError(f"--frontier: {error}") from None
    try:
        yield frontier
    finally:
        await frontier.close()
