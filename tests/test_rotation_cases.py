# SPDX-License-Identifier: MIT
"""Cases that the model of rotations found, or could find only by luck, as plain tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lib.rotation import (
    RESCAN,
    BrokenPromiseError,
    Environment,
    Judge,
    Knobs,
    VirtualGateway,
    VirtualWorld,
    as_it_is,
)
from lib.standins import CURRENT, PENDING

OLD, NEW, NEWER = "old-key-of-this-world", "new-key-of-this-world", "newer-key-of-this-world"
GARBAGE = "never-a-key-0123456789"


def begin(
    knobs: Knobs = Knobs(), vary: Callable[[Any], object] = as_it_is
) -> tuple[VirtualWorld, Judge]:
    """A world where OLD has been AWSCURRENT for an hour, and one environment.

    A reading takes 10 ms.
    """
    world = VirtualWorld(knobs)
    world.put(OLD)
    world.advance(3600.0)
    return world, Judge(Environment(world, vary), letters="ab")


# A refusal's data serves for a second, for keys other than the one that it was read for.


def test_a_failure_in_the_second_look_of_a_wrong_key_hides_no_pending_version() -> None:
    world, judge = begin(Knobs(accept_previous=0))
    world.put(NEW, PENDING)
    world.advance(2.0)
    world.after(2, lambda: world.set_outage("absent"))
    world.after(3, lambda: world.set_outage(None))
    assert judge.ask(GARBAGE).outcome == "refuse"
    assert judge.ask(NEW).outcome == "allow"


def test_a_roll_back_in_the_second_look_of_a_wrong_key_hides_no_version() -> None:
    world, judge = begin()
    world.put(NEW)
    world.advance(2.0)
    world.after(5, world.roll_back)
    assert judge.ask(GARBAGE).outcome == "refuse"
    assert judge.ask(OLD).outcome == "allow"


def test_one_look_that_finds_its_key_leaves_no_older_refusal_in_force() -> None:
    world, judge = begin(Knobs(cache=0, accept_previous=0))
    world.put(NEW, PENDING)
    world.advance(2.0)
    assert judge.ask(GARBAGE).outcome == "refuse"
    world.set_outage("absent")
    world.after(1, lambda: world.set_outage(None))
    assert judge.ask(OLD).outcome == "allow"
    assert judge.ask(NEW).outcome == "allow"


def test_a_roll_back_in_the_last_second_of_awsprevious() -> None:
    world, judge = begin(Knobs(accept_previous=60))
    world.put(NEW)
    world.advance(59.5)
    assert judge.ask(GARBAGE).outcome == "refuse"
    world.roll_back()
    world.advance(0.49)
    assert judge.ask(OLD).outcome == "allow"
    assert judge.ask(GARBAGE).outcome == "refuse"
    world.advance(0.1)
    assert judge.ask(OLD).outcome == "allow"


# Why a refusal needs three looks: with fewer, each of these is a wrong refusal.


def looks(number: int) -> Callable[[Any], None]:
    """A variant of the authorizer that refuses after fewer looks."""
    return lambda module: setattr(module, "LOOKS", number)


def fail_reads_of_awspending(world: VirtualWorld, times: int) -> None:
    """Let Secrets Manager fail for AWSPENDING in the first looks, and not for AWSCURRENT."""
    for number in range(times):
        world.after(1 + 2 * number, partial(world.set_outage, "absent"))
        world.after(2 + 2 * number, partial(world.set_outage, None))


def one_read_fails(vary: Callable[[Any], object]) -> str:
    world, judge = begin(Knobs(accept_previous=0), vary)
    world.put(NEW, PENDING)
    world.advance(2.0)
    fail_reads_of_awspending(world, 1)
    return judge.ask(NEW).outcome


def two_reads_fail(vary: Callable[[Any], object]) -> str:
    world, judge = begin(Knobs(accept_previous=0), vary)
    world.put(NEW, PENDING)
    world.advance(2.0)
    fail_reads_of_awspending(world, 2)
    return judge.ask(NEW).outcome


def awscurrent_is_moved_back(vary: Callable[[Any], object]) -> str:
    """OLD is AWSPREVIOUS when AWSCURRENT is read, and AWSCURRENT when AWSPREVIOUS is read."""
    world, judge = begin(vary=vary)
    world.put(NEW)
    world.advance(2.0)
    world.after(3, world.roll_back)
    return judge.ask(OLD).outcome


@pytest.mark.parametrize(
    ("case", "too_few"),
    [(one_read_fails, 1), (awscurrent_is_moved_back, 1), (two_reads_fail, 2)],
)
def test_three_looks_see_what_fewer_miss(
    case: Callable[[Callable[[Any], object]], str], too_few: int
) -> None:
    assert case(as_it_is) == "allow"
    with pytest.raises(BrokenPromiseError, match=r"^\(a\)"):
        case(looks(too_few))


@pytest.mark.parametrize("reading", range(7))
@pytest.mark.parametrize("keep_pending", [True, False])
def test_a_rotation_that_finishes_between_two_readings_hides_neither_key(
    reading: int, keep_pending: bool
) -> None:
    for key in (OLD, NEW):
        for first in (GARBAGE, key):
            world, judge = begin()
            world.put(NEW, PENDING)
            world.advance(2.0)
            world.after(reading, partial(world.finish, keep_pending))
            judge.ask(first)
            assert judge.ask(key).outcome == "allow"


# The bound on accepting a dead key, reached to within a millisecond.


def test_a_dead_key_is_accepted_for_cache_seconds_and_no_longer() -> None:
    world, judge = begin(Knobs(accept_previous=0))
    arrived = judge.ask(OLD).arrived
    world.put(NEW)
    world.until(arrived + 60.0 - 0.001)
    assert judge.ask(OLD).outcome == "allow"
    world.until(arrived + 60.0 + 0.001)
    assert judge.ask(OLD).outcome == "refuse"


def test_a_dead_key_is_accepted_for_max_stale_seconds_of_an_outage_and_no_longer() -> None:
    world, judge = begin(Knobs(accept_previous=0))
    arrived = judge.ask(OLD).arrived
    world.put(NEW)
    world.set_outage("absent")
    world.until(arrived + 300.0 - 0.001)
    assert judge.ask(OLD).outcome == "allow"
    assert judge.ask(OLD).outcome == "error"


def test_awsprevious_is_accepted_until_its_time_is_over_and_not_for_cache_seconds_more() -> None:
    world, judge = begin()
    world.put(NEW)
    created = world.now
    world.until(created + 900.0 - 10.0)
    assert judge.ask(OLD).outcome == "allow"
    world.until(created + 900.0 - 0.001)
    assert judge.ask(OLD).outcome == "allow"
    world.until(created + 900.0)
    assert judge.ask(OLD).outcome == "refuse"


def test_api_gateway_adds_its_own_cache_to_the_bound() -> None:
    world, judge = begin(Knobs(accept_previous=0, gateway=300))
    gateway = VirtualGateway(world)
    arrived = judge.ask(OLD).arrived
    world.put(NEW)
    world.until(arrived + 60.0 - 0.001)
    assert judge.ask_through(gateway, OLD) == "allow"
    world.until(arrived + 60.0 + 300.0 - 0.002)
    assert judge.ask_through(gateway, OLD) == "allow"
    world.until(arrived + 60.0 + 300.0)
    assert judge.ask_through(gateway, OLD) == "refuse"


# Ages are taken at a request's arrival.


def test_a_slow_reading_does_not_make_its_own_answer_old() -> None:
    world, judge = begin(Knobs(cache=0, max_stale=0))
    assert judge.ask(OLD).outcome == "allow"
    world.advance(5.0)
    answer = judge.ask(NEW)
    assert answer.outcome == "refuse" and answer.answered > answer.arrived


@pytest.mark.parametrize(("scan_seconds", "outcome"), [(3.0, "allow"), (1.0, "error")])
def test_slow_reads_leave_time_for_a_previous_key_that_no_snapshot_has(
    scan_seconds: float, outcome: str
) -> None:
    """Each read takes 0.37 s. In a scan of one second the last label is never read."""
    world = VirtualWorld(latencies=[(0.185, 0.185)])
    judge = Judge(Environment(world, lambda it: setattr(it, "SCAN_SECONDS", scan_seconds)))
    world.put(OLD)
    world.advance(3600.0)
    world.put(NEW)
    assert judge.ask(NEW).outcome == "allow"
    assert judge.ask(OLD).outcome == outcome


# Documented limits, and what to do about each.


def test_limit_a_key_that_is_sent_before_it_exists_is_refused_and_that_refusal_is_cached() -> None:
    world, judge = begin(Knobs(gateway=300))
    gateway = VirtualGateway(world)
    assert judge.ask_through(gateway, NEW) == "refuse"
    world.put(NEW, PENDING)
    world.advance(299.0)
    # Hence: put the key into Secrets Manager before it is sent.
    assert judge.ask_through(gateway, NEW) == "refuse"
    world.advance(2.0)
    assert judge.ask_through(gateway, NEW) == "allow"


def test_a_key_that_is_sent_a_second_after_its_creation_is_allowed() -> None:
    world, judge = begin(Knobs(gateway=300))
    gateway = VirtualGateway(world)
    assert judge.ask_through(gateway, GARBAGE) == "refuse"
    world.put(NEW, PENDING)
    world.advance(RESCAN + 0.001)
    assert judge.ask_through(gateway, NEW) == "allow"


def test_limit_three_failures_that_hit_just_the_reads_of_awspending_look_like_absence() -> None:
    """An environment that knows the key answers with an error; one that does not, refuses it."""
    for known in (True, False):
        world, judge = begin(Knobs(accept_previous=0))
        world.put(NEW, PENDING)
        world.advance(2.0)
        if known:
            assert judge.ask(NEW).outcome == "allow"
            world.advance(61.0)
        fail_reads_of_awspending(world, 3)
        if known:
            assert judge.ask(NEW).outcome == "gone"
        else:
            with pytest.raises(BrokenPromiseError, match=r"^\(a\)"):
                judge.ask(NEW)


def test_limit_a_pending_version_older_than_accept_previous_gives_the_old_key_no_time() -> None:
    world, judge = begin()
    world.put(NEW, PENDING)
    world.advance(901.0)
    world.finish()
    assert judge.ask(OLD).outcome == "refuse"  # edges that still send it are refused


def test_a_retry_with_a_fresh_pending_version_gives_the_old_key_its_time() -> None:
    world, judge = begin()
    world.put(NEW, PENDING)
    world.advance(901.0)
    world.unlabel(PENDING)  # hence: take AWSPENDING away before trying again
    world.put(NEWER, PENDING)
    world.finish()
    world.advance(899.0)
    assert judge.ask(OLD).outcome == "allow"


def test_limit_a_roll_back_long_after_the_rotation_gives_the_newer_key_no_time() -> None:
    world, judge = begin()
    world.put(NEW)
    world.advance(901.0)
    world.roll_back()
    assert judge.ask(NEW).outcome == "refuse"


def test_a_roll_back_by_a_new_version_with_the_old_key_gives_the_newer_key_its_time() -> None:
    world, judge = begin()
    world.put(NEW)
    world.advance(901.0)
    world.put(OLD)  # hence: put the old key's value anew instead of moving AWSCURRENT
    world.advance(899.0)
    assert judge.ask(NEW).outcome == "allow"
    assert judge.ask(OLD).outcome == "allow"


def test_limit_a_second_rotation_takes_awsprevious_from_the_key_before() -> None:
    world, judge = begin()
    world.put(NEW)
    world.advance(60.0)
    world.put(NEWER)
    # Hence: rotate again only when CloudFront has rolled out.
    assert judge.ask(OLD).outcome == "refuse"
    assert judge.ask(NEW).outcome == "allow"


# Found by ten thousand examples: what the bound says while AWSCURRENT holds no usable key.


def test_while_awscurrent_is_unusable_another_labels_key_ends_as_in_an_outage() -> None:
    world, judge = begin(Knobs(accept_previous=0, cache=0, max_stale=3))
    old = world.secret.labels[CURRENT]
    world.put_broken(CURRENT)
    world.label(PENDING, old)
    arrived = judge.ask(OLD).arrived
    world.unlabel(PENDING)
    world.until(arrived + 3.0 - 0.05)
    assert judge.ask(OLD).outcome == "allow"
    world.until(arrived + 3.0 + RESCAN + 0.01)
    assert judge.ask(OLD).outcome == "error"
