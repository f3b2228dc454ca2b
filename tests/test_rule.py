# SPDX-License-Identifier: MIT
"""The rule of authorizer.py as tables: what is known, what is read, and what becomes of a key.

No socket, no clock, no stand-in: ``decide`` and ``scan`` get readings and instants alone.
"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from conftest import load
from lib.standins import CURRENT, PENDING, PREVIOUS, SUBJECT

RULE: Any = load()
NOW = 1_000_000.0  # seconds, by both clocks: when the request arrives
FAILS = "secrets_manager_failed"  # what a read can raise
LOOK = [PENDING, CURRENT]
LOOK_3 = [PENDING, CURRENT, PREVIOUS]


def limits(accept_previous: int = 900, cache: int = 60, max_stale: int = 300) -> Any:
    """The settings that the rule knows, in seconds."""
    return SimpleNamespace(
        accept_previous_seconds=accept_previous, cache_seconds=cache, max_stale_seconds=max_stale
    )


def instant(age: float) -> tuple[float, float]:
    """An instant so many seconds before the request arrives, by both clocks."""
    return NOW - age, NOW - age


def reading(
    label: str, key: str, age: float = 0.0, created: float | None = 100.0, ends_in: float = 1e9
) -> Any:
    """A reading of that age. Its version has that key ("" for an unusable one) and that age."""
    made = RULE.Reading(label, f"version-{key}", key.encode(), instant(age))
    made.created = None if created is None else NOW - created
    made.ends_at = NOW + ends_in
    return made


def snapshot(
    *readings: Any,
    confirmed: float | None = None,
    failed: float | None = None,
    problem: str = FAILS,
) -> Any:
    """A snapshot; the ages of its confirmation and of its failure are in seconds."""
    made = RULE.Snapshot({it.label: it for it in readings}, "" if failed is None else problem)
    made.confirmed_at = None if confirmed is None else instant(confirmed)
    made.failed_at = None if failed is None else instant(failed)
    return made


def decided(known: Any, key: str, settings: Any = None) -> tuple[str, str, str]:
    """Outcome, reason code, and the label that allows."""
    outcome, reason, found = RULE.decide(known, key.encode(), instant(0), settings or limits())
    return outcome, reason, found.label if found else ""


READ_FIRST = ("read first", "", "")
REFUSED = ("refuse", "key_unknown", "")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # A match needs no freshness, up to CACHE_SECONDS.
        (snapshot(reading(CURRENT, "K", 60)), ("allow", "key_matched", CURRENT)),
        (snapshot(reading(CURRENT, "K", 60.001)), READ_FIRST),
        (snapshot(reading(PENDING, "K", 60)), ("allow", "key_matched", PENDING)),
        (snapshot(reading(PREVIOUS, "K", 60, ends_in=0.001)), ("allow", "key_matched", PREVIOUS)),
        # The youngest reading counts, and AWSCURRENT's before one as old.
        (
            snapshot(reading(CURRENT, "K", 9), reading(PENDING, "K", 9)),
            ("allow", "key_matched", CURRENT),
        ),
        (
            snapshot(reading(CURRENT, "K", 61), reading(PENDING, "K", 9)),
            ("allow", "key_matched", PENDING),
        ),
        # AWSPREVIOUS ends by itself.
        (snapshot(reading(PREVIOUS, "K", 1, ends_in=0)), READ_FIRST),
        (
            snapshot(reading(PREVIOUS, "K", 1, ends_in=0), reading(PENDING, "K", 9)),
            ("allow", "key_matched", PENDING),
        ),
        # A refusal does need freshness.
        (snapshot(), READ_FIRST),
        (snapshot(reading(CURRENT, "other")), READ_FIRST),
        (snapshot(reading(CURRENT, "other"), confirmed=1), REFUSED),
        (snapshot(reading(CURRENT, "other"), confirmed=1.001), READ_FIRST),
        # A label that is gone, by looks that agree, allows for CACHE_SECONDS, then is an error.
        (
            snapshot(reading(PENDING, "K", 60), reading(CURRENT, "other"), confirmed=0),
            ("allow", "key_matched", PENDING),
        ),
        (
            snapshot(reading(PENDING, "K", 61), reading(CURRENT, "other"), confirmed=0),
            ("error", "label_gone", ""),
        ),
        # A reading that has ended may have been a match when the looks agreed: it must be read.
        (
            snapshot(reading(PREVIOUS, "K", 1, ends_in=0), reading(CURRENT, "other"), confirmed=1),
            READ_FIRST,
        ),
        # While readings fail, a match up to MAX_STALE_SECONDS old is allowed, and nobody refused.
        (snapshot(reading(PENDING, "K", 300), failed=1), ("allow", "key_matched_stale", PENDING)),
        (snapshot(reading(PENDING, "K", 300.001), failed=1), ("error", FAILS, "")),
        (snapshot(reading(PREVIOUS, "K", 9, ends_in=0), failed=1), ("error", FAILS, "")),
        (snapshot(reading(CURRENT, "other"), failed=1), ("error", FAILS, "")),
        (snapshot(failed=0), ("error", FAILS, "")),
        # A second after a failure it is tried again.
        (snapshot(reading(CURRENT, "other"), failed=1.001), READ_FIRST),
        (snapshot(reading(PENDING, "K", 300), failed=1.001), READ_FIRST),
        # A version without a usable key has no digest, and equals no key.
        (snapshot(reading(CURRENT, ""), confirmed=0), REFUSED),
    ],
)
def test_what_a_snapshot_says_of_a_key(known: Any, expected: tuple[str, str, str]) -> None:
    assert decided(known, "K") == expected


@pytest.mark.parametrize(("monotonic", "wall"), [(61, 0), (0, 61), (61, -9999), (-9999, 61)])
def test_the_clock_that_advanced_further_tells_the_age(monotonic: float, wall: float) -> None:
    known = snapshot(reading(CURRENT, "K"))
    known.readings[CURRENT].read_at = NOW - monotonic, NOW - wall
    assert decided(known, "K") == READ_FIRST


@pytest.mark.parametrize("order", [(CURRENT, PENDING), (PENDING, CURRENT)])
def test_a_reading_just_made_counts_though_the_wall_clock_was_set_back(
    order: tuple[str, str],
) -> None:
    """Neither reading is younger by both clocks then; the one with no age must be found."""
    old, new = (reading(label, "K") for label in order)
    old.read_at = NOW - 61, NOW + 120
    assert decided(snapshot(old, new, confirmed=0), "K") == ("allow", "key_matched", order[1])


class Scan(NamedTuple):
    """What a scan read, what becomes of the key, and what is known afterwards."""

    labels: list[str]
    outcome: str
    reason: str
    label: str
    kept: dict[str, str]  # by label, a key


def scanned(known: Any, key: str, answers: dict[str, list[Any]], settings: Any = None) -> Scan:
    """Scan. Each label gives its answers in turn, the last one for ever: a key, None, or FAILS."""
    labels: list[str] = []
    settings = settings or limits()

    def read(label: str, first: bool) -> Any:
        labels.append(label)
        left = answers.get(label, [None])
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer == FAILS:
            raise RULE.SecretUnavailableError(answer)
        return reading(label, answer) if isinstance(answer, str) else answer

    made = RULE.scan(known, key.encode(), instant(0), settings, read)
    if made.problem:
        made.failed_at = instant(0)
    assert all(label == it.label for label, it in made.readings.items())
    kept = {label: it.digest.decode() for label, it in made.readings.items()}
    return Scan(labels, *decided(made, key, settings), kept)


def test_the_current_key_takes_one_read() -> None:
    scan = scanned(snapshot(), "C", {CURRENT: ["C"], PENDING: ["P"]})
    assert scan == ([CURRENT], "allow", "key_matched", CURRENT, {CURRENT: "C"})


def test_the_pending_key_takes_two_reads() -> None:
    scan = scanned(snapshot(), "P", {CURRENT: ["C"], PENDING: ["P"]})
    assert scan == (
        [CURRENT, PENDING],
        "allow",
        "key_matched",
        PENDING,
        {CURRENT: "C", PENDING: "P"},
    )


def test_the_previous_key_takes_four_reads() -> None:
    scan = scanned(snapshot(), "O", {CURRENT: ["C"], PENDING: ["P"], PREVIOUS: ["O"]})
    assert (scan.labels, scan.outcome, scan.label) == ([CURRENT, *LOOK_3], "allow", PREVIOUS)


@pytest.mark.parametrize(
    "answers", [{CURRENT: ["C"], PENDING: ["P"], PREVIOUS: ["O"]}, {CURRENT: ["C"]}]
)
def test_a_wrong_key_takes_three_looks_that_agree(answers: dict[str, list[Any]]) -> None:
    scan = scanned(snapshot(), "wrong", answers)
    assert (scan.labels, scan.outcome, scan.reason) == ([CURRENT, *LOOK_3 * 3], *REFUSED[:2])


@pytest.mark.parametrize(
    ("accept_previous", "created"), [(0, 100.0), (0, -5.0), (100, 100.0), (99, 100.0)]
)
def test_awsprevious_is_not_read_where_it_does_not_count(
    accept_previous: int, created: float
) -> None:
    """With ACCEPT_PREVIOUS_SECONDS=0 not even if a clock makes the version seem to be unborn."""
    current = reading(CURRENT, "C", created=created)
    scan = scanned(snapshot(), "O", {CURRENT: [current], PREVIOUS: ["O"]}, limits(accept_previous))
    assert (scan.labels, scan.outcome) == ([CURRENT, *LOOK * 3], "refuse")


def test_awsprevious_ends_with_the_grace_of_the_version_that_it_preceded() -> None:
    made = RULE.scan(
        snapshot(),
        b"O",
        instant(0),
        limits(accept_previous=900),
        lambda label, first: reading(label, {CURRENT: "C", PREVIOUS: "O"}.get(label, "P")),
    )
    assert made.readings[PREVIOUS].ends_at == NOW - 100 + 900


@pytest.mark.parametrize("odd", range(4))
def test_one_look_that_differs_makes_three_more_necessary(odd: int) -> None:
    pending: list[Any] = ["P"] * odd + [None] + ["P"]
    scan = scanned(snapshot(), "wrong", {CURRENT: ["C"], PENDING: pending}, limits(0))
    looks = 3 if odd == 3 else odd + 1 + 3
    assert (scan.labels, scan.outcome) == ([CURRENT, *LOOK * looks], "refuse")


def test_what_looks_absent_keeps_its_last_reading() -> None:
    known = snapshot(reading(PENDING, "P", 61), reading(CURRENT, "C", 61))
    scan = scanned(known, "wrong", {CURRENT: ["C"]})
    assert (scan.outcome, scan.kept) == ("refuse", {PENDING: "P", CURRENT: "C"})
    assert scanned(known, "P", {CURRENT: ["C"]})[1:3] == ("error", "label_gone")


def test_a_reading_too_old_to_count_is_forgotten_and_its_key_refused() -> None:
    known = snapshot(reading(PENDING, "P", 300.001), reading(CURRENT, "C", 61))
    scan = scanned(known, "P", {CURRENT: ["C"]})
    assert (scan.outcome, scan.kept) == ("refuse", {CURRENT: "C"})
    assert scanned(known, "P", {CURRENT: ["C"]}, limits(cache=301)).outcome == "allow"


def test_an_end_that_has_passed_is_knowledge_and_its_key_refused() -> None:
    known = snapshot(reading(PREVIOUS, "O", 1, ends_in=0), reading(CURRENT, "C", 1))
    old = reading(CURRENT, "C", created=900.0)
    assert scanned(known, "O", {CURRENT: [old]}).outcome == "refuse"


def test_the_version_that_awscurrent_left_is_kept_as_awsprevious() -> None:
    """AWS moves that label there by itself; a read of it that fails looks like absence."""
    known = snapshot(reading(CURRENT, "O", 61))
    scan = scanned(known, "O", {CURRENT: ["C"]})
    assert (scan.labels, scan.outcome, scan.reason) == (
        [CURRENT, *LOOK_3 * 3],
        "error",
        "label_gone",
    )
    assert scan.kept == {CURRENT: "C", PREVIOUS: "O"}
    assert scanned(known, "O", {CURRENT: ["C"]}, limits(accept_previous=0)).outcome == "refuse"
    old = reading(CURRENT, "C", created=900.0)
    assert scanned(known, "O", {CURRENT: [old]}).outcome == "refuse"


def test_a_label_that_fails_forbids_to_refuse_and_hides_no_other_label() -> None:
    keys: dict[str, list[Any]] = {PENDING: ["P"], CURRENT: ["C"], PREVIOUS: ["O"]}
    for label in (PENDING, PREVIOUS):
        failing = keys | {label: [FAILS]}
        assert scanned(snapshot(), "wrong", failing)[:3] == ([CURRENT, *LOOK_3], "error", FAILS)
        for other in {PENDING, CURRENT, PREVIOUS} - {label}:
            assert scanned(snapshot(), keys[other][0], failing).label == other
    failing = keys | {CURRENT: [FAILS]}
    assert scanned(snapshot(), "wrong", failing)[:3] == ([CURRENT, PENDING], "error", FAILS)
    assert scanned(snapshot(), "P", failing).label == PENDING


def test_after_a_failure_an_old_match_is_allowed() -> None:
    known = snapshot(reading(PENDING, "P", 299), reading(CURRENT, "C", 299))
    for key in ("P", "C"):
        scan = scanned(known, key, {CURRENT: [FAILS], PENDING: [FAILS]})
        assert (scan.outcome, scan.reason) == ("allow", "key_matched_stale")


def test_awscurrent_without_a_usable_key_refuses_nobody() -> None:
    answers: dict[str, list[Any]] = {CURRENT: [""], PENDING: ["P"], PREVIOUS: ["O"]}
    assert scanned(snapshot(), "P", answers).label == PENDING
    assert scanned(snapshot(), "O", answers).label == PREVIOUS
    scan = scanned(snapshot(), "wrong", answers)
    assert (scan.labels, scan.outcome, scan.reason) == (
        [CURRENT, *LOOK_3],
        "error",
        "current_unusable",
    )


def test_a_date_that_cannot_be_read_costs_only_awsprevious() -> None:
    undated = reading(CURRENT, "C", created=None)
    answers: dict[str, list[Any]] = {CURRENT: [undated], PENDING: ["P"], PREVIOUS: ["O"]}
    assert scanned(snapshot(), "C", answers).label == CURRENT
    assert scanned(snapshot(), "P", answers).label == PENDING
    scan = scanned(snapshot(), "O", answers)
    assert (scan.labels, scan.outcome, scan.reason) == (
        [CURRENT, *LOOK],
        "error",
        "date_unreadable",
    )
    assert scanned(snapshot(), "O", answers, limits(accept_previous=0)).outcome == "refuse"


def test_a_read_is_told_whether_anything_is_known_yet() -> None:
    told: list[bool] = []

    def read(label: str, first: bool) -> Any:
        told.append(first)
        if len(told) == 1:
            raise RULE.SecretUnavailableError(FAILS)
        return reading(label, "K")

    RULE.scan(snapshot(), b"wrong", instant(0), limits(), read)
    assert told == [True, True]
    told.clear()
    RULE.scan(snapshot(reading(CURRENT, "K", 301)), b"K", instant(0), limits(), read)
    assert told == [True, True]  # what is forgotten is not known
    told.clear()
    RULE.scan(snapshot(reading(CURRENT, "K", 300)), b"wrong", instant(0), limits(), read)
    assert told == [False, False]


def test_a_snapshot_is_never_changed() -> None:
    known = snapshot(reading(CURRENT, "O", 61), reading(PENDING, "P", 301), confirmed=61)
    before = dict(known.readings), known.confirmed_at
    made = RULE.scan(known, b"C", instant(0), limits(), lambda label, first: reading(label, "C"))
    assert (known.readings, known.confirmed_at) == before
    assert made is not known and made.confirmed_at is None


def test_the_rule_does_no_io_reads_no_clock_and_logs_nothing() -> None:
    text = SUBJECT.read_text()
    rule = text[text.index("# --- The rule") : text.index("# --- The Extension")]
    names = {node.id for node in ast.walk(ast.parse(rule)) if isinstance(node, ast.Name)}
    assert {"decide", "scan", "age", "Reading"} <= names | {
        node.name
        for node in ast.parse(rule).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert not names & {"time", "socket", "logger", "logging", "emit", "os", "open", "json"}
