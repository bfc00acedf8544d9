"""A proxy in front of an engine that does what AWS does and the engines do not.

Each fault is a function that takes a request and either answers it, changes it or lets it pass.
Chance comes from a seeded generator, so a run that failed can be repeated.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

Document = dict[str, Any]


class Answer:
    """An answer on its way back; ``status`` 0 hangs up instead."""

    def __init__(self, status: int, document: Document, date: str = "") -> None:
        self.status = status
        self.document = document
        self.date = date  # the engine's time, which may be ahead of ours; an answer that is made up here tells none

    @property
    def is_good(self) -> bool:
        return self.status == 200


Forward = Callable[[Document], Awaitable[Answer]]
Fault = Callable[["FaultProxy", str, Document, Forward], Awaitable[Answer]]
"""Gets the proxy, the action, its document, and how to ask the engine."""


class FaultProxy:
    """Stands in front of the engines of an environment; use it as a context manager."""

    def __init__(self, environment: Mapping[str, str], *, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.fault: Fault | None = None  # none: everything passes
        self.chance = 0.3  # of each request, or each part of one, to meet the fault
        self.injected: Counter[str] = Counter()  # faults by action
        self.calls: Counter[str] = Counter()
        self.connections: set[int] = set()  # the ports that calls came from
        self.on_answer: Callable[[str, Document, Answer], None] | None = None  # sees what engines answer
        self.memory: dict[str, Any] = {}  # what a fault wants to keep between requests
        self.environment = dict(environment)
        default = environment["AWS_ENDPOINT_URL"]
        self._upstream = {
            "AmazonSQS": environment.get("AWS_ENDPOINT_URL_SQS", default),
            "DynamoDB_20120810": environment.get("AWS_ENDPOINT_URL_DYNAMODB", default),
        }
        self._default = default

    async def __aenter__(self) -> FaultProxy:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        for name in ("", "_SQS", "_DYNAMODB", "_CLOUDWATCH"):
            self.environment[f"AWS_ENDPOINT_URL{name}"] = url
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def strikes(self, action: str) -> bool:
        """Whether the fault happens now; counted."""
        struck = self.rng.random() < self.chance
        self.injected[action] += struck
        return struck

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        service, _, action = request.headers["X-Amz-Target"].partition(".")
        upstream = self._upstream.get(service, self._default)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower().startswith("x-amz-") or name.lower() in ("authorization", "content-type")
        }

        async def forward(document: Document) -> Answer:
            async with self._session.post(upstream, data=json.dumps(document), headers=headers) as response:
                answer = Answer(response.status, json.loads(await response.read() or b"{}"), response.headers["Date"])
            if self.on_answer:
                self.on_answer(action, document, answer)
            return answer

        self.calls[action] += 1
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        document = await request.json()
        answer = await (self.fault(self, action, document, forward) if self.fault else forward(document))
        if answer.status == 0:
            request.transport.abort()
        return web.json_response(answer.document, status=answer.status or 500, headers={"Date": answer.date})


def refusal(kind: str, status: int = 400) -> Answer:
    return Answer(status, {"__type": f"com.amazonaws#{kind}", "message": "injected"})


async def throttle(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """The call is refused, not made."""
    if not proxy.strikes(action):
        return await forward(document)
    codes = ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"]
    return refusal(proxy.rng.choice(codes))


async def fail(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """A 5xx that may mean anything: half of the time the call was made."""
    if not proxy.strikes(action):
        return await forward(document)
    if proxy.rng.random() < 0.5:
        await forward(document)
    return refusal("InternalServerError", proxy.rng.choice([500, 502, 503]))


async def lose_answer(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """The call is made, and the connection is gone before its answer."""
    if not proxy.strikes(action):
        return await forward(document)
    await forward(document)
    return Answer(0, {})


async def fail_parts(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """Parts of batches fail: some were made and some were not, and nobody says which."""
    if action == "BatchExecuteStatement":
        statements = document["Statements"]
        fates = [proxy.rng.choice(["throttled", "made"]) if proxy.strikes(action) else "passed" for _ in statements]
        passed = [statement for statement, fate in zip(statements, fates, strict=True) if fate != "throttled"]
        made: Document = {"Responses": []}
        if passed:
            answer = await forward({**document, "Statements": passed})
            if not answer.is_good:
                return answer
            made = answer.document
        responses = iter(made["Responses"])
        merged = []
        for fate in fates:
            if fate == "throttled":
                merged.append({"Error": {"Code": "ProvisionedThroughputExceeded", "Message": "injected"}})
            elif fate == "made":
                next(responses)
                merged.append({"Error": {"Code": "InternalServerError", "Message": "injected"}})
            else:
                merged.append(next(responses))
        return Answer(200, {**made, "Responses": merged})
    if action in ("SendMessageBatch", "DeleteMessageBatch"):
        fates = [
            proxy.rng.choice(["failed", "made"]) if proxy.strikes(action) else "passed" for _ in document["Entries"]
        ]
        by_id = {entry["Id"]: fate for entry, fate in zip(document["Entries"], fates, strict=True)}
        passed = [entry for entry in document["Entries"] if by_id[entry["Id"]] != "failed"]
        made = {}
        if passed:
            answer = await forward({**document, "Entries": passed})
            if not answer.is_good:
                return answer
            made = answer.document
        good = [done for done in made.get("Successful") or [] if by_id[done["Id"]] == "passed"]
        failed = list(made.get("Failed") or [])
        failed += [
            {"Id": id, "Code": "InternalError", "SenderFault": False, "Message": "injected"}
            for id, fate in by_id.items()
            if fate != "passed"
        ]
        return Answer(200, {"Successful": good, "Failed": failed})
    if action == "BatchGetItem":
        ((table, asked),) = document["RequestItems"].items()
        left = [key for key in asked["Keys"] if proxy.strikes(action)]
        read = [key for key in asked["Keys"] if key not in left]
        made = {"Responses": {table: []}}
        if read:
            answer = await forward({**document, "RequestItems": {table: {**asked, "Keys": read}}})
            if not answer.is_good:
                return answer
            made = answer.document
        if left:
            made["UnprocessedKeys"] = {table: {**asked, "Keys": left}}
        return Answer(200, made)
    return await forward(document)


async def duplicate(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """Messages are delivered more than once."""
    answer = await forward(document)
    if action == "SendMessageBatch":
        for entry in document["Entries"]:
            for copy in range(3):
                if proxy.strikes(action):
                    await forward({**document, "Entries": [{**entry, "Id": f"copy{copy}"}]})
    return answer


async def reorder(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """Messages come in any order: some are held up, and a receive brings only a few."""
    if action == "SendMessageBatch":
        for entry in document["Entries"]:
            if proxy.strikes(action):
                entry["DelaySeconds"] = entry.get("DelaySeconds", 0) + proxy.rng.randrange(1, 4)
    if action == "ReceiveMessage":
        if proxy.strikes(action):
            return Answer(200, {})
        document["MaxNumberOfMessages"] = proxy.rng.randrange(1, document["MaxNumberOfMessages"] + 1)
    return await forward(document)


async def stale_receipts(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """Receipt handles are stale before their time, so their messages come back."""
    if action != "DeleteMessageBatch":
        return await forward(document)
    stale = [entry for entry in document["Entries"] if proxy.strikes(action)]
    kept = [entry for entry in document["Entries"] if entry not in stale]
    made = (await forward({**document, "Entries": kept})).document if kept else {}
    failed = [{"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True} for entry in stale]
    return Answer(200, {**made, "Failed": (made.get("Failed") or []) + failed})


async def lag(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """The index and reads that are not consistent show what was true a moment ago."""
    answer = await forward(document)
    if action == "Query" and answer.is_good:
        key = json.dumps(document["ExpressionAttributeValues"][":shard"])
        before = proxy.memory.get(key, [])
        proxy.memory[key] = answer.document["Items"]
        if proxy.strikes(action):
            answer.document["Items"] = before
            answer.document.pop("LastEvaluatedKey", None)
    if action == "BatchGetItem" and answer.is_good:
        ((table, asked),) = document["RequestItems"].items()
        if not asked.get("ConsistentRead"):
            items = answer.document["Responses"][table]
            answer.document["Responses"][table] = [item for item in items if not proxy.strikes(action)]
    return answer


async def everything(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """One fault or another."""
    fault = proxy.rng.choice([throttle, fail, lose_answer, fail_parts, duplicate, reorder, stale_receipts, lag])
    return await fault(proxy, action, document, forward)


ALL: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (throttle, fail, lose_answer, fail_parts, duplicate, reorder, stale_receipts, lag, everything)
}
