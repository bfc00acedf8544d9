"""Secrets: named by where they are, never written down, and shown nowhere once they are known."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqspider.crawl_row import Crawl, Identity, decode_crawl, encode_crawl
from sqspider.redact import redact
from sqspider.secret import Secret
from sqspider.work.secrets import MAX_FILE_BYTES, SecretError, Secrets

HERE = ("https://example.com",)
ENVIRONMENT = {"SQSPIDER_SECRET_A": "hunter2-of-a", "OTHER": "of-another-program", "SQSPIDER_SECRET_SHORT": "abc"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"headers": (("Authorization", "Bearer hunter2"),)}, "headers Authorization: a secret is not written down"),
        ({"headers": (("Proxy-Authorization", "hunter2"),)}, "headers Proxy-Authorization: a secret"),
        ({"headers": (("Cookie", "sid=hunter2"),)}, "headers Cookie: a secret"),
        ({"headers": (("X-Api-Key", "hunter2"),)}, "headers X-Api-Key: a secret"),
        ({"headers": (("x-session-id", "hunter2"),)}, "headers x-session-id: a secret"),
        ({"cookies": (("sid", "hunter2"),)}, "cookies sid: a secret is not written down"),
        ({"login": "joe:hunter2"}, "login: a secret is not written down"),
        ({"login": "joe"}, "login: USER:env:SQSPIDER_SECRET_NAME"),
        ({"bearer": "hunter2"}, "bearer: a secret is not written down"),
        ({"proxy": "http://joe:hunter2@proxy.example:8080"}, "proxy: a password is not written down"),
        ({"bearer": "env:HOME"}, "bearer: a secret is named env:SQSPIDER_SECRET_NAME or file:NAME"),
        ({"bearer": "file:../hunter2"}, "bearer: a secret is named env:SQSPIDER_SECRET_NAME or file:NAME"),
        ({"bearer": "file:/etc/hunter2"}, "bearer: a secret is named env:SQSPIDER_SECRET_NAME or file:NAME"),
        ({"bearer": "process:1"}, "bearer: a secret is named env:SQSPIDER_SECRET_NAME or file:NAME"),
        ({"headers": (("Host", "example.com"),)}, "headers: Host is written by the crawler itself"),
        ({"headers": (("X Y", "z"),)}, "headers: a name"),
        ({"headers": (("X-Y", "a\r\nb"),)}, "headers: printable"),
        ({"headers": (("X-Y", "a"), ("x-y", "b"))}, "headers: x-y is said twice"),
        ({"headers": (("X-Y", "a"),), "origins": ()}, "origins: say to which origins"),
        ({"headers": (("X-Y", "a"),), "origins": ("https://example.com/x",)}, "origins: scheme, host and port alone"),
        ({"headers": (("X-Y", "a"),), "origins": ("example.com",)}, "origins: scheme, host and port alone"),
    ],
)  # fmt: skip
def test_a_row_holds_no_secret(fields: dict[str, object], words: str) -> None:
    """The right form is shown, and what was written is not said again."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Identity(**{"origins": HERE, **fields})  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert "hunter2" not in str(caught.value) or "file:" in str(caught.value)


def test_what_names_secrets_is_a_row_that_can_be_kept() -> None:
    identity = Identity(
        headers=(("X-Client", "plain"), ("X-Api-Key", "file:deep/key.txt")), cookies=(("sid", "env:SQSPIDER_SECRET_A"),),
        login="joe:env:SQSPIDER_SECRET_A", proxy="env:SQSPIDER_SECRET_PROXY", origins=HERE,
    )  # fmt: skip
    crawl = Crawl(name="news", id="a1", identity=identity)
    assert decode_crawl(encode_crawl(crawl)) == crawl


def test_a_row_that_a_stranger_wrote_is_checked_as_well() -> None:
    with pytest.raises(msgspec.ValidationError, match="bearer"):
        decode_crawl('{"name": "n", "id": "a1", "identity": {"bearer": "env:HOME", "origins": ["https://a.b"]}}')


def test_a_secret_is_looked_up_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "key.txt").write_text("hunter2-of-a-file\n")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "key.txt")
    secrets = Secrets(ENVIRONMENT, str(tmp_path))
    assert secrets.value("env:SQSPIDER_SECRET_A") == "hunter2-of-a"
    assert secrets.value("file:deep/key.txt") == secrets.value("file:link") == "hunter2-of-a-file"
    assert secrets.value(str(Secret("of this process"))) == "of this process"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:OTHER", "secret: a secret is named env:SQSPIDER_SECRET_NAME"),
        ("env:SQSPIDER_SECRET_NONE", "the environment has no SQSPIDER_SECRET_NONE"),
        ("env:SQSPIDER_SECRET_SHORT", "'env:SQSPIDER_SECRET_SHORT' is shorter than 4 characters"),
        ("file:../outside", "secret: a secret is named env:SQSPIDER_SECRET_NAME"),
        ("file:out", "the secret file:out cannot be read below --secrets: it leads out of that folder"),
        ("file:folder/outside", "the secret file:folder/outside cannot be read below --secrets: it leads out"),
        ("file:none", "the secret file:none cannot be read below --secrets: No such file or directory"),
        ("file:long", f"the secret file:long cannot be read below --secrets: it is longer than {MAX_FILE_BYTES:,} bytes"),
        ("file:pipe", "the secret file:pipe cannot be read below --secrets: it is no file"),
        ("file:lines", "what 'file:lines' says is no line of printable ASCII"),
        (f"process:{'f' * 32}", "a secret was given to another process"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_and_shown_to_nobody(tmp_path: Path, reference: str, words: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (tmp_path / "outside").write_text("hunter2-outside")
    (folder / "out").symlink_to("../outside")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "long").write_text("x" * (MAX_FILE_BYTES + 1))
    (folder / "lines").write_text("hunter2-one\nhunter2-two\n")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SecretError) as caught:
        Secrets(ENVIRONMENT, str(folder)).value(reference)
    assert str(caught.value).startswith(words)
    assert "hunter2" not in str(caught.value)


def test_no_folder_is_looked_into_that_nobody_named() -> None:
    with pytest.raises(SecretError, match="start the worker with --secrets FOLDER"):
        Secrets(ENVIRONMENT).value("file:key")


def test_a_secret_of_python_is_not_shown() -> None:
    secret = Secret("hunter2-of-python")
    assert "hunter2" not in f"{secret!r} {secret} {vars(secret)}"


@pytest.mark.parametrize("value", ["plain-secret-1", "with \"quotes\" and 'more'", "a/b?c&d e%f", "back\\slash+plus"])
def test_what_is_known_to_be_secret_is_written_in_no_form(value: str) -> None:
    import json
    from urllib.parse import quote, quote_plus

    assert Secrets({"SQSPIDER_SECRET_V": value}).value("env:SQSPIDER_SECRET_V") == value
    for form in (value, repr(value), json.dumps(value), quote(value), quote(value, safe=""), quote_plus(value)):
        assert redact(f"before {form} after") in {f"before {mark}***{mark} after" for mark in ("", '"', "'")}


@pytest.mark.parametrize("value", ["hunter2\n", "hunter2-ä", b"hunter2", ""])
def test_what_cannot_be_a_secret_is_not_shown_either(value: Any) -> None:
    """As one that was read from a file with its line end."""
    with pytest.raises(
        (TypeError, ValueError), match=r"^secret: a text of printable ASCII characters in one line$"
    ) as told:
        Secret(value)
    assert "hunter2" not in "".join(traceback.format_exception(told.value)).replace(str(__file__), "")
