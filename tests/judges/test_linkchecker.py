"""What LinkChecker finds broken, and we do; each difference has its reason here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest
from bench.corpus import Corpus
from bench.links import (
    ANCHORS,
    SETTINGS,
    WELCOME,
    check_corpus,
    found_by_linkchecker,
    found_by_sqspider,
    linkchecker_command,
)

from tests.conftest import Run
from tests.extract.planted import OTHER, PlantedSite
from tests.judges.judges import tool

NOT_SEEN: Final = {
    "background": "of styles it reads the attribute alone, not the element",
    "cut short": "an answer that ends too early is a warning to it, for the page, and the link is good",
}
"""Kinds of faults that it does not find, and why."""

FALSE_ALARMS: Final = {
    ":~:text=": "what is behind :~: says which text to show, and names no place (WICG, Text Fragments)",
}
"""What it finds wrong that is not, by a part of the target."""

ONE_SOURCE: Final = "it tells one page of each target, and all of them only of what it could not even ask for"


def test_it_finds_what_is_planted_as_we_do(tmp_path: Path, sqspider: Run) -> None:
    program = tool("linkchecker", "linkchecker")
    with PlantedSite() as site:
        command = linkchecker_command(
            program, site.url, tmp_path, "--check-extern", "--timeout", "2", settings=SETTINGS + ANCHORS
        )
        said = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=_at_home(tmp_path), check=False
        )
        ours = sqspider("check", site.url, "--allow-private", "--anchors", "--timeout", "2", "--json", "--quiet")
    assert said.returncode in (0, 1), said.stderr
    broken, anchors = found_by_linkchecker(said.stdout)
    our_broken, our_anchors = found_by_sqspider(ours.stdout)
    kinds = {fault.target: fault.kind for fault in site.faults}
    theirs = {_as_planted(target, kinds): sources for target, sources in (broken | anchors).items()}
    false_alarms = {target for target in theirs if any(part in target for part in FALSE_ALARMS)}
    all_of_ours = our_broken | our_anchors
    assert len(false_alarms) == len(FALSE_ALARMS)
    assert set(all_of_ours) - set(theirs) == {target for target, kind in kinds.items() if kind in NOT_SEEN}
    assert set(theirs) - set(all_of_ours) == false_alarms
    for target, sources in theirs.items():
        if target not in false_alarms:
            assert sources <= all_of_ours[target], ONE_SOURCE
    assert {target for target in theirs if OTHER in target} <= set(our_broken)


def _as_planted(target: str, kinds: dict[str, str]) -> str:
    return target if target in kinds else target.rstrip("/")


def _at_home(folder: Path) -> dict[str, str]:
    """It looks for settings at home, and goes by none of them here."""
    return {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


@pytest.mark.prove
def test_it_finds_what_is_broken_in_real_documentation_as_we_do(tmp_path: Path) -> None:
    program = tool("linkchecker", "linkchecker")
    try:
        with Corpus(tmp_path / "corpus", more_http=WELCOME) as corpus:
            ours = check_corpus(corpus, None, tmp_path)
            theirs = check_corpus(corpus, program, tmp_path)
    except SystemExit as error:
        pytest.skip(str(error))
    # It folds slashes in a row into one, and asks for another URL than the page names: the standard keeps them.
    assert {request.replace("//", "/") for request in ours.requests} == set(theirs.requests)
    assert set(ours.broken) == set(theirs.broken) != set()
    for target, sources in theirs.broken.items():
        assert sources <= ours.broken[target], ONE_SOURCE
