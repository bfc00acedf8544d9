"""The arguments of a crawl in Python: what was said of its row, and how this run works on it.

They are the options of the command line; what is wrong with one is told by the argument's name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from sqspider.checks import check_flag, shown, texts_of
from sqspider.crawl_row import check_name
from sqspider.frontier import IN_MEMORY
from sqspider.orders.order import Order
from sqspider.orders.said import OPTIONS, RowOption, checked_said
from sqspider.secret import HOW, Secret, is_reference
from sqspider.url import Scope
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions

_OTHERWISE: Final = {"max_depth": "depth", "obey_nofollow": "follow_nofollow", "origins": "send_to"}
_NOT_SET: Final = {"worker_id", "max_bytes", "run"}  # of a worker's options: what has such a name here is another thing
_TURNED: Final = "obey_robots"  # says the opposite of its option
_OF_THE_RUN: Final = ("sitemaps", "assume_http", "again")

_Self = TypeVar("_Self")
_P = ParamSpec("_P")


def _argument_of(option: RowOption) -> str:
    return f"limit_{option.field}" if option.part == "limits" else _OTHERWISE.get(option.field, option.field)


ROW_ARGUMENTS: Final = {_argument_of(option): option for option in OPTIONS.values()}
"""The arguments that set a field of a crawl's row, and the options that they are."""

_BY_FIELD: Final = {option.field: argument for argument, option in ROW_ARGUMENTS.items()}


def noting_what_is_said(
    begin: Callable[Concatenate[_Self, _P], None],
) -> Callable[Concatenate[_Self, _P], None]:
    """Note which arguments an object is made with: what was left out says nothing, whatever its default."""

    known = [name for name, it in signature(begin).parameters.items() if it.kind is Parameter.KEYWORD_ONLY]

    @functools.wraps(begin)
    def noting(self: _Self, *args: _P.args, **said: _P.kwargs) -> None:
        if unknown := next((name for name in said if name not in known), None):
            raise TypeError(_no_argument(unknown, known))
        self._are_said = frozenset(said)  # type: ignore[attr-defined] # of whatever class it is
        begin(self, *args, **said)

    return cast(Callable[Concatenate[_Self, _P], None], noting)


def _no_argument(name: str, known: list[str]) -> str:
    """That there is no argument of this name, and which is meant: the command line has units and numbers otherwise."""
    likely = [argument for argument in known if argument.startswith(name)] or get_close_matches(name, known, 1)
    return f"{name}: no such argument." + (f" Did you mean {likely[0]}?" if likely else "")


@contextmanager
def worded() -> Iterator[None]:
    """Within it, what is wrong with a record's field is told of the argument that sets it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        place, colon, why = str(error).partition(": ")
        field, *which = place.split(" ", 1)
        if not colon or _BY_FIELD.get(field, field) == field:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{' '.join((_BY_FIELD[field], *which))}: {why}") from None


def order_of(given: Mapping[str, Any], are_said: frozenset[str]) -> Order:
    """What the arguments say of a crawl. Raises ``TypeError`` or ``ValueError``."""
    check_name(given["crawl"])
    said = {
        option.name: _value_of(argument, given[argument])
        for argument, option in ROW_ARGUMENTS.items()
        if argument in are_said
    }
    with worded():
        checked_said(said)
    is_kept = given["frontier"] != IN_MEMORY
    return Order(given["crawl"], said, is_run=True, is_kept=is_kept, secrets_folder=given["secrets"])


def worker_options_of(given: Mapping[str, Any], gather_seconds: float = 0.0) -> WorkerOptions:
    """How the arguments have this process work. ``gather_seconds``: as of
    :class:`sqspider.orders.start.Start`. Raises ``TypeError`` or ``ValueError``."""
    for name in _OF_THE_RUN:
        check_flag(name, given[name])
    named = {name: given[name] for name in WorkerOptions.__struct_fields__ if name in given and name not in _NOT_SET}
    options = WorkerOptions(worker_id="python", **named)
    fetch = {name: given[name] for name in FetchOptions.__struct_fields__ if name in given}
    if _names_a_secret(fetch["proxy"]):
        del fetch["proxy"]  # it is found later
    check_lease(options, FetchOptions(**fetch).timeout_seconds, gather_seconds)
    return options


def check_lease(options: WorkerOptions, fetch_seconds: float, gather_seconds: float) -> None:
    """Raise ``ValueError`` where a lease could end before what was fetched is kept."""
    try:
        options.check(fetch_seconds, gather_seconds)
    except ValueError as error:
        raise ValueError(f"lease_seconds: {error}") from None


def _value_of(argument: str, value: Any) -> Any:
    """An argument as its option has it."""
    match argument:
        case "scope":
            return _scope(value)
        case "include" | "exclude" | "keep" | "only" | "send_to":
            return texts_of(argument, value)
        case "headers" | "cookies":
            return tuple((name, _told(text)) for name, text in _mapping(argument, value).items())
        case "login":
            return _login(value)
        case "follow_nofollow" | "obey_robots":
            check_flag(argument, value)
            return value is not (argument == _TURNED)
        case _:
            return _told(value)


def _told(value: Any) -> Any:
    """A secret as rows name it."""
    return value.reference if isinstance(value, Secret) else value


def _names_a_secret(value: Any) -> bool:
    return isinstance(value, Secret) or (isinstance(value, str) and is_reference(value))


def _login(value: Any) -> Any:
    if not isinstance(value, tuple | list):
        return value
    if len(value) != 2 or not isinstance(value[0], str):
        raise TypeError(f"login: a user's name, and where the password is to be found: {HOW}")  # it is not said again
    if ":" in value[0]:
        raise ValueError("login: a user's name holds no colon")  # RFC 7617 section 2
    return f"{value[0]}:{_told(value[1])}"


def _mapping(argument: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: values by their names, as a dictionary")
    return value


def _scope(scope: Scope | str) -> Scope:
    if scope not in tuple(Scope):
        raise ValueError(f"scope: one of {', '.join(Scope)}, not {shown(scope)}")
    return Scope(scope)
