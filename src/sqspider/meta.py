"""What somebody's list says of a URL beside it: fields that its record keeps as they are, and nothing here reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

MAX_META_BYTES: Final = 2048  # of the JSON text: a record stays a small thing
MAX_META_DEPTH: Final = 20  # objects and arrays within one another: whoever reads rows reads them, too


class MetaError(ValueError):
    """What cannot be kept beside a URL, and why; the text begins with ``meta: ``."""

    def __init__(self, why: str) -> None:
        super().__init__(f"meta: {why}")


_decoder = msgspec.json.Decoder(dict[str, Any])


def encode_meta(fields: Mapping[str, Any]) -> str | None:
    """Fields as the JSON text that a record keeps; none where there are none.

    Raises :class:`MetaError` for what is no JSON, or more than a record keeps.
    """
    if not fields:
        return None
    if _is_deeper(fields, MAX_META_DEPTH):
        raise MetaError(f"objects and arrays within one another, more than {MAX_META_DEPTH} deep")
    try:
        text = msgspec.json.encode(fields)
    except UnicodeEncodeError:
        raise MetaError("a text in it is no UTF-8") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise MetaError(f"{error}") from None
    if len(text) > MAX_META_BYTES:
        raise MetaError(f"at most {MAX_META_BYTES:,} bytes of JSON, not {len(text):,}")
    return text.decode()


def decode_meta(text: str) -> dict[str, Any]:
    """The fields back from :func:`encode_meta`. Raises :class:`MetaError` for anything that it does not make."""
    if len(text) > MAX_META_BYTES:
        raise MetaError(f"at most {MAX_META_BYTES:,} bytes of JSON, not {len(text):,}")
    try:
        fields = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise MetaError(f"no JSON object: {error}") from None
    if _is_deeper(fields, MAX_META_DEPTH):
        raise MetaError(f"objects and arrays within one another, more than {MAX_META_DEPTH} deep")
    return fields


def _is_deeper(value: Any, most: int) -> bool:
    """Whether more objects and arrays than that lie within one another."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return most == 0 or any(_is_deeper(each, most - 1) for each in inner)
