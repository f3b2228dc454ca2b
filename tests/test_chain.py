# SPDX-License-Identifier: MIT
"""The whole chain in virtual time: rotator.py, CloudFront's edges, API Gateway's cache, and four
execution environments, while Secrets Manager fails for one call in twenty.

No key that CloudFront sends is refused. Both halves are needed: with another rotator or another
authorizer some are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest

from lib.chain import CloudFront, Rotation, SecretsManager, finish_at_once
from lib.rotation import Environment, Knobs, Port, VirtualGateway, VirtualWorld, as_it_is
from lib.standins import PENDING

DAY = 86_400.0
FAILING = 0.05  # of the calls to Secrets Manager


def rotations(
    number: int,
    seed: int,
    grace: int,
    kind: type[Environment] = Environment,
    vary: Callable[[Any], object] = as_it_is,
) -> Counter[str]:
    """What became of the requests through CloudFront in that many rotations, one a day."""
    dice = Random(seed)  # nosec B311
    knobs = Knobs(accept_previous=grace, gateway=dice.choice([0, 300, 3600]))
    world = VirtualWorld(knobs, latencies=[(0.003, 0.002), (0.008, 0.004), (0.3, 0.02)])
    keys = (f"key-{serial:0>44}" for serial in count())
    key = next(keys)
    world.put(key)
    world.fails = lambda: dice.random() < FAILING
    cloudfront = CloudFront(world, key, [dice.uniform(5.0, 600.0) for _ in range(20)])
    secrets = SecretsManager(world, keys)
    gateway = VirtualGateway(world)
    environments = [kind(world) for _ in range(4)]
    outcomes: Counter[str] = Counter()

    def ask(key: str) -> str:
        return gateway.ask(key, dice.choice(environments))[0]

    for _ in range(number):
        world.advance(DAY)
        old = cloudfront.edges[0]
        assert ask(old) in ("allow", "error")
        rotation = Rotation(secrets, cloudfront, vary)
        world.at(world.now + 120.0, rotation.resume)
        while world.now < max(rotation.finished, cloudfront.deployed_at) + 900.0:
            world.advance(dice.uniform(1.0, 15.0))
            if dice.random() < 0.02:
                environments[dice.randrange(4)] = kind(world)  # cold
            outcomes[ask(dice.choice(cloudfront.edges))] += 1
            ask(f"wrong-key-{dice.random()}")
        outcomes["another try"] += rotation.tries > 1
        world.advance(DAY)
        assert ask(old) != "allow"
        assert world.secret.labels.get(PENDING) is None
    return outcomes


@pytest.mark.parametrize("grace", [0, 900])
@pytest.mark.parametrize("seed", range(6))
def test_no_key_that_cloudfront_sends_is_refused(
    seed: int, grace: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = rotations(25, seed, grace)
    with capsys.disabled():
        print(f" 25 rotations, grace {grace} s: {dict(outcomes)} ", end="")
    assert outcomes["refuse"] == 0
    assert outcomes["allow"] > 2500
    assert outcomes["another try"] > 0


def test_control_a_rotator_that_finishes_at_once_gets_live_traffic_refused() -> None:
    assert rotations(3, 1, 0, vary=finish_at_once)["refuse"] > 0


def test_control_the_straightforward_authorizer_refuses_live_traffic() -> None:
    assert rotations(3, 1, 0, kind=Port)["refuse"] > 0
