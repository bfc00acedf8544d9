"""The requirements of ``cases/08`` (what other queues and workers promise), each with the test that holds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.conftest import load_cases

TESTS: Final = Path(__file__).parent.parent

QUEUE: Final = "frontier/test_queue.py"
CLAIMS: Final = "frontier/test_claims.py"
HOSTS: Final = "frontier/test_hosts.py"
CRAWL: Final = "crawl/test_crawl.py"
KILL: Final = "crawl/test_kill.py"
RETRY: Final = "unit/test_retry_and_trouble.py"
MESSAGE: Final = "unit/test_message.py"
POLITENESS: Final = "crawl/test_politeness.py"
COMMANDS: Final = "cli/test_commands.py"

HELD_BY: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "q-04": ((QUEUE, "test_a_body_that_is_no_message_stays_and_dies"),),
    "q-08": ((CRAWL, "test_a_fault_in_one_urls_work_stops_no_other"),),
    "q-09": ((CLAIMS, "test_a_finished_record_cannot_be_claimed"), (CLAIMS, "test_a_finish_happens_once")),
    "q-10": ((QUEUE, "test_ending_a_delivery_twice_is_harmless"), (QUEUE, "test_a_stale_receipt_changes_nothing")),
    "q-12": ((CRAWL, "test_a_lease_that_ends_before_its_fetch_is_refused"),),
    "q-14": ((CLAIMS, "test_a_stale_claim_cannot_finish"),),
    "q-15": ((CLAIMS, "test_processes_that_are_killed_lose_nothing"),),
    "q-16": ((CLAIMS, "test_a_sweep_steals_nothing_that_is_being_worked_on"),),
    "q-17": ((CLAIMS, "test_two_sweeps_at_once_send_one_message"),),
    "q-19": ((CRAWL, "test_a_url_that_kills_its_workers_is_given_up_unfetched"),),
    "q-20": ((RETRY, "test_passing_trouble_is_tried_twice_more_with_a_doubling_wait"),),
    "q-21": ((POLITENESS, "test_trouble_is_tried_again_and_then_final"),),
    "q-22": ((RETRY, "test_what_we_decide_is_final"),),
    "q-23": ((QUEUE, "test_being_deferred_counts_no_receives"), (CLAIMS, "test_giving_back_uses_up_nothing")),
    "q-24": ((QUEUE, "test_a_message_deferred_to_the_past_is_visible_at_once"),),
    "q-26": ((QUEUE, "test_a_body_that_is_no_message_stays_and_dies"), (MESSAGE, "test_what_is_neither_is_no_message")),
    "q-27": ((QUEUE, "test_a_url_enqueued_by_two_workers_at_once_is_new_to_one"),),
    "q-28": ((QUEUE, "test_enqueueing_a_known_url_again_changes_nothing"),),
    "q-29": ((QUEUE, "test_enqueueing_a_known_url_again_changes_nothing"),),
    "q-30": ((CLAIMS, "test_a_finish_happens_once"),),
    "q-31": ((CLAIMS, "test_links_are_recorded_and_queued_once"),),
    "q-32": ((CLAIMS, "test_a_live_lease_holds"), (CLAIMS, "test_of_many_processes_one_wins_each_url")),
    "q-33": ((KILL, "test_killed_again_and_again_every_url_is_finished_once_and_alike"),),
    "q-34": ((CRAWL, "test_a_busy_frontier_is_no_lost_race"),),
    "q-36": ((HOSTS, "test_no_more_at_a_time_than_asked_for"), (HOSTS, "test_entering_at_once_lets_one_in")),
    "q-37": (
        (QUEUE, "test_a_delayed_message_does_not_hold_up_fresh_ones"),
        (QUEUE, "test_a_delay_holds_for_a_handle_that_is_opened_later"),
    ),
    "q-39": ((CRAWL, "test_stopping_gives_back_what_is_in_flight_and_loses_nothing"),),
    "q-40": ((CLAIMS, "test_giving_back_uses_up_nothing"),),
    "q-41": ((CRAWL, "test_stopping_gives_back_what_is_in_flight_and_loses_nothing"),),
    "q-43": ((CRAWL, "test_killed_at_random_moments_it_loses_nothing"),),
    "q-45": ((CRAWL, "test_a_busy_frontier_is_no_lost_race"), (COMMANDS, "test_a_file_that_is_no_frontier_is_refused")),
    "q-46": ((QUEUE, "test_ending_a_delivery_twice_is_harmless"),),
    "q-47": ((CLAIMS, "test_a_batch_of_finishes_ends_what_it_may"),),
    "q-48": ((COMMANDS, "test_a_full_disk_is_told_and_loses_nothing"),),
    "q-49": ((CLAIMS, "test_any_history_ends_with_every_url_finished_once"),),
    "q-50": ((CLAIMS, "test_any_history_ends_with_every_url_finished_once"),),
    "q-51": ((CLAIMS, "test_a_record_without_a_message_is_swept_back"),),
    "q-52": (  # kills in any order; neither jumps of the clock nor partitions
        (CLAIMS, "test_any_history_ends_with_every_url_finished_once"),
        (KILL, "test_killed_again_and_again_every_url_is_finished_once_and_alike"),
    ),
    "q-54": ((CLAIMS, "test_any_history_ends_with_every_url_finished_once"),),
}

NOT_HERE: Final = {
    "q-01": "Lambda",
    "q-02": "Lambda",
    "q-03": "no FIFO queue is used: order is kept by slots",
    "q-05": "Lambda",
    "q-06": "partial answers are SQS's",
    "q-07": "partial answers are SQS's",
    "q-11": "no heartbeat: a lease is longer than any fetch, and that is checked at start",
    "q-13": "no heartbeat",
    "q-18": "the index and the record are one row",
    "q-25": "a message has no age limit: it only says which record to look at",
    "q-35": "politeness: tests/crawl",
    "q-38": "there is no priority",
    "q-42": "a worker runs once; a second signal ends it at once",
    "q-44": "Lambda",
    "q-53": "SQLite's own promise with synchronous=FULL; dropped fsyncs cannot be produced here",
}


def test_every_requirement_is_held_or_answered() -> None:
    ids = [case["id"] for case in load_cases("08_queue_worker_cases.json")["cases"]]
    assert sorted([*HELD_BY, *NOT_HERE]) == sorted(ids)


def test_the_tests_that_hold_them_exist() -> None:
    for file, name in {pair for pairs in HELD_BY.values() for pair in pairs}:
        assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE), (file, name)
