#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Try the authorizer on this machine: no AWS account, nothing to install, real HTTP on loopback.

A stand-in for the Extension holds the secret. A small gateway makes an authorizer event of each
HTTP request, asks the real authorizer.handler, and caches its answer as API Gateway does. Without
an option, a tour walks through a rotation, partial failure and an outage, beside a straightforward
authorizer, as many are written. It prints what came back at each step.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import random
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Callable

from lib.console import ROOT, colour
from lib.standins import (
    CURRENT,
    GENERIC_ERROR,
    PENDING,
    Clock,
    Extension,
    Gateway,
    Request,
    Secret,
    straightforward,
)

sys.path.insert(0, str(ROOT))
import authorizer  # it is the file at the top of the repository, which is not installed

HEADER = "x-origin-verify"
GRACE, CACHE = 900, 300  # seconds: ACCEPT_PREVIOUS_SECONDS, and the gateway's cache


class Place:
    """The stand-ins around one execution environment of the authorizer, all by one clock."""

    def __init__(
        self, clock: Clock, grace: int, cache: int, port: int = 0, cache_seconds: int = 60
    ) -> None:
        self.clock = clock
        self.secret = Secret(clock=clock)
        self.old = self.secret.put(secrets.token_urlsafe(24))
        token = secrets.token_urlsafe(16)
        self.extension = Extension(self.secret, token)
        os.environ.update(
            SECRET_NAME=self.secret.name,
            SECRET_KEY_NAME=self.secret.member,
            ACCEPT_PREVIOUS_SECONDS=str(grace),
            CACHE_SECONDS=str(cache_seconds),
            SECRETS_MANAGER_TTL="0",
            AWS_SESSION_TOKEN=token,
            PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=str(self.extension.port),
        )
        vars(authorizer)["time"] = clock  # so that the tour need not wait for a quarter of an hour
        self.gateway = Gateway(authorizer.handler, HEADER, cache, clock, port)
        other = straightforward(self.extension.port, self.secret, token)
        self.other_gateway = Gateway(other, HEADER, cache, clock)

    def key(self, stage: str = CURRENT) -> str:
        """The key in the version that a staging label is on."""
        value = json.loads(self.secret.versions[self.secret.labels[stage]].string or "{}")
        return str(value[self.secret.member])

    def stop(self) -> None:
        self.gateway.stop()
        self.other_gateway.stop()
        self.extension.stop()


def get(gateway: Gateway, *keys: str) -> int:
    """The status of a GET with these values of the header."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.putrequest("GET", "/items")
    for key in keys:
        connection.putheader(HEADER, key)
    connection.endheaders()
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status


def shaded(status: int) -> str:
    return colour("green" if status == 200 else "yellow" if status < 500 else "red", str(status))


class Tour:
    """Walks through the steps and counts those that came out otherwise than expected."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.steps = 0
        self.surprises = 0

    def chapter(self, text: str, *actions: Callable[[], object]) -> None:
        print(colour("bold", f"\n{text}"))
        for action in actions:
            action()

    def step(self, what: str, expected: int, *keys: str) -> None:
        """One request to each of the two; only this authorizer's answer can be a surprise."""
        status, other = get(self.place.gateway, *keys), get(self.place.other_gateway, *keys)
        good = status == expected
        remark = "" if good else colour("red", f"  <- expected {expected}")
        print(f"  {shaded(status)}   {shaded(other)}   {what}{remark}")
        self.count(good)

    def count(self, good: bool) -> None:
        self.steps += 1
        self.surprises += not good

    def many(self, what: str, keys: list[str], pause: float) -> None:
        """Live keys, one after the other, without API Gateway's cache: none may be refused."""
        counts = {
            gateway: Counter[int]() for gateway in (self.place.gateway, self.place.other_gateway)
        }
        for gateway in counts:
            gateway.cache.seconds = 0
        for key in keys:
            self.place.clock.move(pause)
            for gateway, statuses in counts.items():
                statuses[get(gateway, key)] += 1
        good = counts[self.place.gateway][403] == 0
        for name, statuses in zip(("this one", "other"), counts.values(), strict=True):
            text = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
            remark = (
                colour("red", "  <- expected no 403") if name == "this one" and not good else ""
            )
            print(f"  {name + ':':10} {text}   {what}{remark}")
        self.count(good)


def tour() -> int:
    """Walk through it; 0 if every step came out as it should."""
    clock = Clock()
    place = Place(clock, GRACE, CACHE)
    walk = Tour(place)
    secret, extension = place.secret, place.extension
    old, wrong = place.key(), "a-guess-that-is-wrong-0123456789"
    minute = 60
    print("The HTTP is real and on loopback ports. The time is virtual: a clock is moved on.")
    print("First column: this authorizer. Second: a straightforward one, which asks for AWSCURRENT")
    print("and then for AWSPENDING on every request. API Gateway caches answers for 5 minutes.")

    walk.chapter("CloudFront adds the key. Whoever goes around it does not have it.")
    walk.step("the live key", 200, old)
    walk.step("a wrong key", 403, wrong)
    walk.step("no header: API Gateway refuses by itself", 401)
    walk.step("the header twice, both times the live key", 403, old, old)

    walk.chapter("A rotation begins: AWSPENDING has a new key. CloudFront starts to roll it out.")
    clock.move(10 * minute)
    secret.put(secrets.token_urlsafe(24), PENDING)
    new = place.key(PENDING)
    walk.step("the old key, which most of CloudFront still sends", 200, old)

    def fail_once(request: Request, body: bytes) -> None:
        del extension.faults[PENDING]
        request.send(400, GENERIC_ERROR)

    walk.chapter("One read of AWSPENDING fails. It looks like a label that is absent.")
    for gateway in (place.gateway, place.other_gateway):
        extension.faults[PENDING] = fail_once
        get(gateway, new)
    walk.step("the new key: a refusal is cached, for all of CloudFront's traffic", 200, new)

    walk.chapter("The rotation finishes within seconds: AWSCURRENT moves to the new version.")
    secret.finish()
    clock.move(CACHE + 1)
    walk.step("the new key", 200, new)
    walk.step("the old key, which some of CloudFront sends for minutes", 200, old)

    walk.chapter("Three of ten reads fail, for eight minutes.")
    dice = random.Random(3)  # nosec B311

    def flaky(request: Request, body: bytes) -> None:
        found = b"SecretString" in body and dice.random() >= 0.3
        request.send(*((200, body) if found else (400, GENERIC_ERROR)))

    extension.faults["*"] = flaky
    walk.many("old and new key in turn", [new, old] * 8, 30)
    extension.faults.clear()
    for gateway in (place.gateway, place.other_gateway):
        gateway.cache.seconds = CACHE

    walk.chapter(f"ACCEPT_PREVIOUS_SECONDS={GRACE} later, the old key has ended by itself.")
    clock.move(GRACE)
    walk.step("the new key", 200, new)
    walk.step("the old key", 403, old)

    walk.chapter("The Extension is down: nothing can be read.", extension.stop)
    clock.move(2 * minute)
    place.gateway.cache.kept.clear()
    place.other_gateway.cache.kept.clear()
    walk.step("the current key, known from the last reading", 200, new)
    walk.step("another key: it cannot be known, so no refusal is cached", 500, f"{wrong}-2")

    walk.chapter("The Extension is back.", extension.start)
    clock.move(2 * minute)
    walk.step("the same other key: now it is known to be wrong", 403, f"{wrong}-2")
    walk.step("the current key", 200, new)

    place.stop()
    print("\nTry it by hand with --serve. See the authorizer's own log lines with --log.")
    verdict = f"{walk.steps} steps, {walk.surprises} surprises"
    print(colour("red" if walk.surprises else "green", verdict))
    return 1 if walk.surprises else 0


def serve(port: int) -> int:
    """Keep running, with a rotation to be started and finished by hand."""
    grace = 30
    clock = Clock(real=True)
    try:  # with CACHE_SECONDS=0, so that each key ends just when its time is over
        place = Place(clock, grace, 0, port, cache_seconds=0)
    except (OSError, OverflowError):  # taken, not permitted, or not a port at all
        print(f"try_it.py: port {port} cannot be used; try another --port", file=sys.stderr)
        return 2
    url = f"http://127.0.0.1:{place.gateway.port}"

    def curl(key: str) -> str:
        return f"curl -i -H '{HEADER}: {key}' {url}/items"

    def start() -> str:
        place.secret.put(secrets.token_urlsafe(24), PENDING)
        return (
            "AWSPENDING has a new key. Within a second both are allowed:\n"
            f"{curl(place.key(PENDING))}"
        )

    def finish() -> str:
        if PENDING not in place.secret.labels:
            return "No rotation has begun."
        place.secret.finish(keep_pending=False)
        return (
            f"The new key is AWSCURRENT. The old one is live for {grace} s from the start "
            "of the rotation."
        )

    def down() -> str:
        place.extension.stop()
        return "The Extension is down: known keys are still allowed for 5 minutes, others get 500."

    def up() -> str:
        place.extension.stop()
        place.extension.start()
        return "The Extension is up."

    def later() -> str:
        clock.move(grace)
        return f"It is {grace} s later."

    place.gateway.controls = {
        "/rotation/start": start,
        "/rotation/finish": finish,
        "/time/later": later,
        "/extension/down": down,
        "/extension/up": up,
    }
    print(f"An API behind the authorizer, on {url}; Ctrl-C ends it. Paste:\n")
    print(f"{curl(place.key())}      # the live key")
    print(f"{curl('wrong')}      # a wrong key\ncurl -i {url}/items      # none\n")
    for path in place.gateway.controls:
        print(f"curl -X POST {url}{path}")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nEnded.")
    place.stop()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--serve", action="store_true", help="keep running, and print curl lines to paste"
    )
    parser.add_argument(
        "--log", action="store_true", help="show the authorizer's own log lines too"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="with --serve: where to listen (default: 8080)"
    )
    options = parser.parse_args()
    logging.basicConfig(format="       %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("authorizer").disabled = not options.log
    logging.raiseExceptions = False  # a reader such as head may leave before the last line
    return serve(options.port) if options.serve else tour()


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("try_it.py needs Python 3.11 or newer")
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read along, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
