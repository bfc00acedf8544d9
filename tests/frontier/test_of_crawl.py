"""Who works for one crawl alone receives its messages alone, and leaves those of others as they are."""

from __future__ import annotations

import random
from typing import Final, cast

import pytest

from sqspider.crawl_row import Crawl
from sqspider.frontier import Deferral, Delivery, Ends, Frontier, Taking, TurningFrontier, Won
from sqspider.message import encode_message
from sqspider.record import Status

from .kit import (
    A_LITTLE,
    DUE,
    GONE,
    SETTINGS,
    VISIBILITY,
    Store,
    finish_one,
    made,
    message_of,
    of,
    retry_one,
    take,
    try_claim,
)

NEWS: Final = Crawl(name="news", id="a1")
DEFAULT: Final = Crawl(name="default", id="b2")


@pytest.fixture(autouse=True)
async def _crawls(frontier: Frontier) -> None:
    await made(frontier, NEWS, DEFAULT)


def names_of(deliveries: list[Delivery]) -> list[str]:
    return sorted(message_of(delivery).crawl_name for delivery in deliveries)


async def test_messages_of_others_are_not_touched(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue([*of(NEWS, 1), *of(DEFAULT, 2), *of(None, 3), *of(NEWS, 4)])
    await frontier.send([encode_message(entry.to_message()) for entry in (*of(None, 5), *of(NEWS, 6))])
    await frontier.send(["no message"])
    if not frontier.traits.tells_crawls_apart:
        assert len(await take(frontier, 7)) == 7
        assert await other.receive(10, crawl="news") == []
        return
    assert names_of(await other.receive(10, crawl="news")) == ["news"] * 3
    assert await other.receive(10, wait_seconds=0.05, crawl="news") == []
    assert (await frontier.queue_stats()).visible == 4
    left = await other.receive(10, crawl="default")
    assert names_of(left) == ["default"] * 3
    assert {delivery.receive_count for delivery in left} == {1}
    assert [delivery.body for delivery in await frontier.receive(10)] == ["no message"]


async def test_a_turn_takes_what_is_a_crawl_s_alone(frontier: Frontier, store: Store) -> None:
    if not frontier.traits.has_turns:
        return
    turning = cast(TurningFrontier, frontier)
    await frontier.enqueue([*of(DEFAULT, *range(3)), *of(NEWS, 1, 2)])

    async def turn(number: int) -> list[Delivery]:
        taking = Taking(
            limit=9, worker_id="w", claim_id=f"{number}", lease_seconds=1, claims=lambda _: True, crawl="news"
        )
        turned = await turning.turn(Ends(), taking)
        assert all(isinstance(taken.claim, Won) for taken in turned.taken)
        return [taken.delivery for taken in turned.taken]

    assert names_of(await turn(1)) == ["news"] * 2
    assert await turn(2) == []
    await turning.wait(0.01, crawl="news")
    await store.elapse(VISIBILITY + A_LITTLE)
    assert names_of(await turn(3)) == ["news"] * 2, "what is lost comes back"
    assert (await frontier.queue_stats()).visible == 3


async def drained(frontier: Frontier, crawl: str) -> int:
    """How many there were, a few at a time."""
    number = 0
    while some := await frontier.receive(2, crawl=crawl):
        number += len(some)
    return number


async def test_what_comes_back_behind_what_was_passed_is_found(
    frontier: Frontier, other: Frontier, store: Store
) -> None:
    """Each where who works for a crawl alone has seen nothing of it, a moment ago and for long."""
    if not frontier.traits.tells_crawls_apart:
        return
    await frontier.enqueue(of(NEWS, *range(9)))
    await frontier.send([encode_message(entry.to_message()) for entry in of(NEWS, *range(10, 19))])
    taken = await take(frontier, 18)
    await frontier.enqueue(of(DEFAULT, *range(9)))
    assert await drained(other, "news") == 0
    await store.elapse(60)
    assert await drained(other, "news") == 18, "what was lost"
    assert await drained(other, "news") == 0
    await store.elapse(60)
    taken = await take(frontier, 18 + 9)
    await frontier.park([delivery for delivery in taken if message_of(delivery).crawl == NEWS.ref])
    await store.elapse(60)
    assert await drained(other, "news") == 0
    await frontier.unpark(NEWS.ref)
    assert await drained(other, "news") == 18, "what was put aside"


async def test_what_was_sent_and_lost_is_found(frontier: Frontier, other: Frontier, store: Store) -> None:
    if not frontier.traits.tells_crawls_apart:
        return
    await frontier.send([encode_message(entry.to_message()) for entry in of(NEWS, *range(9))])
    await take(frontier, 9)
    assert await drained(other, "news") == 0
    await store.elapse(60)
    assert await drained(other, "news") == 9


async def test_an_id_that_is_given_out_again_is_looked_at_again(frontier: Frontier, other: Frontier) -> None:
    if not frontier.traits.tells_crawls_apart:
        return
    await frontier.enqueue([*of(DEFAULT, 1), *of(NEWS, *range(9))])
    assert await drained(other, "default") == 1
    await frontier.remove_crawl(NEWS.ref)
    await frontier.enqueue(of(DEFAULT, 2))
    assert await drained(other, "default") == 1


async def test_what_is_put_back_by_a_clock_that_is_behind_a_little_is_found(
    frontier: Frontier, other: Frontier, store: Store
) -> None:
    if not frontier.traits.tells_crawls_apart:
        return
    await frontier.enqueue([*of(NEWS, 1), *of(DEFAULT, 2)])
    delivery = (await frontier.receive(1, crawl="news"))[0]
    await store.elapse(1)
    assert await drained(other, "news") == 0
    await store.elapse(-0.75)
    await frontier.defer([Deferral(delivery=delivery, until=0.0)])
    await store.elapse(5)
    assert await drained(other, "news") == 1


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_nothing_of_a_crawl_is_passed_over(
    frontier: Frontier, other: Frontier, store: Store, seed: int
) -> None:
    """A random walk. When who works for a crawl alone receives nothing more, nobody else finds anything of it."""
    if not frontier.traits.tells_crawls_apart:
        return
    rng, held = random.Random(seed), list[Delivery]()
    alone = await store.open(SETTINGS)  # it remembers what it has passed, over all that others do
    assert all(await frontier.enqueue(of(DEFAULT, *range(100, 120))))

    async def all_of(handle: Frontier, crawl: str | None) -> list[Delivery]:
        found: list[Delivery] = []
        while some := await handle.receive(rng.randrange(1, 8), crawl=crawl):
            assert crawl is None or names_of(some) == [crawl] * len(some)
            found += some
        return found

    async def step(number: int, name: str, handle: Frontier) -> None:
        crawl = rng.choice((NEWS, DEFAULT, None))
        match name:
            case "enqueue":
                await handle.enqueue(of(crawl, rng.randrange(60)))
            case "send":
                await handle.send([encode_message(of(crawl, rng.randrange(60))[0].to_message())])
            case "receive":
                held.extend(await handle.receive(rng.randrange(1, 4)))
            case "end" if held:
                delivery = held.pop()
                claim = await try_claim(handle, delivery, claim=f"c{number}")
                if not isinstance(claim, Won):
                    await handle.delete([delivery])
                elif rng.random() < 0.5:
                    await finish_one(handle, claim, delivery, GONE)
                else:
                    await retry_one(handle, claim, delivery, at=store.clock() + rng.choice((-5, 0, 1)))
            case "reopen":
                failed = [r.key async for some in handle.scan(status=Status.FAILED) for r in some]
                await handle.reopen(failed[:3])
            case "park" if held:
                await handle.park([held.pop()])
            case "unpark" if crawl is not None:
                await handle.unpark(crawl.ref)
            case "release":
                await handle.release_host("example.com")
            case "remove" if number % 3 == 0:
                row = next(row for row in await handle.crawls() if row.name == "news")
                await handle.remove_crawl(row.ref)
                assert await handle.save_crawl(Crawl(name="news", id=f"{number:x}"))
            case "elapse":
                await store.elapse(rng.choice((0.0, 0.5, VISIBILITY, DUE)))
                await handle.sweep()
            case "look":
                alone_for = rng.choice(("news", "default"))
                found = [*await all_of(alone, alone_for), *(rest := await all_of(handle, None))]
                assert alone_for not in names_of(rest)
                held.clear()
                await handle.delete(found[::4])
                await handle.redrive()
                await store.elapse(VISIBILITY)

    steps = ("enqueue", "send", "receive", "receive", "end", "end", "reopen", "park", "unpark", "release", "remove",
             "elapse", "look", "look")  # fmt: skip
    for number in range(200):
        await step(number, rng.choice(steps), rng.choice((frontier, other)))
