"""How tags are written, as patterns: one tag, and all that lies between two that a reader asks for.

By the rules of the HTML standard's tokenizer (section 13.2.5). Each pattern has the ways of writing first that nearly
all tags have, for these are matched soonest, and then the one that all of them have. No place is looked at more than a
few times, and no way back is kept, so each takes linear time, and no memory.

Where something is repeated as a whole, nothing is its last alternative, ``(?:...|)*+``: CPython before 3.11.5, Debian
12's too, goes on in the midst of what did not match in the end (https://github.com/python/cpython/issues/106052).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sqspider.web.attributes import TAG_NAME

_ATTRIBUTES: Final = (
    rb"(?:[\t\n\f\r /]++|" + TAG_NAME + rb"[^\t\n\f\r />=]*+"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>))"
    rb"|(?![\t\n\f\r ]*+=))|)*+"
)
TAG: Final = re.compile(rb"<(/?[A-Za-z]" + TAG_NAME + rb"*+)(" + _ATTRIBUTES + rb")>")
"""A tag: its name, with the slash of an end tag; its attributes as they are written."""

_VALUE: Final = rb'="[^"]*+"'
_USUAL_ATTRIBUTE: Final = rb"[A-Za-z0-9:_-]++" + _VALUE
_USUAL_ATTRIBUTES: Final = rb"(?:[ \n]++" + _USUAL_ATTRIBUTE + rb"|)*+"
_USUAL_END: Final = rb"(?:>| " + _USUAL_ATTRIBUTE + rb"(?:>|" + _USUAL_ATTRIBUTES + rb"[ ]*+/?+>)|[ ]*+/>)"
# By how often they are met; the order is all that matters.
_USUAL_NAMES: Final = (
    b"span code li p div em td dt dd tr ul dl link pre br h3 h2 h1 h4 h5 h6 hr strong input section th table b i ol"
    b" button small label option figure html head body form nav col tbody thead article header footer main aside"
).split()
# Drawings and formulas that hold no HTML, no links and no part of their own. What ends here that was not opened in it
# may end the whole sooner; of what follows up to its end tag it makes no difference.
_DRAWN: Final = (
    rb"(?:path|g|use|circle|rect|line|polyline|polygon|ellipse|defs|symbol|stop|linearGradient|clipPath|mask)"
)
_DRAWING: Final = (
    rb"svg" + _USUAL_ATTRIBUTES + rb">"
    rb"(?:[^<]*+<(?:" + _DRAWN + _USUAL_ATTRIBUTES + rb"[ ]*+/?+>|/" + _DRAWN + rb">|title>[^<]*+</title>)|)*+"
    rb"[^<]*+</svg>"
)
_SET: Final = (
    rb"(?:mrow|msu[bp]|msubsup|mfrac|msqrt|mroot|munder|mover|munderover|mtable|mtr|mtd|mstyle|mspace|mpadded"
    rb"|semantics|annotation)"
)
_SIGN: Final = b"|".join(
    name + _USUAL_ATTRIBUTES + rb">[^<]*+</" + name + rb">" for name in (b"mi", b"mo", b"mn", b"mtext")
)
_FORMULA: Final = (
    rb"math" + _USUAL_ATTRIBUTES + rb">"
    rb"(?:[^<]*+<(?:" + _SIGN + rb"|" + _SET + _USUAL_ATTRIBUTES + rb"[ ]*+/?+>|/" + _SET + rb">)|)*+"
    rb"[^<]*+</math>"
)
_END_OF_NAME: Final = rb"[\t\n\f\r />]"
_ANY_TAG: Final = rb"[A-Za-z]" + TAG_NAME + rb"*+" + _ATTRIBUTES + rb">"
_TEXT: Final = b"|".join(
    name + rb"(?=" + _END_OF_NAME + rb")" + _ATTRIBUTES + rb">[^<]*+</" + name + rb">" for name in (b"script", b"style")
)
_COMMENT: Final = rb"!--[^>]*+(?<=--)>"
_OTHER_MARKUP: Final = rb"(?:!(?!--)|\?|/(?![A-Za-z]))[^>]*+>"  # a document type, what is taken for a comment
_NO_MARKUP: Final = rb"(?![A-Za-z/!?])"

# A link in the usual form, which is one whatever its rel says. The blanks before a fragment are part of its address,
# which at its end they would not be: such a one is left to others, like all in which something stands for a character.
_ANY_VALUE: Final = rb"""=(?:"[^"]*+"|'[^']*+'|[^\t\n\f\r >"'][^\t\n\f\r >]*+)"""
_NOT_FOLLOWED: Final = (
    rb"""rel=(?:"[^"]*(?:nofo|&)|'[^']*(?:nofo|&)|[^"'][^\t\n\f\r >]*(?:nofo|&)|nofo)"""  # or it may be so
)
_OF_LINK: Final = rb"[ \n]++(?!(?i:href=|" + _NOT_FOLLOWED + rb"))[A-Za-z-]++" + _ANY_VALUE
_BEHIND_HREF: Final = rb"[ \n]++(?!(?i:" + _NOT_FOLLOWED + rb"))[A-Za-z-]++" + _ANY_VALUE
_LINK: Final = (
    rb"<[aA](?:" + _OF_LINK + rb"|)*+[ \n]++(?i:href)=(?:"
    rb"""\"([^\"#&]*+)(?:\"|(?<![\x00- ])#[^\"&]*+\")|'([^'#&]*+)(?:'|(?<![\x00- ])#[^'&]*+')"""
    rb"""|([^\t\n\f\r >\"'#&][^\t\n\f\r >#&]*+)(?>#[^\t\n\f\r >&]*+|))"""
    rb"(?:" + _BEHIND_HREF + rb"|)*+[ ]*+>"
)
_NO_LINK: Final = rb"[aA](?:" + _OF_LINK + rb"|)*+>"
_NEVER: Final = rb"(?!)()"


def _template(changing: frozenset[bytes]) -> bytes:
    """A template in which nothing has any effect beyond it: what is in it is not on the page."""
    return (
        rb"template(?=" + _END_OF_NAME + rb")" + _ATTRIBUTES + rb">"
        rb"(?:[^<]*+<(?:/?+(?!(?i:"
        + _one_of(changing)
        + rb")"
        + _END_OF_NAME
        + rb")"
        + _ANY_TAG
        + rb"|"
        + _COMMENT
        + rb")|)*+[^<]*+</template>"
    )


def _one_of(names: Iterable[bytes]) -> bytes:
    return b"|".join(sorted(names))


def run_up_to(wanted: frozenset[bytes], changing: frozenset[bytes]) -> re.Pattern[bytes]:
    """All up to the next start tag that is wanted or that changes how the rest is read, or the end; and up to what must
    be looked at more closely.

    If ``a`` is wanted, and what follows is a link in its usual form, the run takes that along: its one group is its
    address without a fragment, as it is written.
    """
    usual = b"|".join(name for name in _USUAL_NAMES if name not in wanted)
    stops = _one_of(wanted | changing)
    tag = [
        rb"/[A-Za-z0-9]++>",
        rb'span class="[^"]*+">',
        rb"(?:" + usual + rb")" + _USUAL_END,
        *([_NO_LINK] if b"a" in wanted else []),
        rb"/?+(?!(?<!/)(?i:" + stops + rb")" + _END_OF_NAME + rb")" + _ANY_TAG,
        _TEXT,
        _DRAWING,
        _FORMULA,
        _template(changing),
        _COMMENT,
        _OTHER_MARKUP,
        _NO_MARKUP,
    ]
    link = _LINK if b"a" in wanted else _NEVER
    return re.compile(rb"[^<]*+(?:<(?:" + b"|".join(tag) + rb")[^<]*+|)*+(?:" + link + rb"|)")
