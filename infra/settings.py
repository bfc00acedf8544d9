"""Everything about a deployment that can be chosen, in one place: ``make deploy SET="name=value …"``."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from typing import Any, Final, Literal

from sqspider.crawl_row import Identity
from sqspider.lambda_handler import GATHER_SECONDS, LARGE_BODIES, FunctionSettings, end_seconds
from sqspider.secret import ENVIRONMENT_PREFIX, check_secret
from sqspider.work.options import WorkerOptions

# What CloudWatch Logs takes, by the names in CDK's list.
LOG_DAYS: Final = {
    1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS", 30: "ONE_MONTH",
    60: "TWO_MONTHS", 90: "THREE_MONTHS", 120: "FOUR_MONTHS", 150: "FIVE_MONTHS", 180: "SIX_MONTHS",
    365: "ONE_YEAR", 400: "THIRTEEN_MONTHS", 545: "EIGHTEEN_MONTHS", 731: "TWO_YEARS", 1827: "FIVE_YEARS",
    3653: "TEN_YEARS",
}  # fmt: skip
MIN_VISIBILITY_SECONDS: Final = 60
MAX_VISIBILITY_SECONDS: Final = 12 * 3600  # SQS's own limit
MAX_ARCHIVE_DAYS: Final = 36_500  # a hundred years; S3 takes more
MAX_SWEEP_MINUTES: Final = 60  # what was lost waits as long
# What a page of so many bytes takes at the most, all told, beside what the function takes by
# itself: measured with pages full of links (docs/aws.md).
BASE_MEMORY_MB: Final = 76
MEMORY_PER_BODY_BYTE: Final = 24

_SECRET_ID: Final = re.compile(r"[A-Za-z0-9/_+=.@:-]{1,2048}")  # a name or an ARN, as Secrets Manager has them
_DEFAULTS: Final = FunctionSettings()


class SettingsError(ValueError):
    """Settings that do not fit together; the text says which, why, and what would."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackSettings:
    """The settings of one deployment."""

    stack: str = "sqspider"
    package: Literal["arm64", "local"] = "arm64"  # local: for an engine on this machine
    memory_mb: int = 128
    timeout_seconds: int = 30  # of one invocation
    visibility_seconds: int = 180  # AWS recommends six times the timeout; 60 at least
    lease_seconds: float = _DEFAULTS.lease_seconds
    fetch_seconds: float = _DEFAULTS.fetch_seconds
    max_body_bytes: int = _DEFAULTS.max_body_bytes  # decoded; the rest is cut off and marked
    batch_size: int = 10  # messages an invocation
    max_concurrency: int = 10  # invocations at a time
    sweep_minutes: int = 1
    user_agent: str = _DEFAULTS.user_agent
    contact: str = ""  # sent as From
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    log_days: int = 14
    keep_table: bool = True  # `make destroy` leaves the table, and nothing deletes it by mistake
    point_in_time_recovery: bool = False  # costs by the table's size
    archive: bool = True  # pages are kept, in a bucket that stays with them
    archive_days: int = 0  # before a page is deleted there; 0: never
    alarm_email: str = ""  # is asked to confirm; none: the alarms' topic has no subscriber
    oldest_age_minutes: int = 60  # of a message, before the alarm
    allow_private: bool = False  # for an engine on this machine only
    # What crawls may ask for in their rows; commas between several.
    allow_any_port: bool = False
    proxies: str = ""
    send_to: str = ""  # origins that get what is secret
    secrets: str = ""  # NAME=ID: what a row calls env:SQSPIDER_SECRET_NAME is the secret ID of AWS Secrets Manager

    def __post_init__(self) -> None:
        if self.log_days not in LOG_DAYS:
            raise SettingsError(
                f"log_days is {self.log_days}: CloudWatch Logs takes only {', '.join(map(str, LOG_DAYS))}"
            )
        if not 1 <= self.sweep_minutes <= MAX_SWEEP_MINUTES:
            raise SettingsError(f"sweep_minutes is {self.sweep_minutes}: it must lie between 1 and {MAX_SWEEP_MINUTES}")
        if self.oldest_age_minutes < 1:
            raise SettingsError(f"oldest_age_minutes is {self.oldest_age_minutes}: it must be 1 or more")
        if not 0 <= self.archive_days <= MAX_ARCHIVE_DAYS:
            raise SettingsError(
                f"archive_days is {self.archive_days}: it must lie between 0 (pages are kept for ever) and "
                f"{MAX_ARCHIVE_DAYS}"
            )
        if self.archive_days and not self.archive:
            raise SettingsError(f"archive_days is {self.archive_days}, and archive is false: nothing is kept")
        if self.alarm_email and "@" not in self.alarm_email:
            raise SettingsError(f"alarm_email is {self.alarm_email!r}: that is no address")
        if self.allow_private and self.package != "local":
            raise SettingsError(
                "allow_private is for package=local only: on AWS it would let a page lead the function to the "
                "runtime's own address and its credentials"
            )
        try:  # what becomes a setting of the function, of its worker or of a row is checked where those are
            self._check_what_crawls_may_ask_for()
            self.function_settings()
            self.worker_options()
        except (TypeError, ValueError) as error:
            raise SettingsError(str(error)) from error
        self._check_function()
        self._check_queue()

    def _check_what_crawls_may_ask_for(self) -> None:
        try:
            Identity(origins=tuple(_several(self.send_to)))
        except ValueError as error:
            raise SettingsError(f"send_to: {str(error).removeprefix('origins: ')}") from error
        for proxy in _several(self.proxies):
            Identity(proxy=proxy)
        for name, id_ in self.secret_ids().items():
            check_secret("secrets", f"env:{name}")
            if not _SECRET_ID.fullmatch(id_):
                raise SettingsError(f"secrets: {id_!r} is no name or ARN of a secret in AWS Secrets Manager")

    def _check_function(self) -> None:
        if not 128 <= self.memory_mb <= 10_240:
            raise SettingsError(f"memory_mb is {self.memory_mb}: Lambda takes 128 to 10240")
        if not 1 <= self.timeout_seconds <= 900:
            raise SettingsError(f"timeout_seconds is {self.timeout_seconds}: Lambda takes 1 to 900")
        needed = end_seconds(self.fetch_seconds)
        if self.timeout_seconds <= needed:
            raise SettingsError(
                f"timeout_seconds is {self.timeout_seconds}, too short for fetch_seconds={self.fetch_seconds:g}: "
                f"a fetch that has begun and its end need {needed:g} s: set {math.ceil(needed) + 5} at least"
            )
        memory = BASE_MEMORY_MB + MEMORY_PER_BODY_BYTE * self.max_body_bytes / 2**20
        if memory > self.memory_mb:
            raise SettingsError(
                f"max_body_bytes is {self.max_body_bytes}: a page of that size may need {memory:.0f} MB, and memory_mb "
                f"is {self.memory_mb}"
            )

    def _check_queue(self) -> None:
        if self.visibility_seconds < self.timeout_seconds:
            raise SettingsError(
                f"visibility_seconds={self.visibility_seconds} is shorter than timeout_seconds={self.timeout_seconds}: "
                "AWS refuses that, for a message would be delivered again while it is worked on"
            )
        if not MIN_VISIBILITY_SECONDS <= self.visibility_seconds <= MAX_VISIBILITY_SECONDS:
            raise SettingsError(
                f"visibility_seconds is {self.visibility_seconds}: it must lie between {MIN_VISIBILITY_SECONDS} and "
                f"{MAX_VISIBILITY_SECONDS}"
            )
        try:
            self.worker_options().check(self.fetch_seconds, GATHER_SECONDS if self.archive else 0.0)
        except ValueError as error:
            raise SettingsError(f"lease_seconds: {error}") from error
        if not self.timeout_seconds <= self.lease_seconds <= self.visibility_seconds:
            raise SettingsError(
                f"lease_seconds is {self.lease_seconds:g}: it must not be shorter than timeout_seconds="
                f"{self.timeout_seconds}, or a claim could end while it is worked on; nor longer than "
                f"visibility_seconds={self.visibility_seconds}, or the message would come back before its claim ends"
            )
        if not 2 <= self.max_concurrency <= 1000:
            raise SettingsError(f"max_concurrency is {self.max_concurrency}: AWS takes 2 to 1000")

    def worker_options(self) -> WorkerOptions:
        """As the function's worker will have them, for their own checks."""
        return WorkerOptions(
            worker_id="function",
            lease_seconds=self.lease_seconds,
            batch_size=self.batch_size,
            large_bodies=LARGE_BODIES,
        )

    def function_settings(self) -> FunctionSettings:
        """What the function is told by its environment."""
        return FunctionSettings(
            lease_seconds=self.lease_seconds,
            fetch_seconds=self.fetch_seconds,
            max_body_bytes=self.max_body_bytes,
            user_agent=self.user_agent,
            contact=self.contact,
            log_level=self.log_level,
            allow_private=self.allow_private,
            allow_any_port=self.allow_any_port,
            proxies=" ".join(_several(self.proxies)),
            send_to=" ".join(_several(self.send_to)),
            sweep_seconds=60.0 * self.sweep_minutes,
        )

    def secret_ids(self) -> dict[str, str]:
        """The function's variables that hold secrets, with the ids of these. Raises :class:`SettingsError`."""
        found: dict[str, str] = {}
        for each in _several(self.secrets):
            name, equals, id_ = each.partition("=")
            if not equals:
                raise SettingsError(
                    "secrets: NAME=ID, the name or ARN of a secret in AWS Secrets Manager, never what it says"
                )
            found[f"{ENVIRONMENT_PREFIX}{name}"] = id_
        return found


def _several(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def read_settings(get: Callable[[str], object]) -> StackSettings:
    """Settings from texts by name, ``None`` where there is none. Raises :class:`SettingsError`."""
    given: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(StackSettings).items():
        value = get(name)
        if value is not None:
            given[name] = _converted(name, kind, str(value).strip())
    return StackSettings(**given)


def _converted(name: str, kind: object, text: str) -> object:
    choices = typing.get_args(kind)
    if choices:
        if text not in choices:
            raise SettingsError(f"{name} is {text!r}: it is one of {', '.join(choices)}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{name} is {text!r}: it is true or false")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise SettingsError(f"{name} is {text!r}: it must be a number") from None
    return text
