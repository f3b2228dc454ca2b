# SPDX-License-Identifier: MIT
"""Lambda authorizer that lets a request pass only if it carries a live key.

CloudFront adds the key to every request as a header; whatever came to Amazon API Gateway another
way is refused. The key is a member of a JSON secret in AWS Secrets Manager, read through the AWS
Parameters and Secrets Lambda Extension on 127.0.0.1. The settings are environment variables, see
``Settings``. Handler: ``handler``.

Allows   a live key: that of the version under the staging label AWSPENDING or AWSCURRENT, or under
         AWSPREVIOUS while AWSCURRENT's version is younger than ACCEPT_PREVIOUS_SECONDS. A match
         needs no new reading for CACHE_SECONDS, and for MAX_STALE_SECONDS while reads fail.
Refuses  without a reading: a header that is missing, given twice or malformed, and an event that
         names no stage where an IAM policy must. Otherwise a key that no label has, if three looks
         in a row saw the same versions, for a request that arrived at most one second ago.
Raises   ``SecretUnavailableError`` where it cannot know. The key matches no reading, and a label
         could not be read or AWSCURRENT has no usable key. Or only an old reading of a label that
         is gone has the key. ``SettingsError`` where a setting is missing or malformed. API
         Gateway answers 500 and, unlike a refusal, does not cache it.

All legitimate traffic carries one key, and API Gateway caches a refusal for up to an hour: one
wrong refusal is an outage of the whole API. So a refusal needs fresh readings, and a match does
not. The Extension answers "no such label" and "Secrets Manager failed" alike, so absence is never
observed, only inferred from looks that agree. With SECRETS_MANAGER_TTL above 0 the Extension
answers with old versions, and a live key may be refused.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

__version__ = "1.0.0"
__all__ = ["SecretUnavailableError", "SettingsError", "handler"]

logger = logging.getLogger("authorizer")  # the same name whatever this file is called

# --- What Lambda calls ----------------------------------------------------------------------------

PROBLEMS = {  # by reason code, what a SecretUnavailableError says
    "access_denied": "Secrets Manager denies the function's role. Check its permissions",
    "answer_unexpected": "not the Extension's answer. Check PARAMETERS_SECRETS_EXTENSION_HTTP_PORT",
    "current_unreadable": "no AWSCURRENT. Check SECRET_NAME, the role, and the Extension's logs",
    "current_unusable": "AWSCURRENT has no usable key. Check SECRET_KEY_NAME and the secret's JSON",
    "date_unreadable": "AWSCURRENT's CreatedDate has an unknown form. Check the Extension's port",
    "decryption_failed": "KMS denies the secret. Check its KMS key and the role's kms:Decrypt",
    "extension_unavailable": "no answer in time. Check the Extension's layer and the network route",
    "label_gone": "only a staging label that is gone had this key. Check the secret's labels",
    "secrets_manager_failed": "Secrets Manager answers with an error. Check its state and quotas",
    "session_rejected": "the Extension rejects AWS_SESSION_TOKEN. Check that nothing changes it",
}

_authorizer: Authorizer | None = None  # of this execution environment
_lock = threading.Lock()  # some runtimes run several invocations in one process


class SettingsError(ValueError):
    """A setting is missing or malformed. The text gives the rule of each, and never a value."""


class SecretUnavailableError(Exception):
    """Whether the key is live is unknown. ``reason`` is a key of ``PROBLEMS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: {PROBLEMS[reason]}")
        self.reason = reason


def handler(event: object, context: object) -> dict[str, object]:
    """Answer an API Gateway authorizer event: what Lambda calls.

    Takes events of HTTP APIs (payload format 2.0 and 1.0), of REST APIs (REQUEST and TOKEN), of
    WebSocket APIs ($connect), and a bare ``{"headers": {...}}``. Returns a simple response or an
    IAM policy, see RESPONSE_FORMAT. Raises SecretUnavailableError and SettingsError; nothing else,
    whatever the event.
    """
    global _authorizer
    with _lock:  # one scan runs at a time; a thread that waited sees its result
        if _authorizer is None:  # not at import: the Extension does not serve before an invocation
            try:
                _authorizer = Authorizer(Settings(os.environ))
            except SettingsError as error:
                code = "settings_invalid"
                emit(logging.ERROR, f"{code}: {error}", outcome="error", reason=code)
                raise
        return _authorizer.answer(event, context)


# --- Settings -------------------------------------------------------------------------------------

VISIBLE = re.compile(r"[!-~]+")  # visible ASCII: what any header can carry unchanged
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a header's name: RFC 9110, section 5.6.2
LEVEL = re.compile("TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL", re.ASCII | re.IGNORECASE)
FORMAT = re.compile("auto|simple|iam")
DAY = range(86_401)  # seconds that a setting may have

# CloudFront Developer Guide, "Custom headers that CloudFront can't add to origin requests".
NOT_ADDED = re.compile(
    "cache-control|connection|content-length|cookie|host|if-.*|max-forwards|pragma|proxy-.*|range|"
    "request-range|te|trailer|transfer-encoding|upgrade|via|x-amz-.*|x-edge-.*|x-real-ip"
)


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
            bounds = f"from {allowed[0]} to {allowed[-1]}, for example {example}"
            wrong.append(f"{name} must be a whole number {bounds}")
            return default

        secret, member = "a name or ARN, for example prod/key", "a JSON member, for example key"
        self.secret_name = text("SECRET_NAME", "", VISIBLE, secret)
        self.key_name = text("SECRET_KEY_NAME", "", re.compile(".+"), member)
        rule = "a header's name, for example x-api-key"
        self.header = text("HEADER_NAME", "x-origin-verify", TOKEN, rule).lower()
        self.accept_previous_seconds = number("ACCEPT_PREVIOUS_SECONDS", 0, DAY, 900)
        self.cache_seconds = number("CACHE_SECONDS", 60, DAY, 60)
        self.max_stale_seconds = number("MAX_STALE_SECONDS", 300, DAY, 300)
        rule = "auto, simple or iam, for example auto"
        self.response_format = text("RESPONSE_FORMAT", "auto", FORMAT, rule)
        rule = "DEBUG, INFO, WARNING, ERROR or CRITICAL, for example INFO"
        name = "LOG_LEVEL" if env.get("LOG_LEVEL") else "AWS_LAMBDA_LOG_LEVEL"
        level = text(name, "INFO", LEVEL, rule)
        self.json_logs = env.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
        self.port = number("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", 2773, range(1, 65_536), 2773)
        self.extension_ttl = number("SECRETS_MANAGER_TTL", 300, range(301), 0)
        rule = "as Lambda sets it, which it does not under SnapStart"
        self.token = text("AWS_SESSION_TOKEN", "", VISIBLE, rule)
        if wrong:
            raise SettingsError("; ".join(wrong))
        self.level = level.upper().replace("TRACE", "DEBUG")  # the one that logging does not know


# --- The rule: no I/O, no clock, no log -----------------------------------------------------------

PENDING, CURRENT, PREVIOUS = "AWSPENDING", "AWSCURRENT", "AWSPREVIOUS"  # the way a version moves
LOOKS = 3  # in a row that must agree: any two disturbances can mislead two looks, but not three
RESCAN_SECONDS = 1  # how old a refusal's looks may be; also the pause after a failed scan


class Reading:
    """The version that a staging label was on when it was read. Not changed once it is known."""

    def __init__(self, label: str, version_id: str, digest: bytes, read_at: Instant) -> None:
        self.label = label
        self.version_id = version_id
        self.digest = digest  # of the version's key; empty, and equal to none, if that is unusable
        self.read_at = read_at  # arrival of the request that it was read for: never after the read
        self.created: float | None = None  # CreatedDate in seconds since 1970, if it can be read
        self.ends_at = float("inf")  # seconds since 1970: from then on it matches nothing


class Snapshot:
    """What an execution environment knows. Each scan makes a new one."""

    def __init__(self, readings: dict[str, Reading], problem: str = "") -> None:
        self.readings = readings  # by label
        self.problem = problem  # the reason code, if the scan could not read everything
        self.failed_at: Instant | None = None  # end of that scan
        self.confirmed_at: Instant | None = None  # arrival of the request whose looks agreed


Instant = tuple[float, float]  # seconds: time.monotonic() and time.time()
Decision = tuple[str, str, Reading | None]  # outcome, reason code, and the reading that allows
READ_FIRST: Decision = ("read first", "", None)
Read = Callable[[str, bool], Reading | None]  # see ``scan``


def digest_of(salt: bytes, key: str) -> bytes:
    """What is kept and compared in place of a key: equally long for all, of no use elsewhere."""
    return hmac.digest(salt, key.encode("ascii"), "sha256")


def age(then: Instant, arrived: Instant) -> float:
    """Elapsed seconds, by whichever clock advanced further: a freeze can stop either one."""
    return max(arrived[0] - then[0], arrived[1] - then[1])


def decide(snapshot: Snapshot, digest: bytes, arrived: Instant, settings: Settings) -> Decision:
    """What the snapshot says of the key with this digest, for a request that arrived then."""
    # No early exit: without a read, the time must not tell which label matched.
    matches = [it for it in snapshot.readings.values() if hmac.compare_digest(digest, it.digest)]
    match = None
    for it in matches:
        younger = not match or age(it.read_at, arrived) < age(match.read_at, arrived)
        if younger and arrived[1] < it.ends_at:
            match = it
    if match and age(match.read_at, arrived) <= settings.cache_seconds:
        return "allow", "key_matched", match
    if snapshot.failed_at and age(snapshot.failed_at, arrived) <= RESCAN_SECONDS:
        if match and age(match.read_at, arrived) <= settings.max_stale_seconds:
            return "allow", "key_matched_stale", match
        return "error", snapshot.problem, None
    if snapshot.confirmed_at and age(snapshot.confirmed_at, arrived) <= RESCAN_SECONDS:
        if not matches:
            return "refuse", "key_unknown", None
        if match and age(match.read_at, snapshot.confirmed_at) > 0:
            return "error", "label_gone", None
    return READ_FIRST


def scan(
    snapshot: Snapshot, digest: bytes, arrived: Instant, settings: Settings, read: Read
) -> Snapshot:
    """Read labels until one has the key, the looks agree, or a read fails; the new snapshot.

    ``read`` takes a label, and whether nothing is known yet. It returns None where the label is on
    no version or Secrets Manager failed: the two look alike. It raises SecretUnavailableError.
    """
    grace = settings.accept_previous_seconds
    kept_for = max(settings.cache_seconds, settings.max_stale_seconds)
    readings = {
        label: reading
        for label, reading in snapshot.readings.items()
        if age(reading.read_at, arrived) <= kept_for and arrived[1] < reading.ends_at
    }
    looks: list[dict[str, str | None]] = []  # by label, the version that each look saw
    labels = [CURRENT]  # alone at first: nearly every request carries its key
    problem = ""
    while True:
        seen: dict[str, str | None] = {}
        previous_ends_at = 0.0  # seconds since 1970
        for label in labels:
            if label == PREVIOUS and arrived[1] >= previous_ends_at:
                continue
            try:
                reading = read(label, not readings)
            except SecretUnavailableError as error:
                problem = problem or error.reason
                continue
            seen[label] = reading.version_id if reading else None
            if not reading:
                continue  # what looks absent keeps its last reading
            if label == PREVIOUS:
                reading.ends_at = previous_ends_at
            if label == CURRENT and not reading.digest:
                problem = problem or "current_unusable"
            if label == CURRENT and grace and reading.created is None:
                problem = problem or "date_unreadable"
            if label == CURRENT and grace and reading.created is not None:
                previous_ends_at = reading.created + grace
                left = readings.get(CURRENT)
                if left and left.version_id != reading.version_id and arrived[1] < previous_ends_at:
                    # AWSPREVIOUS moves there by itself, but may look absent when it is read.
                    kept = Reading(PREVIOUS, left.version_id, left.digest, left.read_at)
                    kept.ends_at = previous_ends_at
                    readings[PREVIOUS] = kept
            readings[label] = reading
            if hmac.compare_digest(digest, reading.digest):
                return Snapshot(readings)
        looks.append(seen)
        if problem and len(looks) > 1:
            return Snapshot(readings, problem)
        if len(looks) > LOOKS and all(look == seen for look in looks[-LOOKS:]):
            confirmed = Snapshot(readings)
            confirmed.confirmed_at = arrived
            return confirmed
        # In the order in which versions move: one that moves during a look is still seen.
        labels = [PENDING, CURRENT, PREVIOUS] if CURRENT in seen else [PENDING]


# --- The Extension: one label, read over HTTP -----------------------------------------------------

SCAN_SECONDS = 3.0  # the longest scan
FIRST_READ_SECONDS = 2.0  # the longest read while nothing is known: the Extension may be starting
READ_SECONDS = 1.0  # the longest read otherwise
RESERVED_SECONDS = 0.5  # of the invocation's time, kept for answering
PAUSE_SECONDS = 0.05  # between two tries
TRIES = 3  # of a read for which Secrets Manager fails

MAX_ANSWER_BYTES = 524_288  # a secret has at most 65,536 bytes, and JSON can make six of each
MAX_LINE_BYTES = 4096  # of an answer's head
MAX_HEADERS = 64  # of an answer
MIN_KEY_LENGTH = 16  # characters: a shorter key works, with a warning
MAX_SENT_LENGTH = 1783  # characters of a header that CloudFront adds: its Developer Guide, "Quotas"

KEY = re.compile(r"[!-~]{1,10240}")  # API Gateway's limit for the request line and all headers
EPOCH_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]+)?")
RESERVED = re.compile(r"[^A-Za-z0-9._~-]")  # is percent-encoded: RFC 3986, section 2.3
CAUSES = (  # by what an error that the Agent passes on holds, the reason code
    ("KMS|Decrypt", "decryption_failed"),
    ("AccessDenied|Token|Credential|Signature|Client", "access_denied"),
    ("", "secrets_manager_failed"),
)

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})(?: [\t -~\x80-\xff]*)?\r\n")
HEADER_LINE = re.compile(rb"(?:([!#-'*+.^-z|~0-9A-Z-]+):([\t -~\x80-\xff]*))?\r\n")  # or the end
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,5})\r\n")
END_OF_LINE = re.compile(rb"\r\n")
CONTENT_LENGTH = re.compile(rb"content-length:([0-9]{1,6})")  # exactly one header


class Extension:
    """Reads the secret's labels through the Extension on 127.0.0.1: no proxy and no redirect."""

    def __init__(self, settings: Settings, salt: bytes) -> None:
        self.settings = settings
        self.salt = salt
        self.warned: dict[str, str] = {}  # by label, the version warned about last

    def read(self, label: str, arrived: Instant, deadline: float) -> Reading | None:
        """See ``scan``; ``deadline`` is by time.monotonic()."""
        tries = 0
        while True:
            tries += 1
            try:
                status, body = self.fetch(label, deadline)
            except OSError:  # refused, late, cut off, not HTTP
                status, body = 0, b""
            if status == 200:
                return self.parse(label, body, arrived)
            reason = failure(status, body)
            if not reason and label != CURRENT:
                return None
            reason = reason or "current_unreadable"  # as that label is always on a version
            final = reason in ("answer_unexpected", "session_rejected")
            final = final or (tries >= TRIES and reason != "extension_unavailable")
            if final or time.monotonic() + PAUSE_SECONDS >= deadline:
                raise SecretUnavailableError(reason)
            time.sleep(PAUSE_SECONDS)

    def fetch(self, label: str, deadline: float) -> tuple[int, bytes]:
        """Status and body of one GET like those that urllib.request sends. Raises OSError."""
        secret = RESERVED.sub(lambda it: f"%{ord(it[0]):02X}", self.settings.secret_name)
        request = (
            f"GET /secretsmanager/get?secretId={secret}&versionStage={label} HTTP/1.1\r\n"
            f"Host: localhost:{self.settings.port}\r\n"
            f"X-Aws-Parameters-Secrets-Token: {self.settings.token}\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
        with BoundSocket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.deadline = deadline
            connection.settimeout(time_left(deadline))
            connection.connect(("127.0.0.1", self.settings.port))
            connection.sendall(request.encode("ascii"))
            return read_answer(connection)

    def parse(self, label: str, body: bytes, arrived: Instant) -> Reading:
        """The reading in the body of a 200. Raises SecretUnavailableError."""
        answer = json_object(body)
        version_id, secret = text_at(answer, "VersionId"), answer.get("SecretString")
        if not 1 <= len(version_id) <= 64 or not isinstance(secret, str | None):
            raise SecretUnavailableError("answer_unexpected")
        key = text_at(json_object(secret or ""), self.settings.key_name)
        if not KEY.fullmatch(key):  # nothing is converted, or null would be the key "None"
            key = ""
        sound = MIN_KEY_LENGTH <= len(key) <= MAX_SENT_LENGTH
        if not sound and version_id not in self.warned.values():
            self.warned[label] = version_id
            limits = f"shorter than {MIN_KEY_LENGTH} or longer than {MAX_SENT_LENGTH} characters"
            flaw = f"a key {limits}" if key else "no usable key"
            logger.warning("version %s of the secret has %s", escaped(version_id), flaw)
        digest = digest_of(self.salt, key) if key else b""
        reading = Reading(label, version_id, digest, arrived)
        reading.created = epoch_seconds(text_at(answer, "CreatedDate"))
        return reading


def failure(status: int, body: bytes) -> str:
    """The reason code of an answer other than 200; "" where it may be absence or a failure.

    The Agent passes AWS's own error on as "__type". That decides, whatever the status is.
    """
    answer = json_object(body)
    cause = text_at(answer, "__type")
    if cause and status >= 400:
        if cause.endswith("ResourceNotFoundException"):
            return ""
        details = f"{cause} {text_at(answer, 'message')} {text_at(answer, 'Message')}"
        return next(reason for pattern, reason in CAUSES if re.search(pattern, details))
    if status in (401, 403):
        return "session_rejected"
    if status in (0, 429) or status >= 500 or (status == 400 and b"not ready" in body):
        return "extension_unavailable"
    return "" if status == 400 and "__type" not in answer else "answer_unexpected"


class BoundSocket(socket.socket):
    """A socket with one deadline and one number of bytes for all its reads together."""

    deadline: float  # by time.monotonic(); a time-out alone would start anew with every byte
    allowance = MAX_ANSWER_BYTES

    def recv_into(self, buffer: memoryview) -> int:  # type: ignore[override]  # as makefile needs
        self.settimeout(time_left(self.deadline))
        count = super().recv_into(buffer)
        self.allowance -= count
        if self.allowance < 0:
            raise OSError
        return count


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the HTTP answer; it ends where its framing says. Raises OSError."""
    with connection.makefile("rb", 65_536) as stream:

        def line(pattern: re.Pattern[bytes]) -> re.Match[bytes]:
            match = pattern.fullmatch(stream.readline(MAX_LINE_BYTES))
            if not match:
                raise OSError
            return match

        def take(size: int) -> bytes:
            content: bytes = stream.read(size)
            if len(content) != size:
                raise OSError
            return content

        status = int(line(STATUS_LINE)[1])
        framing = b""
        for _ in range(MAX_HEADERS):
            name, value = line(HEADER_LINE).groups()
            if name is None:
                break
            if name.lower() in (b"content-length", b"transfer-encoding"):
                framing += name.lower() + b":" + value.strip(b" \t").lower()
        else:
            raise OSError
        if not framing:
            return status, stream.read()
        if length := CONTENT_LENGTH.fullmatch(framing):
            return status, take(int(length[1]))
        if framing != b"transfer-encoding:chunked":
            raise OSError
        chunks: list[bytes] = []
        while size := int(line(CHUNK_LINE)[1], 16):  # with no extensions
            chunks.append(take(size))
            line(END_OF_LINE)
        line(END_OF_LINE)  # with no trailers
        return status, b"".join(chunks)


def time_left(deadline: float) -> float:
    """Seconds until a moment of time.monotonic(). Raises TimeoutError if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def json_object(text: str | bytes) -> dict[str, object]:
    """The JSON object in ``text``; an empty one if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def epoch_seconds(text: str) -> float | None:
    """A CreatedDate in seconds since 1970: RFC 3339 from the Extension, seconds from the Agent.

    None if it is neither, and for a date without an offset.
    """
    if EPOCH_SECONDS.fullmatch(text):
        return float(text)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date.timestamp() if date.tzinfo else None


# --- From event to answer and log line ------------------------------------------------------------

MAX_FIELD_LENGTH = 200  # characters of an event's value in a log line

FIELDS = ("outcome", "reason", "stage", "version_id", "request_id", "source_ip", "route")
LEVELS = {"allow": logging.INFO, "refuse": logging.WARNING, "error": logging.ERROR}  # by outcome
TEXT_LINE = " ".join([f'{name}="%s"' for name in FIELDS])

# Up to the API's stage. No part may have a wildcard of IAM's. Local gateways' ids have any form.
STAGE_ARN = re.compile(r"(arn:[^:/*?]+:execute-api(?::[^:/*?]*){2}:[^:/*?]+/[^:/*?]+)/")

Event = dict[object, object]  # from API Gateway, so of any shape


class Authorizer:
    """Answers events. Holds the snapshot of one execution environment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.salt = os.urandom(32)
        self.extension = Extension(settings, self.salt)
        self.snapshot = Snapshot({})
        logger.setLevel(settings.level)
        if settings.extension_ttl:
            text = "SECRETS_MANAGER_TTL is %d: a new key may be refused for that long; set it to 0"
            logger.warning(text, settings.extension_ttl)
        if NOT_ADDED.fullmatch(settings.header):
            logger.warning("HEADER_NAME is %s: CloudFront refuses to add that one", settings.header)

    def answer(self, event: object, context: object) -> dict[str, object]:
        """The answer to one event, logged; see ``handler``."""
        fields: Event = event if isinstance(event, dict) else {}
        policy = self.settings.response_format == "iam"
        if self.settings.response_format == "auto" and fields.get("version") != "2.0":
            policy = any(name in fields for name in ("version", "type", "methodArn"))
        key, reason = presented_key(fields, self.settings.header)
        arn = policy and STAGE_ARN.match(
            text_at(fields, "routeArn") or text_at(fields, "methodArn")
        )
        if policy and not arn:
            reason = reason or "event_malformed"  # an allow must name the stage that it allows
        outcome, reason, found = ("refuse", reason, None) if reason else self.check(key, context)
        self.log(outcome, reason, found, fields)
        if outcome == "error":
            raise SecretUnavailableError(reason)
        version: dict[str, str] = {}
        if found:  # escaped, as API Gateway answers 500 for a double quote in here
            version = {"secretStage": found.label, "secretVersionId": escaped(found.version_id)}
        if not policy:
            return {"isAuthorized": found is not None, "context": version}
        effect = "Allow" if found else "Deny"
        resource = f"{arn[1]}/*" if arn else "*"  # all of the stage, as the answer is cached for it
        statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        return {"principalId": "cloudfront", "policyDocument": document, "context": version}

    def check(self, key: str, context: object) -> Decision:
        """The decision on a key, after a scan if the snapshot does not tell."""
        arrived = time.monotonic(), time.time()
        digest = digest_of(self.salt, key)
        decision = decide(self.snapshot, digest, arrived, self.settings)
        if decision is READ_FIRST:
            self.snapshot = self.refreshed(digest, arrived, context)
            decision = decide(self.snapshot, digest, arrived, self.settings)
        return decision  # after a scan never READ_FIRST: it found, confirmed or failed

    def refreshed(self, digest: bytes, arrived: Instant, context: object) -> Snapshot:
        """Scan within the time that the invocation has left; the new snapshot."""
        seconds = SCAN_SECONDS
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        if remaining:
            seconds = min(seconds, remaining() / 1000 - RESERVED_SECONDS)
        end = time.monotonic() + seconds

        def read(label: str, first: bool) -> Reading | None:
            longest = FIRST_READ_SECONDS if first else READ_SECONDS
            return self.extension.read(label, arrived, min(end, time.monotonic() + longest))

        snapshot = scan(self.snapshot, digest, arrived, self.settings, read)
        if snapshot.problem:  # at the arrival if the wall clock was set back meanwhile
            snapshot.failed_at = time.monotonic(), max(time.time(), arrived[1])
            text = f"scan failed: {snapshot.problem}"
            emit(logging.WARNING, text, reason=snapshot.problem)
        found = {it.label: escaped(it.version_id) for it in snapshot.readings.values()}
        logger.debug("scan found %s", found)
        return snapshot

    def log(self, outcome: str, reason: str, found: Reading | None, event: Event) -> None:
        """Log a decision, with what API Gateway or the API's owner wrote of the event."""
        request = event.get("requestContext")
        shown = (
            found.version_id if found else "",
            text_at(request, "requestId"),
            text_at(request, "http", "sourceIp") or text_at(request, "identity", "sourceIp"),
            text_at(event, "routeKey")
            or text_at(request, "routeKey")
            or f"{text_at(event, 'httpMethod')} {text_at(event, 'resource')}".strip(),
        )
        label = found.label if found else "-"
        line = (outcome, reason, label, *[escaped(value) or "-" for value in shown])
        if self.settings.json_logs:
            emit(LEVELS[outcome], f"{outcome}: {reason}", **dict(zip(FIELDS, line, strict=True)))
        else:
            emit(LEVELS[outcome], TEXT_LINE % line)


def presented_key(event: Event, header: str) -> tuple[str, str]:
    """The one key in an event's header, or "" and the reason code of a refusal."""

    def values(place: str) -> list[object]:
        headers = event.get(place)
        items = headers.items() if isinstance(headers, dict) else ()
        return [value for name, value in items if isinstance(name, str) and name.lower() == header]

    singles, listed = values("headers"), values("multiValueHeaders")
    if len(listed) == 1 and isinstance(listed[0], list):
        listed = listed[0] or [None]
    if event.get("type") == "TOKEN":  # API Gateway took the value out of the header
        singles, listed = [event.get("authorizationToken")], []
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


def text_at(value: object, *path: str) -> str:
    """The string at that path of nested mappings, or ""."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def escaped(text: str) -> str:
    """Bounded, printable ASCII without double quotes: it cannot forge a line or a field of one."""
    return ascii(text[:MAX_FIELD_LENGTH].replace('"', "'"))[1:-1]


def emit(level: int, text: str, **fields: str) -> None:
    """Log a record that has these fields.

    ``extra`` would raise where a log record factory sets such a field. logger.log() would spend a
    fifth of a decision on finding the line that calls it.
    """
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, text, (), None)
        vars(record).update(fields)
        logger.handle(record)
