#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Try the authorizer on this machine: no AWS account, nothing to install, real HTTP on loopback
ports.

A stand-in for the AWS Secrets Manager Extension holds the secret; a small gateway turns each HTTP
request into an authorizer event, asks the real authorizer.handler, and caches its answer as API
Gateway does. Without an option, a tour walks through requests, a whole rotation and an outage, and
says at each step what came back.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable

from lib.console import ROOT, colour
from lib.standins import CURRENT, PENDING, Clock, Extension, Gateway, Secret

sys.path.insert(0, str(ROOT))
import authorizer  # it is the file at the top of the repository, which is not installed

HEADER = "x-origin-verify"
GRACE, CACHE = 900, 300  # seconds: ACCEPT_PREVIOUS_SECONDS, and the gateway's cache


class Place:
    """The stand-ins around one execution environment of the authorizer, all by one clock."""

    def __init__(self, clock: Clock, grace: int, cache: int, port: int = 0) -> None:
        self.clock = clock
        self.secret = Secret(clock=clock)
        self.old = self.secret.put(secrets.token_urlsafe(24))
        token = secrets.token_urlsafe(16)
        self.extension = Extension(self.secret, token)
        os.environ.update(
            SECRET_NAME=self.secret.name,
            SECRET_KEY_NAME=self.secret.member,
            ACCEPT_PREVIOUS_SECONDS=str(grace),
            SECRETS_MANAGER_TTL="0",
            AWS_SESSION_TOKEN=token,
            PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=str(self.extension.port),
        )
        vars(authorizer)["time"] = clock  # so that the tour need not wait for a quarter of an hour
        self.gateway = Gateway(authorizer.handler, HEADER, cache, clock, port)

    def key(self, stage: str = CURRENT) -> str:
        """The key in the version that a staging label is on."""
        value = json.loads(self.secret.versions[self.secret.labels[stage]].string or "{}")
        return str(value[self.secret.member])

    def stop(self) -> None:
        self.gateway.stop()
        self.extension.stop()

    def get(self, *keys: str) -> int:
        """The status of a GET with these values of the header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        connection.putrequest("GET", "/items")
        for key in keys:
            connection.putheader(HEADER, key)
        connection.endheaders()
        status = connection.getresponse().status
        connection.close()
        return status


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
        status = self.place.get(*keys)
        self.steps += 1
        good = status == expected
        self.surprises += not good
        shade = "green" if status == 200 else "yellow" if status < 500 else "red"
        remark = "" if good else colour("red", f"  <- expected {expected}")
        print(f"  {colour(shade, str(status))}  {what}{remark}")


def tour() -> int:
    """Walk through it; 0 if every step came out as it should."""
    clock = Clock()
    place = Place(clock, GRACE, CACHE)
    walk = Tour(place)
    secret, extension = place.secret, place.extension
    old, wrong = place.key(), "a-guess-that-is-wrong-0123456789"
    minute = 60

    walk.chapter("CloudFront adds the key; whoever goes around it does not have it.")
    walk.step("the right key", 200, old)
    walk.step("a wrong key", 403, wrong)
    walk.step("no header: API Gateway refuses by itself", 401)
    walk.step("the header twice, both times the right key", 403, old, old)

    walk.chapter(
        "A rotation begins: a new version is AWSPENDING, and CloudFront starts to roll it out."
    )
    clock.move(10 * minute)
    secret.put(secrets.token_urlsafe(24), PENDING)
    new = place.key(PENDING)
    walk.step("the old key, which most of CloudFront still sends", 200, old)
    walk.step("the new key", 200, new)

    walk.chapter(
        "It finishes within seconds: the new version is AWSCURRENT, the old one AWSPREVIOUS."
    )
    secret.finish()
    clock.move(CACHE + 1)  # nothing is answered from API Gateway's cache
    walk.step("the new key", 200, new)
    walk.step("the old key, still on its way from some of CloudFront", 200, old)

    walk.chapter(f"ACCEPT_PREVIOUS_SECONDS={GRACE} later, by itself, the old key has ended.")
    clock.move(GRACE)
    walk.step("the new key", 200, new)
    walk.step("the old key", 403, old)

    walk.chapter("The Extension is down: nothing can be read.", extension.stop)
    clock.move(2 * minute)
    walk.step("the current key, known from the last reading", 200, new)
    walk.step(
        "another key: whether it is good cannot be known, so no refusal is cached",
        500,
        f"{wrong}-2",
    )

    walk.chapter("The Extension is back.", extension.start)
    clock.move(2 * minute)
    walk.step("the same other key: now it is known to be wrong", 403, f"{wrong}-2")
    walk.step("the current key", 200, new)

    place.stop()
    verdict = f"{walk.steps} steps, {walk.surprises} surprises"
    print(f"\n{colour('red' if walk.surprises else 'green', verdict)}")
    return 1 if walk.surprises else 0


def serve(port: int) -> int:
    """Keep running, with a rotation to be started and finished by hand."""
    grace = 30
    try:
        place = Place(Clock(real=True), grace, 0, port)
    except (OSError, OverflowError):  # taken, not permitted, or not a port at all
        print(f"try_it.py: port {port} cannot be used; try another --port", file=sys.stderr)
        return 2
    url = f"http://127.0.0.1:{place.gateway.port}"

    def curl(key: str) -> str:
        return f"curl -i -H '{HEADER}: {key}' {url}/items"

    def start() -> str:
        place.secret.put(secrets.token_urlsafe(24), PENDING)
        return (
            f"AWSPENDING has a new key. Within a second both are good:\n{curl(place.key(PENDING))}"
        )

    def finish() -> str:
        if PENDING not in place.secret.labels:
            return "No rotation has begun."
        place.secret.finish(keep_pending=False)
        return (
            f"The new key is AWSCURRENT; the old one is good for {grace} s from the start "
            "of the rotation."
        )

    def down() -> str:
        place.extension.stop()
        return "The Extension is down: known keys go on being good for 5 minutes, others get a 500."

    def up() -> str:
        place.extension.stop()
        place.extension.start()
        return "The Extension is up."

    place.gateway.controls = {
        "/rotation/start": start,
        "/rotation/finish": finish,
        "/extension/down": down,
        "/extension/up": up,
    }
    print(f"An API behind the authorizer, on {url}; Ctrl-C ends it. Paste:\n")
    print(f"{curl(place.key())}      # the right key")
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
    return serve(options.port) if options.serve else tour()


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("try_it.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read along, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
