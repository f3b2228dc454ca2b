# SPDX-License-Identifier: MIT
"""What an answer to one read means: a reading and its date, or the reason code of a failure."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import OLD, World
from lib.standins import BAD_TOKEN, CURRENT, GENERIC_ERROR, NOT_READY, PENDING, Clock
from test_reader import extension, reader


def agent(kind: object, message: str = "") -> bytes:
    """AWS's own error as the Agent passes it on."""
    return json.dumps({"__type": kind, "message": message}).encode()


GONE = "ResourceNotFoundException"
DENIED = "AccessDeniedException"
NAMESPACE = "com.amazonaws.secretsmanager#"
ROLE = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: secretsmanager:"
NO_KMS = "Access to KMS is not allowed"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        # The Extension's three texts, and whatever else comes without AWS's error.
        (400, GENERIC_ERROR, ""),
        (400, b"", ""),
        (400, b"{}", ""),
        (400, b"[]", ""),
        (400, NOT_READY, "extension_unavailable"),
        (401, BAD_TOKEN, "session_rejected"),
        (401, b"", "session_rejected"),
        (403, b"Bad Token", "session_rejected"),
        (404, b"not found", "answer_unexpected"),
        (404, b'{"message": "ResourceNotFoundException"}', "answer_unexpected"),
        (405, b"", "answer_unexpected"),
        (201, b"", "answer_unexpected"),
        (302, b"", "answer_unexpected"),
        (399, agent(GONE), "answer_unexpected"),
        (204, agent(DENIED), "answer_unexpected"),
        (0, b"", "extension_unavailable"),
        (429, b"", "extension_unavailable"),
        (500, b"", "extension_unavailable"),
        (502, b"", "extension_unavailable"),
        (504, b"", "extension_unavailable"),
        # Absence, whatever the status.
        *[(status, agent(GONE, "no value"), "") for status in (400, 401, 403, 404, 429, 500)],
        (400, agent(NAMESPACE + GONE), ""),
        (404, agent(NAMESPACE + GONE), ""),
        # The role.
        (400, agent(DENIED, f"{ROLE}DescribeSecret"), "access_denied"),
        (403, agent(DENIED, f"{ROLE}GetSecretValue"), "access_denied"),
        (404, agent(DENIED, GONE), "access_denied"),
        (400, agent(NAMESPACE + DENIED), "access_denied"),
        (400, agent("ExpiredTokenException", "The security token is expired"), "access_denied"),
        (400, agent("UnrecognizedClientException"), "access_denied"),
        (403, agent("InvalidSignatureException"), "access_denied"),
        (401, agent("InvalidClientTokenId"), "access_denied"),
        (500, agent("CredentialsNotLoaded"), "access_denied"),
        # The key of KMS.
        (400, agent(DENIED, NO_KMS), "decryption_failed"),
        (400, agent(DENIED, NO_KMS).replace(b"message", b"Message"), "decryption_failed"),
        (403, agent(NAMESPACE + DENIED, NO_KMS), "decryption_failed"),
        (400, agent("DecryptionFailure"), "decryption_failed"),
        (400, agent("KMSAccessDeniedException"), "decryption_failed"),
        # Secrets Manager itself.
        (400, agent("ThrottlingException", "Rate exceeded"), "secrets_manager_failed"),
        (429, agent("ThrottlingException"), "secrets_manager_failed"),
        (400, agent("InvalidRequestException", "marked for deletion"), "secrets_manager_failed"),
        (500, agent("InternalServiceError"), "secrets_manager_failed"),
        (404, agent("Something"), "secrets_manager_failed"),
        (400, agent(f"{GONE}Not"), "secrets_manager_failed"),
        # An error in no known form.
        *[(400, agent(it), "answer_unexpected") for it in ([GONE], {GONE: GONE}, 7, False, "")],
        (404, agent([GONE]), "answer_unexpected"),
        (401, agent([GONE]), "session_rejected"),
        (503, agent([GONE]), "extension_unavailable"),
    ],
)
def test_the_cause_decides_and_then_the_status(status: int, body: bytes, reason: str) -> None:
    assert reader.failure(status, body) == reason
    assert not reason or reason in reader.PROBLEMS


def test_an_error_that_is_nested_deep_raises_nothing() -> None:
    """Python's repr() needs a few levels more than its JSON parser."""
    for depth in [*range(900, 1600), *range(9_900, 10_050)]:
        body = b'{"__type": "X", "a": ' + b"[" * depth + b"]" * depth + b"}"
        assert reader.failure(400, body) in ("", "secrets_manager_failed")


@pytest.mark.parametrize(
    ("label", "status", "body", "tries", "reason"),
    [
        (PENDING, 400, GENERIC_ERROR, 1, ""),
        (PENDING, 404, agent(GONE), 1, ""),
        (CURRENT, 400, GENERIC_ERROR, 3, "current_unreadable"),
        (CURRENT, 404, agent(GONE), 3, "current_unreadable"),
        (PENDING, 400, agent(DENIED), 3, "access_denied"),
        (PENDING, 500, agent("InternalServiceError"), 3, "secrets_manager_failed"),
        (CURRENT, 401, BAD_TOKEN, 1, "session_rejected"),
        (CURRENT, 404, b"", 1, "answer_unexpected"),
        (CURRENT, 200, b"", 1, "answer_unexpected"),
        (PENDING, 400, NOT_READY, 20, "extension_unavailable"),
        (CURRENT, 503, b"", 20, "extension_unavailable"),
    ],
)
def test_what_may_pass_is_tried_again(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    status: int,
    body: bytes,
    tries: int,
    reason: str,
) -> None:
    """50 ms apart: three times where Secrets Manager fails, to the end where the Extension does."""
    clock = Clock()
    start = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: start + clock.moved)  # but for the pauses
    monkeypatch.setattr(reader, "time", clock)
    world.extension.faults["*"] = lambda request, _: request.send(status, body)
    reads = extension(world.extension.port, world.secret.name)
    if reason:
        with pytest.raises(reader.SecretUnavailableError, match=f"^{reason}: "):
            reads.read(label, (0.0, 0.0), start + 0.975)
    else:
        assert reads.read(label, (0.0, 0.0), start + 0.975) is None
    assert world.extension.seen == [label] * tries
    assert clock.moved == pytest.approx(0.05 * (tries - 1))


def test_without_time_nothing_is_asked(world: World) -> None:
    with pytest.raises(TimeoutError):
        extension(world.extension.port).fetch(CURRENT, time.monotonic())
    assert world.extension.seen == []


def answer_of(**members: object) -> bytes:
    """A good answer of the Extension with other members; one that is Ellipsis is left out."""
    good = {"VersionId": "v-1", "SecretString": json.dumps({"key": OLD}), "CreatedDate": "1.5"}
    return json.dumps({k: v for k, v in (good | members).items() if v is not ...}).encode()


def test_a_good_answer_becomes_a_reading() -> None:
    reading = extension().parse(PENDING, answer_of(), (7.0, 8.0))
    assert (reading.label, reading.version_id, reading.read_at) == (PENDING, "v-1", (7.0, 8.0))
    assert reading.digest == reader.digest_of(b"salt", OLD)
    assert reading.created == 1.5 and reading.ends_at == math.inf


UNUSABLE: list[object] = [None, True, 7, [OLD], {}, "", " ", "é" * 32]


@pytest.mark.parametrize(
    "string",
    [
        None,  # the secret is binary
        ...,  # the same, as the Agent says it
        "",
        OLD,
        json.dumps([OLD]),
        *[json.dumps({"key": it}) for it in UNUSABLE],
        json.dumps({"key": f"{OLD}\n"}),
        json.dumps({"key": "k" * 10_241}),
        json.dumps({"KEY": OLD}),
        "[" * 100_000,
    ],
)
def test_a_version_without_usable_key_matches_nothing(
    string: object, caplog: pytest.LogCaptureFixture
) -> None:
    reads = extension()
    for _ in range(2):
        assert reads.parse(CURRENT, answer_of(SecretString=string), (0.0, 0.0)).digest == b""
    assert [it.getMessage() for it in caplog.records] == [
        "version v-1 of the secret has no usable key"
    ]


@pytest.mark.parametrize("length", [1, 15, 16, 1_783, 1_784, 10_240])
def test_a_key_of_a_length_that_does_not_do_works_with_a_warning(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    """CloudFront sends at most 1,783 characters."""
    answer = answer_of(SecretString=json.dumps({"key": "k" * length}))
    assert extension().parse(CURRENT, answer, (0.0, 0.0)).digest
    assert [it.levelname for it in caplog.records] == ["WARNING"] * (not 16 <= length <= 1_783)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        answer_of()[:-1],
        answer_of() * 2,
        b"\xff" + answer_of(),
        b'{"SecretString":' * 100_000,
        *[answer_of(VersionId=it) for it in (..., None, "", 7, ["v"], "v" * 65)],
        *[answer_of(SecretString=it) for it in (7, True, {"key": OLD}, [OLD])],
    ],
)
def test_a_200_that_is_no_answer_of_the_extension_is_unexpected(body: bytes) -> None:
    with pytest.raises(reader.SecretUnavailableError, match=r"^answer_unexpected: "):
        extension().parse(CURRENT, body, (0.0, 0.0))


# When a version was created

ZONES = st.builds(timezone, st.integers(-1_439, 1_439).map(lambda it: timedelta(minutes=it)))
NEARLY_DATES = st.from_regex(r"[0-9]{1,14}(\.[0-9]{0,9})?|[0-9]{4}-[0-9]{2}-[0-9T:.+Z-]{0,30}")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | NEARLY_DATES
VALUES = st.recursive(SCALARS, lambda it: st.lists(it) | st.dictionaries(st.text(), it))


@given(VALUES)
@example("1" * 400_000)
@example("1." + "1" * 400_000)
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("\ud800-01-01T00:00:00Z")
def test_whatever_the_date_the_reading_counts(value: object) -> None:
    seconds = extension().parse(CURRENT, answer_of(CreatedDate=value), (0.0, 0.0)).created
    assert seconds is None or (isinstance(value, str) and math.isfinite(seconds))


@given(st.datetimes(timezones=ZONES), st.sampled_from("T "))
def test_a_date_with_an_offset_is_read_exactly(date: datetime, separator: str) -> None:
    assert reader.epoch_seconds(date.isoformat(separator)) == date.timestamp()


@given(st.datetimes(timezones=st.just(timezone.utc)), st.integers(0, 9))
def test_the_extensions_dates_are_read(date: datetime, digits: int) -> None:
    """RFC 3339 in UTC, with as many digits of the second as there happen to be."""
    nanoseconds = f"{date.microsecond:06}000"[:digits]
    kept = date.replace(microsecond=int(f"{nanoseconds:0<6}"[:6]))
    text = date.replace(microsecond=0).isoformat().removesuffix("+00:00")
    text += f".{nanoseconds}Z" if digits else "Z"
    assert reader.epoch_seconds(text) == kept.timestamp()


@given(st.decimals(0, 999_999_999_999, places=3))
def test_the_agents_seconds_are_read(seconds: Decimal) -> None:
    assert reader.epoch_seconds(str(seconds)) == float(seconds)


@given(st.datetimes())
def test_a_date_without_offset_is_not_guessed(date: datetime) -> None:
    assert reader.epoch_seconds(date.isoformat()) is None
