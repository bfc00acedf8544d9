"""Whose trouble it is, what is done about it, and when to try a URL again.

Two tables: from reason to whose it is (:data:`RULES`), and from that to who rests, who probes, when it ends and who
is told (:data:`CARE`). How a host goes through an incident is in ``host_trouble``, how this worker does in
``politeness.network``. Chance comes in from outside. No I/O lives here.
"""

from __future__ import annotations

import enum
import random
import re
from typing import Final, NamedTuple

from sqspider.host_trouble import FAILURES_TO_REST, GIVE_UP_PROBES
from sqspider.record import Reason

MAX_WAIT_SECONDS: Final = 3600.0


class Fault(enum.Enum):
    """Whose trouble a reason may be: who is rested and probed for it, and whether the URL pays with a try."""

    URL = "the URL's"  # or a decision of ours: nobody is rested
    HOST = "the host's"  # no request reached it: the host rests at once, no try is counted
    HOST_OR_URL = "the host's or the URL's"  # a try, but for the first probes: host_trouble.pays_for_probes
    HOST_OR_OURS = "the host's or ours"  # the host's if another one answered meanwhile; no try is counted
    OURS = "ours"  # nothing can be asked from here: the worker waits, no try is counted


class Care(NamedTuple):
    """What is done about trouble. The words are those of docs/reference/reasons.md."""

    failures_to_rest: int | None  # of its host, in a row; none: no host rests for it
    rests: str  # who, from when, how long
    probes: str  # who
    ends: str  # by what
    gives_up: str  # when, and what follows
    told: str  # who, and by what


_HOST: Final = Care(
    failures_to_rest=1,
    rests="the host, from the first one on: 5, 10, 20 … s, up to an hour",
    probes="after each rest one request at a time, a URL's or that for robots.txt, which takes no try",
    ends="an answer of any status but 5xx",
    gives_up=f"the host, after {GIVE_UP_PROBES} probes and `--new-host-grace` if it never answered, `--host-grace` if "
    "it has: its URLs end by the reason, unasked; after an hour that is forgotten",
    told="`hosts`, `status`, `show`, the progress line; the log: `host_rests`, `host_given_up`",
)
_OURS: Final = Care(
    failures_to_rest=None,
    rests="this worker: it takes nothing in, and gives back what it holds",
    probes="one URL, after 1, 2, 4 … 60 s",
    ends="any answer of any host",
    gives_up="the worker, after a day of such waits: it ends with exit status 3, and what is queued stays queued",
    told="the progress line; the log: `network_trouble`, `network_again`",
)
CARE: Final[dict[Fault, Care]] = {
    Fault.URL: Care(
        failures_to_rest=None,
        rests="nobody: the URL waits, twice as long after each try",
        probes="the URL",
        ends="an answer that is no trouble",
        gives_up="the URL, when its tries are used up: it ends by the reason",
        told="its record; the log: `retry`",
    ),
    Fault.HOST: _HOST,
    Fault.HOST_OR_URL: Care(
        failures_to_rest=FAILURES_TO_REST,
        rests=f"while the host is well, as the URL's; from {FAILURES_TO_REST} in a row on, the host, up to a minute",
        probes=f"as the URL's; in an incident as the host's, but after {GIVE_UP_PROBES} in vain each takes a try",
        ends="as the URL's; in an incident as the host's",
        gives_up="the URL, which pays with a try while its host is well; in an incident as the host's, "
        "but after an hour at the earliest if it has answered",
        told="both",
    ),
    Fault.HOST_OR_OURS: _HOST._replace(
        rests="the host, if another one answered this worker since that host's trouble began; else this worker",
        probes="as the host's, or as ours",
        ends="as the host's, or as ours",
        gives_up="as the host's, or as ours",
        told="both",
    ),
    Fault.OURS: _OURS,
}
"""The states of trouble: a row for each whose it may be."""


class Rule(NamedTuple):
    """What follows from one kind of trouble."""

    max_tries: int  # in all; 1 is final at once, 0: none is counted, for no request was made
    wait_factor: float = 1.0  # of the first wait; each further one doubles
    slows: bool = False  # the host wants to be asked less often
    fault: Fault = Fault.URL

    @property
    def care(self) -> Care:
        """What is done about it."""
        return CARE[self.fault]


FINAL: Final = Rule(max_tries=1)
RULES: Final[dict[Reason, Rule]] = {
    Reason.RATE_LIMITED: Rule(max_tries=5, wait_factor=5, slows=True),
    Reason.SERVER_ERROR: Rule(max_tries=3, fault=Fault.HOST_OR_URL),
    Reason.TIMEOUT: Rule(max_tries=3, fault=Fault.HOST_OR_URL),
    Reason.CONNECTION_RESET: Rule(max_tries=3, fault=Fault.HOST_OR_URL),
    Reason.INCOMPLETE_BODY: Rule(max_tries=3),
    Reason.CONNECT_TIMEOUT: Rule(max_tries=0, fault=Fault.HOST),
    Reason.CONNECTION_REFUSED: Rule(max_tries=0, fault=Fault.HOST),
    Reason.UNREACHABLE: Rule(max_tries=0, fault=Fault.HOST),
    Reason.DNS_FAILURE: Rule(max_tries=0, fault=Fault.HOST_OR_OURS),
    Reason.NO_ROUTE: Rule(max_tries=0, fault=Fault.HOST_OR_OURS),
    Reason.PROXY_UNUSABLE: Rule(max_tries=0, fault=Fault.OURS),
    Reason.OWN_SHORTAGE: Rule(max_tries=0, fault=Fault.OURS),
    Reason.INTERNAL_ERROR: Rule(max_tries=2),
}
"""Every reason that is not here is final, and the URL's own."""


def rule_for(reason: Reason, http_status: int | None = None) -> Rule:
    """The rule for a reason. A 503 slows its host as a 429 does (RFC 9110 section 15.6.4); 408 and 425
    say themselves that it was a matter of time (sections 15.5.9, and RFC 8470 section 5.2)."""
    if http_status in (408, 425):
        return Rule(max_tries=3)
    rule = RULES.get(reason, FINAL)
    return rule._replace(slows=True) if http_status == 503 else rule


def wait_before_retry(
    rule: Rule, tries: int, first_wait: float, retry_after: float | None, rng: random.Random
) -> float | None:
    """Seconds to wait before the next try, or ``None`` if that was the last.

    ``tries`` counts the fetches that met trouble, this one included. The wait doubles with each,
    with up to a quarter more by chance so that what failed together does not come back together;
    a ``Retry-After`` (seconds) is the least.
    """
    if tries >= rule.max_tries:
        return None
    doublings = min(tries - 1, 20)
    wait = min(first_wait * rule.wait_factor * 2.0**doublings, MAX_WAIT_SECONDS)
    return max(wait, retry_after or 0.0) * rng.uniform(1.0, 1.25)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a ``Retry-After`` header (RFC 9110 section 10.2.3), or ``None``.

    Both forms are read: whole seconds, and a date (one without a zone is UTC). A date that has
    passed is 0; what is neither form is ignored. However many digits there are, the seconds are
    meant, even more than a float can hold (infinity): whoever obeys them has a limit.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(text)
    from email.utils import mktime_tz, parsedate_tz  # here: few answers name a date

    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return max(0.0, mktime_tz(parsed) - now)
    except (ValueError, OverflowError):
        return None
