"""The sites of the guides: a shop, documentation, a company's pages with what is wrong on such."""

from __future__ import annotations

from typing import Final

from tests.sites import Site

PRODUCTS: Final = (("Kettle", "1.234,50 €"), ("Lamp", "89,00 €"), ("Table", "449,90 €"), ("Chair", "129,00 €"))
CHEAPER: Final = {"Lamp": "79,00 €"}
WORDS: Final = "A worker claims a page, and holds a lease until it has finished it. Nothing is lost when it dies. " * 4


def fill_shop(site: Site, prices: dict[str, str] | None = None) -> None:
    """A front page, a page of what there is, and one for each product."""
    prices = dict(PRODUCTS) | (prices or {})
    listed = "".join(
        f'<article class="product"><h2>{name}</h2><a href="/{name.lower()}">more</a>'
        f'<span class="price">{price}</span></article>'
        for name, price in prices.items()
    )
    site.bodies |= {
        "/robots.txt": b"User-agent: *\nDisallow:\n",
        "/": b'<title>A shop</title><a href="/all">All</a>',
        "/all": f"<title>All</title><main>{listed}</main>".encode(),
        **{f"/{name.lower()}": f"<title>{name}</title><h1>{name}</h1>".encode() for name in prices},
    }
    site.with_bytes = {"Content-Type": "text/html; charset=utf-8"}


def fill_documentation(site: Site) -> None:
    """Pages in two languages; one is there twice, and one nearly."""

    def page(title: str, text: str, language: str = "en") -> bytes:
        menu = '<nav><a href="/">Start</a> <a href="/lease">Leases</a> <a href="/queue">Queues</a></nav>'
        return (
            f'<html lang="{language}"><head><title>{title}</title></head><body>{menu}'
            f"<main><h1>{title}</h1><p>{text}</p></main></body></html>"
        ).encode()

    links = " ".join(
        f'<a href="{path}">{path}</a>' for path in ("/lease", "/lease-copy", "/lease-near", "/queue", "/de")
    )
    site.bodies |= {
        "/robots.txt": b"User-agent: *\nDisallow:\n",
        "/": page("Start", f"{WORDS} {links}"),
        "/lease": page("Leases", WORDS * 2),
        "/lease-copy": page("Leases", WORDS * 2),
        "/lease-near": page("Leases", f"{WORDS * 2} Changed today."),
        "/queue": page("Queues", "A queue brings messages, each at least once, and nobody knows in which order. " * 6),
        "/de": page(
            "Anfang", "Eine Seite wird einmal geholt, und nichts geht verloren, auch wenn jemand stirbt. " * 6, "de"
        ),
    }
    site.with_bytes = {"Content-Type": "text/html; charset=utf-8"}


def fill_company(site: Site) -> None:
    """What a report on a site finds."""

    def page(title: str | None, head: str = "", body: str = "") -> bytes:
        said = f"<title>{title}</title>" if title is not None else ""
        return f"<!DOCTYPE html><html><head>{said}{head}</head><body>{body}</body></html>".encode()

    paths = ("/about", "/team", "/untitled", "/long", "/hidden", "/old", "/copy", "/wrong", "/twice")
    listed = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in ("", "about", "orphan"))
    to_about, to_old = (301, {"Location": "/about"}), (302, {"Location": "/old"})
    site.bodies |= {
        "/robots.txt": f"User-agent: *\nDisallow:\nSitemap: {site.url}sitemap.xml\n".encode(),
        "/sitemap.xml": f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</urlset>'.encode(),
        "/": page("A company", body="".join(f'<a href="{path}">{path[1:]}</a>' for path in paths)),
        "/about": page("About us", f'<link rel="canonical" href="{site.url}about">'),
        "/team": page("About us"),
        "/untitled": page(None),
        "/long": page("What we do, where we do it, for whom we do it and why we began to do it at all"),
        "/hidden": page("For us alone", '<meta name="robots" content="noindex">'),
        "/copy": page("A copy", f'<link rel="canonical" href="{site.url}team">'),
        "/wrong": page("Wrong", f'<link rel="canonical" href="{site.url}gone">', '<a href="/gone">gone</a>'),
        "/orphan": page("Nobody links here"),
        "/old": to_about,
        "/twice": to_old,
    }
