"""Regular expressions that come in messages: none of them keeps a worker."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress

import pytest

from sqspider.crawl_settings import compiled
from sqspider.demo_site import DemoSite
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.message import BadBody, Message, decode_message
from sqspider.patterns import Search, TooSlowError
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker

ENDLESS = ("(a+)+$", "(a|a)*$", "(.*.*)*=")
TEXT = "a" * 60 + "!"


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search.__init__, "__defaults__", (0.2,))


@pytest.mark.parametrize("expression", ENDLESS)
def test_one_that_would_take_for_ever_is_ended(expression: str) -> None:
    search = Search()
    with pytest.raises(TooSlowError):
        list(search.chosen((TEXT,), compiled((expression,)), ()))
    with pytest.raises(TooSlowError):  # its time is used up
        list(search.chosen((TEXT,), (), compiled(("x",))))
    assert list(Search().chosen((TEXT,), (), compiled(("x",)))) == [TEXT]


def test_little_by_little_is_ended_too() -> None:
    search, slow = Search(), compiled(("(a+)+$",))

    with pytest.raises(TooSlowError):
        list(search.chosen(["a" * 12 + "!"] * 100_000, slow, ()))


def test_within_another_limit_both_hold() -> None:
    endless, patient = compiled(("(a+)+$",))[0], Search(60.0)
    with pytest.raises(TooSlowError), Search().limited(), patient.limited():
        endless.search(TEXT)  # the inner one has time, the outer one has not
    ended = []
    with pytest.raises(TooSlowError), Search(0.5).limited():
        with pytest.raises(TooSlowError), Search().limited():
            endless.search(TEXT)
        ended.append("inner")
        with patient.limited():  # its time was not taken for used up
            ended.append("again")
        endless.search(TEXT)  # and behind them the outer one goes on
    assert ended == ["inner", "again"]


def test_what_takes_it_for_an_error_of_its_own_does_not_go_on() -> None:
    endless, taken = compiled(("(a+)+$",))[0], 0
    with pytest.raises(TooSlowError), Search().limited():
        while taken < 2:  # it comes again
            with suppress(ValueError):
                endless.search(TEXT)
            taken += 1
        raise TooSlowError
    assert taken == 2


def test_outside_the_main_thread_it_is_looked_for_all_the_same() -> None:
    found: list[str] = []
    looking = threading.Thread(target=lambda: found.extend(Search().chosen((TEXT, "b"), compiled(("a!$",)), ())))
    looking.start()
    looking.join()
    assert found == [TEXT]


def test_one_that_takes_long_to_read_is_refused() -> None:
    expression = "(?i)" + "[\x00-\U0010ffff]" * 300
    body = decode_message(json.dumps({"url": "http://h/", "settings": {"include": [expression]}}))
    assert isinstance(body, BadBody)
    assert "takes too long" in body.why


async def test_a_message_with_one_harms_nobody_but_itself(site: DemoSite) -> None:
    """Its page fails; those beside it are done."""
    settings = {"scope": "host", "delay_seconds": 0, "exclude": ["(.*.*.*.*.*.*.*)*=$"], "max_depth": 1}
    bad = json.dumps({"url": f"{site.url}page/0", "settings": settings})
    good = [json.dumps({"url": f"{site.url}page/{number}", "settings": {"delay_seconds": 0}}) for number in range(1, 5)]
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=time.time)
    await frontier.send([bad, *good])
    async with Fetcher(FetchOptions(allow_private=True, allow_any_port=True)) as fetcher:
        options = WorkerOptions(worker_id="w", first_retry_seconds=0.01)
        await Worker(frontier, fetcher, options, clock=time.time, rng=random.Random(1)).run(Mode.UNTIL_EMPTY)
    rows = await frontier.get(
        [message.url for body in (bad, *good) if isinstance(message := decode_message(body), Message)]
    )
    assert [row.status for row in rows.values()] == ["failed", *["done"] * 4]
    await frontier.close()
