"""The links as a graph in a file: rows for whatever reads tables, or GraphML for what reads graphs. Streamed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from html import escape
from itertools import islice
from typing import Final

from sqspider.extract.link_queries import ALL_KINDS, Link, LinkTable
from sqspider.extract.page_links import LinkKind
from sqspider.tables.columns import Column, Kind
from sqspider.tables.opening import open_table
from sqspider.tables.table import whole
from sqspider.tables.target import How, open_target

COLUMNS: Final = (
    Column("from"),
    Column("to"),  # canonical; where there is a reason, as it is written
    Column("kind"),
    Column("rel"),
    Column("text"),
    Column("fragment"),
    Column("reason"),  # why it is no URL that can be asked for
    Column("from_status", Kind.INTEGER),  # HTTP status of the page
)
GRAPHML: Final = ".graphml"

_BATCH: Final = 10_000
_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="url" for="node" attr.name="url" attr.type="string"/>
<key id="status" for="node" attr.name="status" attr.type="int"/>
<key id="title" for="node" attr.name="title" attr.type="string"/>
<key id="kind" for="edge" attr.name="kind" attr.type="string"/>
<key id="text" for="edge" attr.name="text" attr.type="string"/>
<graph id="links" edgedefault="directed">
"""
_REPLACEMENT: Final = "\ufffd"
_TAIL: Final = "</graph>\n</graphml>\n"
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def row_of(link: Link) -> tuple[object, ...]:
    """A link as a row of those columns."""
    return (
        link.page,
        link.target,
        link.kind.value,
        link.rel or None,
        link.text or None,
        link.fragment or None,
        link.reason and link.reason.value,
        link.http_status,
    )


def is_graphml(target: str) -> bool:
    """Whether a file of this name is for what reads graphs, and no table."""
    return target.lower().endswith(GRAPHML)


def write_graph(table: LinkTable, target: str, kinds: Collection[LinkKind] = ALL_KINDS, how: How = How.NEW) -> int:
    """Write all links of these kinds to a file, as its name says; how many. It appears whole at the end.

    Raises :class:`sqspider.tables.table.TableError`.
    """
    if is_graphml(target):
        return _write_graphml(table, target, kinds, how)
    number, links = 0, table.all_links(kinds)
    with whole(open_table(target, COLUMNS, how=how)) as file:
        while rows := [row_of(link) for link in islice(links, _BATCH)]:
            file.write(file.encoder.encode(rows))
            number += len(rows)
    return number


def _write_graphml(table: LinkTable, target: str, kinds: Collection[LinkKind], how: How) -> int:
    counted = [0]
    pieces = _graphml(table, kinds, counted)
    with whole(open_target(target, how)) as file:
        while some := list(islice(pieces, _BATCH)):
            file.write("".join(some).encode())
    return counted[0]


def _graphml(table: LinkTable, kinds: Collection[LinkKind], counted: list[int]) -> Iterator[str]:
    yield _HEAD
    for number, url, http_status, title in table.nodes():
        data = (("url", url), ("status", http_status), ("title", title))
        yield f'<node id="n{number}">{_data(data)}</node>\n'
    for page, target, kind, text in table.edges(kinds):
        counted[0] += 1
        yield f'<edge source="n{page}" target="n{target}">{_data((("kind", kind), ("text", text)))}</edge>\n'
    yield _TAIL


def _data(values: Iterable[tuple[str, str | int | None]]) -> str:
    return "".join(
        f'<data key="{key}">{escape(_NO_XML.sub(_REPLACEMENT, str(value)))}</data>'
        for key, value in values
        if value is not None
    )
