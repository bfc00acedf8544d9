"""What DynamoDB's texts say: statements of PartiQL, and the expressions of its other actions.

Only what the crawler writes is understood; anything else is refused as DynamoDB refuses what it cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

Value = dict[str, Any]  # {type: value}, in DynamoDB's JSON
Item = dict[str, Value]

_TOKEN: Final = re.compile(r"""\s*(?:("[^"]*"|'[^']*'|[#:]?\w+|<=|>=|<>|[?=<>(),+{}:*-]))""")
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_LIMITS: Final = (Decimal("1e-130"), Decimal("1e126"))  # of a number's size, which may be 0, too
_DIGITS: Final = 38
_CONTEXT: Final = Context(prec=_DIGITS)


RESERVED: Final = frozenset((Path(__file__).parent / "reserved_words.txt").read_text().split())
"""What an attribute cannot be called in an expression, unless by another name.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html"""


class UnreadableError(Exception):
    """DynamoDB would refuse it: a ValidationException."""


def decimal_of(value: Value) -> Decimal:
    """A number. Raises :class:`UnreadableError` for one that DynamoDB does not have."""
    try:
        number = Decimal(value["N"])
    except (ArithmeticError, TypeError, KeyError):
        raise UnreadableError(f"The parameter cannot be converted to a numeric value: {value}") from None
    if not number.is_finite():
        raise UnreadableError(f"The parameter cannot be converted to a numeric value: {value}")
    if len("".join(map(str, number.as_tuple().digits)).strip("0")) > _DIGITS:
        raise UnreadableError("Attempting to store more than 38 significant digits in a Number")
    if number and not _LIMITS[0] <= abs(number) < _LIMITS[1]:
        raise UnreadableError(
            "Number overflow. Attempting to store a number with magnitude larger than supported range"
        )
    return number


def plain(value: Value) -> Any:
    """What is compared: numbers by size, texts by their bytes, sets as such."""
    kind, raw = next(iter(value.items()))
    if kind == "SS":
        return frozenset(raw)
    return decimal_of(value) if kind == "N" else str(raw).encode("utf-8", "surrogatepass")


class Operand(NamedTuple):
    """A value, an attribute, or one of the two with another added."""

    kind: str  # value, attribute, default (of an attribute that is missing), sum, difference
    parts: tuple[Any, ...]

    def of(self, item: Item, scope: Scope) -> Value | None:
        match self.kind:
            case "value":
                return scope.value(self.parts[0])
            case "literal":
                return dict([self.parts])
            case "attribute":
                return item.get(scope.name(self.parts[0]))
            case "default":
                attribute, default = self.parts
                found: Value | None = item.get(scope.name(attribute))
                return found if found is not None else default.of(item, scope)
            case _:
                left, right = (part.of(item, scope) for part in self.parts)
                if left is None or right is None:
                    raise UnreadableError(
                        "The provided expression refers to an attribute that does not exist in the item"
                    )
                sign = 1 if self.kind == "sum" else -1
                return number_of(_CONTEXT.add(decimal_of(left), _CONTEXT.multiply(Decimal(sign), decimal_of(right))))


def number_of(number: Decimal) -> Value:
    """A number that was computed, as DynamoDB writes it."""
    return {"N": format(_CONTEXT.normalize(number), "f")}


class Test(NamedTuple):
    """A condition: of one attribute, or of several others."""

    kind: str  # all, any, exists, missing, or a sign
    parts: tuple[Any, ...]

    def holds(self, item: Item, scope: Scope) -> bool:
        match self.kind:
            case "all":
                return all(part.holds(item, scope) for part in self.parts)
            case "any":
                return any(part.holds(item, scope) for part in self.parts)
            case "exists":
                return scope.name(self.parts[0]) in item
            case "missing":
                return scope.name(self.parts[0]) not in item
        left, right = (part.of(item, scope) for part in self.parts)
        if left is None or right is None:
            return self.kind == "<>"
        if left.keys() != right.keys():  # what is of another type is neither equal nor smaller
            return self.kind == "<>"
        return _COMPARE[self.kind](plain(left), plain(right))


class Update(NamedTuple):
    """What is changed where a condition holds."""

    sets: tuple[tuple[str, Operand], ...] = ()
    adds: tuple[tuple[str, Operand], ...] = ()
    removes: tuple[str, ...] = ()
    test: Test = Test("all", ())
    returns: bool = False

    def key(self, scope: Scope) -> str:
        """The key that a statement names."""
        for test in (self.test, *self.test.parts):
            if test.kind == "=" and test.parts[0] == Operand("attribute", ("url",)):
                found = test.parts[1].of({}, scope)
                if found is not None and "S" in found:
                    return str(found["S"])
        raise UnreadableError("Where clause does not contain a mandatory equality on all key attributes")

    def applied(self, item: Item, scope: Scope) -> Item:
        """The item as it shall be. All values are read before any is written."""
        new = dict(item)
        for name, operand in self.sets:
            value = operand.of(item, scope)
            if value is None:
                raise UnreadableError("The provided expression refers to an attribute that does not exist in the item")
            new[scope.name(name)] = value
        for name, operand in self.adds:
            name, value = scope.name(name), operand.of(item, scope)
            assert value is not None
            new[name] = _added(item.get(name), value)
        for name in self.removes:
            new.pop(scope.name(name), None)
        return new


def _added(old: Value | None, value: Value) -> Value:
    """What ADD makes of an attribute: a larger number, or a set with more in it."""
    if "SS" in value:
        if old is not None and "SS" not in old:
            raise UnreadableError("An operand in the update expression has an incorrect data type")
        return {"SS": sorted({*(old or {"SS": ()})["SS"], *value["SS"]})}
    return number_of(_CONTEXT.add(decimal_of(old or {"N": "0"}), decimal_of(value)))


@lru_cache(maxsize=1000)
def _used(expressions: str) -> frozenset[str]:
    """The names of values, and of attributes by another name, that stand in expressions."""
    return frozenset(re.findall(r"[:#]\w+", expressions))


class Scope(NamedTuple):
    """What a text's names and values stand for."""

    values: Mapping[str, Value]
    names: Mapping[str, str] = {}

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> Scope:
        """Those of a request. Raises :class:`UnreadableError` if one is not used, or there are none where some are named."""
        kinds = ("ExpressionAttributeValues", "ExpressionAttributeNames")
        for kind in kinds:
            if request.get(kind) == {}:
                raise UnreadableError(f"{kind} must not be empty")
        scope = cls(*(request.get(kind) or {} for kind in kinds))
        expressions = " ".join([said for name, said in request.items() if name.endswith("Expression")])
        if unused := (scope.values.keys() | scope.names.keys()) - _used(expressions):
            raise UnreadableError(f"Value provided unused in expressions: keys: {sorted(unused)}")
        return scope

    def value(self, reference: str) -> Value:
        try:
            return self.values[reference]
        except KeyError:
            raise UnreadableError(
                f"An expression attribute value used in expression is not defined: {reference}"
            ) from None

    def name(self, name: str) -> str:
        if not name.startswith("#"):
            return name
        try:
            return self.names[name]
        except KeyError:
            raise UnreadableError(f"An expression attribute name used in the path is not defined: {name}") from None


class _Reader:
    """Reads a text from its left."""

    def __init__(self, text: str, *, is_expression: bool) -> None:
        self._is_expression = is_expression  # else a statement, whose names stand in quotes
        self._tokens: list[str] = []
        self._at = self._parameters = 0
        end = 0
        while text[end:].strip():
            found = _TOKEN.match(text, end)
            if found is None:
                raise UnreadableError(f"Statement wasn't well formed, can't be processed: {text[end:]!r}")
            self._tokens.append(found[1])
            end = found.end()

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._at += 1
        return token

    def takes(self, *words: str) -> bool:
        """Whether some words come next; then they are read."""
        if [token.upper() for token in self._tokens[self._at : self._at + len(words)]] != list(words):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        if not self.takes(*words):
            raise UnreadableError(f"Unexpected token {self.peek()!r}: {' '.join(words)} was expected")

    def end(self) -> None:
        if self.peek():
            raise UnreadableError(f"Unexpected token {self.peek()!r}")

    def name(self) -> str:
        return self._free(self.take())

    def _free(self, name: str) -> str:
        if self._is_expression and name.upper() in RESERVED:
            raise UnreadableError(f"Attribute name is a reserved keyword; reserved keyword: {name}")
        return name.strip('"')

    def operand(self) -> Operand:
        left = self._term()
        for sign, kind in (("+", "sum"), ("-", "difference")):
            if self.takes(sign):
                return Operand(kind, (left, self._term()))
        return left

    def _term(self) -> Operand:
        token = self.take()
        if token == "?":
            self._parameters += 1
            return Operand("value", (f"?{self._parameters}",))
        if token.startswith(":"):
            return Operand("value", (token,))
        if token.startswith("'"):
            return Operand("literal", ("S", token[1:-1]))
        if re.fullmatch(r"\d+", token):
            return Operand("literal", ("N", token))
        if token == "if_not_exists":
            self.expect("(")
            name = self.name()
            self.expect(",")
            default = self.operand()
            self.expect(")")
            return Operand("default", (name, default))
        return Operand("attribute", (self._free(token),))

    def test(self) -> Test:
        parts = [self._all()]
        while self.takes("OR"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Test("any", tuple(parts))

    def _all(self) -> Test:
        parts = [self._one()]
        while self.takes("AND"):
            parts.append(self._one())
        return Test("all", tuple(parts))

    def _one(self) -> Test:
        if self.takes("("):
            inner = self.test()
            self.expect(")")
            return inner
        for word, kind in (("ATTRIBUTE_NOT_EXISTS", "missing"), ("ATTRIBUTE_EXISTS", "exists")):
            if self.takes(word, "("):
                name = self.name()
                self.expect(")")
                return Test(kind, (name,))
        left = self.operand()
        sign = self.take()
        if sign not in _COMPARE:
            raise UnreadableError(f"Unexpected token {sign!r}")
        return Test(sign, (left, self.operand()))


@lru_cache(maxsize=1000)
def read_insert(text: str) -> tuple[str, tuple[tuple[str, Operand], ...]]:
    """The table and the attributes of ``INSERT INTO "table" VALUE {'name': ?, …}``."""
    reader = _Reader(text, is_expression=False)
    reader.expect("INSERT", "INTO")
    table = reader.name()
    reader.expect("VALUE", "{")
    fields = []
    while True:
        name = reader.take().strip("'")
        reader.expect(":")
        fields.append((name, reader.operand()))
        if not reader.takes(","):
            break
    reader.expect("}")
    reader.end()
    return table, tuple(fields)


@lru_cache(maxsize=1000)
def read_update_statement(text: str) -> tuple[str, Update]:
    """The table and the change of ``UPDATE "table" SET … REMOVE … WHERE … RETURNING ALL NEW *``."""
    reader = _Reader(text, is_expression=False)
    reader.expect("UPDATE")
    table = reader.name()
    sets, removes = [], []
    while not reader.takes("WHERE"):
        if reader.takes("SET"):
            name = reader.name()
            reader.expect("=")
            sets.append((name, reader.operand()))
        else:
            reader.expect("REMOVE")
            removes.append(reader.name())
    test = reader.test()
    returns = reader.takes("RETURNING", "ALL", "NEW", "*")
    reader.end()
    return table, Update(tuple(sets), (), tuple(removes), test, returns)


@lru_cache(maxsize=1000)
def read_update_expression(text: str) -> Update:
    """What an ``UpdateExpression`` changes."""
    reader = _Reader(text, is_expression=True)
    clauses: dict[str, list[Any]] = {}
    while reader.peek():
        clause = reader.take().upper()
        if clause not in ("SET", "ADD", "REMOVE") or clause in clauses:
            raise UnreadableError(f"Invalid UpdateExpression: {clause}")
        parts = clauses[clause] = []
        while True:
            name = reader.name()
            if clause == "SET":
                reader.expect("=")
            parts.append(name if clause == "REMOVE" else (name, reader.operand()))
            if not reader.takes(","):
                break
    sets, adds, removes = (tuple(clauses.get(clause, ())) for clause in ("SET", "ADD", "REMOVE"))
    return Update(sets, adds, removes)


@lru_cache(maxsize=1000)
def read_condition(text: str) -> Test:
    """A ``ConditionExpression``, or the condition of a query."""
    reader = _Reader(text, is_expression=True)
    test = reader.test()
    reader.end()
    return test
