"""What a worker has in hand: visits, and what each of them holds until it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from sqspider.crawl_row import Crawl
from sqspider.frontier import Clock, Delivery, Won
from sqspider.message import Message
from sqspider.politeness import Agent, Permission, Politeness
from sqspider.url import host_of
from sqspider.work.gate import Gate
from sqspider.work.large_bodies import LargeBodies, Space
from sqspider.work.lines import Lines
from sqspider.work.purse import Place
from sqspider.work.suspects import OneAtATime
from sqspider.work.waiting import WaitingRoom

AHEAD_SECONDS: Final = 0.2  # in which what stands in line is asked for, if it is claimed along with the first
AHEAD: Final = 9  # claimed so at most: who is killed leaves all of them unended


class Visit:
    """One delivery in hand, and how far it has come: see :mod:`sqspider.work.visit`."""

    def __init__(self, delivery: Delivery, message: Message, space: Space) -> None:
        self.delivery = delivery
        self.message = message  # with its slot, once it has one
        self.host = host_of(message.url)
        self.space = space  # in memory, if its body is large
        self.taken_at = 0.0
        self.agent: Agent | None = None  # who asks for it; none: what its crawl's row says is not known yet
        self.row: Crawl | None = None  # of its crawl, if it has one: it is judged by that
        self.claim: Won | None = None
        self.permission: Permission | None = None  # to ask its host, that came with the claim
        self.generation = 0  # of the frontier when it was judged
        self.awaited: asyncio.Future[None] | None = None  # by which it is judged again
        self.is_judged = False  # it may be fetched
        self.turn_at: float | None = None  # the moment that was told for it
        self.delay_seconds = 0.0  # between two requests to its host, where one at a time is made: it stands in line
        self.not_before = 0.0  # a busy host said so
        self.give_up_at: float | None = None  # it waits no longer for a busy host
        self.is_check = False  # it lies outside of its crawl, and is only asked whether it is there
        self.is_suspect = False  # it is fetched with nothing beside it
        self.wait_until: float | None = None  # as a suspect, for others of its kind
        self.ticket: asyncio.Future[bool] | None = None  # it waits at the gate
        self.is_at_gate = False  # it is inside: claimed, or about to be
        self.is_in_flight = False  # it is being fetched
        self.is_begun = False  # its claim was good for a request: it may have been made
        self.is_fetched = False
        self.cookie = ""  # that a redirect set for it, and wants to see
        self.walls = 0  # such redirects that led it to itself
        self.is_over = False  # its end is with the frontier, or it needs none
        self.is_in_error = False  # a fault of ours broke it off
        self.ending = 0  # calls that are not answered yet, and one who takes its page
        self.places: list[Place] = []  # of what there is so much of in all

    def give_back_places(self) -> None:
        """What it has in hand of its crawl's and its host's pages is free again, or was spent."""
        while self.places:
            self.places.pop().purse.in_hand -= 1


def on_its_way(message: Message, claim: Won) -> Message:
    """What a message says, on the way that its record says: a nearer one may have been found since it was sent."""
    if (message.depth, message.redirects) == (claim.depth, claim.redirects):
        return message
    return msgspec.structs.replace(message, depth=claim.depth, redirects=claim.redirects)


class Hand:
    """All visits that a worker has in hand, and what there is not enough of for all of them."""

    def __init__(self, politeness: Politeness, gate: Gate, clock: Clock, large_bodies: int | None) -> None:
        self.visits: set[Visit] = set()
        self.waiting: WaitingRoom[Visit] = WaitingRoom(clock)
        self.gate = gate
        self.lines: Lines[Visit] = Lines()
        self.suspects = OneAtATime()
        self.large_bodies = LargeBodies(large_bodies)
        self.changes = 0  # of what is in hand, so far
        self.may_grow = False  # more is just being taken in
        self._watch: Callable[[], None] | None = None
        self._wanted: tuple[Callable[[], bool], asyncio.Future[None]] | None = None
        self._politeness = politeness
        self._clock = clock

    def take(self, delivery: Delivery, message: Message) -> Visit:
        """Begin a visit."""
        visit = Visit(delivery, message, Space(self.large_bodies))
        visit.taken_at = self._clock()
        self.visits.add(visit)
        return visit

    @property
    def is_empty(self) -> bool:
        """Nothing is in hand, nor with who takes pages."""
        return not self.visits and not self.waiting.at_work

    def of_crawl(self, name: str | None) -> int:
        """How many visits are of the crawl of a name; none: all of them."""
        if name is None:
            return len(self.visits)
        return sum(visit.message.crawl_name == name for visit in self.visits)

    def enter_gate(self, visit: Visit) -> bool:
        """Whether it is inside. If not it has a ticket, by which it is told; none if it was sent away."""
        if not visit.is_at_gate:
            ticket, visit.ticket = visit.ticket or self.gate.enter(alone=visit.is_suspect), None
            if ticket.done():
                visit.is_at_gate = ticket.result()
            else:
                visit.ticket = ticket
        return visit.is_at_gate

    def leave_gate(self, visit: Visit) -> None:
        """Let others in."""
        ticket, visit.ticket = visit.ticket, None
        if ticket is not None:
            self.gate.give_back(ticket)
        if visit.is_at_gate:
            visit.is_at_gate = False
            self.gate.leave()
        self.suspects.give_back(visit)

    def is_first_in_line(self, visit: Visit) -> bool:
        """Whether it is its turn of those here who ask its host. A suspect waits for others at the gate, and so cannot
        have them wait for it; a permission is good for whoever has it."""
        if not visit.delay_seconds or visit.is_suspect or visit.permission is not None:
            return True
        return self.lines.step_up(visit).done()

    @contextlib.contextmanager
    def next_in_line(self, visit: Visit) -> Iterator[list[Visit]]:
        """Those behind a visit that are to be claimed along with it, if it is to be: inside the gate, and not in the
        waiting room meanwhile."""
        taken: list[Visit] = []
        is_to_be = visit.claim is None and visit.delay_seconds > 0
        most = min(int(AHEAD_SECONDS / visit.delay_seconds), AHEAD) if is_to_be else 0
        for other in self.lines.behind(visit):
            if len(taken) >= most or not self.gate.is_open:
                break
            if other.claim is None and other.generation == visit.generation and self.waiting.take_out(other):
                self.gate.join()
                other.is_at_gate = True
                taken.append(other)
        try:
            yield taken
        finally:
            for other in taken:
                self.put_back_in_line(other)

    def put_back_in_line(self, visit: Visit) -> None:
        """It waits until it is the first, or for no longer than it may, if it is not over."""
        if visit.is_over:
            self.let_go(visit)
            return
        if visit.claim is None:
            self.leave_gate(visit)
        self.waiting.put(visit, at=visit.give_up_at, told=self.lines.step_up(visit))

    def forget_judgement(self, visit: Visit) -> None:
        """What it was judged by holds no more: it begins anew."""
        self.lines.step_out(visit)
        self.leave_gate(visit)
        visit.give_back_places()
        visit.is_judged, visit.turn_at = False, None

    def let_go(self, visit: Visit) -> None:
        """A visit is over: nobody stands behind it until its end is written, by which it is released."""
        self.lines.step_out(visit)
        if not visit.ending:
            self.release(visit)

    def release(self, visit: Visit) -> None:
        """A visit is over, and its end is written: give back all that it holds."""
        self.forget_judgement(visit)
        permission, visit.permission = visit.permission, None
        if permission is not None:
            self._politeness.forgo(permission)
        visit.awaited = None
        visit.space.give_back()
        visit.is_over = True
        self.visits.discard(visit)
        self.look()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what is in hand; one waits at a time. Whoever changes what it depends on
        calls :meth:`look`: so nobody is woken in vain, with each visit."""
        if not holds():
            self._wanted = holds, asyncio.get_running_loop().create_future()
            await self._wanted[1]

    def watch(self, look: Callable[[], None]) -> None:
        """Have somebody look whenever something has changed."""
        self._watch = look

    def look(self) -> None:
        """Something has changed."""
        self.changes += 1
        if self._watch is not None:
            self._watch()
        if self._wanted is not None and not self._wanted[1].done() and self._wanted[0]():
            self._wanted[1].set_result(None)
