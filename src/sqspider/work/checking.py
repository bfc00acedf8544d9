"""Checks: how it is asked whether what lies outside of a crawl is there, and what is believed of the answer.

A check is a URL that its crawl's scope leaves out, where that asks for such (``check_external``): known by URL and row
alone, so that a queued one is a page as soon as the scope holds it. It is claimed, waits for its turn and ends as a
page does. Nothing of it is read, and nothing kept in an archive: an answer to HEAD there would be taken for an empty
page.

    HEAD     2xx, or a redirect       it ends: done
             an answer that says no   given back with a try counted, to be asked by GET: servers lie about HEAD
             429, 503; silence        as a page: given back for later, with a try counted
             no way to the host       as a page
    GET      (from the second try on) its body is not read; it ends as a page would
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqspider.politeness import Asked, Form
from sqspider.record import Reason
from sqspider.retry import rule_for
from sqspider.transport import Exchange

if TYPE_CHECKING:
    from sqspider.work.endings import Endings
    from sqspider.work.hand import Visit
    from sqspider.work.rules import Rules

_MAY_BE_FOR_HEAD: Final = frozenset({
    Reason.CLIENT_ERROR, Reason.SERVER_ERROR, Reason.UNEXPECTED_STATUS, Reason.BAD_REDIRECT, Reason.BAD_RESPONSE,
    Reason.HEADERS_TOO_LARGE,
})  # fmt: skip
"""What a server may say to HEAD that would answer GET. Where it hangs up or is silent, GET is what is tried next."""


def form_of_check(visit: Visit) -> Form:
    """How it is asked: by HEAD, and by GET once that met something."""
    is_refused = visit.claim is not None and visit.claim.tries > 0
    headers = (f"Cookie: {visit.cookie}",) if visit.cookie else ()  # it came to a wall
    return Form(headers, method=None if is_refused else "HEAD", wants=_wants_no_body)


async def is_to_be_asked_otherwise(visit: Visit, asked: Asked, rules: Rules, endings: Endings) -> bool:
    """Whether what came of a check says nothing of its URL: it is given back then, to be looked at again at once. What
    HEAD was refused is asked by GET, for which the try stands that is counted; what lies within the crawl by now is
    fetched as a page."""
    message = await rules.as_they_are(visit.message)
    if not await rules.is_still_a_check(message):
        endings.give_back(visit, 0.0)
        return True
    if is_doubtful(asked):
        met = (await rules.assess(visit, message, asked.fetched)).outcome
        endings.give_back(visit, 0.0, met, tried=True)
        return True
    return False


def _wants_no_body(_: Exchange) -> bool:
    return False


def is_doubtful(asked: Asked) -> bool:
    """Whether it failed in a way that may be HEAD's alone, and its host does not ask for a pause."""
    fetched = asked.fetched
    if not fetched.is_head or not asked.learned.counts or fetched.reason not in _MAY_BE_FOR_HEAD:
        return False
    return not rule_for(fetched.reason, fetched.http_status).slows
