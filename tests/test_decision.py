# SPDX-License-Identifier: MIT
"""When a key is allowed or refused: labels, freshness, and what that costs in readings of the
Extension.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from conftest import NEW, NEWER, OLD, World
from lib.standins import CURRENT, PENDING, PREVIOUS, Request

LOOK = [PENDING, CURRENT]  # without AWSPREVIOUS, which does not count by default


def test_the_current_key_costs_one_read(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    assert world.extension.seen == [CURRENT]


def test_a_pending_key_costs_two_reads(world: World) -> None:
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEW) == "allow"
    assert world.extension.seen == [CURRENT, PENDING]


def test_another_key_is_refused_after_three_looks(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(NEW) == "refuse"
    assert world.extension.seen == [CURRENT, *LOOK * 3]


def test_a_wrong_key_costs_ten_reads_at_most(world: World) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put("oldest-key-" + "x" * 16)
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEWER) == "refuse"
    assert world.extension.seen == [CURRENT, *[PENDING, CURRENT, PREVIOUS] * 3]


def test_a_pending_key_is_allowed_within_a_second_of_its_creation(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(NEW) == "refuse"
    world.secret.put(NEW, PENDING)
    world.clock.move(1.001)
    assert world.ask(NEW) == "allow"
    assert world.ask(OLD) == "allow"


def test_a_match_costs_no_read_for_cache_seconds(world: World) -> None:
    world.secret.put(OLD)
    world.ask(OLD)
    world.extension.seen.clear()
    world.clock.move(59)
    assert world.ask(OLD) == "allow"
    assert world.extension.seen == []
    world.clock.move(1.5)
    assert world.ask(OLD) == "allow"
    assert world.extension.seen == [CURRENT]


def test_cache_seconds_0_reads_for_every_match(world: World) -> None:
    world.set(CACHE_SECONDS="0")
    world.secret.put(OLD)
    for _ in range(3):
        assert world.ask(OLD) == "allow"
    assert world.extension.seen == [CURRENT] * 3


def test_a_thousand_wrong_keys_in_a_second_cost_one_scan(world: World) -> None:
    world.secret.put(OLD)
    stopped(world)
    for number in range(1000):
        assert world.ask(f"wrong-key-{number:030}") == "refuse"
        world.clock.move(0.001)
    assert world.extension.seen == [CURRENT, *LOOK * 3]


def stopped(world: World) -> None:
    """From now on the clock moves only where a test moves it."""
    clock = world.clock
    clock.monotonic = clock.time = lambda: 1e9 + clock.moved  # type: ignore[method-assign]


def test_all_bounds_of_age_include_their_last_instant(world: World) -> None:
    stopped(world)
    world.secret.put(OLD)
    assert (world.ask(OLD), world.ask(NEW)) == ("allow", "refuse")
    world.extension.seen.clear()
    world.clock.move(1)
    assert world.ask(NEWER) == "refuse"  # RESCAN_SECONDS after a scan
    world.clock.move(59)
    assert world.ask(OLD) == "allow"  # CACHE_SECONDS after the reading
    assert world.extension.seen == []
    world.extension.faults["*"] = lambda request, _: request.send(404, b"")
    world.clock.move(240)
    assert world.ask(OLD) == "allow"  # MAX_STALE_SECONDS after the reading
    world.extension.seen.clear()
    world.clock.move(1)
    assert world.ask(OLD) == "raise"  # RESCAN_SECONDS after a failed scan
    assert world.extension.seen == []


def test_a_key_whose_label_was_removed_is_allowed_then_an_error_then_refused(
    world: World,
) -> None:
    """CACHE_SECONDS, then until the larger of that and MAX_STALE_SECONDS."""
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEW) == "allow"
    world.secret.unlabel(PENDING)
    world.clock.move(2)
    assert world.ask(NEWER) == "refuse"  # three looks agree, and the reading is kept
    world.clock.move(57)
    assert world.ask(NEW) == "allow"
    world.clock.move(1.5)
    for seconds in (0, 1.5, 230):
        world.clock.move(seconds)
        assert world.ask(OLD) == "allow"
        with pytest.raises(world.module.SecretUnavailableError) as caught:
            world.handle({"headers": {"x-origin-verify": NEW}})
        assert caught.value.reason == "label_gone"
    world.clock.move(10)
    assert world.ask(NEW) == "refuse"


def test_a_removed_key_costs_one_scan_a_second(world: World) -> None:
    stopped(world)
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEW) == "allow"
    world.secret.unlabel(PENDING)
    world.clock.move(61)
    assert world.ask(NEW) == "raise"
    world.extension.seen.clear()
    world.clock.move(1)
    assert world.ask(NEW) == "raise"
    assert world.extension.seen == []
    world.clock.move(0.001)
    assert world.ask(NEW) == "raise"
    assert world.extension.seen != []


def test_after_the_rotation_the_previous_key_is_refused_by_default(world: World) -> None:
    world.secret.put(OLD)
    world.secret.put(NEW)
    assert world.ask(NEW) == "allow"
    assert world.ask(OLD) == "refuse"
    assert PREVIOUS not in world.extension.seen


def test_the_previous_key_is_allowed_while_the_current_version_is_young(world: World) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.clock.move(86_400)
    world.secret.put(NEW)
    world.clock.move(890)
    assert world.ask(OLD) == "allow"
    assert world.handle({"headers": {"x-origin-verify": OLD}})["context"]["secretStage"] == PREVIOUS
    world.clock.move(11)
    assert world.ask(OLD) == "refuse"  # although the snapshot is young
    assert world.ask(NEW) == "allow"


def test_the_previous_version_is_not_read_once_the_current_one_is_old(world: World) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.secret.put(NEW)
    world.clock.move(901)
    assert world.ask(OLD) == "refuse"
    assert PREVIOUS not in world.extension.seen


def test_a_dead_previous_key_is_not_revived_by_the_next_rotation(world: World) -> None:
    """Its reading must end with the version that it preceded, not with the one that comes next."""
    world.set(ACCEPT_PREVIOUS_SECONDS="20")
    world.secret.put(OLD)
    world.secret.put(NEW)
    assert world.ask(OLD) == "allow"
    world.clock.move(21)
    world.secret.put(NEWER)
    world.extension.faults[PREVIOUS] = unavailable
    assert world.ask(NEWER, 700) == "allow"
    assert world.ask(OLD, 700) == "raise"


def unavailable(request: Request, body: bytes) -> None:
    request.send(503, body)


@pytest.mark.parametrize(
    "created",
    [
        ...,  # is missing
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
        None,
        7,
        "",
        "1e9",
        "0000-01-01T00:00:00Z",
    ],
)
def test_a_date_that_cannot_be_read_costs_only_the_previous_key(
    world: World, created: object
) -> None:
    world.secret.put(OLD)
    world.secret.put(NEW)
    pending = "pending-key-" + "p" * 20
    world.secret.put(pending, PENDING)
    answer = world.secret.answer

    def undated(secret_id: str, stage: str) -> tuple[int, bytes]:
        status, body = answer(secret_id, stage)
        members = {**json.loads(body), "CreatedDate": created} if status == 200 else {}
        members = {name: value for name, value in members.items() if value is not ...}
        return status, json.dumps(members).encode() if members else body

    world.secret.answer = undated  # type: ignore[method-assign]
    assert (world.ask(NEW), world.ask(pending), world.ask(OLD)) == ("allow", "allow", "refuse")
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.restart()
    assert (world.ask(NEW), world.ask(pending), world.ask(OLD)) == ("allow", "allow", "raise")
    assert world.ask(NEWER) == "raise"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-02T00:00:00Z", 86_400.0), ("1970-01-01T00:00:01.5Z", 1.5), ("7", 7.0), ("1.5", 1.5)],
)
def test_a_date_is_read_to_the_fraction_of_a_second(
    world: World, text: str, seconds: float
) -> None:
    assert world.module.epoch_seconds(text) == seconds


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S+00:00",
        "%Y-%m-%dT%H:%M:%S.%f-0000",
        "%s.046",
        "%s",
    ],
)
def test_every_form_of_the_date_is_understood(world: World, form: str) -> None:
    """RFC 3339 from the Extension, seconds since 1970 from the Agent."""
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.secret.put(NEW)
    answer = world.secret.answer

    def redated(secret_id: str, stage: str) -> tuple[int, bytes]:
        status, body = answer(secret_id, stage)
        if status != 200:
            return status, body
        created = world.secret.versions[world.secret.labels[stage]].created
        date = datetime.fromtimestamp(created, timezone.utc)
        text = date.strftime(form.replace("%s", str(int(created))))
        return status, json.dumps(json.loads(body) | {"CreatedDate": text}).encode()

    world.secret.answer = redated  # type: ignore[method-assign]
    world.clock.move(890)
    assert world.ask(OLD) == "allow"
    world.clock.move(11)
    assert world.ask(OLD) == "refuse"


def test_of_two_readings_of_one_version_the_younger_counts(world: World) -> None:
    """AWSPENDING stays on the current version, and AWSCURRENT cannot be read any more."""
    world.secret.put(OLD, PENDING)
    world.secret.finish(keep_pending=True)
    assert world.ask(OLD) == "allow"
    world.clock.move(200)
    world.extension.faults[CURRENT] = unavailable
    assert world.ask(OLD) == "allow"
    world.clock.move(200)  # so that AWSCURRENT's reading is too old
    world.extension.faults[PENDING] = unavailable
    answer = world.handle({"headers": {"x-origin-verify": OLD}})
    assert answer["context"]["secretStage"] == PENDING


def test_of_two_readings_of_one_version_one_that_has_not_ended_counts(world: World) -> None:
    """After a rollback by way of AWSPENDING a version can bear it and AWSPREVIOUS."""
    world.set(ACCEPT_PREVIOUS_SECONDS="100")
    old = world.secret.put(OLD)
    world.secret.put(NEW)
    world.secret.label(PENDING, old)
    assert world.ask(NEWER) == "refuse"
    world.clock.move(61)
    world.extension.faults[PENDING] = unavailable
    assert world.ask(NEWER) == "raise"  # so AWSPREVIOUS has the younger reading
    world.clock.move(61)
    world.extension.stop()
    answer = world.handle({"headers": {"x-origin-verify": OLD}})
    assert answer["context"]["secretStage"] == PENDING


@pytest.mark.parametrize("clock", ["moved", "wall_moved"])
def test_the_clock_that_saw_more_time_counts(world: World, clock: str) -> None:
    """A frozen environment may not advance its monotonic clock."""
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    world.secret.put(NEW)
    setattr(world.clock, clock, 61)
    assert world.ask(OLD) == "refuse"


def test_a_wall_clock_set_back_does_not_make_the_snapshot_young(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    world.secret.put(NEW)
    world.clock.move(61)
    world.clock.wall_moved = -3600
    assert world.ask(OLD) == "refuse"


def between(world: World, stage: str, action: Callable[[], None], times: int = 1) -> None:
    """Do something right after a label has been read."""
    answer = world.secret.answer
    left = [times]

    def answer_then_act(secret_id: str, asked: str) -> tuple[int, bytes]:
        result = answer(secret_id, asked)
        if asked == stage and left[0]:
            left[0] -= 1
            action()
        return result

    world.secret.answer = answer_then_act  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("keep_pending", [True, False])
@pytest.mark.parametrize("stage", [PENDING, CURRENT, PREVIOUS])
def test_a_rotation_that_finishes_during_a_look_hides_neither_key(
    world: World, stage: str, keep_pending: bool
) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(NEWER)
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    between(world, stage, lambda: world.secret.finish(keep_pending))
    assert world.ask(NEW) == "allow"
    assert world.restart().ask(OLD) == "allow"


@pytest.mark.parametrize("stage", [PENDING, CURRENT, PREVIOUS])
@pytest.mark.parametrize("key", [OLD, NEW])
def test_a_rollback_during_a_look_hides_neither_key(world: World, stage: str, key: str) -> None:
    """Between AWSCURRENT and AWSPREVIOUS, one look would miss the key that moves the other way."""
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    old = world.secret.put(OLD)
    world.secret.put(NEW)
    between(world, stage, lambda: world.secret.label(CURRENT, old))
    assert world.ask(key) == "allow"


def denied(world: World, when: Callable[[str], bool]) -> None:
    """Let the Extension answer as if a label were absent, whenever that is true of the label."""
    answer = world.secret.answer

    def answer_or_deny(secret_id: str, stage: str) -> tuple[int, bytes]:
        return answer("no-such-secret" if when(stage) else secret_id, stage)

    world.secret.answer = answer_or_deny  # type: ignore[method-assign]


@pytest.mark.parametrize("failing", range(2))
def test_a_label_that_fails_once_in_a_wrong_keys_scan_refuses_no_pending_key(
    world: World, failing: int
) -> None:
    """A refusal's readings serve other keys too for a second: three looks must agree on them."""
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    looks = itertools.count()
    denied(world, lambda stage: stage == PENDING and next(looks) == failing)
    assert world.ask(NEWER) == "refuse"
    assert world.ask(NEW) == "allow"


def test_a_scan_that_found_its_key_ends_an_older_permission_to_refuse(world: World) -> None:
    world.set(CACHE_SECONDS="0")
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(NEWER) == "refuse"
    looks = itertools.count()
    denied(world, lambda stage: stage == PENDING and next(looks) == 0)
    assert world.ask(OLD) == "allow"
    assert world.ask(NEW) == "allow"


def test_a_reading_that_ends_refuses_no_key_that_has_become_current_again(world: World) -> None:
    """A rollback in the last second in which the key was accepted as the previous one."""
    world.set(ACCEPT_PREVIOUS_SECONDS="60")
    old = world.secret.put(OLD)
    world.secret.put(NEW)
    world.clock.move(59.5)
    assert world.ask(NEWER) == "refuse"
    world.secret.label(CURRENT, old)
    world.clock.move(0.6)
    assert world.ask(OLD) == "allow"


@pytest.mark.parametrize("failing", range(1, 6))
def test_an_outage_that_ends_during_a_scan_refuses_no_pending_key(
    world: World, failing: int
) -> None:
    """The Extension answers an outage like an absent label: one look could not tell them apart."""
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    calls = itertools.count()
    denied(world, lambda stage: next(calls) < failing)
    assert world.ask(NEW) != "refuse"
    world.clock.move(1.5)
    assert world.ask(NEW) != "refuse"


def test_an_extension_that_caches_is_warned_about_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.secret.put(OLD)
    world.set(SECRETS_MANAGER_TTL="300")
    for _ in range(3):
        assert world.ask(OLD) == "allow"
    assert [
        record.levelname
        for record in caplog.records
        if "SECRETS_MANAGER_TTL is 300:" in record.getMessage()
    ] == ["WARNING"]
    caplog.clear()
    world.set(SECRETS_MANAGER_TTL="0")
    assert world.restart().ask(OLD) == "allow"
    assert "SECRETS_MANAGER_TTL" not in caplog.text


def test_the_secret_may_be_given_by_arn(world: World) -> None:
    world.secret.put(OLD)
    world.set(SECRET_NAME=world.secret.arn)
    assert world.ask(OLD) == "allow"


def test_after_a_revocation_as_in_the_runbook_the_leaked_key_ends(world: World) -> None:
    """The leaked version still bears AWSPENDING, as a rotator left it: every label must go."""
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(NEWER)
    leaked = world.secret.put(OLD, PENDING)
    world.secret.finish(keep_pending=True)
    assert world.ask(OLD) == "allow"
    world.secret.put(NEW)
    for stage in [stage for stage, version in world.secret.labels.items() if version == leaked]:
        world.secret.unlabel(stage)
    assert world.ask(OLD) == "allow"  # for CACHE_SECONDS
    assert world.restart().ask(OLD) == "refuse"
    assert world.ask(NEW) == "allow"
