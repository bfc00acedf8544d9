"""No user name and no password of a URL is written down, however the URL is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.record import Reason
from sqspider.redact import redact, redact_url
from sqspider.url import Refused, canonicalize
from sqspider.web.options import FetchOptions

# What may stand between the scheme and the user info; browsers take all of them.
BEGINNINGS = [
    "http://",
    "https:",
    "http:/",
    "HTTP:\\\\",
    "//",
    "\thttp://",
    "ht\ntp://",
    "1,http://",
    "'http://",
    "ftp://",
    "",
]
_secrets = st.text(st.characters(codec="utf-8", exclude_characters="@:"), min_size=1, max_size=8).map(
    lambda text: f"Hush{text}Hush"
)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(BEGINNINGS),
    st.sampled_from(["", "user", "u%40x", "a.b_c"]),
    _secrets,
    st.sampled_from(["", "/", "/x?y#z", ":80/"]),
)
def test_what_stands_before_the_at_sign_is_not_shown(beginning: str, user: str, secret: str, rest: str) -> None:
    refused = canonicalize(f"{beginning}{user}:{secret}@host.example{rest}")
    assert isinstance(refused, Refused)
    for shown in (str(refused), repr(refused), refused.shown):
        assert "Hush" not in shown
        assert "host.example" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@w@h/p@q", "http://***@h/p@q"),
        ("https://token@h/", "https://***@h/"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("http://h/a@b", "http://h/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://h/?next=http://u:p@h", "http://h/?next=http://***@h"),
        ("example.com", "example.com"),
    ],
)
def test_what_is_no_secret_stays(text: str, shown: str) -> None:
    assert redact_url(text) == shown
    assert redact(f"see {text} and http://u:p@z/, me@x.com") == f"see {shown} and http://***@z/, me@x.com"


@pytest.mark.parametrize("unit", ["//", "a:", "//a:b", "\\", ":", "@", "// "])
def test_no_text_takes_quadratic_time(unit: str) -> None:
    """So many of anything: what is quadratic would take minutes."""
    text = unit * 50_000
    for whole in (text, f"@{text}", f"{text}@", f"//{text}", f"//{text} @"):
        assert len(redact(whole)) <= len(whole) + len(whole)
        assert len(redact_url(whole)) <= len(whole) + len(whole)


def test_a_redirect_and_a_proxy_show_no_password() -> None:
    options = FetchOptions(proxy="http://user:hush@proxy.example:3128")
    assert options.proxy == "http://user:hush@proxy.example:3128"
    assert "hush" not in repr(options)
    assert "hush" not in str(options.__rich_repr__())
    with pytest.raises(
        ValueError, match=r"proxy: write http://HOST:PORT \(or https, socks5, socks5h\), not 'socks4://\*\*\*@h:1'"
    ):
        FetchOptions(proxy="socks4://user:hush@h:1")
    refused = canonicalize("http://u:hush@h/")
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.USER_INFO
