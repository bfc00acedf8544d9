"""What is no text, whatever it is called: told by its first bytes."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 1445  # MIME Sniffing standard, section 5.1: the resource header

# Section 3 there: bytes that no text has. Of UTF-16 they are half, and it says so.
_BINARY_BYTES: Final = bytes((*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))
_STRAY: Final = 4  # of them that a short page may have, too
_MAGIC: Final = b"%PDF-"  # of all that is called HTML by mistake, what has the fewest of them at its beginning


def is_binary(body: bytes, encoding: str) -> bool:
    """Whether a body is no text in its encoding.

    The standard takes one such byte for enough where no type is told. Here it is told, and a page with a stray one is
    still a page: one in a hundred is.
    """
    head = body[:HEAD_BYTES]
    if head.startswith(_MAGIC):
        return True
    if encoding.startswith("utf-16"):
        return False
    return len(head) - len(head.translate(None, _BINARY_BYTES)) > max(_STRAY, len(head) // 100)
