"""Makes captures of what was asked and answered: how a URL was come to, and what it is like."""

from __future__ import annotations

from sqspider.capture import Capture, Hop
from sqspider.message import Message
from sqspider.politeness import Asked
from sqspider.web.links import PageLinks
from sqspider.work.hand import Visit


def capture_of(
    visit: Visit, asked: Asked, message: Message | None = None, page: PageLinks | None = None
) -> Capture | None:
    """What is to be kept of an answer to a visit's request; none: there was none, or its fetcher does not capture."""
    exchange = asked.fetched.exchange
    if exchange is None or not exchange.head or asked.fetched.tells_nothing:
        return None
    message = visit.message if message is None else message
    return Capture(
        url=message.url,
        fetched=asked.fetched,
        at=asked.asked_at,
        hop=Hop.LINK,
        via=message.parent,
        depth=message.depth,
        crawl=message.crawl_name,
        settings=message.settings,
        facts=(("page", "yes"),) if page is not None else (),
    )
