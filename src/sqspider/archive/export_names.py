"""The path of a file for a URL, as ``wget -m`` would name it: host, folders, name, with the query behind it.

A server names its URLs as it likes, and means no good, perhaps: what comes out here is a safe name on every system, and
leads nowhere but down. That two URLs have one path is no matter of this module: ``export_files`` sees to that.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

MAX_NAME_BYTES: Final = 200  # of one name: file systems take 255 bytes; there is room for what is put behind it
MAX_PATH_BYTES: Final = 800  # of a path below the folder: macOS takes 1,024 in all
INDEX: Final = "index.html"

Path = tuple[str, ...]  # host, folders, name

_MARK_LENGTH: Final = 12  # hexadecimal digits that tell a URL from others
_MAX_ENDING: Final = 16
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\/:?\"*<>|\ud800-\udfff]")  # Windows takes none of them
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])[ ]*(?:\.|\Z)", re.IGNORECASE)


def path_of(url: str) -> Path:
    """Where the answer of a canonical URL lies, below the folder that all are written to. Its last part is the file."""
    _, _, authority, rest = url.split("/", 3)
    address, question_mark, query = rest.partition("?")
    *folders, name = address.split("/")
    name = _unquoted(name) or INDEX
    if question_mark:
        name = f"{name}@{_unquoted(query)}"  # as wget writes it where "?" is not allowed
    host = authority.rpartition("@")[2].replace(":", "+") if "[" not in authority else authority.rpartition("@")[2]
    path = (_safe(host), *(_safe(_unquoted(folder)) for folder in folders if folder), _safe(name))
    if sum(len(part.encode()) + 1 for part in path) > MAX_PATH_BYTES:
        return path[0], f"~{mark_of(url)}", path[-1]
    return path


def mark_of(text: str) -> str:
    """Some digits that tell a text from all others."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_LENGTH]


def marked(path: Path, mark: str) -> Path:
    """The same path with a mark in its file's name, before the ending."""
    stem, ending = _split(path[-1])
    return (*path[:-1], f"{stem}~{mark}{ending}")


def folded(path: Path) -> str:
    """The same for two paths that are one file on a system that tells no cases or ways to write an accent apart."""
    return "/".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()) for part in path)


def link_between(page: Path, target: Path) -> str:
    """What a page has to write to lead to another file, as a relative URL."""
    shared = 0
    while shared < min(len(page), len(target)) - 1 and page[shared] == target[shared]:
        shared += 1
    steps = [".."] * (len(page) - 1 - shared) + [quote(part, safe="~@+!$'()*,;=") for part in target[shared:]]
    written = "/".join(steps)
    return f"./{written}" if ":" in steps[0] else written


def _unquoted(text: str) -> str:
    """What a part of a URL stands for, where it is text; else as it is written."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return text


def _safe(name: str) -> str:
    name = _UNSAFE.sub(lambda found: _escaped(found[0]), unicodedata.normalize("NFC", name))
    if name.endswith((".", " ")):  # Windows drops them; "." and ".." are of this kind
        name = name[:-1] + _escaped(name[-1])
    if name.startswith(" ") or _RESERVED.match(name):
        name = _escaped(name[0]) + name[1:]
    return name if len(name.encode()) <= MAX_NAME_BYTES else _shortened(name)


def _escaped(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


def _shortened(name: str) -> str:
    """A long name: its beginning, a mark of the whole, its ending."""
    stem, ending = _split(name)
    tail = f"~{mark_of(name)}{ending}"
    kept = stem.encode()[: MAX_NAME_BYTES - len(tail.encode())].decode("utf-8", "ignore")
    return kept.rstrip(". ") + tail


def _split(name: str) -> tuple[str, str]:
    """A name and its ending, with the dot; behind a query there is none."""
    at = name.rfind(".")
    is_ending = at > 0 and "@" not in name and len(name[at:].encode()) <= _MAX_ENDING
    return (name[:at], name[at:]) if is_ending else (name, "")
