"""How libcurl is told what a request asks for, by an easy handle that carried another one before."""

from __future__ import annotations

from typing import Final, NamedTuple

import pycurl

from sqspider.transport import Request


class Method(NamedTuple):
    """What a request asks for."""

    name: str | None = None  # another than GET, or than POST where there is a document
    has_document: bool = False


PLAIN: Final = Method()


def set_method(easy: pycurl.Curl, request: Request, before: Method) -> Method:
    """Tell it what is new since the request before. HEAD has to be known to libcurl: it would wait for a body."""
    method = Method(request.method, request.document is not None)
    if request.document is not None:
        easy.setopt(pycurl.POST, 1)
        easy.setopt(pycurl.POSTFIELDS, request.document)
    elif before != PLAIN:
        easy.setopt(pycurl.HTTPGET, 1)
    if method.name == "HEAD":
        easy.setopt(pycurl.NOBODY, 1)
    elif method.name is not None:
        easy.setopt(pycurl.CUSTOMREQUEST, method.name)
    if method.name in (None, "HEAD") and before.name not in (None, "HEAD"):
        easy.unsetopt(pycurl.CUSTOMREQUEST)
    return method


def forget_document(easy: pycurl.Curl, method: Method) -> None:
    """Let go of what was sent: pycurl holds on to it, and it may be megabytes."""
    if method.has_document:
        easy.setopt(pycurl.POSTFIELDS, b"")
