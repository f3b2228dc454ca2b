# SPDX-License-Identifier: MIT
"""The whole chain in virtual time: rotator.py, CloudFront's edges, API Gateway's cache, and four
execution environments. One call in twenty to AWS fails, and somebody else edits the distribution.

No key that CloudFront sends is refused. Both halves are needed: with another rotator or another
authorizer some are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest

from lib.chain import CloudFront, Rotation, SecretsManager, finish_at_once
from lib.rotation import Environment, Knobs, Port, VirtualGateway, VirtualWorld, as_it_is
from lib.standins import PENDING

pytestmark = pytest.mark.long
DAY = 86_400.0
FAILING = 0.05  # of the calls to AWS
BEFORE = 120.0  # seconds until a rotation begins
GATEWAYS = [0, 300, 3600]  # seconds for which API Gateway caches


def rotations(
    number: int,
    gateway: int,
    grace: int,
    seed: int = 1,
    kind: type[Environment] = Environment,
    vary: Callable[[Any], object] = as_it_is,
) -> Counter[str]:
    """What became of the requests through CloudFront in that many rotations, one a day."""
    dice = Random(seed)  # nosec B311
    knobs = Knobs(accept_previous=grace, gateway=gateway)
    world = VirtualWorld(knobs, latencies=[(0.3, 0.02), *[(0.003, 0.002)] * 19])
    keys = (f"key-{serial:0>44}" for serial in count())
    key = next(keys)
    world.put(key)
    world.fails = lambda: dice.random() < FAILING
    cloudfront = CloudFront(world, key, [0.0] * 10 + [dice.uniform(0.0, 600.0) for _ in range(10)])
    secrets = SecretsManager(world, keys)
    cache = VirtualGateway(world)
    environments = [kind(world) for _ in range(4)]
    outcomes: Counter[str] = Counter()

    def ask(key: str) -> str:
        return cache.ask(key, dice.choice(environments))[0]

    for _ in range(number):
        world.advance(DAY)
        old = cloudfront.edges[0]
        outcomes[ask(old)] += 1
        rotation = Rotation(secrets, cloudfront, vary)
        began = world.now + BEFORE
        world.at(began, rotation.resume)
        if dice.random() < 0.3:  # while the edges still switch
            world.at(began + dice.uniform(0.0, 60.0), cloudfront.deploy)
        if dice.random() < 0.3:
            world.at(began + dice.uniform(0.0, 60.0), partial(cloudfront.deploy, old))
        while world.now < max(rotation.finished, cloudfront.deployed_at) + 900.0:
            dense = began - 15.0 <= world.now < began + 5.0  # about when CloudFront gets the key
            world.advance(0.1 if dense else dice.uniform(1.0, 15.0))
            if dice.random() < 0.02:
                environments[dice.randrange(4)] = kind(world)  # cold
            outcomes[ask(dice.choice(cloudfront.edges))] += 1
            ask(f"wrong-key-{dice.random()}")
        outcomes["another try"] += rotation.tries > 1
        world.advance(DAY)
        assert ask(old) != "allow"
        assert world.secret.labels.get(PENDING) is None
    return outcomes


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("grace", [0, 900])
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_key_that_cloudfront_sends_is_refused(
    gateway: int, grace: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = rotations(25, gateway, grace, seed)
    with capsys.disabled():
        print(f" 25 rotations, grace {grace} s, cache {gateway} s: {dict(outcomes)} ", end="")
    assert outcomes["refuse"] == 0
    assert outcomes["another try"] > 0
    assert outcomes["error"] + outcomes["gone"] < outcomes["allow"] / 100


@pytest.mark.parametrize("gateway", GATEWAYS[:2])  # within 3,600 s every edge has switched
def test_control_a_rotator_that_finishes_at_once_gets_live_traffic_refused(gateway: int) -> None:
    assert rotations(5, gateway, 0, vary=finish_at_once)["refuse"] > 0


def send_at_once(module: Any) -> None:
    """Vary rotator.py: it gives authorizers no time to learn the key."""
    module.SETTLE_SECONDS = 0


def test_control_a_key_that_cloudfront_sends_as_soon_as_it_is_stored_is_refused() -> None:
    assert rotations(25, 300, 900, vary=send_at_once)["refuse"] > 0


@pytest.mark.parametrize("gateway", GATEWAYS[:2])
def test_control_the_straightforward_authorizer_refuses_live_traffic(gateway: int) -> None:
    """To it, a read of AWSPENDING that fails says that there is no such version."""
    assert rotations(25, gateway, 0, kind=Port)["refuse"] > 0
