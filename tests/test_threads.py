# SPDX-License-Identifier: MIT
"""Several invocations in one process: one scan at a time, and no older reading over a newer one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from conftest import NEW, NEWER, OLD, World
from lib.standins import CURRENT, PENDING, Request


def test_threads_that_ask_while_one_scans_wait_for_its_result(world: World) -> None:
    world.clock.real = True
    world.secret.put(OLD)
    asked, go_on = threading.Event(), threading.Event()

    def held_up(request: Request, body: bytes) -> None:
        asked.set()
        go_on.wait(10)
        request.send(200, body)

    world.extension.faults[CURRENT] = held_up
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(world.ask, OLD)
        assert asked.wait(10)
        others = [pool.submit(world.ask, OLD) for _ in range(7)]
        go_on.set()
        assert [it.result() for it in (first, *others)] == ["allow"] * 8
    assert world.extension.seen == [CURRENT]


def test_a_slow_scan_leaves_no_older_reading_than_another_thread_has_seen(world: World) -> None:
    """The second thread waits for the first; without that it would read NEW, and the first would
    then put OLD back.
    """
    world.clock.real = True
    world.set(CACHE_SECONDS="0")
    world.secret.put(OLD)
    asked, go_on = threading.Event(), threading.Event()

    def held_up(request: Request, body: bytes) -> None:
        del world.extension.faults[CURRENT]
        asked.set()
        go_on.wait(10)
        request.send(200, body)

    world.extension.faults[CURRENT] = held_up
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(world.ask, OLD)
        assert asked.wait(10)
        new = world.secret.put(NEW)
        fast = pool.submit(world.ask, NEW)
        go_on.set()
        assert (slow.result(), fast.result()) == ("allow", "allow")
    snapshot = world.module._authorizer.snapshot
    assert snapshot.readings[CURRENT].version_id == new


def test_many_threads_and_a_rotation_refuse_no_live_key(world: World) -> None:
    world.set(CACHE_SECONDS="0", ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    ended = threading.Event()

    def traffic(key: str) -> set[str]:
        outcomes = set()
        while not ended.is_set():
            outcomes.add(world.ask(key))
        return outcomes

    with ThreadPoolExecutor(6) as pool:
        running = {key: pool.submit(traffic, key) for key in (OLD, NEW, NEWER)}
        running |= {f"{key} again": pool.submit(traffic, key) for key in (OLD, NEW)}
        for _ in range(20):
            world.secret.finish(keep_pending=True)
            world.secret.label(CURRENT, world.secret.labels["AWSPREVIOUS"])
            world.ask(NEWER)
        ended.set()
        outcomes = {key: future.result() for key, future in running.items()}
    assert outcomes.pop(NEWER) == {"refuse"}
    assert all(it == {"allow"} for it in outcomes.values()), outcomes
