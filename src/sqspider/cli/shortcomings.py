"""What is told of rows that are not all that was asked for: `extract` says it, and `crawl --extract`."""

from __future__ import annotations

from collections.abc import Iterator

from sqspider.cli.wording import counted, printable
from sqspider.extract.harvest import Came
from sqspider.extract.tally import NeverFound


def shortcomings(came: Came) -> Iterator[str]:
    """Required fields that are missing, pages with an error, files that are damaged; in lines."""
    tally = came.tally
    for name, number in tally.missing.most_common():
        first = printable(tally.first_missing.get(name, ""))
        yield f"{name} is missing on {counted(number, 'page', 'pages')}, the first of them {first}"
    if tally.errors:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in tally.errors.most_common())
        yield f"pages with an error: {kinds}: see the column error"
    for why in came.damage.values():
        yield f"damaged: {printable(why)}"


def never_found(watch: NeverFound, came: Came) -> Iterator[str]:
    """Fields to warn of now, in lines: rules are wrong, most likely, and the sooner that is seen the better."""
    for name in watch.new(came.tally):
        yield f"the field {name} was found on none of the first {came.tally.documents:,} pages"
