"""The gate for trouble of our own: who is blamed, who probes, and when it is over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqspider.politeness.network import FEWER_SECONDS, LONGEST_WAIT_SECONDS, PATIENCE_SECONDS, Network
from sqspider.record import Reason
from sqspider.retry import Fault


def down(now: float = 1000.0) -> Network:
    network = Network()
    assert network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
    return network


def test_one_probes_for_all_after_waits_that_double() -> None:
    network, now = down(), 1000.0
    waits = []
    for _ in range(9):
        waits.append(network.again_at - now)
        assert not network.may_ask("h", network.again_at - 0.001)
        now = network.again_at
        assert network.may_ask("h", now)
        assert not network.may_ask("h", now)  # one at a time
        assert not network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
        network.release()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert network.since == 1000.0


def test_a_probe_that_tells_nothing_lets_the_next_one_try() -> None:
    network = down()
    assert network.may_ask("h", 1001.0)
    network.release()
    assert network.may_ask("h", 1001.0)


@given(st.lists(st.floats(0, 30), max_size=40))
def test_a_burst_is_one_failure(lateness: list[float]) -> None:
    network = down(1000.0)
    for late in sorted(lateness):
        assert not network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=999.0, now=1000.0 + late)
    assert network.again_at == 1001.0


def test_any_answer_ends_it() -> None:
    network = down()
    assert network.answered("a", 1000.5)
    assert network.may_ask("h", 1000.5)
    assert not network.is_down
    assert not network.answered("a", 1000.6)
    assert network.failed(Reason.NO_ROUTE, "no", asked_at=1001.0, now=1001.0)
    assert network.again_at == 1002.0  # it begins anew


def test_a_day_of_waiting_is_enough_and_a_nap_is_no_waiting() -> None:
    network, now, probes = down(), 1000.0, 0
    while not network.is_spent:
        now = network.again_at + (1e6 if probes == 3 else 0)  # asleep
        network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
        probes += 1
    assert now - 1e6 - 1000.0 >= PATIENCE_SECONDS - LONGEST_WAIT_SECONDS
    network.answered("a", now)
    assert not network.is_spent


def test_what_is_ours_and_what_is_the_hosts() -> None:
    network = Network()
    for fault in Fault:
        if fault is not Fault.HOST_OR_OURS:
            assert network.is_ours(fault, "a", 1.0) is (fault is Fault.OURS)
    doubtful = Fault.HOST_OR_OURS
    assert network.is_ours(doubtful, "a", 1000.0)  # nobody else has answered
    network.answered("b", 999.0)
    assert network.is_ours(doubtful, "a", 1000.0)  # that was before
    network.answered("b", 1001.0)
    assert not network.is_ours(doubtful, "a", 1002.0)  # its trouble began before b's answer
    network.answered("a", 1003.0)
    assert network.is_ours(doubtful, "a", 1004.0)  # that was its own, and its trouble is another one
    network.answered("b", 1005.0)
    network.answered("a", 1004.5)
    assert not network.is_ours(doubtful, "a", 1004.8)
    network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=1006.0, now=1006.0)
    assert network.is_ours(doubtful, "a", 1007.0)  # while nothing can be asked, nobody else is blamed


def test_after_a_shortage_there_are_half_as_many_for_a_while() -> None:
    network = Network()
    assert network.most_at_a_time(32, 1000.0) == 32
    network.failed(Reason.OWN_SHORTAGE, "no", asked_at=1000.0, now=1000.0, in_flight=20)
    assert network.most_at_a_time(32, 1001.0) == 10
    assert network.most_at_a_time(4, 1001.0) == 4
    assert network.most_at_a_time(32, 1000.0 + FEWER_SECONDS) == 32
    network.failed(Reason.OWN_SHORTAGE, "no", asked_at=1001.0, now=1001.0, in_flight=1)
    assert network.most_at_a_time(32, 1002.0) == 1


def test_a_proxy_that_never_led_anywhere_is_to_blame_and_one_that_has_is_not() -> None:
    network = Network()
    assert network.is_ours(Fault.URL, "a", 1000.0, may_be_proxys=True)
    network.answered("a", 1001.0)
    assert not network.is_ours(Fault.URL, "a", 1002.0, may_be_proxys=True)


def test_a_host_in_doubt_probes_after_others() -> None:
    """Or its URLs, which come back first, would keep everybody else from showing that our network works."""
    network = Network()
    assert network.is_ours(Fault.HOST_OR_OURS, "a", 1000.0)
    network.failed(Reason.DNS_FAILURE, "no", asked_at=1000.0, now=1000.0)
    assert not network.may_ask("a", 1001.0)
    assert network.may_ask("b", 1001.0)
    network.release()
    assert network.may_ask("a", network.turn_of("a"))
    assert network.turn_of("b") == 1001.0 < network.turn_of("a")
