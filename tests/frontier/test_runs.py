"""Runs: what may be taken in all is shared among workers, and spent by what they finish."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.crawl_row import Limits
from sqspider.frontier import Delivery, Entry, Finish, Frontier, Won
from sqspider.frontier.shares import Ask, Most, Portion, Run, Share, Spend, Spent, decode_run, run_of, run_of_crawl
from sqspider.frontier.values import Ends, Taking
from sqspider.record import Outcome
from sqspider.revisit import after_visit

from .kit import DONE, FORBIDDEN, GONE, VISIBILITY, Store, entries, made, take, take_one, url, win
from .test_crawls import NEWS, SHOP

replace = msgspec.structs.replace


def ask(frontier: Frontier, run: str = "r", *, most: int = 10, worker: str = "one", wanted: int = 6) -> Ask:
    return Ask(run=run, most=Most(most), worker_id=worker, wanted=wanted, until=frontier.now() + 60)


async def claimed(frontier: Frontier, number: int, worker: str = "one") -> list[tuple[Won, Delivery]]:
    await frontier.enqueue(entries(number))
    taken = await take(frontier, number)
    return [(await win(frontier, each, worker=worker, claim=each.message_id, lease=50), each) for each in taken]


def end(claim: Won, delivery: Delivery, *spends: Spend, outcome: Outcome = DONE) -> Finish:
    return Finish(claim=claim, delivery=delivery, outcome=outcome, spends=spends)


async def test_a_run_is_shared_exactly(frontier: Frontier, other: Frontier, store: Store) -> None:
    one, two = ask(frontier), replace(ask(frontier, worker="two"), until=frontier.now() + VISIBILITY)
    assert await frontier.share([one]) == [Portion(6, Spent(), 0)]
    assert await other.share([two, replace(two, run="other")]) == [Portion(4, Spent(), 6), Portion(6, Spent(), 0)]
    assert await frontier.share([one]) == [Portion(6, Spent(), 4)]
    assert await frontier.share([replace(one, wanted=10)]) == [Portion(6, Spent(), 4)]
    await store.elapse(VISIBILITY + 1)  # the other one is dead
    assert await frontier.share([replace(one, wanted=10)]) == [Portion(10, Spent(), 0)]
    two = ask(frontier, worker="two", wanted=1)
    assert await frontier.share([replace(one, wanted=0), two, replace(one, wanted=10)]) == [
        Portion(0, Spent(), 0),
        Portion(1, Spent(), 0),
        Portion(9, Spent(), 1),
    ]


async def test_what_is_finished_goes_over_from_its_workers_share_to_what_is_spent(
    frontier: Frontier, other: Frontier
) -> None:
    await frontier.share([ask(frontier), ask(frontier, "bytes"), ask(frontier, worker="two", wanted=2)])
    held = await claimed(frontier, 4)
    (first, second, third, fourth) = held
    page, of_none = (Spend("r", 1), Spend("bytes", 0)), Spend("nowhere", 1)
    assert await frontier.finish([end(*first, *page), end(*second, *page), end(*third, of_none)]) == [True] * 3
    assert await frontier.finish([end(*first, *page)]) == [False], "what was ended is spent once"
    unchanged = replace(DONE, unchanged=True)
    assert await frontier.finish([end(*fourth, Spend("bytes", 0), outcome=unchanged)]) == [True]
    rows = await other.runs(["r", "bytes", "nowhere"])
    assert {name: ({by: s.pages for by, s in row.shares.items()}, row.all_spent) for name, row in rows.items()} == {
        "r": ({"one": 4, "two": 2}, Spent(2, 200)),
        "bytes": ({"one": 6}, Spent(0, 200)),
    }
    assert await other.share([ask(frontier, worker="two", wanted=10)]) == [Portion(4, Spent(2, 200), 4)]


async def test_what_a_turn_ends_is_spent(frontier: Frontier) -> None:
    if not frontier.traits.has_turns:
        pytest.skip("it has no turns")
    await frontier.share([ask(frontier)])
    ((claim, delivery),) = await claimed(frontier, 1)
    nothing = Taking(limit=0, worker_id="one", claim_id="x", lease_seconds=5, claims=lambda _: False)
    await frontier.turn(Ends(finishes=[end(claim, delivery, Spend("r", 1))]), nothing)  # type: ignore[attr-defined]
    assert (await frontier.runs(["r"]))["r"].all_spent == Spent(1, 100)


async def test_a_run_begins_with_what_was_spent_before_and_only_then(frontier: Frontier) -> None:
    first = replace(ask(frontier), before=Spent(7, 700))
    assert await frontier.share([first]) == [Portion(3, Spent(7, 700), 0)]
    assert await frontier.share([replace(first, before=Spent(9, 900))]) == [Portion(3, Spent(7, 700), 0)]


async def test_what_is_put_back_is_free_again(frontier: Frontier, other: Frontier) -> None:
    await frontier.free("r", Spent(1, 1))
    assert await frontier.runs(["r"]) == {}, "there is no such run"
    await frontier.share([replace(ask(frontier), before=Spent(8, 800))])
    await other.free("r", Spent(3, 300))
    row = (await frontier.runs(["r"]))["r"]
    assert (row.all_spent, [share.pages for share in row.shares.values()]) == (Spent(5, 500), [2])
    await other.free("r", Spent(9, 900))
    assert (await frontier.runs(["r"]))["r"].all_spent == Spent()


async def test_the_runs_of_a_crawl_go_with_it_and_no_others(frontier: Frontier) -> None:
    await made(frontier, NEWS, SHOP)
    near = replace(NEWS, name="new")  # that its name begins with
    longer = replace(NEWS, id=f"{NEWS.id}0")
    stays = [run_of(SHOP.ref, "e.com"), run_of(near.ref, "e.com"), run_of(longer.ref, "e.com"), run_of(None, "e"), "r"]
    goes = [run_of(NEWS.ref, host) for host in ("e.com", "#0", "other.com")]
    await frontier.share([ask(frontier, run) for run in (*stays, *goes)])
    await frontier.remove_crawl(NEWS.ref)
    assert sorted(await frontier.runs([*stays, *goes])) == sorted(stays)


def test_a_row_of_before_bytes_were_counted_is_read() -> None:
    assert decode_run('{"spent":3,"shares":{"w":[2,5.0]}}') == Run(3, {"w": Share(2, 5.0)})


async def test_what_was_fetched_once_says_so_at_every_claim_after(frontier: Frontier) -> None:
    """Whatever came of it since; what was blocked was not fetched."""
    await frontier.enqueue([Entry(url=url("p"))])
    said = []
    for outcome in (FORBIDDEN, GONE, FORBIDDEN, DONE, FORBIDDEN):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=delivery.message_id, lease=50)
        said.append(claim.kept is not None and claim.kept.was_counted)
        end_of_visit = Finish(
            claim=claim, delivery=delivery, outcome=outcome, kept=after_visit(claim.kept, outcome, (), 0)
        )
        assert await frontier.finish([end_of_visit]) == [True]
        assert await frontier.reopen([claim.url], if_changed=outcome is GONE) == [True]
    assert said == [False, False, True, True, True]


async def test_a_crawls_row_says_since_when_it_has_limits_whoever_writes_it(frontier: Frontier) -> None:
    """While there are none nobody counts: so the run of those that are set later is another one."""
    said = []
    for version, pages in enumerate((7, 9, None, 9, 20, None, None, 5)):
        crawl = replace(SHOP, version=version, limits=Limits(pages=pages), counted_since=99 if version == 4 else 0)
        assert await frontier.save_crawl(crawl)
        said += [row.counted_since for row in await frontier.crawls()]
    assert said == [0, 0, 0, 4, 4, 4, 4, 8]
    assert run_of_crawl(replace(SHOP, counted_since=8)) == run_of(SHOP.ref, "#8")
