"""``archive forget``: erases captures, after it was asked for."""

from __future__ import annotations

import json
import random
import sys
import time

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.forget import Forgetting, Plan, Wanted
from sqspider.archive.forget_references import References
from sqspider.archive.rewriting import heal
from sqspider.archive.scratch import scratch
from sqspider.cli.archive.blocking import BlockingFrontier, blocking
from sqspider.cli.archive.taking_over import say_who_is_not_told, say_who_is_told, take_over_option
from sqspider.cli.archive.walking import ToldOfFiles
from sqspider.cli.archive_place import archive_of, archive_option, may_be_shared
from sqspider.cli.asking import ask_to_remove, yes_option
from sqspider.cli.exit_status import GOOD
from sqspider.cli.moments import Moment
from sqspider.cli.options import Duration, host_name
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes
from sqspider.extract.link_table import remove_links
from sqspider.url import Refused
from sqspider.work.seeds import read_url


@click.command(cls=Command)
@click.argument("url", required=False)
@click.option("--host", callback=host_name, help="All of this host, with robots.txt.")
@click.option("--before", type=Moment(), metavar="TIME", help="Only what was captured before this, in UTC.")
@click.option("--older-than", type=Duration(), metavar="DURATION", help="Only what is older than this: 90d.")
@click.option("--note", default="", metavar="TEXT", help="Why: written into each file that had some of it.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
@yes_option
@take_over_option
@archive_option
@pass_shared
def command(
    shared: Shared,
    /,
    url: str | None,
    host: str | None,
    before: float | None,
    older_than: float | None,
    note: str,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    takes_over: bool,
    archive: str | None,
) -> int:
    """Erase captures for good: of a URL or a host, or by age. Says what will go, and asks.

    The files that have some of it are written anew without it, so is the index, and the records of the frontier say
    that nothing is kept. A page whose payload lay in a capture that goes keeps it. The table of links, which tells of
    pages, too, is removed: `links` makes it anew. Other copies are yours to remove: WACZ files, exports, backups. If it
    dies, calling it again goes on.
    """
    wanted = _wanted(url, host, before, older_than)
    address = archive_of(shared, archive)
    files, is_shared = files_at(address), may_be_shared(shared, address)
    with blocking(shared) as frontier, scratch() as connection:
        tell = frontier.tell if frontier else None
        if not dry_run:
            _warn(shared, frontier)
            for healed in heal(files, tell, now=time.time(), takes_over=takes_over):
                print(healed, file=sys.stderr)
        forgetting = Forgetting(files, wanted, References(connection))
        plan = forgetting.plan(ToldOfFiles("looking through").file)
        if dry_run:
            _say(plan, as_json=as_json, done=False)
            return GOOD
        if plan.records and not yes:
            ask_to_remove(f"{_what(plan)} for good")
        if plan.records:
            remove_links(files)  # before: if this dies, it is done again
        done = forgetting.erase(
            plan,
            tell,
            clock=time.time,
            rng=random.SystemRandom(),
            note=note,
            is_under_way=frontier is not None and (is_shared or frontier.is_under_way()),
            on_file=ToldOfFiles("writing anew").file,
        )
    if plan.records and is_shared:
        say_who_is_not_told(address)
    _say(done.plan, as_json=as_json, done=True)
    return GOOD


def _wanted(url: str | None, host: str | None, before: float | None, older_than: float | None) -> Wanted:
    if url is not None and host is not None:
        raise click.UsageError("say a URL or --host, not both.")
    if before is not None and older_than is not None:
        raise click.UsageError("say --before or --older-than, not both.")
    if url is None and host is None and older_than is None:
        raise click.UsageError("say what is to be erased: a URL, --host, or --older-than.")
    canonical = None if url is None else read_url(url)
    if older_than is not None:
        before = time.time() - older_than
    return Wanted(url=url if isinstance(canonical, Refused) else canonical, host=host, before=before)


def _warn(shared: Shared, frontier: BlockingFrontier | None) -> None:
    say_who_is_told(shared, frontier)
    if frontier is not None and frontier.has_workers():
        print(
            "somebody crawls: a page that comes meanwhile, and is the same as one that is erased, may refer to that "
            "and have no payload then; stop the crawl first to be sure",
            file=sys.stderr,
        )


def _what(plan: Plan) -> str:
    records = counted(plan.records, "record", "records")
    return f"{counted(plan.captures, 'capture', 'captures')} ({records} in {counted(plan.files, 'file', 'files')})"


def _say(plan: Plan, *, as_json: bool, done: bool) -> None:
    if as_json:
        said = plan._asdict()
        print(json.dumps({**said, "erased": done}))
    elif not plan.records:
        print("there is no such capture")
    else:
        print(f"{'erased' if done else 'this would erase'} {_what(plan)}")
        if plan.promoted:
            print(f"{counted(plan.promoted, 'page keeps its', 'pages keep their')} payload, which lay there")
        if not done:
            print(f"{human_bytes(plan.bytes)} would be written anew, less what goes: so much room is needed")
            for name in plan.open_files:
                print(f"{name} is being written: stop the crawl first")
    if plan.copies:
        print(f"{', '.join(plan.copies)} may have copies of it: remove what has", file=sys.stderr)
