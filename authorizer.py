# SPDX-License-Identifier: MIT
"""Lambda authorizer that lets a request pass only if it carries a live version of a secret key.

CloudFront adds the key to every request as a header; this function, in front of Amazon API Gateway,
refuses whatever came another way. The key is a member of a JSON secret in AWS Secrets Manager, read
through the AWS Parameters and Secrets Lambda Extension on 127.0.0.1. Handler: ``handler``.

Allows   a key equal to the one in the version labelled AWSPENDING or AWSCURRENT or, while the current
         version is younger than ACCEPT_PREVIOUS_SECONDS, in the one labelled AWSPREVIOUS. A match needs
         no new reading for CACHE_SECONDS; while a label cannot be read, its last reading serves for
         MAX_STALE_SECONDS.
Refuses  a header that is missing, given twice or malformed (and an event that names no stage where a policy
         has to), without reading anything; and a key that two readings in a row of all labels do not know.
         They are made when the request arrives, or were at most a second before.
Raises   when it cannot know: ``SecretUnavailableError`` if the key matched nothing and a label could not be
         read or AWSCURRENT holds no usable key; ``SettingsError`` (a ``ValueError``) if a setting is missing
         or malformed. API Gateway answers 500 and, unlike a refusal, does not cache it.

All rightful traffic carries one key and API Gateway caches a refusal for up to an hour, so one wrong "no"
is an outage of the whole API. That is why a refusal needs fresh data and a match does not, and why "could
not read" never becomes "no". That holds with SECRETS_MANAGER_TTL=0: otherwise the Extension's answers may be
old. The settings are environment variables: see ``Settings``.
"""

from __future__ import annotations

import hmac
import http.client
import json
import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

__version__ = "1.0.0"
__all__ = ["SecretUnavailableError", "SettingsError", "handler"]

RESCAN_SECONDS = 1  # how old the data of a refusal may be; also the pause after a failed scan
COLD_SCAN_SECONDS = 3.0  # the longest scan while no reading serves: the Extension may still be starting
WARM_SCAN_SECONDS = 1.0  # the longest scan while one does
RESERVED_SECONDS = 0.5  # of the invocation's time, kept for answering
RETRY_PAUSE_SECONDS = 0.05  # between two tries to read a label: short, as it is loopback
MAX_ANSWER_BYTES = 524_288  # a secret value has at most 65,536 bytes, of which JSON escapes can make six each
MIN_KEY_LENGTH = 16  # characters: a shorter key works, with a warning
MAX_FIELD_LENGTH = 200  # characters of an event's value in a log line
MAX_SEARCHED = MAX_FIELD_LENGTH + MIN_KEY_LENGTH - 1  # of which the first may be the last that is shown

FIELDS = ("outcome", "reason", "stage", "version_id", "request_id", "source_ip", "route")  # of a decision's log line
LEVELS = {"allow": logging.INFO, "refuse": logging.WARNING, "error": logging.ERROR}  # by outcome
TEXT_LINE = " ".join([f'{name}="%s"' for name in FIELDS])

PENDING, CURRENT, PREVIOUS = "AWSPENDING", "AWSCURRENT", "AWSPREVIOUS"  # the way a version travels
ABSENT = "absent"  # the Extension's one answer to: no such label, no such secret, access denied
PROBLEMS = {  # by reason code, what a SecretUnavailableError says
    "current_unreadable": "Secrets Manager did not give AWSCURRENT. Check SECRET_NAME, and the role's "
    "secretsmanager:GetSecretValue and kms:Decrypt; the Extension's own log lines give the cause",
    "current_unusable": "AWSCURRENT has no usable key: SECRET_KEY_NAME must be a string of visible ASCII in a JSON object",
    "session_rejected": "the Extension rejected AWS_SESSION_TOKEN. Check that nothing changes it, and the port",
    "extension_unavailable": "the Extension did not answer in time. Check its layer, the layer's architecture, and the "
    "function's network route to Secrets Manager",
    "answer_unexpected": "that is no answer of the Extension's. Check PARAMETERS_SECRETS_EXTENSION_HTTP_PORT",
}

VISIBLE = re.compile(r"[!-~]+")  # visible ASCII: what any header can carry unchanged
KEY = re.compile(r"[!-~]{1,10240}")  # the same, within API Gateway's limit for the request line and all headers
VERSION_ID = re.compile(r"[!-~]{1,64}")
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2: what a header's name may be
STAGE_ARN = re.compile(r"(arn:[a-z0-9-]+:execute-api:[a-z0-9-]+:[0-9]+:[A-Za-z0-9]+/[A-Za-z0-9_$-]+)/")
RFC_3339 = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z")
EPOCH_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]+)?")
LEVEL = re.compile(r"TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL", re.ASCII | re.IGNORECASE)
FORMAT = re.compile(r"auto|simple|iam")
PLAIN = re.compile(rf"[ !#-[\]-~]{{0,{MAX_FIELD_LENGTH}}}")  # printable ASCII, no double quote or backslash
IPV6 = re.compile(r"[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}(\.[0-9]{1,3}){0,3}")  # no client may hide its address
DAY = range(86_401)  # seconds that a setting may have

logger = logging.getLogger("authorizer")  # the same name whatever this file is called

Event = dict[object, object]  # from API Gateway, so of any shape
Values = tuple[list[object], list[object]]  # of one header: in "headers", and in "multiValueHeaders"
Moment = tuple[float, float]  # seconds: time.monotonic() and time.time() at one instant
_authorizer: Authorizer | None = None  # of this execution environment; made by the first invocation


class SettingsError(ValueError):
    """A setting is missing or malformed. The text names all such settings and their rules, never a value."""


class SecretUnavailableError(Exception):
    """Whether the key is live could not be found out. ``reason`` is a key of ``PROBLEMS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: {PROBLEMS[reason]}")
        self.reason = reason


def handler(event: object, context: object) -> dict[str, object]:
    """Answer an API Gateway authorizer event: what Lambda calls.

    Takes HTTP API payload 2.0 and 1.0, REST ``REQUEST`` and ``TOKEN``, WebSocket ``$connect``, and a bare
    ``{"headers": {...}}``. Returns a simple response or an IAM policy, see RESPONSE_FORMAT.
    Raises SecretUnavailableError and SettingsError; nothing else, whatever the event.
    """
    global _authorizer
    if _authorizer is None:  # not at import: the Extension does not serve before the first invocation
        try:
            _authorizer = Authorizer(Settings(os.environ))
        except SettingsError as error:
            logger.error("settings_invalid: %s", error, extra={"outcome": "error", "reason": "settings_invalid"})
            raise
    return _authorizer.answer(event, context)


class Settings:
    """The environment variables, validated together. Raises SettingsError."""

    def __init__(self, env: Mapping[str, str]) -> None:
        wrong: list[str] = []

        def text(name: str, default: str, pattern: re.Pattern[str], rule: str) -> str:
            value = env.get(name) or default
            if not pattern.fullmatch(value):
                wrong.append(f"{name} must be {rule}")
            return value

        def number(name: str, default: int, allowed: range, example: int) -> int:
            value = env.get(name) or str(default)
            if re.fullmatch("[0-9]{1,6}", value) and int(value) in allowed:
                return int(value)
            wrong.append(f"{name} must be a whole number from {allowed[0]} to {allowed[-1]}, for example {example}")
            return default

        self.secret_name = text("SECRET_NAME", "", VISIBLE, "a secret's name or ARN, for example prod/origin-key")
        self.key_name = text("SECRET_KEY_NAME", "", re.compile(".+"), "a member of the secret, for example key")
        self.header = text("HEADER_NAME", "x-origin-verify", TOKEN, "a header's name, for example x-api-key").lower()
        self.accept_previous_seconds = number("ACCEPT_PREVIOUS_SECONDS", 0, DAY, 900)
        self.cache_seconds = number("CACHE_SECONDS", 60, DAY, 60)
        self.max_stale_seconds = number("MAX_STALE_SECONDS", 300, DAY, 300)
        self.response_format = text("RESPONSE_FORMAT", "auto", FORMAT, "auto, simple or iam, for example auto")
        level_from = "LOG_LEVEL" if env.get("LOG_LEVEL") else "AWS_LAMBDA_LOG_LEVEL"
        level = text(level_from, "INFO", LEVEL, "DEBUG, INFO, WARNING, ERROR or CRITICAL, for example INFO")
        self.json_logs = env.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
        self.port = number("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", 2773, range(1, 65_536), 2773)
        self.extension_ttl = number("SECRETS_MANAGER_TTL", 300, range(301), 0)
        self.token = text("AWS_SESSION_TOKEN", "", VISIBLE, "as Lambda sets it, which it does not under SnapStart")
        if wrong:
            raise SettingsError("; ".join(wrong))
        self.level = level.upper().replace("TRACE", "DEBUG")  # the one that logging does not know


class Reading:
    """The version that a staging label was on when it was last read."""

    def __init__(self, stage: str, version_id: str, digest: bytes, created: float, read_at: Moment) -> None:
        self.stage = stage
        self.version_id = version_id
        self.digest = digest  # of the key; empty for a broken version, so that it equals no digest
        self.created = created  # seconds since 1970: when the version was made, not when the label moved
        self.read_at = read_at  # arrival of the request that caused the reading, so never after it
        self.expires = float("inf")  # seconds since 1970

    def rank(self, arrived: Moment) -> tuple[bool, float]:
        """Whether it has expired, and its age in seconds: the less, the better."""
        return arrived[1] >= self.expires, age(self.read_at, arrived)

    def serves(self, arrived: Moment, seconds: float) -> bool:
        """Whether a match with this reading is enough, if it may be that old."""
        return self.rank(arrived) <= (False, seconds)


class Authorizer:
    """Decides on requests. Holds the snapshot, ``readings``, of one execution environment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.salt = os.urandom(32)
        self.readings: dict[str, Reading] = {}  # by staging label; a label on no version has none
        self.refusable: Moment | None = None  # arrival of the request whose scan ended in two looks that agree
        self.failure: tuple[Moment, str] | None = None  # end and reason code of the last scan, if it failed
        self.warned: set[str] = set()  # ids of the versions that were warned about
        logger.setLevel(settings.level)
        if settings.extension_ttl:
            stale = "SECRETS_MANAGER_TTL is %d: for that many seconds a new key may be refused; set it to 0"
            logger.warning(stale, settings.extension_ttl)

    def answer(self, event: object, context: object) -> dict[str, object]:
        """The answer to one event, logged; see ``handler``."""
        fields: Event = event if isinstance(event, dict) else {}
        version_2 = fields.get("version") == "2.0"
        policy = self.settings.response_format == "iam"
        if self.settings.response_format == "auto" and not version_2:
            policy = any(name in fields for name in ("version", "type", "methodArn"))  # else it is the bare event
        arn = STAGE_ARN.match(text_at(fields, "routeArn" if version_2 else "methodArn")) if policy else None
        values = header_values(fields, self.settings.header)
        key, reason = presented_key(*values)
        if policy and not arn:
            reason = reason or "event_malformed"  # an allow must name the stage that it allows
        found: Reading | None = None
        try:
            if not reason:
                found, reason = self.decide(key, context)
        except SecretUnavailableError as error:
            self.log("error", error.reason, None, fields, values)
            raise
        self.log("allow" if found else "refuse", reason, found, fields, values)
        version = {"secretStage": found.stage, "secretVersionId": found.version_id} if found else {}
        if not policy:
            return {"isAuthorized": found is not None, "context": version}
        statement = {
            "Action": "execute-api:Invoke",
            "Effect": "Allow" if found else "Deny",
            "Resource": f"{arn[1]}/*" if arn else "*",  # cached for every route, so it covers the whole stage
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        return {"principalId": "cloudfront", "policyDocument": document, "context": version}

    def decide(self, key: str, context: object) -> tuple[Reading | None, str]:
        """The reading that ``key`` matches, or None to refuse it, and the reason code.

        Raises SecretUnavailableError. Ages are taken at the request's arrival, so what is read on its
        behalf has the age 0 however long the reading takes.
        """
        arrived = now()
        digest = self.digest(key)
        found = self.find(digest, arrived)
        if found and found.serves(arrived, self.settings.cache_seconds):
            return found, "key_matched"
        if not found and self.refusable and age(self.refusable, arrived) <= RESCAN_SECONDS:
            return None, "key_unknown"
        if self.failure and age(self.failure[0], arrived) <= RESCAN_SECONDS:
            problem: str | None = self.failure[1]
        else:
            problem = self.scan(digest, arrived, context)
            found = self.find(digest, arrived)
        if found and found.serves(arrived, self.settings.cache_seconds):
            return found, "key_matched"
        if found and found.serves(arrived, self.settings.max_stale_seconds):
            return found, "key_matched_stale"
        if problem:
            raise SecretUnavailableError(problem)
        return None, "key_unknown"

    def digest(self, key: str) -> bytes:
        """What is kept and compared in a key's place: of equal length for all, and no use elsewhere."""
        return hmac.digest(self.salt, key.encode("ascii"), "sha256")

    def find(self, digest: bytes, arrived: Moment) -> Reading | None:
        """The best reading with that digest; of equally good ones AWSCURRENT's."""
        found: Reading | None = None
        for stage in (PREVIOUS, PENDING, CURRENT):  # no early exit: the time must not tell which one matched
            reading = self.readings.get(stage)
            if reading and hmac.compare_digest(digest, reading.digest):
                if not found or reading.rank(arrived) <= found.rank(arrived):
                    found = reading
        return found

    def scan(self, digest: bytes, arrived: Moment, context: object) -> str | None:
        """Look at all labels until the key is found or two looks in a row agree; None, or what forbids to refuse.

        One look can miss a live version: when AWSCURRENT is moved back during it, or when an outage begins or
        ends during it, since a label that fails looks like one that is absent.
        """
        longest = max(self.settings.cache_seconds, self.settings.max_stale_seconds)
        known = any(reading.serves(arrived, longest) for reading in self.readings.values())
        budget = WARM_SCAN_SECONDS if known else COLD_SCAN_SECONDS
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        if remaining:
            budget = min(budget, remaining() / 1000 - RESERVED_SECONDS)
        deadline = time.monotonic() + budget
        self.refusable = None  # it belongs to the readings that are replaced now
        before: dict[str, str] | None = None
        while True:
            problem = self.look(arrived, deadline)
            self.failure = (now(), problem) if problem else None
            if problem:
                logger.warning("scan failed: %s", problem, extra={"reason": problem})
                return problem
            seen = {stage: reading.version_id for stage, reading in self.readings.items()}
            if self.find(digest, arrived):
                return None
            if seen == before:
                self.refusable = arrived
                return None
            before = seen

    def look(self, arrived: Moment, deadline: float) -> str | None:
        """Read every label, in the direction versions travel; None, or the reason code of the first gap.

        In that direction a version that moves meanwhile is still seen. A label that cannot be read keeps
        its last reading; that it is absent is believed only beside a reading of AWSCURRENT.
        """
        grace = self.settings.accept_previous_seconds
        half = (time.monotonic() + deadline) / 2  # a label that hangs must leave the others their time
        pending = self.read(PENDING, arrived, half)
        current = self.read(CURRENT, arrived, deadline)  # without which AWSPREVIOUS is not read
        results: dict[str, Reading | str] = {CURRENT: current, PENDING: pending}
        if isinstance(current, Reading):
            results[PREVIOUS] = ABSENT
            if grace and arrived[1] < current.created + grace:
                previous = results[PREVIOUS] = self.read(PREVIOUS, arrived, deadline)
                if isinstance(previous, Reading):
                    previous.expires = current.created + grace
        problem: str | None = None
        for stage, result in results.items():
            if isinstance(result, Reading):
                self.readings[stage] = result
            elif result == ABSENT and isinstance(current, Reading):
                self.readings.pop(stage, None)
            else:
                problem = problem or (result if result != ABSENT else "current_unreadable")
        if isinstance(current, Reading) and not current.digest:
            problem = problem or "current_unusable"
        logger.debug("scan found %s", {stage: getattr(it, "version_id", it) for stage, it in results.items()})
        return problem

    def read(self, stage: str, arrived: Moment, deadline: float) -> Reading | str:
        """Read one label, trying again what may pass; its reading, ABSENT, or a reason code."""
        while True:
            try:
                status, body = self.fetch(stage, deadline)
            except Exception:  # refused, hung, cut off, not HTTP: http.client lets through what its parsers raise
                status, body = 0, b""
            if status == 200:
                return self.parse(stage, body, arrived)
            if status in (401, 403):
                return "session_rejected"
            if status == 400 and b"not ready" not in body:  # the Secrets Manager Agent does give the cause
                cause = json_object(body).get("__type", "ResourceNotFoundException")
                return ABSENT if cause == "ResourceNotFoundException" else "answer_unexpected"
            if status not in (0, 400, 429) and status < 500:
                return "answer_unexpected"
            if time.monotonic() + RETRY_PAUSE_SECONDS >= deadline:
                return "extension_unavailable"
            time.sleep(RETRY_PAUSE_SECONDS)

    def fetch(self, stage: str, deadline: float) -> tuple[int, bytes]:
        """One GET to the Extension: status and body. Raises whatever http.client does."""
        connection = Connection(self.settings.port, deadline)
        try:
            query = urlencode({"secretId": self.settings.secret_name, "versionStage": stage})
            headers = {"X-Aws-Parameters-Secrets-Token": self.settings.token}
            connection.request("GET", f"/secretsmanager/get?{query}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def parse(self, stage: str, body: bytes, arrived: Moment) -> Reading | str:
        """The reading in the body of a 200, or a reason code. A broken version is a reading without a digest."""
        answer = json_object(body)
        version_id, secret = answer.get("VersionId"), answer.get("SecretString")  # no string: a binary secret
        created = epoch_seconds(answer.get("CreatedDate"))
        if (
            not (isinstance(version_id, str) and VERSION_ID.fullmatch(version_id))
            or not (secret is None or isinstance(secret, str))
            or (created is None and self.settings.accept_previous_seconds)
        ):
            return "answer_unexpected"
        key = json_object(secret or "").get(self.settings.key_name)
        if not isinstance(key, str) or not KEY.fullmatch(key):
            key = ""  # broken; nothing is converted, or null would be the key "None"
        if len(key) < MIN_KEY_LENGTH and version_id not in self.warned:
            self.warned.add(version_id)
            flaw = f"a key shorter than {MIN_KEY_LENGTH} characters" if key else "no usable key"
            logger.warning("version %s of the secret has %s", escaped(version_id), flaw)
        return Reading(stage, version_id, self.digest(key) if key else b"", created or 0.0, arrived)

    def log(self, outcome: str, reason: str, found: Reading | None, event: Event, values: Values) -> None:
        """Log a decision: fields at the top level of a JSON line, or in the message of a text line."""
        level = LEVELS[outcome]
        if not logger.isEnabledFor(level):
            return
        request = event.get("requestContext")
        shown = [
            found.version_id if found else "",
            text_at(request, "requestId"),
            text_at(request, "http", "sourceIp") or text_at(request, "identity", "sourceIp"),
            text_at(event, "routeKey")
            or text_at(request, "routeKey")
            or f"{text_at(event, 'httpMethod')} {text_at(event, 'resource')}".strip(),
        ]
        for key in values[0] + values[1]:  # a field that holds the presented key, or its beginning, is not shown
            if isinstance(key, str) and len(key) >= MIN_KEY_LENGTH:
                start = key[:MIN_KEY_LENGTH]
                shown = [it if start not in it[:MAX_SEARCHED] or IPV6.fullmatch(it) else "[hidden]" for it in shown]
        line = (outcome, reason, found.stage if found else "-", *[escaped(value) or "-" for value in shown])
        extra = dict(zip(FIELDS, line)) if self.settings.json_logs else None
        text = f"{outcome}: {reason}" if extra else TEXT_LINE % line
        # Not logger.log(), which spends a fifth of the whole decision on finding out from which line it is called.
        logger.handle(logger.makeRecord(logger.name, level, "", 0, text, (), None, extra=extra))


def header_values(event: Event, header: str) -> Values:
    """What an event gives for a header, in any case of the name: in its one-value place and its list place."""
    if event.get("type") == "TOKEN":  # API Gateway took the value out of the header
        return [event.get("authorizationToken")], []
    places: list[list[object]] = []
    for place in ("headers", "multiValueHeaders"):
        headers = event.get(place)
        items = headers.items() if isinstance(headers, dict) else ()
        places.append([value for name, value in items if isinstance(name, str) and name.lower() == header])
    singles, lists = places
    return singles, [value for given in lists for value in (given if isinstance(given, list) and given else [given])]


def presented_key(singles: list[object], listed: list[object]) -> tuple[str, str]:
    """The one key among a header's values, or "" and the reason code of a refusal."""
    if len(singles) > 1 or len(listed) > 1:
        return "", "header_ambiguous"
    key = ""
    for value in singles + listed:
        if not isinstance(value, str) or not KEY.fullmatch(value):
            return "", "header_missing" if value in (None, "") else "header_malformed"
        if key and value != key:
            return "", "header_ambiguous"
        key = value
    return key, "" if key else "header_missing"


def now() -> Moment:
    """This instant on both clocks."""
    return time.monotonic(), time.time()


def age(then: Moment, arrived: Moment) -> float:
    """Seconds from one instant to another, by the clock that saw more: a frozen environment may stop either."""
    return max(arrived[0] - then[0], arrived[1] - then[1])


def json_object(text: str | bytes) -> dict[str, object]:
    """The JSON object in ``text``; an empty one if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def epoch_seconds(text: object) -> float | None:
    """A CreatedDate in seconds since 1970: RFC 3339 from the Extension, such seconds from the Agent."""
    if not isinstance(text, str):
        return None
    if EPOCH_SECONDS.fullmatch(text):
        return float(text)
    match = RFC_3339.fullmatch(text)
    try:
        return datetime.fromisoformat(match[1] + "+00:00").timestamp() + float(match[2] or 0) if match else None
    except ValueError:  # such as a 13th month
        return None


def text_at(value: object, *path: str) -> str:
    """The string at that path of nested mappings, or ""."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def escaped(text: str) -> str:
    """Bounded, printable ASCII, no double quote or lone backslash: no value can forge a line, or a field of one."""
    if PLAIN.fullmatch(text):
        return text
    return text[:MAX_FIELD_LENGTH].replace('"', "'").encode("unicode_escape").decode()


def time_left(deadline: float) -> float:
    """Seconds until a moment of time.monotonic(). Raises TimeoutError if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class BoundSocket(socket.socket):
    """A socket whose reads end by one deadline and one number of bytes, in whatever portions they come."""

    deadline: float  # time.monotonic(); a time-out alone would start anew with every byte
    allowance = MAX_ANSWER_BYTES

    def recv_into(self, buffer: memoryview) -> int:  # type: ignore[override]  # all that http.client reads with
        self.settimeout(time_left(self.deadline))
        count = super().recv_into(buffer)
        self.allowance -= count
        if self.allowance < 0:
            raise OSError
        return count


class Connection(http.client.HTTPConnection):
    """A connection to the Extension: always 127.0.0.1, no proxy, no redirects, bound as its socket is."""

    def __init__(self, port: int, deadline: float) -> None:
        super().__init__("127.0.0.1", port)
        self.deadline = deadline

    def connect(self) -> None:
        self.sock = BoundSocket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.deadline = self.deadline
        self.sock.settimeout(time_left(self.deadline))
        self.sock.connect((self.host, self.port))
