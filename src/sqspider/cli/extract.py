"""``extract``: rows of what is kept: text, fields, links, into a file."""

from __future__ import annotations

from typing import Any

import click

from sqspider.cli.archive.moments import Moment
from sqspider.cli.extracting import Extraction
from sqspider.cli.options import Pair, Whole, crawl_option, host_name
from sqspider.cli.sections import Command, section
from sqspider.cli.shared import Shared, pass_shared

what_options = section(
    "What of each page",
    click.option(
        "--rules", "rules_file", type=click.Path(), metavar="FILE",
        help="Rules in a file (TOML), to which the options below add.",
    ),
    click.option(
        "--field", "fields", multiple=True, type=Pair("="), metavar="NAME=PATH",
        help="A column of your own: price='css:.price::text | number'. css:, xpath:, json-ld:, meta:, header:, url. "
        "May be repeated.",
    ),
    click.option(
        "--require", "required", multiple=True, metavar="NAME",
        help="A field that every page has to have: those without it are counted, and named. May be repeated.",
    ),
    click.option(
        "--each", metavar="PATH", help="A row for each element that this finds, to which fields are relative: css:.product."
    ),
    click.option("--text", is_flag=True, help="All that one reads."),
    click.option("--markdown", is_flag=True, help="The same, as Markdown."),
    click.option("--main", is_flag=True, help="The main content, without menus and the like."),
    click.option(
        "--main-by", type=click.Choice(["turbohtml", "trafilatura"]), default="turbohtml", show_default=True,
        help="Who finds the main content. trafilatura takes a hundred times as long.",
    ),
    click.option("--title", is_flag=True, help="The title."),
    click.option("--language", is_flag=True, help="The language, as the page says it."),
    click.option("--canonical", is_flag=True, help="The address that the page calls its own."),
    click.option("--description", is_flag=True, help="What it says of itself in a sentence."),
    click.option("--headings", is_flag=True, help="Headings, with their levels."),
    click.option("--published", is_flag=True, help="When it was published."),
    click.option("--noindex", is_flag=True, help="Whether search engines are asked to leave it out."),
    click.option("--links", is_flag=True, help="All links, with kind and text."),
    click.option(
        "--apply", "apply", metavar="MODULE:FUNCTION",
        help="A function of your own: a document in, rows out. A module of this folder is found.",
    ),
)  # fmt: skip
which_options = section(
    "Of which captures",
    click.option(
        "--status", "statuses", multiple=True, metavar="STATUS",
        help="Of this HTTP status: 200, 4xx, 500-599. May be repeated.  [default: 2xx]",
    ),
    click.option(
        "--type", "types", multiple=True, metavar="TYPE",
        help="Of this media type: text/html, image/*; * for all. May be repeated.  [default: HTML and XHTML]",
    ),
    crawl_option("Only of this crawl."),
    click.option("--host", callback=host_name, help="Only of this host."),
    click.option("--since", type=Moment(), metavar="TIME", help="Only what was captured then or later, in UTC."),
    click.option("--until", type=Moment(), metavar="TIME", help="Only what was captured before, in UTC."),
    click.option("--limit", type=Whole(1), metavar="N", help="Only of the first N pages: to try rules."),
)  # fmt: skip
