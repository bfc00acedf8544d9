"""Every guard that is taken away is missed by some history: see ``plant``."""

from __future__ import annotations

import pytest

from .plant import PLANTS, planted, product
from .test_histories import play

HISTORIES = 600  # within which each is found, and in which the product as it is shows nothing


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_planted(name: str) -> None:
    change = PLANTS[name]
    file, source = planted(change, product())
    compile(source, str(file), "exec")


def test_a_planted_fault_is_found() -> None:
    """One that shows at once. All the others are sought by ``make prove``."""
    assert play("memory", "--plant", "finished", "--until-found", "--count", 20)["violations"]
    assert not play("memory", "--count", 5)["violations"]


@pytest.mark.prove
@pytest.mark.parametrize("name", PLANTS)
def test_each_planted_fault_is_found(name: str) -> None:
    assert play("memory", "--plant", name, "--until-found", "--count", HISTORIES)["violations"]


@pytest.mark.prove
def test_the_product_as_it_is_shows_nothing() -> None:
    assert not play("memory", "--count", HISTORIES)["violations"]
