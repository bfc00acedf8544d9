"""What `crawl` and `enqueue` do to a crawl's row, and what a user has allowed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pytest

from sqspider.cli.crawl import crawl
from sqspider.cli.order import config_note, no_crawl, prepared
from sqspider.crawl_row import Crawl, Identity, State
from sqspider.frontier import Entry, FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.orders import consent
from sqspider.orders.order import ConfigFile, Order
from sqspider.url import Scope
from sqspider.work.crawl_orders import ChangedMeanwhileError, change_crawl, crawl_named

A: Final = "https://a.com/"
B: Final = "https://b.com/"


@pytest.fixture
def frontier() -> MemoryFrontier:
    return MemoryFrontier(MemoryStore(), FrontierSettings(), clock=lambda: 5.0)


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def modes_in(folder: Path) -> dict[str, int]:
    """Who may do what to a folder and the files in it."""
    found = [folder, *folder.iterdir()] if folder.exists() else []
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in found}


def order(*urls: str, name: str = "default", **more: Any) -> Order:
    said = more.pop("said", {})
    return Order(name, said, urls=urls, **{"is_run": True, **more})


async def put_in(frontier: MemoryFrontier, wanted: Order) -> Crawl:
    """Take an order, and enqueue what it is given."""
    with click.Context(click.Command("crawl")):
        done = await prepared(frontier, wanted)
    assert done is not None
    await frontier.enqueue([Entry(url=url, crawl=done.crawl.ref) for url in wanted.urls])
    return done.crawl


async def refused(frontier: MemoryFrontier, wanted: Order) -> str:
    before = await frontier.crawls()
    with click.Context(crawl), pytest.raises(click.UsageError) as raised:
        await prepared(frontier, wanted)
    assert await frontier.crawls() == before, "nothing was changed"
    return raised.value.format_message()


async def test_urls_make_a_crawl_by_what_is_said(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A, said={"depth": 3, "user-agent": "Bot"}))
    assert (made.name, made.version, made.seeds, made.created_at) == ("default", 1, (A,), 5.0)
    assert (made.settings.scope, made.settings.max_depth, made.identity.user_agent) == (Scope.HOST, 3, "Bot")
    assert await frontier.crawls() == [made]
    other = await put_in(frontier, order(A, name="news"))
    assert other.id != made.id
    assert (other.settings.max_depth, other.identity) == (None, Identity())


async def test_without_a_url_there_is_nothing_to_make(frontier: MemoryFrontier) -> None:
    assert await prepared(frontier, order(said={"depth": 3})) is None
    assert await frontier.crawls() == []


async def test_what_goes_by_no_crawl_is_told_apart_from_one_that_is_not_there(frontier: MemoryFrontier) -> None:
    assert "There is none" in (await no_crawl(frontier, "default")).message
    await frontier.enqueue([Entry(url=A)])
    assert (
        "no crawl default, but 1 URL without one: put in by themselves" in (await no_crawl(frontier, "default")).message
    )
    assert "There is none" in (await no_crawl(frontier, "news")).message


async def test_a_crawl_goes_on_as_it_is(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A, said={"depth": 3, "proxy": "http://p:1"}))
    assert await put_in(frontier, order()) == made
    assert await put_in(frontier, order(A)) == made
    assert await put_in(frontier, order(A, said={"depth": 3})) == made


async def test_only_what_is_said_changes_it(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A, said={"depth": 3, "delay": 5.0}))
    done = await prepared(frontier, order(A, said={"delay": 0.0, "contact": "me@e.com"}))
    assert done is not None
    assert done.changes == ["delay 5 → 0 s", "contact none → me@e.com"]
    assert (done.crawl.settings.max_depth, done.crawl.id, done.crawl.version) == (3, made.id, 2)


async def test_a_crawl_whose_secret_cannot_be_had_is_not_changed(
    frontier: MemoryFrontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a long secret")
    monkeypatch.setenv("SQSPIDER_SECRET_PASSWORD", "another secret")
    await put_in(frontier, order(A, said={"login": "me:env:SQSPIDER_SECRET_PASSWORD"}))
    in_file = order(A, name="file", said={"bearer": "file:token", "send-to": (A[:-1],)}, secrets_folder=str(tmp_path))
    await put_in(frontier, in_file)
    monkeypatch.delenv("SQSPIDER_SECRET_PASSWORD")
    assert "has no SQSPIDER_SECRET_PASSWORD" in await refused(frontier, order(said={"depth": 3}))
    assert "--secrets FOLDER" in await refused(frontier, order(name="file", said={"depth": 3}))
    await put_in(frontier, order(name="file", said={"depth": 3}, secrets_folder=str(tmp_path)))
    with click.Context(click.Command("enqueue")):
        await prepared(frontier, order(said={"depth": 3}, is_run=False))  # where it runs it may be there


async def test_other_urls_are_added_and_with_other_options_refused_while_it_is_unfinished(
    frontier: MemoryFrontier,
) -> None:
    made = await put_in(frontier, order(A, said={"depth": 3}))
    added = await put_in(frontier, order(B))
    assert added == msgspec.structs.replace(made, seeds=(A, B), version=made.version + 1)
    assert await put_in(frontier, order(A, B)) == added
    said = await refused(frontier, order("https://c.com/", said={"depth": 5}))
    assert "depth 3 → 5" in said
    assert "--crawl NAME" in said
    assert "sqspider crawls set default" in said
    assert "other options" in await refused(frontier, order(has_more=True, said={"depth": 5}))
    assert (await put_in(frontier, order("https://c.com/", said={"depth": 5}, name="c"))).settings.max_depth == 5
    await frontier.clear_table()
    made = await put_in(frontier, order(A, said={"depth": 3}))
    await frontier.remove_crawl(made.ref)


async def test_a_crawl_that_is_finished_takes_other_urls_with_other_options(frontier: MemoryFrontier) -> None:
    with click.Context(click.Command("crawl")):
        await prepared(frontier, order(A, said={"depth": 3}))  # and no URL of it is open
        done = await prepared(frontier, order(B, said={"depth": 5}))
    assert done is not None
    assert done.changes == ["depth 3 → 5"]


async def test_crawl_lets_go_on_what_was_paused_and_enqueue_does_not(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A))
    assert await frontier.save_crawl(msgspec.structs.replace(made, state=State.PAUSED))
    assert (await put_in(frontier, order(is_run=False))).state is State.PAUSED
    assert (await put_in(frontier, order())).state is State.RUNNING


async def test_of_two_that_change_a_crawl_at_once_one_is_told(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A))

    def delayed(seconds: float) -> Any:
        return lambda row: msgspec.structs.replace(
            row, settings=msgspec.structs.replace(row.settings, delay_seconds=seconds)
        )

    await change_crawl(frontier, made, delayed(2.0))
    with pytest.raises(ChangedMeanwhileError, match="The crawl default was changed by somebody else"):
        await change_crawl(frontier, made, delayed(3.0))
    row = await crawl_named(frontier, "default")
    assert row is not None
    assert row.settings.delay_seconds == 2.0
    # That workers found seeds meanwhile is no order of anybody's.
    assert await frontier.save_crawl(msgspec.structs.replace(row, seeds_version=7))
    after = await change_crawl(frontier, row, delayed(3.0))
    assert (after.settings.delay_seconds, after.seeds_version) == (3.0, 7)
    await frontier.remove_crawl(after.ref)
    with pytest.raises(ChangedMeanwhileError):
        await change_crawl(frontier, after, delayed(4.0))


async def test_a_crawl_by_depth_follows_links(frontier: MemoryFrontier) -> None:
    """As of `enqueue`, whose crawls follow none by themselves."""
    plain = await put_in(frontier, order(A, scope=Scope.PAGE, is_run=False))
    assert plain.settings.scope is Scope.PAGE
    assert (await put_in(frontier, order(A, said={"depth": 3}))).settings.scope is Scope.HOST
    for said, scope in (({"depth": 3}, "host"), ({"depth": 0}, "page"), ({"depth": 3, "scope": "page"}, "page")):
        made = await put_in(frontier, order(A, name=f"{said['depth']}-{scope}", said=said, scope=Scope.PAGE))
        assert made.settings.scope == scope


async def test_headers_go_to_the_origins_of_the_urls_given_with_them(
    frontier: MemoryFrontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQSPIDER_SECRET_KEY", "a long secret")
    header = {"header": (("X-Key", "env:SQSPIDER_SECRET_KEY"),)}
    assert (await put_in(frontier, order(A, B, said=header))).identity.origins == (A[:-1], B[:-1])
    elsewhere = await put_in(frontier, order(A, name="x", said={**header, "send-to": ("https://c.com",)}))
    assert elsewhere.identity.origins == ("https://c.com",)
    many = [f"https://h{number}.com/" for number in range(101)]
    assert "--send-to: say to which origins" in await refused(frontier, order(*many, name="y", said=header))
    await put_in(frontier, order(A, name="z"))
    assert "no URL is given" in await refused(frontier, order(name="z", said=header))


def test_a_file_says_what_it_says_otherwise_and_is_not_applied_again() -> None:
    crawl = Crawl(name="news", id="1")
    file = ConfigFile(Path("news.toml"), "news", (), {"scope": "page", "depth": 3})
    note = config_note(file, crawl)
    assert note is not None
    assert "depth none → 3" in note
    assert "sqspider crawls set news --config news.toml" in note
    assert config_note(file._replace(said={"scope": "page"}), crawl) is None
    assert config_note(None, crawl) is None


# What is allowed.


async def test_a_stranger_who_writes_a_row_is_allowed_nothing_by_it(frontier: MemoryFrontier) -> None:
    for wish in (
        Identity(allow_private=True),
        Identity(allow_any_port=True),
        Identity(proxy="http://stranger:1"),
        Identity(bearer="env:SQSPIDER_SECRET_TOKEN", origins=("https://stranger.com",)),
        Identity(client_cert="/home/me/cert.pem"),
    ):
        stranger = Crawl(name="default", id="5", identity=wish)
        assert await frontier.save_crawl(stranger)
        said = await refused(frontier, order())
        assert consent.asked_for(wish) in said
        assert "nobody said so on this machine" in said
        await frontier.remove_crawl(stranger.ref)


async def test_what_was_said_here_holds_when_it_goes_on_and_for_nothing_else(frontier: MemoryFrontier) -> None:
    made = await put_in(frontier, order(A, said={"allow-private": True, "proxy": "http://p:1"}))
    assert await put_in(frontier, order()) == made
    changed = await put_in(frontier, order(said={"delay": 3.0, "proxy": "http://q:1"}))
    assert await put_in(frontier, order()) == changed
    # A stranger changes the row, or writes one like it.
    other = msgspec.structs.replace(changed.identity, proxy="http://stranger:1")
    assert await frontier.save_crawl(msgspec.structs.replace(changed, identity=other))
    assert "--proxy http://stranger:1" in await refused(frontier, order())
    assert "nobody said so" in await refused(frontier, order(said={"allow-private": True}))
    again = await put_in(frontier, order(said={"allow-private": True, "proxy": "http://stranger:1"}))
    assert await put_in(frontier, order()) == again
    await frontier.save_crawl(Crawl(name="copy", id="7", identity=changed.identity))
    assert "nobody said so" in await refused(frontier, order(name="copy"))


async def test_a_secret_goes_nowhere_by_being_said_in_a_strangers_crawl(frontier: MemoryFrontier) -> None:
    """The stranger's row says to which origins; the user names the secret, and means his own."""
    stranger = Crawl(name="default", id="5", identity=Identity(origins=("https://stranger.com",)))
    assert await frontier.save_crawl(stranger)
    header = {"bearer": "env:SQSPIDER_SECRET_TOKEN"}
    assert "--send-to https://stranger.com" in await refused(frontier, order(said=header))
    assert "--send-to https://stranger.com" in await refused(frontier, order(A, said=header))


async def test_what_is_allowed_is_the_users_alone_to_write(frontier: MemoryFrontier, tmp_path: Path) -> None:
    folder = tmp_path / "sqspider" / "allowed"
    await put_in(frontier, order(A))
    assert modes_in(folder) == {}  # of what is ordinary nothing is kept
    await put_in(frontier, order(said={"allow-private": True}))
    modes = modes_in(folder)
    assert modes.pop(".") == 0o700
    assert list(modes.values()) == [0o600]


async def test_where_nothing_can_be_kept_it_is_said_again(
    frontier: MemoryFrontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    made = await put_in(frontier, order(A, said={"allow-private": True}))
    assert "nobody said so" in await refused(frontier, order())
    assert await put_in(frontier, order(said={"allow-private": True})) == made
