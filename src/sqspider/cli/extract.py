"""``extract``: rows of what is kept: text, fields and links of pages, into a file."""

from __future__ import annotations

from typing import Any

import click

from sqspider.cli.moments import Moment
from sqspider.cli.options import Pair, Whole, crawl_option, host_name
from sqspider.cli.sections import Command, section
from sqspider.cli.shared import Shared, pass_shared

what_options = section(
    "What of each page",
    click.option(
        "--rules", "rules_file", type=click.Path(), metavar="FILE",
        help="Rules in a file (TOML); the options below add to them.",
    ),
    click.option(
        "--field", "fields", multiple=True, type=Pair("=", "PATH"), metavar="NAME=PATH",
        help="A column of your own, as price='css:.price::text | number'. Paths begin with css:, xpath:, json-ld:, "
        "meta:, header: or url. May be repeated.",
    ),
    click.option(
        "--require", "required", multiple=True, metavar="NAME",
        help="A field that each page should have: those that lack it are counted, and the first is named. May be "
        "repeated.",
    ),
    click.option(
        "--each", metavar="PATH", help="A row for each element that this finds, as css:.product, with its fields."
    ),
    click.option("--text", is_flag=True, help="All of the text that one reads on it, menus too."),
    click.option("--markdown", is_flag=True, help="The same as Markdown, with headings, lists and links."),
    click.option("--main", is_flag=True, help="The text of its main content, without menus and the like."),
    click.option(
        "--main-by", type=click.Choice(["turbohtml", "trafilatura"]), metavar="NAME",
        help="Who finds the main content: turbohtml, or trafilatura, which takes ten times as long.  "
        "[default: turbohtml]",
    ),
    click.option("--title", is_flag=True, help="Its title."),
    click.option("--language", is_flag=True, help="Its language, as it says itself: de, pt-BR."),
    click.option("--canonical", is_flag=True, help="The URL that it calls its own (link rel=canonical)."),
    click.option("--description", is_flag=True, help="Its description, for search engines."),
    click.option("--headings", is_flag=True, help="Its headings, each with its level."),
    click.option("--published", is_flag=True, help="When it was published."),
    click.option("--noindex", is_flag=True, help="Whether it asks search engines to leave it out."),
    click.option("--links", is_flag=True, help="All of its links, each with URL, kind and text."),
    click.option(
        "--apply", metavar="MODULE:FUNCTION",
        help="A function of your own, of a module in this folder or an installed one: a document in, rows out.",
    ),
)  # fmt: skip

which_options = section(
    "Of which captures",
    click.option(
        "--http-status", "--status", "statuses", multiple=True, metavar="STATUS",
        help="Answered with this HTTP status: 200, 4xx, 500-599, * for all. May be repeated.  [default: 2xx]",
    ),
    click.option(
        "--content-type", "--type", "types", multiple=True, metavar="TYPE",
        help="Of this media type: text/html, image/*, * for all. May be repeated.  [default: HTML and XHTML]",
    ),
    crawl_option("Of this crawl."),
    click.option("--host", callback=host_name, metavar="HOST", help="Of this host."),
    click.option("--since", type=Moment(), metavar="TIME", help="Captured then or later, in UTC."),
    click.option("--until", type=Moment(), metavar="TIME", help="Captured before, in UTC."),
    click.option("--limit", type=Whole(1), metavar="N", help="Of the first N pages alone, to try rules on."),
)  # fmt: skip

where_options = section(
    "Where rows go",
    click.option(
        "--to", "--output", "to", metavar="FILE",
        help="A file, by its ending: .jsonl, .csv, .parquet, .db (SQLite, table rows); a folder of parts, if it ends "
        "with a /; - for standard output.  [default: on a terminal the first rows are shown; else JSON lines printed]",
    ),
    click.option(
        "--format", "form", type=click.Choice(["jsonl", "csv", "parquet", "sqlite"]),
        help="Another one than the name says.",
    ),
    click.option(
        "--append", is_flag=True,
        help="Go on with what is there: only what was not read for it yet is read. Not with one Parquet file.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace what is there. Without these two it is refused."),
    click.option("--columns", metavar="A,B,C", help="Only these columns, in this order."),
    click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON, where rows go to a file."),
)  # fmt: skip

how_options = section(
    "How",
    click.option(
        "--processes", type=Whole(1, 512), metavar="N", help="So many at a time.  [default: as many as there are cores]"
    ),
    click.option("--follow", is_flag=True, help="Go on while a crawl writes, until Ctrl-C."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)  # fmt: skip


@click.command(cls=Command)
@click.argument("source", required=False, metavar="[DIR|FILE|s3://BUCKET/PREFIX]")
@what_options
@which_options
@where_options
@how_options
@pass_shared
def extract(shared: Shared, /, source: str | None, **given: Any) -> int:
    """Make rows of the pages that are kept: text, fields by selectors, links. No site is asked.

    Without a source it reads the archive of the frontier: each page has one row, that of its last visit, as its record
    says. A source is read by itself, and may be anybody's: a folder, a WARC file, a bucket. Then each capture has a
    row; with --frontier, too, those have one that its records name.

    \b
    Exit status:
      0  all that was asked for was read. A page that cannot be read has a row
         whose column error says why: that is no failure of the command
      1  a required field is missing on a page, a function of yours raised
         something, a file of the archive is damaged, or pages wait for the
         end of their visit
      2  wrong usage, or what is asked for cannot be done here: nothing was
         written
    """
    from sqspider.cli.extract_run import run_extraction  # here: --help needs none of it

    return run_extraction(shared, source, given)
