"""``archive verify``: that nothing is missing, torn or damaged."""

from __future__ import annotations

import asyncio
import json

import click

from sqspider.archive.reading import files_to_read
from sqspider.archive.verify import Verification
from sqspider.archive.verify_relations import Fault
from sqspider.cli.archive.walking import Told
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes, printable


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a fault, and one of all that was counted.")
@archive_option
@pass_shared
def command(shared: Shared, /, as_json: bool, archive: str | None) -> int:
    """Check that nothing is missing, torn or damaged: every file, every record and its digests, the index, and that
    each final record with an answer has its capture. Exit status 1 and a list if not.

    With --archive and no --frontier it is held against the standard alone, and may be anybody's: a folder, a bucket,
    or a WARC file. What no record names is counted, and is no fault.
    """
    files = files_to_read(archive_of(shared, archive))
    has_frontier = shared.address is not None or (archive is None and not is_absent(shared))
    told = Told("verified")
    with Verification(files, has_frontier=has_frontier, on_record=told.record) as run:
        faults = 0
        if has_frontier:
            faults += asyncio.run(_say_what_is_known(shared, run, as_json=as_json))
        for fault in run.faults():
            faults += 1
            _say(fault, as_json=as_json)
        _conclude(run, files.address, faults, has_frontier=has_frontier, as_json=as_json)
    return NOT_ALL_GOOD if faults else GOOD


async def _say_what_is_known(shared: Shared, run: Verification, *, as_json: bool) -> int:
    """Tell the run what the frontier's records say; how many of them are wrong by themselves."""
    faults = 0
    async with opened(shared, looking=True) as frontier:
        async for batch in frontier.scan():
            for record in batch:
                for fault in run.know(record):
                    faults += 1
                    _say(fault, as_json=as_json)
    return faults


def _say(fault: Fault, *, as_json: bool) -> None:
    print(json.dumps(fault._asdict()) if as_json else printable(str(fault)))


def _conclude(run: Verification, address: str, faults: int, *, has_frontier: bool, as_json: bool) -> None:
    tally = run.tally
    counts = {"files": run.files, "bytes": run.bytes, "records": run.records, "faults": faults, **vars(tally)}
    if as_json:
        print(json.dumps(counts))
        return
    told = [
        f"{address}: {counted(run.files, 'file', 'files')} ({human_bytes(run.bytes)}), "
        f"{counted(run.records, 'record', 'records')}, {counted(tally.captures, 'capture', 'captures')}: "
        f"{counted(faults, 'fault', 'faults')}"
    ]
    if has_frontier:
        told.append(
            f"named by records: {tally.named:,}; earlier visits, and tries that were not the last: {tally.unnamed:,}; "
            f"robots.txt and sitemaps: {tally.aside:,}; of URLs that the frontier does not know: {tally.orphans:,}"
        )
    if tally.gone:
        told.append(
            f"{counted(tally.gone, 'file was', 'files were')} written anew or removed meanwhile: of what was in them "
            "nothing is said; verify again once nobody packs or erases"
        )
    if tally.elsewhere:
        told.append(f"references to records that lie elsewhere: {tally.elsewhere:,}")
    print("\n".join(told))
