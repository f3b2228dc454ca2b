# SPDX-License-Identifier: MIT
"""The system around the authorizer in virtual time, and a judge of every answer that it gives.

The real authorizer.py runs here unmodified. Each execution environment is a fresh module whose
``time`` and whose Extension are replaced. Nothing sleeps. Time passes while a label is read, and
what is due meanwhile happens then: labels move, and outages begin and end, between two reads of
one scan. Times are in seconds.

Terms, for a key K and an instant t:

live      A version with the usable key K bears AWSPENDING or AWSCURRENT at t. Or it bears
          AWSPREVIOUS, and the CreatedDate of AWSCURRENT's version plus ACCEPT_PREVIOUS_SECONDS is
          after t.
arrived   When a request reaches the execution environment.
answered  When its answer leaves the execution environment.
SKEW      How far an environment's wall clock may be off.
TTL       SECRETS_MANAGER_TTL, the Extension's own cache.

``Judge`` holds every answer to this:

(a) A refused K was not live all the time from before ``arrived`` - 1 - 2 SKEW until ``answered``.
    With TTL > 0, weaker: no version with K bore one and the same label from before
    ``arrived`` - 1 - TTL - 2 SKEW.
(b) An allowed K was live at an instant between ``arrived`` - BOUND - TTL - 2 SKEW and ``answered``.
    BOUND is CACHE_SECONDS. It is the larger of CACHE_SECONDS and MAX_STALE_SECONDS if, for this
    request or up to a second before, a read failed or found AWSCURRENT without a usable key.
    AWSPREVIOUS alone counts only if the time that it had then is not over at ``arrived``. With
    TTL > 0, weaker: it counts whatever the date of AWSCURRENT was then, as the Extension may give
    an older AWSPREVIOUS beside a younger AWSCURRENT.
(c) A refusal rests on three whole looks over the labels, all read after ``arrived`` - 1 - 2 SKEW,
    from Secrets Manager at most TTL earlier.
(d) One scan takes at most 10 calls to the Extension (7 without AWSPREVIOUS) and 60 repeated tries.
    Each change of a label and each begin and end of an outage meanwhile adds 9 (6) calls. There is
    no scan for 1 s after the end of one that failed. While nothing changes, two scans that end in a
    refusal are 1 s apart, and two that find the same key CACHE_SECONDS. This holds unless a scan of
    another kind came between them.
(e) An answer is an allow, a refusal or SecretUnavailableError.

API Gateway keeps an answer for GATEWAY seconds after ``answered``. Through it, (a) and (b) become:
a K that has been live for more than GATEWAY + 1 + SCAN is not refused. A K that has not been live
for more than GATEWAY + SCAN and the larger of CACHE_SECONDS and MAX_STALE_SECONDS is not allowed.
Each grows by TTL. SCAN is the longest that an answer takes, 3.

The worlds that tests generate keep to one limit: within one scan there are at most two
disturbances. A disturbance is a read that fails alone, the begin or the end of an outage, or a
label that moves against its direction (see ``GAP``). Three failures that hit just the reads of
one label look like its absence. An environment that knows the label's key then answers with an
error; one that does not know it refuses.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

from lib.standins import (
    CURRENT,
    GENERIC_ERROR,
    NOT_READY,
    PENDING,
    PREVIOUS,
    SUBJECT,
    TOKEN,
    Clock,
    Context,
    ResultCache,
    Secret,
)

START = 1_000_000.0  # the world's first instant, in seconds since 1970
EPSILON = 1e-4  # for sums of floating-point numbers, and CreatedDate's microseconds
RESCAN = 1.0  # the documented age of a refusal's data
SCAN = 3.0  # the longest scan
PAUSE = 0.05  # between two tries to read a label
GAP = SCAN + 0.001  # between two disturbances, so that no scan meets two

OUTAGES: dict[str, tuple[int, bytes]] = {  # what a reading meets: 0 for no answer at all
    # Secrets Manager fails: the Extension says what it says of a missing label.
    "absent": (400, GENERIC_ERROR),
    "refused": (0, b"refused"),
    "hang": (0, b"hang"),
    "500": (500, b""),
    "429": (429, b""),
    "not ready": (400, NOT_READY),
    "garbled": (200, b'{"VersionId": "x", "SecretStri'),
}
OF_SECRETS_MANAGER = "absent"  # the Extension's cache still answers then


class Knobs(NamedTuple):
    """The settings of one world, in seconds."""

    accept_previous: int = 900
    cache: int = 60
    max_stale: int = 300
    ttl: int = 0
    gateway: int = 0
    skew: float = 0.0


class Span(NamedTuple):
    """From one change of the labels to the next."""

    start: float
    keys: dict[str, str]  # by staging label, where its version has a usable key
    current_created: float


class VirtualWorld(Clock):
    """A secret, its history, outages, and the one true clock.

    Each reading takes the next of the ``latencies``: the time until Secrets Manager looks, and from
    then until the answer is there.
    """

    def __init__(
        self, knobs: Knobs = Knobs(), latencies: Iterable[tuple[float, float]] = ((0.005, 0.005),)
    ) -> None:
        super().__init__()
        self.knobs = knobs
        self.now = START
        self.latencies = itertools.cycle(latencies)
        self.secret = Secret(clock=self)
        self.keys: dict[str, str] = {}  # the usable key of each version, by its id
        self.history: list[Span] = [Span(START, {}, 0.0)]
        self.events: list[tuple[float, int, Callable[[], object]]] = []
        self.outage: str | None = None
        self.fails: Callable[[], bool] = lambda: False  # whether Secrets Manager fails for a read
        # Readings to come, and what follows them.
        self.readings: list[tuple[int, Callable[[], object]]] = []
        self.disturbed: list[float] = []  # when a label moved or an outage began or ended
        self.order = itertools.count()
        self.environment = {
            "SECRET_NAME": self.secret.name,
            "SECRET_KEY_NAME": self.secret.member,
            "AWS_SESSION_TOKEN": TOKEN,
            "LOG_LEVEL": "CRITICAL",  # it logs nothing then, which is faster
            "ACCEPT_PREVIOUS_SECONDS": str(knobs.accept_previous),
            "CACHE_SECONDS": str(knobs.cache),
            "MAX_STALE_SECONDS": str(knobs.max_stale),
            "SECRETS_MANAGER_TTL": str(knobs.ttl),
        }

    def time(self) -> float:
        return self.now

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Let something happen at an instant, or now if that has passed."""
        heapq.heappush(self.events, (max(when, self.now), next(self.order), action))

    def after(self, readings: int, action: Callable[[], object]) -> None:
        """Let something happen just after Secrets Manager was asked that many more times.

        0 is now.
        """
        if readings:
            self.readings.append((readings, action))
        else:
            action()

    def was_read(self) -> None:
        due = [action for readings, action in self.readings if readings == 1]
        self.readings = [
            (readings - 1, action) for readings, action in self.readings if readings > 1
        ]
        for action in due:
            action()

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due meanwhile happen."""
        end = self.now + max(seconds, 0.0)
        while self.events and self.events[0][0] <= end:
            self.now, _, action = heapq.heappop(self.events)
            action()
        self.now = end

    def until(self, when: float) -> None:
        self.advance(when - self.now)

    # What happens to the secret

    def put(self, key: str | None, stage: str = CURRENT) -> str:
        """A new version with that key, or with no value yet, under a label; its id."""
        version_id = self.secret.put_string(
            json.dumps({self.secret.member: key}) if key else None, stage
        )
        if key:
            self.keys[version_id] = key
        self.changed()
        return version_id

    def put_broken(self, stage: str) -> None:
        """A new version that has a value but no usable key."""
        self.secret.put(None, stage)
        self.changed()

    def fill(self, key: str) -> None:
        """Give the version under AWSPENDING its value: what createSecret does when it is tried
        again.
        """
        version_id = self.secret.labels[PENDING]
        self.secret.versions[version_id].string = json.dumps({self.secret.member: key})
        self.keys[version_id] = key
        self.changed()

    def label(self, stage: str, version_id: str) -> None:
        self.secret.label(stage, version_id)
        self.changed()

    def finish(self, keep_pending: bool = True) -> None:
        """finishSecret. As two calls, where AWSPENDING goes: AWSCURRENT moves first."""
        self.label(CURRENT, self.secret.labels[PENDING])
        if not keep_pending:
            self.unlabel(PENDING)

    def unlabel(self, stage: str) -> None:
        self.secret.unlabel(stage)
        self.changed()

    def roll_back(self) -> None:
        """Move AWSCURRENT back to the version under AWSPREVIOUS."""
        self.label(CURRENT, self.secret.labels[PREVIOUS])

    def changed(self) -> None:
        """Note what the labels are on now."""
        labels = self.secret.labels
        keys = {
            stage: self.keys[version] for stage, version in labels.items() if version in self.keys
        }
        created = self.secret.versions[labels[CURRENT]].created if CURRENT in labels else 0.0
        self.history.append(Span(self.now, keys, created))
        self.disturbed.append(self.now)

    def set_outage(self, kind: str | None) -> None:
        self.outage = kind
        self.disturbed.append(self.now)

    def fail(self, kind: str, start: float, seconds: float) -> None:
        """Plan an outage: a key of OUTAGES."""
        self.at(start, lambda: self.set_outage(kind))
        self.at(start + seconds, lambda: self.set_outage(None))

    # What is known of the past

    def changed_since(self, moment: float) -> bool:
        """Whether a label moved, an outage began or ended, or AWSPREVIOUS stopped counting, at
        or after an instant.
        """
        grace = self.knobs.accept_previous
        ends = [span.current_created + grace for span in self.history if grace]
        return any(
            moment <= other <= self.now + self.knobs.skew for other in [*self.disturbed, *ends]
        )

    def changes(self, start: float, end: float) -> int:
        """How often a label moved, or an outage began or ended, between two instants."""
        return sum(start <= moment <= end for moment in self.disturbed)

    def unusable(self, moment: float) -> bool:
        """Whether AWSCURRENT was on a version without a usable key at an instant, or right
        before or after it.
        """
        ends = [span.start for span in self.history[1:]] + [float("inf")]
        spans = [
            span
            for span, end in zip(self.history, ends)
            if span.start - EPSILON <= moment <= end + EPSILON
        ]
        return any(CURRENT not in span.keys for span in spans)

    def live(self, key: str, margin: float = 0.0) -> list[tuple[float, float]]:
        """When ``key`` was live until now, as intervals that do not touch.

        ``margin`` lengthens AWSPREVIOUS.
        """
        return self._intervals(lambda span: self._live_until(span, key, margin))

    def _live_until(self, span: Span, key: str, margin: float) -> float:
        if key in (span.keys.get(PENDING), span.keys.get(CURRENT)):
            return float("inf")
        return self._previous_until(span, key, margin)

    def _previous_until(self, span: Span, key: str, margin: float) -> float:
        grace = self.knobs.accept_previous
        if grace and key == span.keys.get(PREVIOUS):
            return span.current_created + grace + margin
        return 0.0

    def acceptable(self, key: str, arrived: float, margin: float) -> list[tuple[float, float]]:
        """When a reading lets ``key`` in at ``arrived``, if it is not too old then."""

        def until(span: Span) -> float:
            until = self._live_until(span, key, margin)
            if self.knobs.ttl and self.knobs.accept_previous and key == span.keys.get(PREVIOUS):
                youngest = max(span.current_created for span in self.history)
                until = max(until, youngest + self.knobs.accept_previous + margin)
            return until if until > arrived else 0.0

        return self._intervals(until)

    def borne(self, key: str, stage: str, margin: float = 0.0) -> list[tuple[float, float]]:
        """When that one label made ``key`` live, as intervals that do not touch."""
        return self._intervals(
            lambda span: (
                self._previous_until(span, key, margin)
                if stage == PREVIOUS
                else float("inf")
                if span.keys.get(stage) == key
                else 0.0
            )
        )

    def _intervals(self, until: Callable[[Span], float]) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        ends = [span.start for span in self.history[1:]] + [self.now + EPSILON]
        for span, end in zip(self.history, ends):
            end = min(end, until(span))
            if end <= span.start:
                continue
            if found and found[-1][1] >= span.start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((span.start, end))
        return found


class Read(NamedTuple):
    """One reading of a label through the Extension."""

    at: float  # when the Extension answered, from its cache or not
    stage: str
    # The Extension gave a version, or said that a label other than AWSCURRENT is on none.
    good: bool
    data_at: float  # when Secrets Manager was asked
    body: bytes


class Answer(NamedTuple):
    """What became of one request to an execution environment."""

    key: str
    outcome: str  # "allow", "refuse", "error", or "gone" for the error label_gone
    arrived: float
    answered: float
    reads: list[Read]


AUTHORIZER = compile(SUBJECT.read_text("utf-8"), str(SUBJECT), "exec", dont_inherit=True)


def as_it_is(module: Any) -> None:
    """No variant of the authorizer."""


class Environment:
    """An execution environment: its clocks, its Extension with its cache, and the code that
    answers. It stands in for the module ``time`` of that code.

    ``vary`` may change the loaded module, for a variant that a test wants to see fail.
    """

    def __init__(self, world: VirtualWorld, vary: Callable[[Any], object] = as_it_is) -> None:
        self.world = world
        self.wall_offset = 0.0  # of this environment's wall clock
        self.stood_still = 0.0  # how long its monotonic clock has
        self.cache: dict[str, tuple[float, bytes]] = {}  # by label: when fetched, body
        self.reads: list[Read] = []
        self.misses = 0  # calls to Secrets Manager
        self.module = self.load()
        vary(self.module)

    def load(self) -> Any:
        module: Any = ModuleType("authorizer")
        exec(AUTHORIZER, module.__dict__)  # nosec B102
        module.time = self
        module._authorizer = module.Authorizer(module.Settings(self.world.environment))
        module._authorizer.extension.fetch = self.read
        return module

    def time(self) -> float:
        return self.world.now + self.wall_offset

    def monotonic(self) -> float:
        return self.world.now - self.stood_still

    def sleep(self, seconds: float) -> None:
        self.world.advance(seconds)

    def freeze(self, seconds: float, monotonic_too: bool) -> None:
        """Let time pass while nothing runs here."""
        self.world.advance(seconds)
        self.stood_still += seconds if monotonic_too else 0.0

    def ask(self, key: str, milliseconds: int = 5000) -> Answer:
        arrived, before = self.world.now, len(self.reads)
        outcome = self.outcome(key, milliseconds)
        return Answer(key, outcome, arrived, self.world.now, self.reads[before:])

    def outcome(self, key: str, milliseconds: int) -> str:
        event = {"headers": {"x-origin-verify": key}}
        try:
            answer = self.module.handler(event, Context(milliseconds))
        except self.module.SecretUnavailableError as error:
            return "gone" if error.reason == "label_gone" else "error"
        return {True: "allow", False: "refuse"}[answer["isAuthorized"]]

    def read(self, stage: str, deadline: float) -> tuple[int, bytes]:
        """What the Extension answers for one label. Raises OSError as the network would."""
        before, after = next(self.world.latencies)
        world, at, data_at, status, body, good = (
            self.world,
            self.world.now,
            self.world.now,
            0,
            b"",
            False,
        )
        try:
            self.spend(before, deadline)
            at = data_at = world.now
            fetched, cached = self.cache.get(stage, (0.0, b""))
            if (
                cached
                and at < fetched + world.knobs.ttl
                and world.outage in (None, OF_SECRETS_MANAGER)
            ):
                data_at, status, body = fetched, 200, cached
            elif world.outage or world.fails():
                status, body = OUTAGES[world.outage or OF_SECRETS_MANAGER]
            else:
                self.misses += 1
                status, body = world.secret.answer(world.secret.name, stage)
                if status == 200 and world.knobs.ttl:
                    self.cache[stage] = (at, body)
            answered = status == 200 and body != OUTAGES["garbled"][1]
            hangs = world.outage == "hang"
            world.was_read()
            self.spend(float("inf") if hangs else after, deadline)
            good = answered or (stage != CURRENT and body == GENERIC_ERROR)
        finally:
            self.reads.append(Read(at, stage, good, data_at, body))
        if not status:
            raise ConnectionRefusedError
        return status, body

    def spend(self, seconds: float, deadline: float) -> None:
        """Let time pass, but not beyond the deadline. Raises TimeoutError."""
        left = deadline - self.monotonic()
        self.world.advance(min(seconds, left))
        if seconds >= left:
            raise TimeoutError


class Port(Environment):
    """The straightforward port of the predecessor: AWSCURRENT, then AWSPENDING, on every
    request.
    """

    def load(self) -> None:
        return None

    def outcome(self, key: str, milliseconds: int) -> str:
        try:
            for stage in (CURRENT, PENDING):
                status, body = self.read(stage, self.monotonic() + 2.0)
                if status == 200:
                    answer = json.loads(body)
                    if json.loads(answer["SecretString"])[self.world.secret.member] == key:
                        return "allow"
                elif stage == CURRENT:
                    return "error"
            return "refuse"
        except (OSError, ValueError, KeyError):
            return "error"


class VirtualGateway:
    """API Gateway's cache of authorizer results, in front of any number of environments."""

    def __init__(self, world: VirtualWorld) -> None:
        self.cache = ResultCache(world, world.knobs.gateway)

    def ask(self, key: str, environment: Environment | Judge) -> tuple[str, Answer | None]:
        """What the client gets, and the environment's answer if it was asked."""
        allowed = self.cache.get(key)
        if allowed is not None:
            return "allow" if allowed else "refuse", None
        answer = environment.ask(key)
        if answer.outcome in ("allow", "refuse"):
            self.cache.keep(key, answer.outcome == "allow")
        return answer.outcome, answer


class BrokenPromiseError(AssertionError):
    """An answer that one of the invariants (a) to (e) forbids; ``letter`` says which."""

    def __init__(self, letter: str, text: str) -> None:
        super().__init__(f"({letter}) {text}")
        self.letter = letter


class Scan(NamedTuple):
    """A request that caused reads."""

    key: str
    arrived: float
    answered: float
    outcome: str  # "found", "refused", "gone" or "failed"


class Judge:
    """Holds the answers of one environment to the invariants, or to some of them.

    Raises BrokenPromiseError.
    """

    def __init__(self, environment: Environment, letters: str = "abcd") -> None:
        self.letters = letters
        self.environment = environment
        self.world = environment.world
        self.scans: list[Scan] = []
        self.failed = -float("inf")  # when the last failed scan ended
        self.unusable = -float("inf")  # when a scan last found AWSCURRENT without a usable key

    def ask(self, key: str, milliseconds: int = 5000) -> Answer:
        """Ask the environment, and judge its answer."""
        answer = self.environment.ask(key, milliseconds)
        given = any(key.encode() in read.body for read in answer.reads)
        stale = answer.outcome == "allow" and not given
        if answer.reads and (answer.outcome == "error" or stale):
            self.failed = answer.answered
        if any(self.world.unusable(read.data_at) for read in answer.reads if read.stage == CURRENT):
            self.unusable = answer.answered
        if answer.outcome == "refuse":
            self.refusal(answer)
        elif answer.outcome == "allow":
            self.allowed(answer)
        if answer.reads:
            self.rate(answer)
        return answer

    def ask_through(self, gateway: VirtualGateway, key: str) -> str:
        """Ask API Gateway, which may ask the environment, and judge what the client gets."""
        knobs, arrived = self.world.knobs, self.world.now
        outcome, answer = gateway.ask(key, self)
        shown = answer or Answer(key, outcome, arrived, arrived, [])
        behind = knobs.gateway + SCAN + knobs.ttl + 2 * knobs.skew + EPSILON
        if outcome == "refuse":
            for start, end in self.spells(key):
                wrong = start < arrived - behind - RESCAN and end > self.world.now
                self.require(
                    not wrong,
                    "a",
                    shown,
                    f"through API Gateway, live since {start - START:.3f}",
                )
        elif outcome == "allow":
            late = arrived - max(
                (end for _, end in self.world.live(key, knobs.skew)), default=-float("inf")
            )
            most = behind + max(knobs.cache, knobs.max_stale)
            self.require(late <= most, "b", shown, f"through API Gateway, not live for {late:.3f}")
        return outcome

    def require(self, good: bool, letter: str, answer: Answer, text: str) -> None:
        if not good and letter in self.letters:
            key, outcome, arrived, answered, _ = answer
            raise BrokenPromiseError(
                letter,
                f"{outcome} of {key} from {arrived - START:.3f} to {answered - START:.3f}: {text}",
            )

    def spells(self, key: str) -> list[tuple[float, float]]:
        """When ``key`` was live, in the sense of (a)."""
        if not self.world.knobs.ttl:
            return self.world.live(key, -self.world.knobs.skew)
        stages = (PENDING, CURRENT, PREVIOUS)
        return [
            spell
            for stage in stages
            for spell in self.world.borne(key, stage, -self.world.knobs.skew)
        ]

    def refusal(self, answer: Answer) -> None:
        """(a) and (c)."""
        ttl, skew = self.world.knobs.ttl, self.world.knobs.skew
        since = answer.arrived - RESCAN - 2 * skew
        for start, end in self.spells(answer.key):
            wrong = start < since - ttl - EPSILON and end > answer.answered
            self.require(not wrong, "a", answer, f"it has been live since {start - START:.3f}")
        first = since - EPSILON
        fresh = [
            read
            for read in self.environment.reads
            if read.at >= first and read.data_at >= first - ttl
        ]
        stages = " ".join(read.stage for read in fresh if read.good and read.stage != PREVIOUS)
        looks = " ".join([PENDING, CURRENT] * 3)
        self.require(looks in stages, "c", answer, f"it rests on {stages or 'nothing'}")

    def allowed(self, answer: Answer) -> None:
        """(b)."""
        knobs = self.world.knobs
        bound = float(knobs.cache)
        if max(self.failed, self.unusable) >= answer.arrived - RESCAN - 2 * knobs.skew:
            bound = float(max(knobs.cache, knobs.max_stale))
        ends = [end for _, end in self.world.acceptable(answer.key, answer.arrived, knobs.skew)]
        late = answer.arrived - max(ends, default=-float("inf"))
        self.require(
            late <= bound + knobs.ttl + 2 * knobs.skew + EPSILON,
            "b",
            answer,
            f"not live for {late:.3f}",
        )

    def rate(self, answer: Answer) -> None:
        """(d)."""
        knobs = self.world.knobs
        look = 3 if knobs.accept_previous else 2
        changes = self.world.changes(answer.arrived, answer.answered)
        most = 1 + 3 * look * (1 + changes) + SCAN / PAUSE
        calls = len(answer.reads)
        self.require(calls <= most, "d", answer, f"{calls} calls in one scan")
        kinds = {"allow": "found", "refuse": "refused", "gone": "gone", "error": "failed"}
        kind = "failed" if self.failed == answer.answered else kinds[answer.outcome]
        slack = 2 * knobs.skew + EPSILON
        for scan in reversed(self.scans):  # the last one that failed
            if scan.outcome == "failed":
                late = answer.arrived - scan.answered
                text = f"a scan {late:.3f} s after a failed one"
                self.require(late > RESCAN - slack, "d", answer, text)
                break
        apart = {"found": float(knobs.cache), "failed": 0.0}.get(kind, RESCAN)
        for scan in reversed(self.scans):  # those since the last one that ended otherwise
            if scan.outcome != kind:
                break
            if kind == "found" and scan.key != answer.key:
                continue
            late = answer.arrived - scan.arrived
            moved = self.world.changed_since(scan.arrived - knobs.ttl - slack)
            text = f"a scan {late:.3f} s after one that {kind}"
            self.require(late > apart - slack or moved, "d", answer, text)
        self.scans.append(Scan(answer.key, answer.arrived, answer.answered, kind))
