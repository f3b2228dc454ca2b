# SPDX-License-Identifier: MIT
"""Some reads fail for minutes: a key that was read is never refused, another one seldom.

The Extension has one answer for "Secrets Manager failed" and "the label is on no version". So each
failed read of AWSPENDING or AWSPREVIOUS looks like an absent label.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import NEW, NEWER, OLD, World, load
from lib.rotation import Environment, Knobs, VirtualWorld
from lib.standins import CURRENT, GENERIC_ERROR, PENDING

GARBAGE = "never-a-key-0123456789"
RATES = [0.01, 0.05, 0.1, 0.3, 0.5]
EXAMPLES = settings(max_examples=max(8, settings().max_examples // 100))


def live(world: VirtualWorld, key: str) -> bool:
    """Whether the key has been live for more than a second, and still is."""
    return any(start < world.now - 1.1 and end >= world.now for start, end in world.live(key))


@pytest.mark.parametrize("keep_pending", [True, False])
@pytest.mark.parametrize("rate", RATES)
@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1))
def test_a_key_that_was_read_is_never_refused(rate: float, keep_pending: bool, seed: int) -> None:
    """Ten minutes with a rotation, environments born meanwhile, and requests with each key."""
    dice = random.Random(seed)
    world = VirtualWorld(Knobs(accept_previous=900))
    world.fails = lambda: dice.random() < rate
    world.put(OLD)
    world.advance(3600.0)
    began = world.now
    world.at(began + 60.0, lambda: world.put(NEW, PENDING))
    world.at(began + dice.uniform(120.0, 400.0), lambda: world.finish(keep_pending))
    environments = [Environment(world)]
    while world.now < began + 600.0:
        world.advance(dice.uniform(0.5, 8.0))
        if dice.random() < 0.02:
            environments.append(Environment(world))
        environment, key = dice.choice(environments), dice.choice([OLD, NEW, GARBAGE])
        since = world.now - 300.0
        known = any(key.encode() in read.body and read.at > since for read in environment.reads)
        answer = environment.ask(key)
        assert answer.outcome != "refuse" or not known or not live(world, key)
        assert answer.outcome != "allow" or key != GARBAGE


def wrongly_refused(rate: float, looks: int, requests: int, seed: int = 1) -> int:
    """How many new environments refuse a live pending key that they are asked about first."""
    rule: Any = load()
    rule.LOOKS = looks
    dice, arrived = random.Random(seed), (0.0, 0.0)
    limits = SimpleNamespace(cache_seconds=60, max_stale_seconds=300, accept_previous_seconds=0)

    def read(label: str, first: bool) -> Any:
        tries = rule.TRIES if label == CURRENT else 1
        if any(dice.random() >= rate for _ in range(tries)):
            return rule.Reading(label, label, label.encode(), arrived)
        if label == CURRENT:
            raise rule.SecretUnavailableError("current_unreadable")
        return None

    refused = 0
    for _ in range(requests):
        made = rule.scan(rule.Snapshot({}), PENDING.encode(), arrived, limits, read)
        refused += made.confirmed_at is not None
    return refused


def test_three_looks_are_wrong_less_often_than_two() -> None:
    """With 5 % of the reads failing. An environment cannot know a key that it never read."""
    requests = 40_000
    three, two = (wrongly_refused(0.05, looks, requests) for looks in (3, 2))
    assert three < 2 * 0.05**3 * requests < 0.5 * 0.05**2 * requests < two


def test_a_label_that_looked_absent_once_still_serves_in_the_outage_that_follows(
    world: World,
) -> None:
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEW) == "allow"
    world.clock.move(63)
    world.extension.faults[PENDING] = lambda request, _: request.send(400, GENERIC_ERROR)
    assert world.ask(OLD) == "allow"
    assert world.ask(NEWER) == "refuse"
    world.extension.faults["*"] = world.extension.faults[PENDING]
    world.clock.move(1.5)
    assert world.ask(NEW) == "allow"
