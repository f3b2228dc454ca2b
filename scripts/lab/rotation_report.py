#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run seeded rotations in virtual time under every pair of a rotator and an authorizer, and compare
what clients saw. Prints a Markdown table.

The rotator is rotator.py itself, or a variant that finishes at once, as public ones do. The
authorizer is authorizer.py itself, or a straightforward port, which asks for AWSCURRENT, then
AWSPENDING, on every request. All meet the same rotations. API Gateway caches for 0, 300 or 3,600 s.
CloudFront switches its edges over within ten minutes. Four execution environments answer. A wrong
key comes with every live one.

Exit status: 0 the authorizer with its template's settings refused no live key; 1 it did, or the
picture cannot be written; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from html import escape
from itertools import groupby, product
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import table
from lib.chain import CloudFront, Rotation, SecretsManager, finish_at_once
from lib.console import colour, progress
from lib.rotation import Environment, Knobs, Port, VirtualGateway, VirtualWorld, as_it_is
from lib.standins import CURRENT, PENDING, PREVIOUS

OLDEST, OLD, NEW = "oldest-key-of-the-report", "old-key-of-the-report", "new-key-of-the-report"
DAY = 86_400.0
BEFORE = 120.0  # seconds of traffic before the rotation
AFTER = 900.0  # and after the last edge has switched
PROBES = 5400.0  # the old key is tried for that long after AWSCURRENT has moved


class Policy(NamedTuple):
    """An authorizer and its Extension."""

    name: str
    kind: type[Environment]
    ttl: int  # seconds for which the Extension caches
    grace: int = 900  # seconds: ACCEPT_PREVIOUS_SECONDS, which the port does not have


POLICIES = [
    Policy("port, TTL 300 s", Port, 300),
    Policy("port, TTL 0", Port, 0),
    Policy("authorizer, TTL 300 s", Environment, 300),
    Policy("authorizer, grace 0", Environment, 0, grace=0),
    Policy("authorizer", Environment, 0),
]
ROTATORS: dict[str, Callable[[Any], object]] = {"at once": finish_at_once, "rotator.py": as_it_is}
PAIRS = [*product(ROTATORS, POLICIES)]
HEADER = ["rotator", "authorizer", "refusing", "outage", "old key", "calls"]
LEGEND = """\
- rotator: rotator.py waits until CloudFront has rolled the new key out. The other one does not.
- authorizer: the TTL is the Extension's cache, and the grace is ACCEPT_PREVIOUS_SECONDS. AWS's
  default for the first is 300 s. Unless a row says otherwise, they are as the template sets them: 0
  and 900 s. The authorizer warns of a TTL above 0.
- refusing: the rotations in which a request from CloudFront was refused.
- outage: the longest time from the first such refusal to the next allow.
- old key: the longest time for which the old key was let in after AWSCURRENT had moved.
- calls: to Secrets Manager by the authorizer in one rotation, on average."""


class Case(NamedTuple):
    """What is the same for every pair in one rotation. Times are in seconds."""

    gateway: int  # for which API Gateway caches
    edges: list[float]  # from CloudFront's update until each edge sends the new key
    seed: int  # of the traffic


class Seen(NamedTuple):
    """An answer that a client got."""

    at: float  # seconds after the rotation's begin
    key: str  # or "probe": the old key, from elsewhere than CloudFront
    outcome: str


class Result(NamedTuple):
    """What one policy made of one rotation."""

    refused: int  # requests through CloudFront that were refused
    outage: float  # seconds from the first of a run of refusals to the next allow
    old_key: float  # seconds after AWSCURRENT moved for which the old key still opened the door
    calls: int  # to Secrets Manager


def draw(seed: int) -> Case:
    """The case with that seed."""
    # Repeatable, and no key comes from it.
    dice = random.Random(seed)  # nosec B311
    edges = [dice.uniform(5.0, dice.choice([120.0, 600.0])) for _ in range(20)]
    return Case(dice.choice([0, 300, 3600]), edges, dice.randrange(1 << 30))


def stretches(samples: Iterable[tuple[float, str]], end: float) -> list[tuple[float, float, str]]:
    """Samples in the order of time, as stretches of one value: begin, end, value."""
    firsts = [next(group) for _, group in groupby(samples, key=lambda sample: sample[1])]
    ends = [at for at, _ in firsts[1:]] + [end]
    return [(start, end, value) for (start, value), end in zip(firsts, ends)]


class Run:
    """One rotation under one pair. ``zero`` is the instant at which the rotation begins."""

    def __init__(self, case: Case, rotator: str, policy: Policy, pace: float = 2.0) -> None:
        """``pace`` is the time between two requests through CloudFront, in seconds."""
        self.pace = pace
        self.world = VirtualWorld(
            Knobs(accept_previous=policy.grace, gateway=case.gateway, ttl=policy.ttl),
            latencies=[(0.003, 0.002), (0.008, 0.004)],
        )
        self.gateway = VirtualGateway(self.world)
        self.environments = [policy.kind(self.world) for _ in range(4)]
        self.seen: list[Seen] = []
        self.dice = random.Random(case.seed)  # nosec B311
        self.world.put(OLDEST)
        self.world.advance(DAY)
        self.world.put(OLD)
        self.world.advance(30 * DAY)
        self.zero = self.world.now + BEFORE
        self.cloudfront = CloudFront(self.world, OLD, case.edges)
        secrets = SecretsManager(self.world, iter([NEW]))
        self.rotation = Rotation(secrets, self.cloudfront, ROTATORS[rotator])
        self.world.at(self.zero, self.rotation.resume)

    def run(self, end: float = math.inf) -> None:
        """Let it happen, until ``end`` at most."""
        world, edges, dice = self.world, self.cloudfront.edges, self.dice
        while self.elapsed() < min(end, self.end() + AFTER):
            world.advance(dice.uniform(0.5, 1.5) * self.pace)
            self.ask(dice.choice(edges))
            if OLD not in edges and dice.random() < 0.2:
                self.ask(OLD, probe=True)
            self.ask(dice.choice(["wrong-key-one", "wrong-key-two", f"wrong-key-{dice.random()}"]))
        while self.elapsed() < min(end, self.moved() + PROBES):
            world.advance(30.0)
            self.ask(NEW)
            self.ask(OLD, probe=True)

    def moved(self) -> float:
        """When AWSCURRENT moved to the new key, in seconds after ``zero``."""
        spans = self.world.history
        return next(it.start for it in spans if it.keys.get(CURRENT) == NEW) - self.zero

    def end(self) -> float:
        """When the rotation and CloudFront's deployment are both over, in seconds after zero."""
        return max(self.rotation.finished, self.cloudfront.deployed_at) - self.zero

    def elapsed(self) -> float:
        """Seconds since ``zero``."""
        return self.world.now - self.zero

    def ask(self, key: str, probe: bool = False) -> None:
        """Ask any of the environments through API Gateway."""
        outcome, _ = self.gateway.ask(key, self.dice.choice(self.environments))
        self.seen.append(Seen(self.elapsed(), "probe" if probe else key, outcome))

    def result(self) -> Result:
        """The figures of a run that has ended."""
        live = [seen for seen in self.seen if seen.key in (OLD, NEW)]
        known = [(seen.at, seen.outcome) for seen in live if seen.outcome != "error"]
        runs = stretches(known, live[-1].at)
        old = [it.at for it in self.seen if it.key in (OLD, "probe") and it.outcome == "allow"]
        return Result(
            refused=sum(seen.outcome == "refuse" for seen in live),
            outage=max((end - start for start, end, it in runs if it == "refuse"), default=0.0),
            old_key=max([self.moved(), *old]) - self.moved(),
            calls=sum(environment.misses for environment in self.environments),
        )


def compare(seed: int) -> list[Result]:
    """What every pair makes of the case with that seed."""
    runs = [Run(draw(seed), rotator, policy) for rotator, policy in PAIRS]
    for run in runs:
        run.run()
    return [run.result() for run in runs]


def simulate(rotations: int, seed: int) -> list[tuple[Result, ...]]:
    """The results of every pair, one for each rotation. Shows its progress."""
    seeds = range(seed * 1_000_000, seed * 1_000_000 + rotations)
    results = []
    progress(f"0 of {rotations} rotations")
    with ProcessPoolExecutor() as pool:
        for of_one in pool.map(compare, seeds):
            results.append(of_one)
            progress(f"{len(results)} of {rotations} rotations")
    progress("")
    return list(zip(*results))


def row(rotator: str, policy: Policy, results: Sequence[Result]) -> list[str]:
    """The cells under HEADER."""
    return [
        rotator,
        policy.name,
        str(sum(result.refused > 0 for result in results)),
        f"{max(result.outage for result in results):,.0f} s",
        f"{max(result.old_key for result in results):,.0f} s",
        f"{fmean(result.calls for result in results):,.0f}",
    ]


# The picture. Lengths are in pixels where it is 830 wide, as it is in a README on GitHub.

WIDTH, LEFT, RIGHT = 830, 142, 802  # of the page, and where the lanes begin and end
FROM, TO = -BEFORE, 22 * 60.0  # seconds
FAILURE = 690.0, 750.0  # of Secrets Manager: begin and end
INK, FAINT, PAPER = "#1f2933", "#d5dbe1", "#ffffff"  # a ground of its own, for any theme
MARKS = {  # by outcome: colour, width of the stroke, shape; no two have the same shape
    "allow": ("#1a7f37", 4.4, "h.01"),
    "refuse": ("#c4161c", 1.3, "m-2.4,-2.4l4.8,4.8m0,-4.8l-4.8,4.8"),
    "error": ("#8f5400", 1.8, "m0,-2.6l2.6,4.6h-5.2z"),
}
BARS = {
    OLDEST: {"fill": "#b0581a"},
    OLD: {"fill": "#57606a"},
    NEW: {"fill": "#0b62c4"},
    "failure": {"fill": "#fdf3dc", "stroke": "#8f5400", "stroke_dasharray": "3 2"},
}
NAMES = "allowed, refused, cannot know, older key, old key, new key, Secrets Manager fails"
PICTURED = Case(300, [40.0 + 26.0 * number for number in range(20)], 1)


def x(at: float) -> float:
    """Where an instant lies on the page."""
    return round(LEFT + (max(at, FROM) - FROM) / (TO - FROM) * (RIGHT - LEFT), 1)


class Picture:
    """An SVG that grows downwards. ``y`` is where the next lane begins."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 10

    def add(self, tag: str, text: str = "", /, **attributes: object) -> None:
        """An element, its attributes with _ in place of -. A new line counts as a space."""
        pairs = [f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items()]
        element = f"<{tag}{''.join(pairs)}>{escape(text)}</{tag}>"
        self.parts += wrap(element, 100, break_long_words=False, break_on_hyphens=False)

    def text(self, at: float, y: float, text: str, **attributes: object) -> None:
        """A text around the line ``y``."""
        self.add("text", text, x=round(at, 1), y=y + 4, **attributes)

    def heading(self, text: str, size: int = 13) -> None:
        """A line in bold."""
        self.text(12, self.y + 13, text, font_size=size, font_weight="bold")
        self.y += 27

    def box(self, start: float, end: float, y: float, height: float, **attributes: object) -> None:
        """A rectangle between two places on the page."""
        width = round(end - start, 1)
        self.add("rect", x=round(start, 1), y=y, width=width, height=height, **attributes)

    def marks(self, outcome: str, places: list[float], y: float) -> None:
        """Answers with one outcome."""
        colour, width, shape = MARKS[outcome]
        path = " ".join(f"M{place},{y}{shape}" for place in places)
        self.add("path", d=path, fill="none", stroke=colour, stroke_width=width)

    def lane(self, name: str, rows: Sequence[Sequence[tuple[float, float, str]]], row: int) -> None:
        """Which key is where, as bars: begin, end, and the key or ""."""
        self.text(LEFT - 8, self.y + row * len(rows) / 2, name, text_anchor="end")
        for bars in rows:
            for start, end, key in bars:
                if key and end > FROM:
                    self.box(x(start), x(end), self.y, max(row - 1, 2), **BARS[key])
            self.y += row

    def answers(self, name: str, seen: list[Seen], framed: str = "", note: str = "") -> None:
        """A lane of answers. Those with one outcome are framed, with a note beside them."""
        self.text(LEFT - 8, self.y + 9, name, text_anchor="end")
        self.add("path", d=f"M{LEFT},{self.y + 9}H{RIGHT}", stroke=FAINT)
        for outcome in MARKS:
            places = [x(it.at) for it in seen if it.outcome == outcome and it.at >= FROM]
            if places:
                self.marks(outcome, places, self.y + 9)
            if places and outcome == framed:
                start, end, colour = places[0] - 6, places[-1] + 6, MARKS[outcome][0]
                self.box(start, end, self.y + 1, 16, rx=4, fill="none", stroke=colour)
                late = start > WIDTH / 2  # there is more room on the left then
                at, anchor = (start - 6, "end") if late else (end + 6, "start")
                self.text(at, self.y + 9, note, text_anchor=anchor, font_weight="bold")
        self.y += 18


def holds(environment: Environment, key: str) -> bool:
    """Whether the environment has the key: in its snapshot, or in the port's Extension."""
    if environment.module is None:  # the port
        since = environment.world.now - environment.world.knobs.ttl
        cached = environment.cache.values()
        return any(fetched > since and key.encode() in body for fetched, body in cached)
    authorizer = environment.module._authorizer
    digest = environment.module.digest_of(authorizer.salt, key)
    readings = authorizer.snapshot.readings.values()
    return any(it.digest == digest and environment.time() < it.ends_at for it in readings)


def policy_lanes(picture: Picture, policy: Policy, holder: str) -> None:
    """What one policy holds and answers."""
    run = Run(PICTURED, "at once", policy, pace=10.0)
    run.world.fail("absent", run.zero + FAILURE[0], FAILURE[1] - FAILURE[0])
    held: list[list[tuple[float, str]]] = [[] for _ in range(2 * len(run.environments))]

    def sample() -> None:
        for samples, (environment, key) in zip(held, product(run.environments, (OLD, NEW))):
            samples.append((run.elapsed(), key if holds(environment, key) else ""))

    for second in range(int(FROM), int(TO), 10):
        run.world.at(run.zero + second, sample)
    run.run(end=TO)
    picture.lane(holder, [stretches(samples, TO) for samples in held], 6)
    picture.y += 4
    seen = {key: [it for it in run.seen if it.key == key] for key in (OLD, NEW, "probe")}
    outage = f"outage: {run.result().refused} requests with a live key are refused"
    grace = f"deliberate grace: lets the old key in for {run.world.knobs.accept_previous // 60} min"
    picture.answers("CloudFront, old key", seen[OLD], "refuse", outage)
    picture.answers("CloudFront, new key", seen[NEW], "refuse", outage)
    picture.answers("elsewhere, old key", seen["probe"], "allow", grace)
    picture.answers("wrong keys", [it for it in run.seen if it.key not in seen])


def legend(picture: Picture) -> None:
    """Every mark and colour with its name."""
    picture.parts.append('<g id="legend">')
    at = 12.0
    for kind, name in zip([*MARKS, *BARS], NAMES.split(", ")):
        if kind in MARKS:
            picture.marks(kind, [at + 9], picture.y + 6)
        else:
            picture.box(at, at + 18, picture.y, 12, **BARS[kind])
        picture.text(at + 24, picture.y + 6, name)
        at += 42 + 6.3 * len(name)
    picture.parts.append("</g>")
    picture.y += 16


def svg() -> str:
    """One rotation as a timeline, with every answer of the port and of the authorizer."""
    picture = Picture()
    picture.heading("One rotation: which key each part of the system holds, and every answer", 15)
    legend(picture)
    top, ground = picture.y, len(picture.parts)
    picture.heading("Secrets Manager: the staging labels")
    run = Run(PICTURED, "at once", POLICIES[-1])
    run.world.until(run.zero + TO)
    for stage in (PENDING, CURRENT, PREVIOUS):
        spans = [(span.start - run.zero, span.keys.get(stage, "")) for span in run.world.history]
        picture.lane(stage, [stretches(spans, TO)], 17)
    picture.heading("CloudFront: rolls the new key out over nine minutes")
    edges = [
        stretches([(at - run.zero, key) for at, key in edge], TO)
        for edge in run.cloudfront.switched
    ]
    picture.lane(f"{len(edges)} edges send", edges, 2)
    picture.heading("Straightforward port: AWSCURRENT, then AWSPENDING; its Extension caches 300 s")
    policy_lanes(picture, POLICIES[0], "4 Extensions hold")
    picture.heading("This authorizer: AWSPREVIOUS too, for 900 s; its Extension caches nothing")
    policy_lanes(picture, POLICIES[-1], "4 snapshots hold")
    lanes, picture.parts[ground:] = picture.parts[ground:], []
    bottom = picture.y + 4
    for minute in range(-2, 23, 2):
        at = x(minute * 60.0)
        picture.add("path", d=f"M{at},{top}V{bottom}", stroke=FAINT)
        picture.text(at, bottom + 10, f"{minute} min", text_anchor="middle")
    picture.box(x(FAILURE[0]), x(FAILURE[1]), top, bottom - top, **BARS["failure"])
    note = f"Time since the rotation's begin. The rotator finishes {run.moved():.0f} s later. "
    picture.text(LEFT, bottom + 28, note + "API Gateway caches answers for 300 s.")
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" width="{WIDTH}"
height="{bottom + 44}" role="img" aria-labelledby="title desc" fill="{INK}" font-size="11"
font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif" stroke-linecap="round">
<title id="title">A key rotation under a straightforward port and under this authorizer</title>
<desc id="desc">CloudFront sends the old key for nine minutes after the new one is current. The port
refuses it meanwhile: an outage. The authorizer lets it in for 15 minutes: deliberate grace.</desc>
<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>
""" + "\n".join([*picture.parts, *lanes, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rotations", type=int, default=200, metavar="N", help="how many (default: 200)")
    add("--seed", type=int, default=1, metavar="N", help="of the rotations (default: 1)")
    add("--svg", type=Path, metavar="FILE", help="draw one rotation instead, into this file")
    options = parser.parse_args()
    if options.rotations < 1:
        parser.error("--rotations must be at least 1")
    if options.svg:
        try:
            options.svg.write_text(svg(), "utf-8")
        except OSError as error:
            sys.exit(f"rotation_report.py: cannot write {options.svg}: {error.strerror}")
        print(f"Wrote {options.svg}")
        return
    results = simulate(options.rotations, options.seed)
    print(f"{options.rotations} rotations, seed {options.seed}\n")
    rows = [row(rotator, policy, of_it) for (rotator, policy), of_it in zip(PAIRS, results)]
    print(table(HEADER, rows))
    print(f"\n{LEGEND}")
    ours = [of_it for (_, policy), of_it in zip(PAIRS, results) if policy == POLICIES[-1]]
    if any(result.refused for of_it in ours for result in of_it):
        sys.exit(colour("red", "The authorizer with TTL 0 refused a live key."))


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("rotation_report.py needs Python 3.11 or newer")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
