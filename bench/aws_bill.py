"""What a crawl costs on AWS, counted call by call: ``python -m bench.aws_bill [--write]``.

The whole crawler works against DynamoDB Local and fauxqs (or ministack alone, whose capacity units
are its own guess); calls, requests and capacity units are taken from the client's own hooks.
``--write`` puts the table into docs/costs.md.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web
from tests.aws.engines import EngineMissingError, Engines
from tests.aws.store import client_for, create, drop

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.bill import DOLLARS_A_METRIC_REQUEST, Usage
from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.errors import AwsError, Meaning
from sqspider.frontier.aws.items import is_record
from sqspider.frontier.aws.table import Table
from sqspider.frontier.aws.transport import DYNAMODB, SQS
from sqspider.log import start_logging
from sqspider.record import Status
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.upkeep import CHECK_IN_SECONDS
from sqspider.work.worker import Mode, Worker

COSTS: Final = Path(__file__).parent.parent / "docs" / "costs.md"
BEGIN, END = "<!-- bench.aws_bill: begin -->", "<!-- bench.aws_bill: end -->"
SETTINGS: Final = FrontierSettings()
BATCH: Final = 10
MONTH_SECONDS: Final = 30 * 86_400.0


class Bill(msgspec.Struct, kw_only=True):
    """What one run used."""

    title: str
    pages: int
    usage: Usage
    actions: Counter[str]
    inserts: int = 0  # conditional writes of new records
    known_inserts: int = 0  # of them, those that found the record there
    links: int = 0  # that were found on pages
    deliveries: int = 0  # messages received
    item_bytes: int = 0  # of the largest record in the end
    link_read_units: float = 0.0  # of reads that ask whether links are known
    sizes: dict[str, int] = msgspec.field(default_factory=dict)  # of items by key, as far as it is known

    @property
    def dollars_per_million_pages(self) -> float:
        return self.usage.dollars / self.pages * 1e6

    def row(self) -> str:
        usage, pages = self.usage, self.pages
        links = f"{self.link_read_units / self.links:.2f}" if self.links else "–"
        return (
            f"| {self.title} | {pages:,} | {self.deliveries / pages:.2f} | {usage.calls / pages:.2f} "
            f"| {usage.sqs_requests / pages:.2f} "
            f"| {usage.write_units / pages:.1f} | {usage.read_units / pages:.1f} | {links} "
            f"| {self.known_inserts} of {self.inserts:,} | {self.dollars_per_million_pages:.2f} |"
        )

    def see(self, call: Call) -> None:
        """Add a call."""
        self.usage.see(call)
        self.actions[call.action] += 1
        if call.action == "ReceiveMessage" and call.answer:
            self.deliveries += len(call.answer.get("Messages") or ())
        if call.answer is None:  # refused, or no answer: it is tried again
            return
        answer = call.answer
        if call.action == "BatchExecuteStatement":
            for statement, response in zip(call.request["Statements"], answer["Responses"], strict=True):
                if "ConsumedCapacity" not in answer:  # DynamoDB Local does not say it for statements
                    self.usage.write_units += _write_units(statement, response, self._size(statement, response))
                if statement["Statement"].startswith("INSERT") and "'enqueued_at'" in statement["Statement"]:
                    self.inserts += 1
                    self.known_inserts += "Error" in response
        if call.action == "BatchGetItem" and "ProjectionExpression" in str(call.request):
            self.link_read_units += sum(used["CapacityUnits"] for used in answer.get("ConsumedCapacity", ()))

    def _size(self, statement: Mapping[str, Any], response: Mapping[str, Any]) -> int:
        """About the size of the item that a statement leaves behind."""
        parameters = statement["Parameters"]
        if statement["Statement"].startswith("INSERT"):
            names = re.findall(r"'(\w+)'", statement["Statement"])
            key, size = parameters[0]["S"], item_bytes(dict(zip(names, parameters, strict=True)))
        else:
            key = next(value["S"] for value in reversed(parameters) if value.get("S") in self.sizes)
            written = max(value_bytes(value) for value in parameters if value.get("S") != key)
            size = self.sizes[key]
            if "Item" in response:
                size = item_bytes(response["Item"])
            elif '"outcome"' in statement["Statement"]:
                size += written
            elif '"row"' in statement["Statement"]:  # of a host: the whole of it
                size = sum(len(value.get("S", "").encode()) for value in parameters) + 60
        self.sizes[key] = size
        return size


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of an item as AWS counts it: names and values; a number about half of its digits and one."""
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, raw),) = value.items()
    match kind:
        case "S":
            return len(raw.encode())
        case "M":
            return 3 + len(raw) + item_bytes(raw)
        case "L":
            return 3 + len(raw) + sum(map(value_bytes, raw))
        case "N":
            return len(raw) // 2 + 2
    return len(raw) if kind == "SS" else 1


def _write_units(statement: Mapping[str, Any], response: Mapping[str, Any], size: int) -> int:
    """As AWS charges them: one for each KB begun of the item, and what changes in the index.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html (write capacity units)
    """
    text = statement["Statement"]
    units = math.ceil(size / 1024)
    if "Error" in response:
        return units
    if text.startswith("INSERT"):
        return units + ("'due_at'" in text)
    if 'REMOVE "due_at"' in text:
        return units + 1
    return units + 2 if 'SET "due_at"' in text else units  # the index' entry goes and comes again


def _bill(title: str) -> Bill:
    return Bill(title=title, pages=0, usage=Usage(), actions=Counter())


class Site:
    """Pages on every address of 127/8, each with links to others."""

    def __init__(self, pages: int, links: int) -> None:
        rng = random.Random(1)
        # A page in front of each: then every page is found.
        self._pages = [
            "".join(
                f'<a href="/page/{target}/of-a-site-with-names-of-usual-length">x</a>'
                for target in [(i + 1) % pages, *rng.choices(range(pages), k=links - 1)]
            )
            if links
            else ""
            for i in range(pages)
        ]

    async def start(self) -> int:
        application = web.Application()
        application.router.add_get("/page/{number}/{rest}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        body = self._pages[int(request.match_info["number"]) % len(self._pages)]
        return web.Response(text=f"<title>A page of a site</title>{body}", content_type="text/html")


async def crawl(
    title: str,
    environment: Mapping[str, str],
    urls: list[str],
    settings: CrawlSettings,
    *,
    workers: int,
    links: int,
    seen_urls: int = 200_000,
) -> Bill:
    """Enqueue URLs and work until nothing is left; what all of it used. ``seen_urls``: links that are remembered."""
    bill = _bill(title)
    own = await create(environment, SETTINGS)
    fetch = FetchOptions(allow_private=True)
    frontiers = [await AwsFrontier.open(SETTINGS, clock=time.time, environment=own) for _ in range(workers)]
    for frontier in frontiers:
        frontier.client.observers.append(bill.see)
    await produce(frontiers[0], urls, settings, on_refused=lambda line: sys.exit(str(line)))

    async def work(number: int) -> None:
        async with Fetcher(fetch, connections=32) as fetcher:
            options = WorkerOptions(
                worker_id=f"worker-{number}", batch_size=BATCH, poll_seconds=1.0, seen_urls=seen_urls
            )
            worker = Worker(frontiers[number], fetcher, options, clock=frontiers[number].now, rng=random.Random(number))
            await worker.run(Mode.UNTIL_EMPTY)

    await asyncio.gather(*(work(number) for number in range(workers)))
    for frontier in frontiers:
        await frontier.close()
    check = await AwsFrontier.open(SETTINGS, clock=time.time, environment=own)
    bill.pages = (await check.counts(exact=True)).by_status[Status.DONE]
    bill.links = bill.pages * links
    async for items in Table(check.client, own["TABLE_NAME"]).scan():
        sizes = [item_bytes(item) for item in items if is_record(item["url"]["S"])]
        bill.item_bytes = max([bill.item_bytes, *sizes])
    await check.close()
    await drop(own)
    return bill


async def naive(title: str, environment: Mapping[str, str], pages: int, links: int) -> Bill:
    """One call for everything: send, put, receive, claim, finish, delete; a conditional put for each link."""
    bill = _bill(title)
    own = await create(environment, SETTINGS)
    client = client_for(own)
    client.observers.append(bill.see)
    table, queue = own["TABLE_NAME"], own["QUEUE_URL"]
    rng = random.Random(1)
    recorded = 0

    async def call(action: str, **request: Any) -> dict[str, Any]:
        service = SQS if "QueueUrl" in request else DYNAMODB
        extra = {"ReturnConsumedCapacity": "TOTAL"} if service is DYNAMODB else {}
        return (await client.call(service, action, {**request, **extra})).body

    async def put(number: int) -> None:
        nonlocal recorded
        url = f"http://127.0.0.1/page/{number}/of-a-site-with-names-of-usual-length"
        bill.inserts += 1
        item = {"url": {"S": url}, "status": {"S": "queued"}, "enqueued_at": {"N": repr(time.time())}}
        item |= {"due_shard": {"S": f"q{number % 8}"}, "due_at": {"N": repr(time.time())}}
        try:
            await call(
                "PutItem",
                TableName=table,
                Item=item,
                ConditionExpression="attribute_not_exists(#u)",
                ExpressionAttributeNames={"#u": "url"},
            )
        except AwsError as error:
            if error.meaning is not Meaning.OUTCOME:
                raise
            bill.known_inserts += 1
            bill.usage.write_units += 1  # a refusal is charged, and does not say so
            return
        recorded += 1
        await call("SendMessage", QueueUrl=queue, MessageBody=url)

    async def update(url: str, expression: str, **values: Any) -> None:
        await call(
            "UpdateItem",
            TableName=table,
            Key={"url": {"S": url}},
            UpdateExpression=expression,
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
        )

    for number in range(1 if links else pages):
        await put(number)
    while bill.pages < recorded:
        for message in (await call("ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=1)).get("Messages") or []:
            url, number = message["Body"], int(message["Body"].split("/")[4])
            await update(url, "SET #s = :s, worker_id = :w", s={"S": "processing"}, w={"S": "worker-1"})
            targets = [(number + 1) % pages, *rng.choices(range(pages), k=links - 1)] if links else []
            for target in targets:
                await put(target)
            await update(url, "SET #s = :s REMOVE due_at, due_shard", s={"S": "done"})
            await call("DeleteMessage", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            bill.pages += 1
    bill.links = bill.pages * links
    await client.close()
    await drop(own)
    return bill


class Idle(NamedTuple):
    """What idle consumers cost in a month, in dollars."""

    consumers: int
    polls: float
    check_ins: float
    looks: float  # at the lease on sweeping
    sweeps: float  # of the one that sweeps for all
    figures: float  # CloudWatch's, asked for by a sweep while messages wait

    def row(self) -> str:
        parts = " | ".join(f"{part:.2f}" for part in self[1:])
        return f"| {self.consumers} | {parts} | {sum(self[1:-1]):.2f} | {sum(self[1:]):.2f} |"


async def idle(environment: Mapping[str, str], consumers: int) -> Idle:
    """Counts each thing that an idle consumer does once, and multiplies."""
    own = await create(environment, SETTINGS)
    frontier = await AwsFrontier.open(SETTINGS, clock=time.time, environment=own)

    async def monthly(every_seconds: float, action: Callable[[], Awaitable[object]]) -> float:
        before = msgspec.structs.replace(frontier.usage)
        await action()
        return frontier.usage.minus(before).dollars * MONTH_SECONDS / every_seconds

    sweep_seconds = WorkerOptions(worker_id="idle").sweep_seconds
    check_in = partial(frontier.check_in, "worker", session="s", ttl_seconds=30)
    await check_in()  # the first one makes the row
    lease = await monthly(sweep_seconds, lambda: frontier.lease_sweep(until=time.time() + 60))
    found = Idle(
        consumers,
        polls=consumers * await monthly(frontier.traits.poll_seconds, lambda: frontier.receive(10)),
        check_ins=consumers * await monthly(CHECK_IN_SECONDS / 3, check_in),
        looks=consumers * await monthly(sweep_seconds, lambda: frontier.lease_sweep(until=time.time() + 60)),
        sweeps=lease + await monthly(sweep_seconds, frontier.sweep),
        figures=DOLLARS_A_METRIC_REQUEST * MONTH_SECONDS / sweep_seconds,
    )
    await frontier.close()
    await drop(own)
    return found


async def bills(environment: Mapping[str, str], scale: float) -> list[Bill]:
    site = Site(int(2000 * scale), 50)
    port = await site.start()
    many, some = int(10_000 * scale), int(2000 * scale)

    def named(host: str, number: int) -> str:
        return f"http://{host}:{port}/page/{number}/of-a-site-with-names-of-usual-length"

    own = CrawlSettings(delay_seconds=0.0, obey_robots=False)
    polite = CrawlSettings(delay_seconds=1.0, obey_robots=False)
    linked = CrawlSettings(scope=Scope.HOST, delay_seconds=0.0, obey_robots=False)
    one_host = [named("127.0.0.1", i) for i in range(many)]
    hosts = [f"127.0.{i // 200 + 1}.{i % 200 + 1}" for i in range(many // 10)]
    many_hosts = [named(hosts[i % len(hosts)], i) for i in range(many)]
    print("(a) ...", file=sys.stderr)
    found = [
        await crawl("(a) no links, own site", environment, one_host, own, workers=1, links=0),
        await crawl(
            f"(a) no links, {len(hosts):,} hosts, 1 s delay", environment, many_hosts, polite, workers=1, links=0
        ),
    ]
    long = [f"{named('127.0.0.1', i)}?{'a-long-query=' * 55}{i}" for i in range(some)]
    usual = [f"{named('127.0.0.1', i)}?{'query=' * 18}{i}".ljust(170, "x") for i in range(some)]
    with_usual_urls = await crawl("(a) no links, URLs of 170 bytes", environment, usual, own, workers=1, links=0)
    with_long_urls = await crawl("(a) no links, URLs of 800 bytes", environment, long, own, workers=1, links=0)
    quick = msgspec.structs.replace(polite, delay_seconds=0.02)
    found.append(
        await crawl(
            "(a) no links, one host, 20 ms delay, 4 workers", environment, one_host[:some], quick, workers=4, links=0
        )
    )
    print("(b) ...", file=sys.stderr)
    seed = [named("127.0.0.1", 0)]
    found.append(await crawl("(b) 50 links a page", environment, seed, linked, workers=1, links=50))
    found.append(await crawl("(b) the same, 4 workers", environment, seed, linked, workers=4, links=50))
    worst = partial(crawl, "(b) at worst: no link remembered", workers=4, links=50, seen_urls=2)
    found.append(await worst(environment, seed, linked))
    await site.stop()
    found += [with_usual_urls, with_long_urls]
    print("naive ...", file=sys.stderr)
    found.append(await naive("naive (a)", environment, some // 2, 0))
    found.append(await naive("naive (b), 200 pages", environment, some // 10, 50))
    return found


async def main(scale: float, write: bool) -> int:
    start_logging("error", "console")
    engines = Engines()
    try:
        try:
            environment = engines.dynamodb_local_and_fauxqs()
            engine = "DynamoDB Local and fauxqs"
        except EngineMissingError as error:
            print(f"with ministack alone: {error}", file=sys.stderr)
            environment, engine = engines.ministack(), "ministack"
        idlers = [await idle(environment, consumers) for consumers in (1, 10, 100)]
        found = await bills(environment, scale)
    finally:
        engines.stop()
    lines = [
        f"Counted against {engine}, batches of {BATCH}; enqueueing is in it.",
        f"The largest records: {max(bill.item_bytes for bill in found if bill is not found[-3]):,} bytes, so that each "
        f"write is one unit; with long URLs {found[-3].item_bytes:,} bytes, two units.",
        "",
        "| run | pages | deliveries a page | calls a page | SQS requests a page | write units a page "
        "| read units a page | read units a link | conditional writes of known links | dollars per million pages |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(bill.row() for bill in found),
        "",
        "Idle consumers, in dollars a month:",
        "",
        "| consumers | polls | check-ins | looks at the lease | the one sweep | CloudWatch, while messages wait "
        "| together | while messages wait |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(idler.row() for idler in idlers),
    ]
    print("\n".join(lines))
    for bill in found:
        print(bill.title, dict(bill.actions.most_common()), file=sys.stderr)
    if write:
        text = COSTS.read_text()
        block = f"{BEGIN}\n" + "\n".join(lines) + f"\n{END}"
        COSTS.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL))
    own, polite, crowded, linked, _, worst, *_ = found
    targets = {
        "(a) at most 1.0 call a page": own.usage.calls / own.pages <= 1.0,
        "(a) at most 6 write units a page": own.usage.write_units / own.pages <= 6.0,
        "many hosts: at most 6.5 write units a page": polite.usage.write_units / polite.pages <= 6.5,
        "one host: at most 3 calls a page": crowded.usage.calls / crowded.pages <= 3.0,
        "one host: fewer than 2.5 deliveries a page": crowded.deliveries / crowded.pages < 2.5,
        "(b) at most 1.5 read units a link, at worst": worst.link_read_units / worst.links <= 1.5,
        "(b) no conditional write for a known link": linked.known_inserts == 0,
    }
    for target, is_met in targets.items():
        print(f"{'met' if is_met else 'MISSED'}: {target}")
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the full size")
    parser.add_argument("--write", action="store_true", help="put the table into docs/costs.md")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.scale, arguments.write)))
