"""Claims of URL records: who wins one, and how it is ended: finished, or given back.

Only a condition of DynamoDB's decides, never a call that failed: an unclear one is looked up in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier.answers import (
    Claimant,
    claim_told,
    claimed_in_order,
    counted,
    first_request_of_each,
    given_back,
    host_sums,
    is_held,
    not_before,
    not_current,
    prolonged,
)
from sqspider.frontier.aws.attributes import Item, n, number, s, text
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.doubts import Doubt
from sqspider.frontier.aws.items import (
    claim_in,
    encode_kept,
    encode_outcome,
    entry_of,
    fence,
    is_of,
    is_of_crawl,
    is_own,
    of_crawl,
    shard_of,
    was_queued,
    won_of,
)
from sqspider.frontier.aws.messages import Messages
from sqspider.frontier.aws.nearing import ROUNDS, still_on, way_in
from sqspider.frontier.aws.outgoing import Outgoing, delay_until
from sqspider.frontier.aws.parking import is_parked, parked_until
from sqspider.frontier.aws.runs import Runs
from sqspider.frontier.aws.table import Statement, Written
from sqspider.frontier.values import ClaimRequest, Entry, Finish, FrontierBusyError, Hold, Lost, LostReason, Retry, Won
from sqspider.frontier.ways import Way, handed_on, is_by_way
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.record import REQUISITE_DEPTH, Operation, Status
from sqspider.url import host_of

CLAIM_ROUNDS: Final = 4
CLAIM: Final = """
UPDATE "{table}"
SET "status" = 'processing' SET "attempt" = "attempt" + 1 SET "unended" = "unended" + 1
SET "worker_id" = ? SET "claim_id" = ? SET "lease_until" = ? SET "claimed_at" = ?
WHERE "url" = ? AND "lease_until" < ?{of_crawl}
RETURNING ALL NEW *
"""
FINISH: Final = """
UPDATE "{table}"
SET "status" = ? SET "outcome" = ? SET "finished_at" = ? SET "unended" = 0{more}
REMOVE "lease_until" REMOVE "due_at" REMOVE "due_shard" REMOVE "parked_body"
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
GIVE_BACK: Final = """
UPDATE "{table}"
SET "status" = 'queued' SET "lease_until" = 0 SET "unended" = ? SET "tries" = ?
SET "due_at" = ? SET "due_shard" = ?{more}
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
PROLONG: Final = """
UPDATE "{table}" SET "lease_until" = ?
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""

log = get_logger(__name__)

replace = msgspec.structs.replace


class _Tried(NamedTuple):
    """What came of one try to claim some URLs."""

    answers: dict[str, Won | Lost]
    missing: list[str]  # have no record
    free: list[str]  # became so between the write and the read


class Claims(Messages, CrawlRows, Runs):
    """Claims and their ends."""

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        claimant = Claimant(worker_id, claim_id, lease_seconds)
        by_url = first_request_of_each(requests)
        answers: dict[str, Won | Lost] = {}
        waiting = list(by_url)
        for _ in range(CLAIM_ROUNDS):
            tried = await self._try({url: by_url[url].message for url in waiting}, claimant)
            answers |= tried.answers
            waiting = tried.free
            if tried.missing:  # a message whose URL has no record is a way in
                gone = await self._of_no_crawl([by_url[url].message for url in tried.missing])
                answers |= {url: not_current(by_url[url].message) for url in gone}
                missing = [url for url in tried.missing if url not in gone]
                refused = (await self._insert([Entry.of(by_url[url].message) for url in missing])).refused
                answers |= _refused(refused)
                waiting = waiting + [url for url in missing if url not in refused]
            if not waiting:
                break
        for url in waiting:  # changing hands all the time: look again soon
            answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=self._clock())
        await self._flush_if_due()
        return claimed_in_order(requests, answers)

    async def _try(self, messages: Mapping[str, Message], claimant: Claimant) -> _Tried:
        """Try to claim records once, and count those that were queued."""
        now, urls = self._clock(), list(messages)
        with self._doubts.unless_answered(Doubt(url, partial(is_own, claimant), self._count_claim) for url in urls):
            written = await self._table.write([self._claim(message, claimant, now) for message in messages.values()])
            # One consistent read says why some were lost.
            lost = [url for url, w in zip(urls, written, strict=True) if not w.is_done and not w.refusal]
            found = await self._table.read(lost)
        answers = _refused({url: w.refusal for url, w in zip(urls, written, strict=True) if w.refusal})
        won = {url: w.item for url, w in zip(urls, written, strict=True) if w.is_done and w.item is not None}
        answers |= {url: won_of(url, item) for url, item in won.items()}
        won |= {url: item for url, item in found.items() if is_own(claimant, item)}  # the answer was lost
        for item in won.values():
            self._count_claim(item)
        made_at = max((number(item, "enqueued_at") for item in won.values()), default=0.0)
        await self._host_rows.look_for_clearings(made_at)
        for url, item in found.items():
            told = claim_told(url, claim_in(item), claimant, now)
            if not is_of_crawl(item, messages[url]):
                told = not_current(messages[url])
            if told is not None:
                answers[url] = told
        missing = [url for url in lost if url not in found]
        return _Tried(answers, missing, [url for url in lost if url in found and url not in answers])

    def _claim(self, message: Message, claimant: Claimant, now: float) -> Statement:
        url, lease_until = message.key, now + claimant.lease_seconds
        values = [s(claimant.worker_id), s(claimant.claim_id), n(lease_until), n(now), s(url), n(now)]
        where, crawl = of_crawl(message)
        return Statement(url, CLAIM.format(table=self._table.name, of_crawl=where), [*values, *crawl])

    def _count_claim(self, item: Item) -> None:
        if was_queued(item):
            self._sums.add(item["url"]["S"], counted(Status.QUEUED, Status.PROCESSING))

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        answers = [False] * len(finishes)
        asked = dict(enumerate(finishes))
        for _ in range(ROUNDS):
            await self._enqueue_links(list(asked.values()))
            for i, is_ended in zip(asked, await self._end(list(asked.values())), strict=True):
                answers[i] = is_ended
            asked = await self._on_nearer_ways({i: end for i, end in asked.items() if not answers[i]})
            if not asked:
                break
        over = [finish for finish, is_ended in zip(finishes, answers, strict=True) if is_ended]
        await self._spend(over)
        try:
            await self.delete([finish.delivery for finish in over if finish.delivery is not None])
        except FrontierBusyError as error:  # they come back, are found finished, and go then
            log.warning("frontier_busy", during="delete", error=str(error))
        await self._flush_if_due()
        return answers

    async def _on_nearer_ways(self, finishes: Mapping[int, Finish]) -> dict[int, Finish]:
        """Of some that were not made, those whose records were told a nearer way meanwhile, by that one. (What ended
        for a limit of its way, and what nobody knows the links of, is left to come back, and be visited anew.)"""
        judged = {i: end for i, end in finishes.items() if end.outlinks is not None}
        items = await self._table.read(end.claim.url for end in judged.values())
        rows: dict[CrawlRef, CrawlSettings] | None = None
        again = {}
        for i, end in judged.items():
            item = items.get(end.claim.url)
            if item is None or not is_held(claim_in(item), end.claim, Operation.FINISH):
                continue
            depth, redirects = way_in(item)
            if end.outlinks is None or (depth, redirects) == (end.claim.depth, end.claim.redirects):
                continue
            message = entry_of(item).to_message()
            if message.crawl is not None:
                rows = {row.ref: row.settings for row in await self.crawls()} if rows is None else rows
                if message.crawl not in rows:
                    continue
                message = replace(message, settings=rows[message.crawl])
            claim = replace(end.claim, depth=depth, redirects=redirects)
            again[i] = replace(end, claim=claim, links=tuple(handed_on(end.outlinks, message)))
        return again

    async def _end(self, finishes: Sequence[Finish]) -> list[bool]:
        """Make records final that are still on the ways by which they were judged, and count them."""
        now = self._clock()

        def is_mine(item: Item) -> bool:
            return "finished_at" in item and number(item, "finished_at") == now

        with self._doubts.unless_answered(
            Doubt.of(finish.claim, is_mine, partial(self._count_finish, finish)) for finish in finishes
        ):
            written = await self._table.write([self._finish(finish, now) for finish in finishes])
            ended = await self._ended([finish.claim for finish in finishes], written, is_mine)
        for finish, is_ended in zip(finishes, ended, strict=True):
            if is_ended:
                self._count_finish(finish)
        return ended

    async def _enqueue_links(self, finishes: Sequence[Finish]) -> None:
        """Links go first, so that a crash loses none; those of a claim that is over stay out."""
        linked = [finish for finish in finishes if finish.links]
        if not linked:
            return
        current = await self._table.read(finish.claim.url for finish in linked)
        held = [
            finish
            for finish in linked
            if (item := current.get(finish.claim.url)) and is_held(claim_in(item), finish.claim, Operation.FINISH)
        ]
        if held:
            await self.enqueue([link for finish in held for link in finish.links])

    def _finish(self, finish: Finish, now: float) -> Statement:
        outcome, claim, more, kept = finish.outcome, finish.claim, "", []
        if finish.kept is not None:
            more, kept = ' SET "kept" = ?', [s(encode_kept(finish.kept))]
        elif claim.kept is not None:
            more = ' REMOVE "kept"'
        still, way = "", list[dict[str, Any]]()
        if finish.outlinks is not None or claim.depth == REQUISITE_DEPTH or is_by_way(outcome):
            still, way = still_on(Way(claim.depth, claim.redirects))
        parameters = [s(outcome.status), encode_outcome(outcome), n(now), *kept, *fence(claim), *way]
        return Statement(claim.url, FINISH.format(table=self._table.name, more=more) + still, parameters)

    async def _ended(self, claims: list[Won], written: list[Written], is_mine: Callable[[Item], bool]) -> list[bool]:
        """Which claims were ended. One whose answer was lost has ended if its record says what was written."""
        unsure = [claim.url for claim, w in zip(claims, written, strict=True) if w.is_unsure and not w.is_done]
        found = await self._table.read(unsure)
        return [
            w.is_done or ((item := found.get(claim.url)) is not None and is_of(item, claim) and is_mine(item))
            for claim, w in zip(claims, written, strict=True)
        ]

    def _count_finish(self, finish: Finish, _: Item | None = None) -> None:
        self._sums.add(finish.claim.url, counted(Status.PROCESSING, finish.outcome.status, finish.outcome))
        for host, sums in host_sums([finish]).items():
            self._host_rows.add_sums(host, sums)

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        now = self._clock()

        def is_mine(item: Item) -> bool:
            return text(item, "status") == Status.QUEUED

        with self._doubts.unless_answered(
            Doubt.of(retry.claim, is_mine, partial(self._count_given_back, retry.claim)) for retry in retries
        ):
            written = await self._table.write([self._give_back(retry, now) for retry in retries])
            ended = await self._ended([retry.claim for retry in retries], written, is_mine)
        given_back = [retry for retry, is_ended in zip(retries, ended, strict=True) if is_ended]
        for retry in given_back:
            self._count_given_back(retry.claim)
        await self._resend([(retry.delivery, _sent_back(retry, now)) for retry in given_back])
        await self._flush_if_due()
        return ended

    def _count_given_back(self, claim: Won, _: Item | None = None) -> None:
        self._sums.add(claim.url, counted(Status.PROCESSING, Status.QUEUED))

    def _give_back(self, retry: Retry, now: float) -> Statement:
        claim, body, numbers = retry.claim, retry.delivery.body, given_back(retry)
        parks = is_parked(retry.at, now, body)
        due_at = parked_until(retry.at, now) if parks else not_before(now, retry.at) + self._settings.due_seconds
        more: dict[str, dict[str, Any]] = {}
        if retry.outcome is not None:
            more["outcome"] = encode_outcome(retry.outcome)
        if retry.is_unused:
            more["unused"] = n(claim.attempt)
        if parks:
            more["parked_body"] = s(body)
        text = GIVE_BACK.format(table=self._table.name, more="".join(f' SET "{name}" = ?' for name in more))
        shard = s(shard_of(claim.url, is_parked=parks))
        parameters = [n(numbers.unended), n(numbers.tries), n(due_at), shard, *more.values(), *fence(claim)]
        return Statement(claim.url, text, parameters)

    async def prolong(self, holds: Sequence[Hold], *, lease_seconds: float) -> list[Hold | None]:
        now = self._clock()
        longer = [prolonged(hold, now, lease_seconds) for hold in holds]
        claims = [hold.claim for hold in longer]
        # The lease first: a message that shows too early is received in vain, no more.
        written = await self._table.write([self._prolong(claim) for claim in claims])
        held = [hold for hold, w in zip(longer, written, strict=True) if w.is_done]
        hidden = iter(await self._hide([hold.delivery for hold in held], lease_seconds))
        await self._flush_if_due()
        return [
            Hold(claim=hold.claim, delivery=next(hidden)) if w.is_done else None
            for hold, w in zip(longer, written, strict=True)
        ]

    def _prolong(self, claim: Won) -> Statement:
        return self._table.statement(PROLONG, claim.url, [n(claim.lease_until), *fence(claim)])


def _refused(why: Mapping[str, str]) -> dict[str, Won | Lost]:
    return {url: Lost(url=url, why=LostReason.REFUSED, detail=detail) for url, detail in why.items()}


def _sent_back(retry: Retry, now: float) -> Outgoing | None:
    """The message of a claim that is given back; none where its record keeps it."""
    body = retry.delivery.body
    if is_parked(retry.at, now, body):
        return None
    return Outgoing(body, host_of(retry.claim.url), delay_until(retry.at, now))
