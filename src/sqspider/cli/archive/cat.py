"""``archive cat``: what was captured of a URL."""

from __future__ import annotations

import asyncio

import click

from sqspider.archive.files import Files
from sqspider.archive.originals import originals_of
from sqspider.archive.reading import Captured, capture_at, captures_of, files_to_read
from sqspider.cli.archive.walking import Told
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.captures import BODY, part_options, write_part
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.moments import Moment
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.record import CapturePlace
from sqspider.url import Refused
from sqspider.work.seeds import read_url


@click.command(cls=Command)
@click.argument("url")
@click.option("--at", type=Moment(), metavar="TIME", help="The capture nearest to this, in UTC.  [default: the last]")
@part_options("  [default]")
@archive_option
@pass_shared
def command(shared: Shared, /, url: str, at: float | None, part: str | None, archive: str | None) -> int:
    """Write out what was captured of a URL: the body, unless something else is asked for.

    Without an index the whole archive is read for it (but for the last capture of a URL whose record says where it is).
    """
    canonical = read_url(url)
    urls = [url] if isinstance(canonical, Refused) else list(dict.fromkeys((canonical, url)))
    files = files_to_read(archive_of(shared, archive))
    originals_of(files).on_record = Told("looked for its original:").record
    captured = None
    is_ours = not isinstance(canonical, Refused) and archive is None and at is None and not is_absent(shared)
    if is_ours and (place := _place_of(shared, urls[0])) is not None:
        captured = capture_at(files, place, urls[0])
    if captured is None:
        captured = _nearest(files, urls, at)
    if captured is None:
        raise click.ClickException(f"there is no capture of {urls[0]} in {files.address}")
    write_part(files, captured, part or BODY)
    return GOOD


def _place_of(shared: Shared, url: str) -> CapturePlace | None:
    async def main() -> CapturePlace | None:
        async with opened(shared, looking=True) as frontier:
            record = (await frontier.get([url])).get(url)
            return record.outcome.capture if record is not None and record.outcome is not None else None

    return asyncio.run(main())


def _nearest(files: Files, urls: list[str], at: float | None) -> Captured | None:
    """The capture of a URL that is nearest to a time, else the last; of the first URL that has one."""
    for url in urls:
        found = captures_of(files, url)
        best = min(found, key=lambda captured: abs(captured.at - at) if at is not None else -captured.at, default=None)
        if best is not None:
            return best
    return None
