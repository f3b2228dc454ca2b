#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Look for a timing leak: does the time of a refusal tell how much of the key was right, or how
long the key is?

As dudect does: samples of two classes in random order, the slowest ones cropped at several
percentiles, and Welch's t-test on each crop. |t| above 4.5 means that the classes differ. It times
the comparison alone and the whole refusal through handler(). As a control it times a comparison
with ==: unless that leak is caught, the run says nothing.

A wrong key's own length does show, since a longer one takes longer to digest; its sender knows it
anyway. The secret's length must not show. So equal keys are timed against secrets of different
lengths.

Exit status: 0 no leak seen and the control caught, 1 a leak seen, 2 the control was not caught or
nothing could be timed. This is a report on one machine at one time, not a proof: repeat it before
you believe a t near the threshold.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import random
import string
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])

import authorizer  # noqa: E402
from bench import MEASURED, Process  # noqa: E402
from lib.console import colour, progress  # noqa: E402
from lib.standins import TOKEN, http_api_2  # noqa: E402

HEADER = "x-origin-verify"
THRESHOLD = 4.5
CROPS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)  # of the samples are kept, the fastest ones
LENGTH = 32  # characters of the secret; what the rotators in use make
OTHER_LENGTH = 64  # of the other secret
# Characters: what == needs to show in Python, where one comparison takes some 50 ns whatever it
# finds.
LONG = 8192
BATCH = 1000  # samples prepared, then timed, in one go
ALPHABET = string.ascii_letters + string.digits

Sample = Callable[[], object]  # what is timed
Make = Callable[[], Sample]  # prepares a sample of a class, untimed
Result = dict[str, Any]
Timed = Callable[[authorizer.Authorizer, str, str], Sample]  # prepares one for a secret and a key


def random_key(length: int) -> str:
    return "".join(random.choices(ALPHABET, k=length))


def wrong_key(secret: str, shared: int) -> str:
    """A key of the secret's length that has its first ``shared`` characters and none of the
    others in place.
    """
    drawn = zip(random_key(len(secret) - shared), secret[shared:])
    rest = [
        wrong if wrong != right else ALPHABET[ALPHABET.index(right) - 1] for wrong, right in drawn
    ]
    return "".join([*secret[:shared], *rest])


def times(classes: list[Make], samples: int, label: str) -> list[list[int]]:
    """Nanoseconds of about ``samples`` samples of each class, in random order."""
    measured: list[list[int]] = [[] for _ in classes]
    clock = time.perf_counter_ns
    total = samples * len(classes)
    gc.disable()  # a collection would hit whichever sample is next
    try:
        for done in range(0, total, BATCH):
            progress(f"{label}: {done * 100 // total} %")
            numbers = random.choices(range(len(classes)), k=min(BATCH, total - done))
            batch = [(number, classes[number]()) for number in numbers]
            gc.collect(0)
            for number, sample in batch:
                start = clock()
                sample()
                end = clock()
                measured[number].append(end - start)
    finally:
        gc.enable()
    progress("")
    return measured


def welch(first: list[int], second: list[int]) -> float:
    """Welch's t of two samples; 0.0 where there is nothing to compare."""
    if min(len(first), len(second)) < 2:
        return 0.0
    error = variance(first) / len(first) + variance(second) / len(second)
    return (fmean(first) - fmean(second)) / error**0.5 if error else 0.0


def variance(sample: list[int]) -> float:
    """The sample's variance.

    That of the standard library computes with fractions, far too slowly for so many.
    """
    mean = fmean(sample)
    return fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)


def greatest_t(first: list[int], second: list[int]) -> float:
    """The t that is farthest from 0 among the crops. Positive: the first class takes longer."""
    together = sorted(first + second)
    found = []
    for crop in CROPS:
        limit = together[max(0, round(len(together) * crop) - 1)]
        found.append(welch([t for t in first if t <= limit], [t for t in second if t <= limit]))
    return max(found, key=abs)


def warm_authorizer(secret: str, port: int) -> authorizer.Authorizer:
    """The authorizer of an execution environment that has let a request pass."""
    env = {"SECRET_NAME": "leak/test", "SECRET_KEY_NAME": "key", "AWS_SESSION_TOKEN": TOKEN}
    env |= {"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(port), "SECRETS_MANAGER_TTL": "0"}
    one = authorizer.Authorizer(authorizer.Settings(env))
    if one.answer(http_api_2({HEADER: secret}), None)["isAuthorized"] is not True:
        raise RuntimeError("the authorizer refuses the live key")
    return one


NOW = (0.0, 0.0)  # when each request arrives


def snapshot(one: authorizer.Authorizer, secret: str) -> authorizer.Snapshot:
    """A new snapshot of a secret, whose looks agree for ever.

    It is new so that a reading's place in memory does not tell two secrets apart.
    """
    digest = authorizer.digest_of(one.salt, secret)
    reading = authorizer.Reading(authorizer.CURRENT, "version-1", digest, NOW)
    made = authorizer.Snapshot({authorizer.CURRENT: reading})
    made.confirmed_at = (math.inf, math.inf)
    return made


def comparison(one: authorizer.Authorizer, secret: str, key: str) -> Sample:
    """The core of the decision: digest and rule."""
    known, settings = snapshot(one, secret), one.settings

    def sample() -> object:
        return authorizer.decide(known, authorizer.digest_of(one.salt, key), NOW, settings)

    return sample


def refusal(one: authorizer.Authorizer, secret: str, key: str) -> Sample:
    """What Lambda calls."""
    known, request = snapshot(one, secret), http_api_2({HEADER: key})
    authorizer._authorizer = one

    def sample() -> object:
        one.snapshot = known
        return authorizer.handler(request, None)

    return sample


def equals(secret: str, keys: list[str]) -> Sample:
    """The control: what an authorizer must not do."""
    key = random.choice(keys)
    return lambda: secret == key


def judge(
    what: str, classes: Mapping[str, Make], pairs: list[tuple[str, str, str]], samples: int
) -> list[Result]:
    """A result for each pair: the names of two classes, and what a high t means ("leak",
    "control", or why nothing).
    """
    measured = dict(zip(classes, times(list(classes.values()), samples, what)))
    results = []
    for first, second, meaning in pairs:
        t = greatest_t(measured[first], measured[second])
        medians = [sorted(measured[name])[len(measured[name]) // 2] for name in (first, second)]
        results.append(
            {
                "what": what,
                "classes": [first, second],
                "t": t,
                "meaning": meaning,
                "medians_ns": medians,
            }
        )
    return results


def controls(samples: int) -> list[Result]:
    """What is seen of ``==``: on a key so long that it must show, and on one of the usual
    length.
    """
    none, last = "no character right", "all but the last right"
    results = []
    for length, meaning in (
        (LONG, "control"),
        (LENGTH, "for comparison: a key of the usual length"),
    ):
        secret = random_key(length)
        classes = {
            name: partial(equals, secret, [wrong_key(secret, shared) for _ in range(64)])
            for name, shared in ((none, 0), (last, length - 1))
        }
        results += judge(
            f"control: == on {length} characters", classes, [(none, last, meaning)], samples
        )
    return results


def measure(samples: int, one: authorizer.Authorizer, secret: str) -> list[Result]:
    """The results for the authorizer, which has read ``secret``."""
    none, half, last = "no character right", "half right", "all but the last right"
    other = random_key(OTHER_LENGTH)
    results = []
    for what, sample in (
        ("comparison: digest and find", comparison),
        ("warm refusal: handler", refusal),
    ):

        def wrong(shared: int, sample: Timed = sample) -> Sample:
            return sample(one, secret, wrong_key(secret, shared))

        def unrelated(length: int, live: str, sample: Timed = sample) -> Sample:
            return sample(one, live, random_key(length))

        classes: dict[str, Make] = {
            none: partial(wrong, 0),
            half: partial(wrong, LENGTH // 2),
            last: partial(wrong, LENGTH - 1),
        }
        pairs = [(none, half, "leak"), (none, last, "leak"), (half, last, "leak")]
        for length in (LENGTH, OTHER_LENGTH):
            names = [f"key of {length}, secret of {len(live)}" for live in (secret, other)]
            classes |= {
                name: partial(unrelated, length, live) for name, live in zip(names, (secret, other))
            }
            pairs.append((names[0], names[1], "leak"))
        pairs.append((pairs[-2][0], pairs[-1][0], "the key's own length, which its sender knows"))
        results += judge(what, classes, pairs, samples)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=100_000, metavar="N", help="of each class (default 100000)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the order and the keys (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.samples < 10:
        parser.error("--samples must be at least 10")
    random.seed(options.seed)
    # The lines are formatted and written as in Lambda, but to nowhere.
    logging.basicConfig(
        stream=open(os.devnull, "w"), format="[%(levelname)s]\t%(asctime)s\t%(message)s"
    )
    secret = random_key(LENGTH)
    backend = [sys.executable, str(MEASURED / "backend.py"), "extension"]
    with Process(backend, dict(os.environ)) as process:
        port = process.ask(
            "start", name="leak/test", member="key", token=TOKEN, current=secret, pending=None
        )
        results = controls(options.samples) + measure(
            options.samples, warm_authorizer(secret, port), secret
        )
    caught, leak = verdict(results)
    if options.json:
        about = {"samples": options.samples, "seed": options.seed, "threshold": THRESHOLD}
        print(
            json.dumps(
                {**about, "results": results, "control_caught": caught, "leak_seen": leak}, indent=2
            )
        )
    else:
        print("\n".join(lines(results)))
        print(f"\nControl {'caught' if caught else 'NOT CAUGHT: this run says nothing'}; ", end="")
        print("LEAK SEEN" if leak else "no leak seen", end=" ")
        print(f"(threshold: |t| {THRESHOLD}, {options.samples} samples a class)")
    return 2 if not caught else 1 if leak else 0


def verdict(results: list[Result]) -> tuple[bool, bool]:
    """Whether the control was caught, and whether a leak was seen."""
    high = {row["meaning"] for row in results if abs(row["t"]) > THRESHOLD}
    return "control" in high, "leak" in high


def lines(results: list[Result]) -> list[str]:
    """The report."""
    shown = []
    for row in results:
        high = abs(row["t"]) > THRESHOLD
        word, hue = {
            "leak": ("LEAK", "red") if high else ("ok", "green"),
            "control": ("caught", "green") if high else ("NOT CAUGHT", "red"),
        }.get(row["meaning"], ("not judged", "dim"))
        first, second = row["medians_ns"]
        note = "" if row["meaning"] in ("leak", "control") else f" ({row['meaning']})"
        shown.append(
            f"{colour(hue, f'{word:<10}')}  t {row['t']:8.1f}   "
            f"median {first:6d} and {second:6d} ns   "
            f"{row['what']}: {' / '.join(row['classes'])}{note}"
        )
    return shown


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("timing_leak.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except (OSError, RuntimeError, authorizer.SecretUnavailableError) as error:
        progress("")
        print(f"timing_leak.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
