"""What is known about one URL, and the closed lists of what can become of it.

The rules of a URL's life, which :data:`LIFE` says to the frontier's adapters and to the tests:

    (absent) --enqueue--> queued --claim--> processing --finish--> done | failed | blocked
    queued <--retry-- processing
    processing --claim--> processing --prolong--> processing   (a claim: once the lease of the one before ran out)
    done | failed | blocked --reopen--> queued                 (for one visit more)

* One comparison decides a claim: ``lease_until < now``. A queued record has
  ``lease_until = 0``, a processing one the end of its lease, a finished one none.
* ``attempt`` is the fencing token: every claim raises it, every write that ends a claim
  carries it and changes nothing if a later claim was made.
* ``unended`` counts claims in a row that nobody ended; ``tries`` counts fetches that met
  trouble. Waiting for a slot, a lost race or a shutdown use up neither.
* ``visit`` counts the visits that ended before this one. Between two of them a record keeps what came of the last one;
  ``attempt`` goes on, so that no fence of an earlier visit holds in a later one.

No I/O lives here, and no decision about when to try again (see ``retry``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

REQUISITE_DEPTH: Final = 1_000_001
"""The depth of what pages need to be shown. It is behind that of all pages, so the nearest way makes a URL a page."""

DEFAULT_CRAWL: Final = "default"
"""The crawl that needs no name: its records' keys are bare URLs."""


def record_key(url: str, crawl: str = DEFAULT_CRAWL) -> str:
    """By what a URL's record in a crawl of this name is found. A host is read from it as from the URL."""
    return url if crawl == DEFAULT_CRAWL else f"@{crawl} {url}"


def split_key(key: str) -> tuple[str, str]:
    """The name of the crawl and the URL that a key was made of."""
    if not key.startswith("@"):
        return DEFAULT_CRAWL, key
    crawl, _, url = key[1:].partition(" ")
    return crawl, url


class Status(enum.StrEnum):
    """Where a URL record stands. The last three are final."""

    QUEUED = "queued"  # known, and waiting to be claimed
    PROCESSING = "processing"  # claimed: a worker holds its lease
    DONE = "done"  # the server answered 2xx, or led elsewhere
    FAILED = "failed"  # a final answer that is no success, or trouble on the last try
    BLOCKED = "blocked"  # we chose not to fetch it

    @property
    def is_final(self) -> bool:
        return self in (Status.DONE, Status.FAILED, Status.BLOCKED)


class Operation(enum.StrEnum):
    """What a frontier does that makes a record, changes its status, or holds it."""

    ENQUEUE = "enqueue"  # also what a claim does first for a message without a record
    CLAIM = "claim"
    FINISH = "finish"
    RETRY = "retry"
    PROLONG = "prolong"
    REOPEN = "reopen"  # somebody wants it visited once more


LIFE: Final[Mapping[Operation, Mapping[Status | None, frozenset[Status]]]] = {
    Operation.ENQUEUE: {None: frozenset({Status.QUEUED})},
    Operation.CLAIM: {
        Status.QUEUED: frozenset({Status.PROCESSING}),
        Status.PROCESSING: frozenset({Status.PROCESSING}),  # whose lease ran out
    },
    Operation.FINISH: {Status.PROCESSING: frozenset({Status.DONE, Status.FAILED, Status.BLOCKED})},
    Operation.RETRY: {Status.PROCESSING: frozenset({Status.QUEUED})},
    Operation.REOPEN: {status: frozenset({Status.QUEUED}) for status in (Status.DONE, Status.FAILED, Status.BLOCKED)},
    Operation.PROLONG: {Status.PROCESSING: frozenset({Status.PROCESSING})},
}
"""What a record may become by each operation, by its status before; none: there is no record. Nothing else happens."""


class Reason(enum.StrEnum):
    """Why a URL was refused, failed or blocked: the closed list, as a tree.

    refused or blocked: what we decided
    ├── the URL itself      BAD_URL  BAD_SCHEME  NO_HOST  USER_INFO  URL_TOO_LONG
    ├── where it leads      PRIVATE_ADDRESS  BAD_PORT
    ├── who forbids it      ROBOTS  ROBOTS_UNREACHABLE  HOST_BLOCKED
    ├── limits              HOST_PAGE_LIMIT  HOST_BYTE_LIMIT  REPEATING_PATH  ENDLESS_QUERY
    └── the crawl's limits  OUT_OF_SCOPE  DEPTH_LIMIT  EXCLUDED
    failed: what happened
    ├── the answer          CLIENT_ERROR  RATE_LIMITED  SERVER_ERROR  UNEXPECTED_STATUS
    ├── redirects           BAD_REDIRECT  TOO_MANY_REDIRECTS  REDIRECT_LOOP
    ├── reaching the host   DNS_NOT_FOUND  DNS_FAILURE  CONNECT_TIMEOUT  CONNECTION_REFUSED
    │                       UNREACHABLE  NO_ROUTE  TLS_ERROR
    ├── the conversation    TIMEOUT  CONNECTION_RESET  BAD_RESPONSE  HEADERS_TOO_LARGE
    │                       INCOMPLETE_BODY  BAD_ENCODING
    └── ourselves           PROXY_UNUSABLE  OWN_SHORTAGE  CRASHED  INTERNAL_ERROR
    """

    # The URL itself. These refuse a URL at the door; after a redirect they block its record.
    BAD_URL = "bad_url"  # the WHATWG URL parser rejects it
    BAD_SCHEME = "bad_scheme"  # neither http nor https
    NO_HOST = "no_host"  # there is no host in it
    USER_INFO = "user_info"  # it carries a user name or password
    URL_TOO_LONG = "url_too_long"  # more than 1,980 bytes in canonical form, or 253 of its host

    # Where it leads
    PRIVATE_ADDRESS = "private_address"  # an address that is not public unicast
    BAD_PORT = "bad_port"  # a port that belongs to another service

    # Who forbids it
    ROBOTS = "robots"  # robots.txt disallows it
    ROBOTS_UNREACHABLE = "robots_unreachable"  # no robots.txt to be had for too long (RFC 9309)
    HOST_BLOCKED = "host_blocked"  # the operator blocked the host

    # Limits that the operator set
    HOST_PAGE_LIMIT = "host_page_limit"  # `--host-pages` of its host have been fetched
    HOST_BYTE_LIMIT = "host_byte_limit"  # `--host-bytes` of its host have been read
    REPEATING_PATH = "repeating_path"  # one path segment too many times: a trap
    ENDLESS_QUERY = "endless_query"  # too many parameters: a trap

    # A crawl's limits, narrowed while the URL was queued, or with `--keep-skipped`; when they are wider it comes back
    OUT_OF_SCOPE = "out_of_scope"  # outside of the crawl's `--scope`; of an earlier version: a redirect left it
    DEPTH_LIMIT = "depth_limit"  # deeper than `--depth`
    EXCLUDED = "excluded"  # no `--include` matches it, or an `--exclude` does

    # The answer
    CLIENT_ERROR = "client_error"  # 4xx, but for 429
    RATE_LIMITED = "rate_limited"  # 429
    SERVER_ERROR = "server_error"  # 5xx
    UNEXPECTED_STATUS = "unexpected_status"  # a status that answers no GET (304 unasked, 6xx)

    # Redirects
    BAD_REDIRECT = "bad_redirect"  # a redirect status without a usable Location
    TOO_MANY_REDIRECTS = "too_many_redirects"  # ten redirects in a row led to it, and it redirects, too
    REDIRECT_LOOP = "redirect_loop"  # it redirects to itself

    # Reaching the host
    DNS_NOT_FOUND = "dns_not_found"  # the name does not exist
    DNS_FAILURE = "dns_failure"  # the name could not be looked up just now
    CONNECT_TIMEOUT = "connect_timeout"  # no connection in time
    CONNECTION_REFUSED = "connection_refused"  # nobody listens there
    UNREACHABLE = "unreachable"  # no connection for another cause
    NO_ROUTE = "no_route"  # no way to it from here, or our network is down, or our proxy is silent
    TLS_ERROR = "tls_error"  # certificate or handshake

    # The conversation
    TIMEOUT = "timeout"  # the whole fetch took longer than its limit
    CONNECTION_RESET = "connection_reset"  # the server hung up before an answer was complete
    BAD_RESPONSE = "bad_response"  # what came is not HTTP
    HEADERS_TOO_LARGE = "headers_too_large"  # the head of the answer is longer than we read
    INCOMPLETE_BODY = "incomplete_body"  # fewer bytes than announced
    BAD_ENCODING = "bad_encoding"  # the body does not decode as its Content-Encoding says

    # Ourselves
    PROXY_UNUSABLE = "proxy_unusable"  # our proxy cannot be reached, or wants to know who we are (407)
    OWN_SHORTAGE = "own_shortage"  # this machine has no file descriptors, buffers or memory left
    CRASHED = "crashed"  # three claims in a row were never ended, the last with nothing beside it: it kills its worker
    INTERNAL_ERROR = "internal_error"  # a fault of ours; the log has the traceback

    @property
    def status(self) -> Status:
        """The final status that goes with it."""
        return Status.BLOCKED if self in BLOCKING_REASONS else Status.FAILED


BLOCKING_REASONS = frozenset(
    {
        Reason.BAD_SCHEME,
        Reason.USER_INFO,
        Reason.URL_TOO_LONG,
        Reason.PRIVATE_ADDRESS,
        Reason.BAD_PORT,
        Reason.ROBOTS,
        Reason.ROBOTS_UNREACHABLE,
        Reason.HOST_BLOCKED,
        Reason.HOST_PAGE_LIMIT,
        Reason.HOST_BYTE_LIMIT,
        Reason.REPEATING_PATH,
        Reason.ENDLESS_QUERY,
        Reason.OUT_OF_SCOPE,
        Reason.DEPTH_LIMIT,
        Reason.EXCLUDED,
    }
)
"""Reasons that end a record as ``blocked``; every other one ends it as ``failed``."""


CUTTING_REASONS: Final = frozenset({Reason.OUT_OF_SCOPE, Reason.DEPTH_LIMIT, Reason.EXCLUDED})
"""Those that a crawl's limits have: a URL that ends so may lie within it later, or by another way."""

BUDGET_REASONS: Final = frozenset({Reason.HOST_PAGE_LIMIT, Reason.HOST_BYTE_LIMIT})
"""Those that a crawl's budget for each host has."""


def status_for(reason: Reason | None) -> Status:
    """The final status that goes with a reason; none means that all went well."""
    return Status.DONE if reason is None else reason.status


def reason_for_http_status(http_status: int) -> Reason | None:
    """What an answer that is no redirect says about its URL; ``None`` is success.

    Classes as RFC 9110 section 15 has them. A 206 answers no request of ours: we ask for no range.
    """
    if 200 <= http_status < 300 and http_status != 206:
        return None
    if http_status == 429:
        return Reason.RATE_LIMITED
    if 400 <= http_status < 500:
        return Reason.CLIENT_ERROR
    if 500 <= http_status < 600:
        return Reason.SERVER_ERROR
    return Reason.UNEXPECTED_STATUS


class Skipped(enum.StrEnum):
    """Why a link of a page is not followed: for what ends a URL that is found so, or for its page's word."""

    OUT_OF_SCOPE = "out_of_scope"
    EXCLUDED = "excluded"
    DEPTH_LIMIT = "depth_limit"
    NOFOLLOW = "nofollow"  # the link asks for that, or its page, and it is obeyed


class CapturePlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a capture lies in an archive. Fields are kept by their places: new ones come last, with a default."""

    file: str  # its name; within the archive's folder or prefix, without the ``.open`` of one that is being written
    offset: int  # of the record that has the answer, response or revisit, in bytes
    length: int  # of that record as it lies there, packed
    digest: str  # of the payload: SHA-1 in base32, as after ``sha1:``
    at: float  # its WARC-Date: seconds since the epoch, with six digits
    url: str = ""  # it is of, where that is another than the record's: in ``payload`` alone
    payload: CapturePlace | None = None  # of a revisit: where the payload lies that it refers to


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a URL, as its record keeps it: without what has its default value."""

    status: Status  # done, failed or blocked
    reason: Reason | None = None  # none if done
    detail: str = ""  # one line for a person: which robots rule, which address, what error
    http_status: int | None = None  # of the last answer
    content_type: str | None = None  # as sent, without parameters
    bytes: int = 0  # decoded bytes that were read
    truncated: bool = False  # the body was longer than the limit, or ended before it was whole
    digest: str | None = None  # "sha256:" and hex digits, of the decoded bytes read
    title: str | None = None
    elapsed_ms: int | None = None  # the whole fetch
    # Where it leads, if ``http_status`` is a redirect: canonical. In records of earlier versions, which followed
    # redirects within a fetch: where they ended, if that was elsewhere.
    redirect_to: str | None = None
    links_left_out: int = 0  # links to the web that are no URLs, or longer than one may be
    unchanged: bool = False  # the server said that nothing has changed (304): the rest was told by an earlier visit
    links_skipped: dict[Skipped, int] = {}  # links of the page that were not followed: how many, by why
    capture: CapturePlace | None = (
        None  # where the answer lies; none: there was none, or no archive, or it is ``unkept``
    )
    unkept: bool = False  # its crawl says that such an answer is not to be archived
    checked: bool = False  # it lies outside of its crawl, and was asked whether it is there: nothing of it was read

    @property
    def is_redirect(self) -> bool:
        """The answer leads elsewhere, and is no page."""
        answered = self.http_status is not None and 300 <= self.http_status < 400
        return self.status is Status.DONE and self.redirect_to is not None and answered

    @property
    def is_page(self) -> bool:
        """Who takes pages gets it: not where it leads elsewhere, nor what was only checked."""
        return not (self.is_redirect or self.checked)

    @property
    def bytes_read(self) -> int:
        """What was read for it: of what has not changed, nothing."""
        return 0 if self.unchanged else self.bytes

    @property
    def was_fetched(self) -> bool:
        """Its host was asked for it, and budgets have counted that. Where a host was given up, or robots.txt could not
        be had, a URL fails without."""
        return self.status is Status.DONE or (self.status is Status.FAILED and self.elapsed_ms is not None)


class _StoredOutcome(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """As it is read: records of earlier versions have a field more."""

    final_url: str | None = None  # where the redirects ended


_outcome_decoder = msgspec.json.Decoder(_StoredOutcome)


def decode_outcome(stored: str | bytes, url: str) -> Outcome:
    """The outcome of a URL from its JSON, as any version has written it. Raises ``msgspec.MsgspecError``."""
    read = msgspec.structs.asdict(_outcome_decoder.decode(stored))
    final_url = read.pop("final_url")
    if final_url is not None and final_url != url:
        read["redirect_to"] = final_url
    return Outcome(**read)


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a URL from one visit to the next: see ``revisit``."""

    etag: str | None = None  # of the last good answer, as it was sent
    last_modified: str | None = None  # the same
    changes: int = 0  # visits that found something else than the good one before
    changed_at: float | None = None  # the end of the last of them, seconds since the epoch
    # Of the last good visit, where the record says, or is about to say, something else. Its capture is what the next
    # visit's refers to, if it finds the same.
    good: Outcome | None = None
    has_failed: bool = False  # a visit was fetched, and ended as failed; said where none was good

    @property
    def was_counted(self) -> bool:
        """A visit before was fetched: budgets have counted it."""
        return self.good is not None or self.has_failed


class UrlRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The row about one URL. Times are seconds since the epoch."""

    url: str  # canonical; the key
    status: Status
    depth: int = 0  # links between a seed and this URL: the fewest that were found
    parent: str | None = None  # the page where that way was found
    host: str = ""
    lastmod: float | None = None  # what a sitemap said of it
    attempt: int = 0  # the fencing token: claims made so far
    unended: int = 0  # claims in a row that nobody ended
    tries: int = 0  # fetches that met trouble
    redirects: int = 0  # on the way from the last page to this URL: the fewest that were found
    visit: int = 0  # visits that ended before this one
    worker_id: str | None = None  # who claimed it last
    claim_id: str | None = None  # which claim of that worker
    lease_until: float | None = None  # 0 while queued, none when finished
    due_at: float | None = None  # when somebody must look again; none when finished
    parked: bool = False  # no message is on its way: only a sweep brings it back
    enqueued_at: float = 0.0  # when it was put in: recorded, or reopened
    claimed_at: float | None = None  # the last claim
    finished_at: float | None = None  # the last visit's end
    outcome: Outcome | None = None  # when finished; before that, what the last try met, or the visit before
    kept: Kept | None = None  # none: there is nothing to keep
    crawl: str = DEFAULT_CRAWL  # the name of the one it belongs to
    meta: str | None = None  # what a list said of it: its other columns or fields, as an object
    unreadable: str = ""  # why the row cannot be read, if so: then nothing but the URL is told

    @property
    def is_requisite(self) -> bool:
        """Nothing but what pages need to be shown was found to lead to it: it is fetched, and not gone into."""
        return self.depth == REQUISITE_DEPTH

    @property
    def key(self) -> str:
        """By what it is found."""
        return record_key(self.url, self.crawl)
