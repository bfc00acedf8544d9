"""Options that several commands share: how a crawl goes on, how it fetches and as whom, how much it takes; and the
records that they make where no crawl's row is meant. What they say of a row is in ``said``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from sqspider.checks import MAX_COUNT, Range
from sqspider.cli.sections import all_of, section
from sqspider.crawl_row import Limits, check_name
from sqspider.crawl_settings import CrawlSettings
from sqspider.secret import IN_PYTHON
from sqspider.url import Refused, Scope, canonical_host, canonicalize, origin_of
from sqspider.web.options import DEFAULT_USER_AGENT, FetchOptions
from sqspider.work.seeds import NO_SCHEME

_DEFAULTS: Final = CrawlSettings()
_FETCH: Final = FetchOptions()
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WHOLE: Final = re.compile(r"\s*[+-]?\d+\s*")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])b?|b)", re.IGNORECASE)
_SIZE_UNITS: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Number(click.FloatRange):
    """A number within a field's bounds. (click's own range lets NaN pass.)"""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found


class Whole(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"


class Size(Whole):
    """Bytes within bounds: a whole number, or with a unit, as ``500MB``. Units are powers of 1,000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if found := _SIZE.fullmatch(str(value).strip()):
            value = round(float(found[1]) * (_SIZE_UNITS[found[2].lower()] if found[2] else 1))
        elif not _WHOLE.fullmatch(str(value)):
            self.fail(f"{value!r} is no size: write bytes, or 500kB, 20MB, 1GB.", param, ctx)
        return super().convert(value, param, ctx)


class Duration(click.ParamType[float]):
    """``90s``, ``15m``, ``2h``, ``3d``, or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is no duration: write 90s, 15m, 2h or 3d.", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


def within(bounds: Range) -> click.ParamType[Any]:
    """The type of an option that sets a field with such bounds."""
    most = None if bounds.most == MAX_COUNT else bounds.most
    if bounds.is_whole:
        return Whole(int(bounds.least), None if most is None else int(most))
    return Number(bounds.least, most)


def bytes_within(bounds: Range) -> click.ParamType[Any]:
    """The same of one that counts bytes."""
    return Size(int(bounds.least), None if bounds.most == MAX_COUNT else int(bounds.most))


class Pair(click.ParamType[tuple[str, str]]):
    """A name and a value, with a sign between them."""

    def __init__(self, sign: str, value: str = "VALUE") -> None:
        self.name = f"NAME{sign}{value}"
        self._sign = sign

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, sign, rest = str(value).partition(self._sign)
        if not sign or not name.strip():
            self.fail(f"write {self.name}.", param, ctx)  # and not what was given: it may be secret
        return name.strip(), rest.strip()


def crawl_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The name of a crawl that was given."""
    if value is not None:
        try:
            check_name(value)
        except ValueError as error:
            raise click.BadParameter(f"{str(error).removeprefix('crawl: ')}.", context, parameter) from None
    return value


def crawl_option(words: str) -> Callable[[Any], Any]:
    """Which crawl of the frontier is meant."""
    return click.option("--crawl", "crawl", callback=crawl_name, metavar="NAME", help=words)


def host_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A host that was given, as the frontier names it: in lower case, in ASCII, without a dot at its end."""
    host = None if value is None else canonical_host(value)
    if isinstance(host, Refused):
        raise click.BadParameter(
            f"{host.shown} is no host: say its name or address alone, without scheme, port or path.",
            context,
            parameter,
        )
    return host


assume_http = click.option(
    "--assume-http", is_flag=True, help="Take example.com/x, without a scheme, for http://example.com/x."
)


def advised(refused: Refused) -> Refused:
    """What a command with ``--assume-http`` says of a URL that is refused."""
    if not refused.advice.startswith(NO_SCHEME):
        return refused
    return refused._replace(advice=f"{refused.advice} --assume-http takes it so")


@contextmanager
def checked() -> Iterator[None]:
    """Within it, what a record says of a field is wrong usage of the option that sets it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        place, _, why = str(error).replace(IN_PYTHON, "").partition(": ")
        field, *which = place.split(" ", 1)
        options = click.get_current_context().command.params
        option = next((option.opts[-1] for option in options if option.name == field), field)
        end = "" if why.endswith("?") else "."  # where names are proposed
        raise click.UsageError(f"{' '.join((option, *which))}: {why}{end}") from None


def crawl_options(scope: Scope) -> Callable[[Any], Any]:
    """The options that make a :class:`CrawlSettings`; ``scope`` is the default one."""
    bounds = CrawlSettings.ranges

    which_links = section(
        "Which links are followed",
        click.option(
            "--scope",
            type=click.Choice([kind.value for kind in Scope]),
            default=scope.value,
            show_default=True,
            help="Which links are followed, measured from each URL given: none (page), below its folder "
            "(prefix), its host, its registrable domain, or any.",
        ),
        click.option(
            "--depth", "max_depth", type=within(bounds["max_depth"]), metavar="N",
            help="Follow links at most this far. 0 is the URLs given alone.",
        ),
        click.option(
            "--include", multiple=True, metavar="REGEX",
            help="Follow only links whose URL matches. May be repeated: any of them.",
        ),
        click.option(
            "--exclude", multiple=True, metavar="REGEX",
            help="Do not follow links whose URL matches. May be repeated.",
        ),
        click.option("--follow-nofollow", is_flag=True, help="Also follow links marked nofollow."),
        click.option(
            "--keep-skipped", is_flag=True,
            help="Record links that scope, depth or a pattern leaves out, too, as blocked for that: each costs what "
            "a URL costs, but for the request.",
        ),
        click.option(
            "--check-external", is_flag=True,
            help="Also ask once, by HEAD, for what pages link to outside of the scope, whether it is there; it is not "
            "gone into. An --exclude holds for it, too.",
        ),
        click.option(
            "--assets", is_flag=True,
            help="Also fetch what pages need to be shown: images, styles, scripts, fonts, media, on whatever host. It "
            "is not gone into. An --exclude holds for it, too.",
        ),
        click.option(
            "--meta-refresh", is_flag=True,
            help="Follow every refresh, header or meta. Without it: one of 10 s at most on a page with no other links.",
        ),
        click.option("--srcset", is_flag=True, help="Also follow images' srcset."),
        click.option("--drop-tracking", is_flag=True, help="Take utm_… and the like out of URLs."),
    )  # fmt: skip
    politeness = section(
        "How politely",
        click.option(
            "--delay", "delay_seconds", type=within(bounds["delay_seconds"]), default=_DEFAULTS.delay_seconds,
            show_default=True, metavar="SECONDS",
            help="Least time between two requests to a host. 0 is for your own site.",
        ),
        click.option(
            "--max-crawl-delay", "max_crawl_delay_seconds", type=within(bounds["max_crawl_delay_seconds"]),
            default=_DEFAULTS.max_crawl_delay_seconds, show_default=True, metavar="SECONDS",
            help="Obey a longer Crawl-delay in robots.txt only so far.",
        ),
        click.option(
            "--per-host", type=within(bounds["per_host"]), default=_DEFAULTS.per_host, show_default=True, metavar="N",
            help="Requests to a host at a time. (With --delay 0 only --concurrency limits them.)",
        ),
        click.option("--ignore-robots", is_flag=True, help="Do not ask for robots.txt. For your own sites only."),
    )  # fmt: skip
    limits = section(
        "How much of a host",
        click.option(
            "--host-pages", type=within(bounds["host_pages"]), metavar="N",
            help="Fetch at most so many pages of a host in this crawl. A redirect counts as one, a URL once for all "
            "of its visits.",
        ),
        click.option(
            "--host-bytes", type=bytes_within(bounds["host_bytes"]), metavar="SIZE",
            help="Fetch no more of a host in this crawl when so many bytes were read. What is under way then comes on "
            "top: one page, as a rule.",
        ),
        click.option(
            "--max-repeats", type=within(bounds["max_repeats"]), metavar="N",
            help="Block URLs in which one path segment occurs more than N times.",
        ),
        click.option(
            "--max-parameters", type=within(bounds["max_parameters"]), metavar="N",
            help="Block URLs with more than N query parameters.",
        ),
    )  # fmt: skip
    kept = section(
        "What of it is kept, where pages are kept",
        click.option(
            "--keep", multiple=True, metavar="TYPE",
            help="Keep only pages of this media type: text/html, or image/* for all images. May be repeated. What "
            "leads to pages (redirects, robots.txt, sitemaps) and errors are kept all the same; with none, nothing is.",
        ),
        click.option(
            "--only", multiple=True, metavar="TYPE",
            help="Be for this media type alone: pdf, image, text/csv. May be repeated. Pages are read for links all "
            "the same; what is neither is let go after its head, and not kept.",
        ),
        click.option(
            "--keep-bytes", type=bytes_within(bounds["keep_bytes"]), metavar="SIZE",
            help="Keep so much of a page at most, as it was sent: 500kB, 5MB; the rest is cut off and marked.",
        ),
    )  # fmt: skip
    return all_of(which_links, politeness, limits, kept)


limit_options = section(
    "How much in all, over all of its runs",
    click.option(
        "--limit-pages", type=within(Limits.ranges["pages"]), metavar="N",
        help="Rest when so many pages were fetched, redirects not counted. No more are, by however many workers.",
    ),
    click.option(
        "--limit-bytes", type=bytes_within(Limits.ranges["bytes"]), metavar="SIZE",
        help="Rest when so many bytes were read. What is under way then comes on top: one page, as a rule.",
    ),
    click.option(
        "--limit-seconds", type=within(Limits.ranges["seconds"]), metavar="SECONDS",
        help="Rest so long after the crawl was made. Looked at every two seconds, as the next one.",
    ),
    click.option(
        "--limit-dollars", type=within(Limits.ranges["dollars"]), metavar="N",
        help="Rest once the frontier's bill has reached so much. Where nobody charges it means nothing.",
    ),
)  # fmt: skip
"""The options that make the :class:`Limits` of a crawl."""


def _origins(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    origins = []
    for value in values:
        url = canonicalize(value)
        if isinstance(url, Refused) or url != f"{origin_of(url)}/":
            raise click.BadParameter("write a scheme and a host, as https://example.com.", context, parameter)
        origins.append(origin_of(url))
    return tuple(dict.fromkeys(origins))


def _secrets_option(title: str) -> Callable[[Any], Any]:
    where = click.Path(exists=True, file_okay=False)
    words = "Where the files of file:NAME lie."
    return section(title, click.option("--secrets", type=where, metavar="FOLDER", help=words))


def _origins_option(words: str) -> Callable[[Any], Any]:
    return click.option("--send-to", "origins", multiple=True, callback=_origins, metavar="ORIGIN", help=words)


_AS_WHOM: Final = "As whom it asks"
identity_options = section(
    _AS_WHOM,
    click.option(
        "--header", "headers", multiple=True, type=Pair(":"), metavar="'NAME: VALUE'",
        help="Send this header. May be repeated. A VALUE that is secret is written env:SQSPIDER_SECRET_…, an "
        "environment variable of each worker, or file:NAME, a file below its --secrets; so it is in the next three.",
    ),
    click.option("--cookie", "cookies", multiple=True, type=Pair("="), metavar="NAME=VALUE", help="Send this cookie."),
    click.option("--login", metavar="USER:PASSWORD", help="Log in by HTTP's basic authentication."),
    click.option("--bearer", metavar="TOKEN", help="Log in by this token."),
    _origins_option(
        "Send these four to this scheme, host and port. May be repeated.  [default: those of the URLs given]"
    ),
)  # fmt: skip
"""The options of an :class:`Identity` that only crawls with a row have."""

secrets_option = _secrets_option(_AS_WHOM)
"""Goes with these, where a worker is started."""

_ALLOWING: Final = "What crawls may have beside what it does itself"
allowing_options = all_of(
    section(_ALLOWING, _origins_option("They may send secrets to this scheme, host and port. May be repeated.")),
    _secrets_option(_ALLOWING),
)
"""What the start of a worker allows."""

fetch_options = section(
    "How pages are fetched",
    click.option(
        "--timeout",
        "timeout_seconds",
        type=within(FetchOptions.ranges["timeout_seconds"]),
        default=_FETCH.timeout_seconds,
        show_default=True,
        metavar="SECONDS",
        help="Limit for one whole fetch.",
    ),
    click.option(
        "--max-body",
        "max_bytes",
        type=bytes_within(FetchOptions.ranges["max_bytes"]),
        default=_FETCH.max_bytes,
        show_default=True,
        metavar="SIZE",
        help="Decoded bytes read of a body; the rest is cut off and the record marked.",
    ),
    click.option(
        "--allow-private",
        is_flag=True,
        help="Also connect to addresses that are not public, such as 127.0.0.1. Only for networks that are yours.",
    ),
    click.option("--allow-any-port", is_flag=True, help="Also connect to ports of other known services."),
    click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help="How we call ourselves."),
    click.option(
        "--contact", metavar="EMAIL", help="Where a site's owner can write to: sent as From, and in our name."
    ),
    click.option(
        "--proxy",
        metavar="URL",
        help="Fetch through this proxy: http, https, socks5 (we look names up) or socks5h (it does). "
        "The environment's are ignored.",
    ),
    click.option("--ca-file", metavar="PATH", help="Trust these certificates (PEM) in place of the system's."),
    click.option("--client-cert", metavar="PATH", help="Show this certificate (PEM) to hosts that ask for one."),
    click.option("--client-key", metavar="PATH", help="Its key (PEM), if it does not lie in the same file."),
    click.option("--http2", is_flag=True, help="Speak HTTP/2 with https hosts that do. Without it: HTTP/1.1 alone."),
)
"""The options that make a :class:`FetchOptions`."""
