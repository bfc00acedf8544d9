"""What keeping pages adds to the bill of a function, counted call by call: ``python -m bench.archive_bill``.

A worker gets batches of ten messages, as Lambda's does, each host in a batch once; once without an archive and once
with one, against DynamoDB Local and fauxqs (or ministack alone), the bucket being ministack's.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

from tests.aws.buckets import bucket
from tests.aws.engines import EngineMissingError, Engines
from tests.aws.store import create, drop

from bench.aws_bill import BATCH, SETTINGS, Bill, Site, item_bytes
from sqspider.archive.bucket_sink import BucketSink
from sqspider.archive.coding import Coding
from sqspider.archive.store import ArchiveStore
from sqspider.archive.warc import Origin
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.bill import DOLLARS_AN_S3_WRITE, Usage
from sqspider.frontier.aws.items import is_record
from sqspider.frontier.aws.table import Table
from sqspider.log import start_logging
from sqspider.record import Status
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Worker

TARGET_DOLLARS: Final = 0.50  # of PUTs a million pages
INVOCATION_SECONDS: Final = 30.0


async def work(title: str, environment: Mapping[str, str], port: int, pages: int, archive: str | None) -> Bill:
    """Batches of messages until nothing is left; what all of it used. ``archive``: where pages are kept."""
    bill = Bill(title=title, pages=0, usage=Usage(), actions=Counter())
    own = await create(environment, SETTINGS)
    frontier = await AwsFrontier.open(SETTINGS, clock=time.time, environment=own)
    frontier.client.observers.append(bill.see)
    settings = CrawlSettings(delay_seconds=0.0, obey_robots=False)
    urls = [
        f"http://127.0.{page // 250}.{page % 250 + 1}:{port}/page/{page}/of-a-site-with-names-of-usual-length"
        for page in range(pages)
    ]
    await produce(frontier, urls, settings, on_refused=lambda line: sys.exit(str(line)))
    store = None
    if archive is not None:
        sink = BucketSink.at(archive, Coding.GZIP, Origin("bench"), environment=environment, gather_seconds=math.inf)
        sink.observers.append(bill.see)
        store = ArchiveStore(sink)
    async with Fetcher(FetchOptions(allow_private=True, captures=store is not None), connections=32) as fetcher:
        options = WorkerOptions(worker_id="function", batch_size=BATCH)
        worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=random.Random(1), store=store)
        while deliveries := await frontier.receive(BATCH, wait_seconds=1.0):
            await worker.work_on(deliveries, until=frontier.now() + INVOCATION_SECONDS)
    if store is not None:
        await store.close()
    await frontier.close()
    check = await AwsFrontier.open(SETTINGS, clock=time.time, environment=own)
    bill.pages = (await check.counts(exact=True)).by_status[Status.DONE]
    async for items in Table(check.client, own["TABLE_NAME"]).scan():
        sizes = [item_bytes(item) for item in items if is_record(item["url"]["S"])]
        bill.item_bytes = max([bill.item_bytes, *sizes])
    await check.close()
    await drop(own)
    return bill


def row(bill: Bill) -> str:
    usage, pages = bill.usage, bill.pages
    return (
        f"| {bill.title} | {pages:,} | {usage.write_units / pages:.2f} | {bill.item_bytes:,} "
        f"| {usage.s3_writes / pages:.3f} | {usage.archived_bytes / pages:,.0f} "
        f"| {usage.dollars / pages * 1e6:.2f} |"
    )


async def main(pages: int) -> int:
    start_logging("error", "console")
    engines = Engines()
    try:
        try:
            environment = engines.dynamodb_local_and_fauxqs()
        except EngineMissingError as error:
            print(f"with ministack alone: {error}", file=sys.stderr)
            environment = engines.ministack()
        site = Site(pages, 0)
        port = await site.start()
        without = await work("ten a batch, nothing kept", environment, port, pages, None)
        async with bucket(environment, "pages") as place:
            kept = await work("ten a batch, all kept", environment, port, pages, str(place))
        await site.stop()
    finally:
        engines.stop()
    print(
        "| run | pages | write units a page | largest record | PUTs a page | bytes kept a page | dollars per million |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    print(row(without), row(kept), sep="\n")
    puts = round(kept.usage.s3_writes / kept.pages * DOLLARS_AN_S3_WRITE * 1e6, 3)
    more = kept.usage.write_units / kept.pages - without.usage.write_units / without.pages
    targets = {
        f"at most {TARGET_DOLLARS:.2f} dollars of PUTs a million pages ({puts:.2f})": puts <= TARGET_DOLLARS,
        f"no further write unit ({more:+.2f})": more < 0.2,  # sums and host rows are written as time goes by
    }
    for target, is_met in targets.items():
        print(f"{'met' if is_met else 'MISSED'}: {target}")
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1000)
    sys.exit(asyncio.run(main(parser.parse_args().pages)))
