#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run seeded rotations in virtual time under a straightforward port and under the authorizer;
compare what clients saw.

The port asks for AWSCURRENT, then AWSPENDING, on every request. The authorizer is authorizer.py
itself. Both meet the same rotations: a rotator that finishes at once or waits, AWSPENDING left
behind or removed, API Gateway caching for 0, 300 or 3,600 s, CloudFront switching its edges over up
to ten minutes, four execution environments, and a wrong key with every live one. Exits with 1
if the authorizer, set up as its template does, refused a live request.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from html import escape
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.console import colour, progress
from lib.rotation import START, Environment, Knobs, Port, VirtualGateway, VirtualWorld
from lib.standins import CURRENT, PENDING, PREVIOUS

OLDEST, OLD, NEW = "oldest-key-of-the-report", "old-key-of-the-report", "new-key-of-the-report"
BEFORE = 120.0  # seconds of traffic before the rotation
AFTER = 900.0  # and after the last edge has switched
PROBES = 5400.0  # the old key is tried for that long after AWSCURRENT has moved


class Policy(NamedTuple):
    """A row of the table."""

    name: str
    kind: type[Environment]
    ttl: int


POLICIES = [
    Policy("straightforward port, Extension TTL 300 s (default)", Port, 300),
    Policy("straightforward port, Extension TTL 0", Port, 0),
    Policy("authorizer, Extension TTL 300 s (it warns)", Environment, 300),
    Policy("authorizer, Extension TTL 0 (as its template sets it)", Environment, 0),
]


class Rotation(NamedTuple):
    """One rotation, the same for every policy.

    Instants are in seconds after the new key's creation.
    """

    gateway: int
    finish: float  # when AWSCURRENT moves
    keep_pending: bool
    edges: list[float]  # when each CloudFront edge begins to send the new key
    seed: int  # of the traffic


class Seen(NamedTuple):
    """An answer that a client got."""

    at: float  # seconds after the new key's creation
    key: str
    outcome: str


class Result(NamedTuple):
    """What one policy made of one rotation."""

    refused: int  # requests through CloudFront that were refused
    outage: float  # seconds from the first of a run of refusals to the next allow
    old_key: float  # seconds after AWSCURRENT moved for which the old key still opened the door
    extension_calls: int
    secrets_manager_calls: int


def draw(seed: int) -> Rotation:
    """The rotation with that seed."""
    # Repeatable, and no key comes from it.
    dice = random.Random(seed)  # nosec B311
    edges = [dice.uniform(5.0, dice.choice([120.0, 600.0])) for _ in range(20)]
    at_once = dice.random() < 0.5
    return Rotation(
        gateway=dice.choice([0, 300, 3600]),
        finish=dice.uniform(1.0, 5.0) if at_once else max(edges) + dice.uniform(0.0, 120.0),
        keep_pending=dice.random() < 0.5,
        edges=edges,
        seed=dice.randrange(1 << 30),
    )


class Run:
    """One rotation under one policy."""

    def __init__(self, rotation: Rotation, policy: Policy, pace: float = 2.0) -> None:
        """``pace`` is the time between two requests through CloudFront, in seconds."""
        self.rotation = rotation
        self.pace = pace
        self.world = VirtualWorld(
            Knobs(gateway=rotation.gateway, ttl=policy.ttl),
            latencies=[(0.003, 0.002), (0.008, 0.004)],
        )
        self.gateway = VirtualGateway(self.world)
        self.environments = [policy.kind(self.world) for _ in range(4)]
        self.seen: list[Seen] = []

    def run(
        self, watch: Callable[[Run], object] = lambda run: None, end: float | None = None
    ) -> None:
        """Let it happen, until ``end`` if given.

        ``watch`` is called before every request through CloudFront.
        """
        world, rotation = self.world, self.rotation
        dice = random.Random(rotation.seed)  # nosec B311
        world.put(OLDEST)
        world.advance(86_400.0)
        world.put(OLD)
        world.advance(86_400.0 * 30)
        self.zero = world.now + BEFORE
        world.at(self.zero, lambda: world.put(NEW, PENDING))
        world.at(self.zero + rotation.finish, lambda: world.finish(rotation.keep_pending))
        while self.elapsed() < (end or max([*rotation.edges, rotation.finish]) + AFTER):
            world.advance(dice.uniform(0.5, 1.5) * self.pace)
            watch(self)
            self.ask(NEW if self.elapsed() >= dice.choice(rotation.edges) else OLD, dice)
            if self.elapsed() > max(rotation.edges) and dice.random() < 0.2:
                self.ask(OLD, dice, probe=True)
            self.ask(
                dice.choice(["wrong-key-one", "wrong-key-two", f"wrong-key-{dice.random()}"]), dice
            )
        while not end and self.elapsed() < rotation.finish + PROBES:
            world.advance(30.0)
            self.ask(NEW, dice)
            self.ask(OLD, dice, probe=True)

    def elapsed(self) -> float:
        return self.world.now - self.zero

    def ask(self, key: str, dice: random.Random, probe: bool = False) -> None:
        outcome, _ = self.gateway.ask(key, dice.choice(self.environments))
        self.seen.append(Seen(self.elapsed(), "probe" if probe else key, outcome))

    def result(self) -> Result:
        outage, since = 0.0, None
        live = [seen for seen in self.seen if seen.key in (OLD, NEW)]
        for seen in live:
            if seen.outcome == "allow":
                outage, since = max(outage, seen.at - since if since is not None else 0.0), None
            elif seen.outcome == "refuse" and since is None:
                since = seen.at
        if since is not None:
            outage = max(outage, live[-1].at - since)
        old = [
            seen.at for seen in self.seen if seen.key in (OLD, "probe") and seen.outcome == "allow"
        ]
        return Result(
            refused=sum(seen.outcome == "refuse" for seen in live),
            outage=outage,
            old_key=max(0.0, max(old) - self.rotation.finish),
            extension_calls=sum(len(environment.reads) for environment in self.environments),
            secrets_manager_calls=sum(environment.misses for environment in self.environments),
        )


def compare(seed: int) -> list[Result]:
    """What every policy makes of the rotation with that seed."""
    runs = [Run(draw(seed), policy) for policy in POLICIES]
    for run in runs:
        run.run()
    return [run.result() for run in runs]


def table(rotations: int, seed: int) -> tuple[str, bool]:
    """The comparison as a Markdown table, and whether the authorizer with TTL 0 refused nothing
    wrongly.
    """
    results: list[list[Result]] = [[] for _ in POLICIES]
    progress(f"rotation 1 of {rotations}")
    with ProcessPoolExecutor() as pool:
        for number, of_one in enumerate(
            pool.map(compare, range(seed * 1_000_000, seed * 1_000_000 + rotations)), 1
        ):
            progress(f"rotation {min(number + 1, rotations)} of {rotations}")
            for row, result in zip(results, of_one):
                row.append(result)
    progress("")
    lines = [
        f"| policy | rotations with a wrong refusal, of {rotations} | longest outage "
        "| old key accepted after AWSCURRENT moved, at most | Extension calls per rotation "
        "| Secrets Manager calls per rotation |",
        "|---|---|---|---|---|---|",
    ]
    for policy, row in zip(POLICIES, results):
        wrong = sum(result.refused > 0 for result in row)
        lines.append(
            f"| {policy.name} | {wrong} | {max(result.outage for result in row):,.0f} s "
            f"| {max(result.old_key for result in row):,.0f} s "
            f"| {sum(result.extension_calls for result in row) / rotations:,.0f} "
            f"| {sum(result.secrets_manager_calls for result in row) / rotations:,.0f} |"
        )
    return "\n".join(lines), not any(result.refused for result in results[-1])


# The picture

LEFT, RIGHT, WIDTH = 190, 24, 1200
FROM, TO = -BEFORE, 22 * 60.0  # seconds
OUTAGE = 690.0, 60.0  # begin and length
INK, FAINT, PAPER = "#1f2933", "#d5dbe1", "#ffffff"
COLOURS = {OLDEST: "#c9ced6", OLD: "#6f9bd1", NEW: "#b58ad6"}
NAMES = {OLDEST: "oldest key", OLD: "old key", NEW: "new key"}
MARKS = {  # by outcome: colour, and the path around a point; they differ in shape too
    "allow": ("#1b8a3a", "m-2.6,0a2.6,2.6 0 1 0 5.2,0a2.6,2.6 0 1 0 -5.2,0"),
    "refuse": ("#c81e1e", "m-3.4,-3.4l6.8,6.8m0,-6.8l-6.8,6.8"),
    "error": ("#c77700", "m0,-4l4,7.2h-8z"),
}
PICTURED = Rotation(
    gateway=300,
    finish=4.0,
    keep_pending=True,
    edges=[40.0 + 26.0 * number for number in range(20)],
    seed=1,
)


def x(at: float) -> float:
    """Where an instant lies on the page."""
    return round(LEFT + (min(max(at, FROM), TO) - FROM) / (TO - FROM) * (WIDTH - LEFT - RIGHT), 1)


class Picture:
    """An SVG that grows downwards. ``y`` is where the next lane begins."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 24.0

    def text(
        self,
        at: float,
        y: float,
        text: str,
        size: int = 12,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{at}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight}>'
            f"{escape(text, quote=False)}</text>"
        )

    def heading(self, text: str) -> None:
        self.y += 20
        self.text(16, self.y + 4, text, 14, bold=True)
        self.y += 15

    def name(self, text: str, height: float) -> None:
        self.text(LEFT - 10, self.y + height / 2 + 4, text, anchor="end")

    def bar(
        self, start: float, end: float, y: float, height: float, key: str, text: str = ""
    ) -> None:
        width = round(x(end) - x(start), 1)
        if width > 0:
            self.parts.append(
                f'<rect x="{x(start)}" y="{y}" width="{width}" height="{height}" '
                f'fill="{COLOURS[key]}"/>'
            )
            if text and width > 60:
                self.text(x(start) + 6, y + height / 2 + 4, text, 11)

    def mark(self, outcome: str, at: float, y: float) -> str:
        return f"M{at},{y}{MARKS[outcome][1]}"

    def marks(self, outcome: str, path: str) -> None:
        if path:
            fill = "none" if outcome == "refuse" else MARKS[outcome][0]
            self.parts.append(
                f'<path d="{path}" fill="{fill}" stroke="{MARKS[outcome][0]}" stroke-width="1.4"/>'
            )


def labels(picture: Picture, world: VirtualWorld, zero: float) -> None:
    """Which key each staging label is on."""
    for stage in (PENDING, CURRENT, PREVIOUS):
        picture.name(stage, 20)
        spans: list[tuple[float, float, str]] = []
        ends = [span.start for span in world.history[1:]] + [zero + TO]
        for span, end in zip(world.history, ends):
            key = span.keys.get(stage, "")
            if spans and spans[-1][2] == key:
                spans[-1] = (spans[-1][0], end, key)
            else:
                spans.append((span.start, end, key))
        for start, end, key in spans:
            if key:
                picture.bar(start - zero, end - zero, picture.y + 2, 16, key, NAMES[key])
        picture.y += 20


def edges(picture: Picture) -> None:
    """How many edges send which key."""
    height, count = 44, len(PICTURED.edges)
    picture.name("edges that send", height)
    picture.bar(FROM, TO, picture.y, height, OLD)
    moments = sorted(PICTURED.edges)
    path = f"M{x(moments[0])},{picture.y + height}"
    for number, moment in enumerate(moments, 1):
        path += f"H{x(moment)}V{round(picture.y + height - height * number / count, 1)}"
    picture.parts.append(f'<path d="{path}H{x(TO)}V{picture.y + height}z" fill="{COLOURS[NEW]}"/>')
    picture.text(x(FROM) + 6, picture.y + height / 2 + 4, "the old key", 11)
    picture.text(x(max(moments)) + 6, picture.y + height / 2 + 4, "the new key", 11)
    picture.y += height


def held(run: Run) -> list[set[str]]:
    """Which keys the snapshot of each environment holds."""
    result = []
    for environment in run.environments:
        keys = {OLD, NEW}
        if environment.module is None:  # the port: what its Extension has cached
            since = run.world.now - run.world.knobs.ttl
            bodies = [body for fetched, body in environment.cache.values() if fetched > since]
            result.append({key for key in keys if any(key.encode() in body for body in bodies)})
        else:
            module, authorizer = environment.module, environment.module._authorizer
            readings = authorizer.snapshot.readings.values()
            digests = {it.digest for it in readings if environment.time() < it.ends_at}
            result.append(
                {key for key in keys if module.digest_of(authorizer.salt, key) in digests}
            )
    return result


def policy_lanes(picture: Picture, policy: Policy, what: str) -> None:
    """What one policy holds and answers."""
    run, samples = Run(PICTURED, policy, pace=8.0), list[tuple[float, list[set[str]]]]()
    run.world.at(START + 31 * 86_400.0 + BEFORE + OUTAGE[0], lambda: run.world.set_outage("absent"))
    run.world.at(START + 31 * 86_400.0 + BEFORE + sum(OUTAGE), lambda: run.world.set_outage(None))
    run.run(lambda run: samples.append((run.elapsed(), held(run))), end=TO)
    picture.name(what, 48)
    for number in range(len(run.environments)):
        for offset, key in ((0, OLD), (5, NEW)):
            start = None
            for at, keys in [*samples, (TO, [set[str]()] * 4)]:
                if key in keys[number] and start is None:
                    start = at
                elif key not in keys[number] and start is not None:
                    picture.bar(start, at, picture.y + offset, 5, key)
                    start = None
        picture.y += 12
    picture.y += 6
    paths = dict.fromkeys(MARKS, "")
    for name, wanted in (
        ("CloudFront, old key", [OLD]),
        ("CloudFront, new key", [NEW]),
        ("not CloudFront, old key", ["probe"]),
        ("wrong keys", []),
    ):
        picture.name(name, 18)
        picture.parts.append(
            f'<path d="M{LEFT},{picture.y + 9}H{WIDTH - RIGHT}" stroke="{FAINT}"/>'
        )
        for at, key, outcome in run.seen:
            if FROM <= at <= TO and (key in wanted or (not wanted and key.startswith("wrong"))):
                paths[outcome] += picture.mark(outcome, x(at), picture.y + 9)
        picture.y += 18
    for outcome, path in paths.items():
        picture.marks(outcome, path)


def svg() -> str:
    """One rotation as a timeline, with every answer of the port and of the authorizer."""
    picture = Picture()
    title = "One rotation: which key each part of the system holds, and every answer"
    picture.text(16, picture.y + 4, title, 17, bold=True)
    picture.y += 26
    at = 16
    for outcome, text in (
        ("allow", "allowed"),
        ("refuse", "refused (403)"),
        ("error", "cannot know (500)"),
    ):
        picture.marks(outcome, picture.mark(outcome, at + 5, picture.y))
        picture.text(at + 16, picture.y + 4, text)
        at += 40 + 7 * len(text)
    for key in (OLD, NEW):
        picture.parts.append(
            f'<rect x="{at}" y="{picture.y - 7}" width="22" height="13" fill="{COLOURS[key]}"/>'
        )
        picture.text(at + 28, picture.y + 4, NAMES[key])
        at += 100
    picture.text(at + 10, picture.y + 4, "API Gateway caches allows and refusals for 300 s.")
    picture.y += 16
    top = picture.y
    world_run = Run(PICTURED, POLICIES[-1], pace=60.0)
    world_run.run(end=TO)
    picture.heading("Secrets Manager: labels of the secret's versions")
    labels(picture, world_run.world, world_run.zero)
    picture.heading("CloudFront: rolls the new key out over nine minutes")
    edges(picture)
    picture.heading(
        "Straightforward port: AWSCURRENT, then AWSPENDING, on every request; "
        "Extension caches for 300 s"
    )
    policy_lanes(picture, POLICIES[0], "4 Extensions' caches")
    picture.heading("This authorizer: AWSPREVIOUS accepted for 900 s; Extension's cache off")
    policy_lanes(picture, POLICIES[-1], "4 snapshots")
    bottom = picture.y + 8
    lines = ""
    for minute in range(-2, 23, 2):
        lines += f"M{x(minute * 60.0)},{top}V{bottom}"
        picture.text(x(minute * 60.0), bottom + 16, f"{minute} min", 11, "middle")
    ground = [
        f'<path d="{lines}" stroke="{FAINT}" stroke-width="0.7"/>',
        f'<rect x="{x(OUTAGE[0])}" y="{top}" '
        f'width="{round(x(sum(OUTAGE)) - x(OUTAGE[0]), 1)}" height="{bottom - top}" '
        'fill="#fbe9c6"/>',
    ]
    picture.text(x(OUTAGE[0] + OUTAGE[1] / 2), top + 8, "Secrets Manager fails", 11, "middle")
    note = "Minutes since the new key was created (AWSPENDING). The rotator finishes 4 s later."
    picture.text(LEFT, bottom + 34, note, 11)
    height = bottom + 48
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" '
        f'fill="{INK}" role="img">\n'
        "<title>A key rotation under a straightforward port and under this authorizer</title>\n"
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" '
        f'fill="{PAPER}" stroke="{FAINT}"/>\n' + "\n".join(ground + picture.parts) + "\n</svg>\n"
    )


def write(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rotations", type=int, default=200, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the rotations (default: %(default)s)"
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw one rotation instead, into this file"
    )
    options = parser.parse_args()
    if options.rotations < 1:
        parser.error("--rotations must be at least 1")
    if options.svg:
        try:
            write(options.svg, svg())
        except OSError as error:
            print(
                f"rotation_report.py: cannot write {options.svg}: {error.strerror}", file=sys.stderr
            )
            return 1
        print(f"Wrote {options.svg}")
        return 0
    text, good = table(options.rotations, options.seed)
    print(text)
    if not good:
        print(colour("red", "The authorizer with TTL 0 refused live requests."), file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("rotation_report.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
