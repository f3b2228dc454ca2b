# SPDX-License-Identifier: MIT
"""Every interleaving of a scan with one disturbance, with any two, and with any failing reads.

The pure rule of authorizer.py runs against a secret of four versions. A scenario is an arrangement
of the staging labels, what the environment knows, the key that is presented, and what happens
meanwhile: each event comes right before a call to Secrets Manager, anywhere in the scan. Where a
wrong key's scan comes first, the events fall anywhere in both scans.

Bounds: four versions, one environment, requests at one instant, a snapshot that is absent or 61
seconds old, time that suffices. AWSCURRENT is tried three times, as ``Extension.read`` does. Longer
histories are sampled in test_rotation_model.py and test_partial_failure.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from conftest import load
from lib.standins import CURRENT, PENDING, PREVIOUS

pytestmark = pytest.mark.long

RULE: Any = load()
NOW = 1_000_000.0  # seconds: when each request arrives, by both clocks
GRACE = 900  # seconds
SETTINGS = SimpleNamespace(cache_seconds=60, max_stale_seconds=300, accept_previous_seconds=GRACE)

# By version: the digest of its key, and its CreatedDate. While A is current, nothing else counts.
DIGESTS = {version: version.encode() * 32 for version in "ABCD"}
CREATED = {"A": NOW - 3000, "B": NOW - 800, "C": NOW - 400, "D": NOW - 2}
GARBAGE = b"?" * 32

ARRANGEMENTS = [
    {CURRENT: "B", **previous, **pending}
    for previous in ({}, {PREVIOUS: "A"})
    for pending in ({}, {PENDING: "A"}, {PENDING: "B"}, {PENDING: "C"})
]
MOVES = ["start", "finish", "finish and remove", "cancel", "roll back", "put"]
DISTURBANCES = [*MOVES, "one read fails", "outage begins", "outage ends"]

Plan = list[tuple[int, str]]  # before which call to Secrets Manager, and what happens then


class Secret:
    """The staging labels of the secret, what happens to them, and who is live meanwhile."""

    def __init__(self, labels: dict[str, str], plan: Plan) -> None:
        self.labels = dict(labels)
        self.plan = plan
        self.calls = 0
        self.fails = self.outage = False
        self.live: list[set[str]] = []  # versions: at first, and after each event
        self.note()

    def note(self) -> None:
        live = {self.labels[CURRENT], self.labels.get(PENDING, "")}
        if CREATED[self.labels[CURRENT]] + GRACE > NOW:
            live.add(self.labels.get(PREVIOUS, ""))
        self.live.append(live)

    def make_current(self, version: str) -> None:
        """Move AWSCURRENT. AWSPREVIOUS moves by itself to the version that it left."""
        if self.labels[CURRENT] != version:
            self.labels[PREVIOUS] = self.labels[CURRENT]
            self.labels[CURRENT] = version

    def happen(self, event: str) -> None:
        if event == "start":
            self.labels[PENDING] = "D"
        elif event == "put":
            self.make_current("D")
        elif event == "roll back":
            self.make_current(self.labels.get(PREVIOUS, self.labels[CURRENT]))
        elif event.startswith("finish"):
            self.make_current(self.labels.get(PENDING, self.labels[CURRENT]))
        elif event == "one read fails":
            self.fails = True
        elif event.startswith("outage"):
            self.outage = event == "outage begins"
        if event in ("cancel", "finish and remove"):
            self.labels.pop(PENDING, None)
        self.note()

    def call(self, label: str) -> str | None:
        """The version that Secrets Manager gives; None for a failure, and where there is none."""
        for before, event in self.plan:
            if before == self.calls:
                self.happen(event)
        self.calls += 1
        fails, self.fails = self.fails or self.outage, False
        return None if fails else self.labels.get(label)

    def read(self, label: str, first: bool) -> Any:
        """What ``Extension.read`` makes of such calls."""
        for _ in range(RULE.TRIES if label == CURRENT else 1):
            version = self.call(label)
            if version:
                reading = RULE.Reading(label, version, DIGESTS[version], (NOW, NOW))
                reading.created = CREATED[version]
                return reading
        if label == CURRENT:
            raise RULE.SecretUnavailableError("current_unreadable")
        return None


Scan = Callable[..., Any]  # authorizer.py's, or a variant of it


def forgetful(snapshot: Any, digest: bytes, arrived: Any, settings: Any, read: Any) -> Any:
    """A variant: what looks absent is dropped, and not kept."""
    made = RULE.scan(snapshot, digest, arrived, settings, read)
    for label in [label for label, it in made.readings.items() if it.read_at != arrived]:
        del made.readings[label]
    return made


def ask(snapshot: Any, digest: bytes, secret: Secret, scan: Scan) -> tuple[Any, str]:
    """The snapshot afterwards, and the outcome."""
    arrived = NOW, NOW
    decision = RULE.decide(snapshot, digest, arrived, SETTINGS)
    if decision is RULE.READ_FIRST:
        snapshot = scan(snapshot, digest, arrived, SETTINGS, secret.read)
        if snapshot.problem:
            snapshot.failed_at = arrived
        decision = RULE.decide(snapshot, digest, arrived, SETTINGS)
    return snapshot, decision[0]


class Scenario(NamedTuple):
    """Whatever is there before something happens."""

    labels: dict[str, str]
    snapshot: Any
    garbage: bool  # whether a wrong key's scan comes first
    version: str  # whose key is presented

    def run(self, plan: Plan, scan: Scan) -> tuple[int, str, Secret]:
        """The number of calls to Secrets Manager, the outcome, and the secret afterwards."""
        secret, snapshot = Secret(self.labels, plan), self.snapshot
        if self.garbage:
            snapshot, outcome = ask(snapshot, GARBAGE, secret, scan)
            assert outcome in ("refuse", "error")
        _, outcome = ask(snapshot, DIGESTS[self.version], secret, scan)
        return secret.calls, outcome, secret


def scenarios() -> Iterator[Scenario]:
    for labels in ARRANGEMENTS:
        known = RULE.scan(RULE.Snapshot({}), GARBAGE, (0, 0), SETTINGS, Secret(labels, []).read)
        for reading in known.readings.values():
            reading.read_at = NOW - 61, NOW - 61
        known.confirmed_at = None
        for snapshot in (RULE.Snapshot({}), known):
            for garbage in (False, True):
                for version in "ABCD":
                    yield Scenario(labels, snapshot, garbage, version)


def interleaved(scenario: Scenario, events: int, scan: Scan) -> Iterator[tuple[Plan, str, Secret]]:
    """Every plan of up to so many disturbances, in every position, and what comes of it."""
    plans: list[Plan] = [[]]
    while plans:
        plan = plans.pop()
        calls, outcome, secret = scenario.run(plan, scan)
        yield plan, outcome, secret
        if len(plan) < events:
            first = plan[-1][0] if plan else 0
            plans += [[*plan, (at, it)] for at in range(first, calls) for it in DISTURBANCES]


def wrong(scenario: Scenario, outcome: str, secret: Secret) -> bool:
    """Whether a key was refused that was live all the time, or allowed though it never was."""
    live = [scenario.version in versions for versions in secret.live]
    return (outcome == "refuse" and all(live)) or (outcome == "allow" and not any(live))


def count(events: int, scan: Scan) -> tuple[int, list[tuple[Scenario, Plan, str]]]:
    """How many interleavings there are, and those that came out wrong."""
    number, found = 0, []
    for scenario in scenarios():
        for plan, outcome, secret in interleaved(scenario, events, scan):
            number += 1
            if wrong(scenario, outcome, secret):
                found.append((scenario, plan, outcome))
    return number, found


def test_no_pair_of_disturbances_refuses_a_live_key_or_allows_a_dead_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    number, found = count(2, RULE.scan)
    with capsys.disabled():
        print(f" {number:,} interleavings ", end="")
    assert number > 300_000
    assert found == []


@pytest.mark.parametrize(("looks", "events"), [(1, 1), (2, 2)])
def test_with_fewer_looks_some_are_wrong(
    looks: int, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert count(events - 1, RULE.scan)[1] == []
    monkeypatch.setattr(RULE, "LOOKS", looks)
    assert {outcome for _, _, outcome in count(events, RULE.scan)[1]} == {"refuse"}


# A key that the environment knows is not refused however many reads fail.

MOST_FAILURES = 4


def failing(scenario: Scenario, move: Plan, scan: Scan) -> Iterator[tuple[Plan, str, Secret]]:
    """That move with each choice of at most MOST_FAILURES failing reads, and what comes of it."""
    plans = [move]
    while plans:
        plan = plans.pop()
        calls, outcome, secret = scenario.run(plan, scan)
        yield plan, outcome, secret
        failures = [at for at, event in plan if event == "one read fails"]
        if len(failures) < MOST_FAILURES:
            later = range(max(failures, default=-1) + 1, calls)
            plans += [[*plan, (at, "one read fails")] for at in later]


def refused_though_known(scan: Scan) -> tuple[int, int]:
    """How many interleavings there are of one move and failing reads, and how many refuse."""
    number = refused = 0
    for scenario in scenarios():
        known = {reading.version_id for reading in scenario.snapshot.readings.values()}
        if scenario.version in known and not scenario.garbage:
            moves = [[(at, move)] for at in range(8) for move in MOVES]
            for move in [[], *moves]:
                for _, outcome, secret in failing(scenario, move, scan):
                    number += 1
                    live = all(scenario.version in versions for versions in secret.live)
                    refused += outcome == "refuse" and live
    return number, refused


def test_a_key_that_was_read_is_not_refused_whatever_fails() -> None:
    number, refused = refused_though_known(RULE.scan)
    assert number > 50_000
    assert refused == 0


def test_if_what_looks_absent_were_dropped_some_would_be_refused() -> None:
    assert refused_though_known(forgetful)[1] > 0
