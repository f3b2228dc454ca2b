# SPDX-License-Identifier: MIT
"""The comparison agrees with ``==``, looks at every accepted version, and a broken version opens
to nothing.
"""

from __future__ import annotations

import hmac
import json
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NEW, NEWER, OLD, World
from lib.standins import CURRENT, PENDING, PREVIOUS

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[str, str]:
    """A key, and what is presented in its place: any other, the same, or one that differs in
    little.
    """
    key = draw(visible)
    at = draw(st.integers(0, len(key) - 1))
    char = draw(st.sampled_from(["x", "X", " ", "\0", "\n", "é", "ſ", "\ud800", "\U0001f511", "‐"]))
    misses = [
        key,
        draw(visible),
        key[:-1],
        key[1:],
        key + char,
        char + key,
        key[:at] + char + key[at + 1 :],
    ]
    misses += [
        key.swapcase(),
        key.upper(),
        key.lower(),
        key * 2,
        key[::-1],
        f" {key}",
        f"{key} ",
        f"{key}\0",
        f"{key},{key}",
    ]
    return key, draw(st.sampled_from(misses))


@given(pair=near_misses())
def test_a_key_opens_exactly_if_it_equals_the_version(world: World, pair: tuple[str, str]) -> None:
    key, presented = pair
    world.secret.put(key)
    assert (world.restart().ask(presented) == "allow") is (presented == key)


@given(keys=st.tuples(visible, visible, visible), presented=visible, index=st.integers(0, 3))
def test_it_opens_exactly_if_it_equals_any_accepted_version(
    world: World, keys: tuple[str, str, str], presented: str, index: int
) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.labels.clear()
    for key, stage in zip(keys, (CURRENT, CURRENT, PENDING)):  # the first becomes AWSPREVIOUS
        world.secret.put(key, stage)
    presented = (*keys, presented)[index]
    assert (world.restart().ask(presented) == "allow") is (presented in keys)


@pytest.mark.parametrize("presented", [OLD, NEW, NEWER, "none-of-them-" + "x" * 20])
def test_every_accepted_version_is_compared_whichever_matches(world: World, presented: str) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    for key, stage in ((OLD, CURRENT), (NEW, CURRENT), (NEWER, PENDING)):
        world.secret.put(key, stage)
    world.ask("a-wrong-key-" + "w" * 20)  # so that all labels are read
    compared: list[tuple[int, int]] = []

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    world.module.hmac = types.SimpleNamespace(digest=hmac.digest, compare_digest=spy)
    world.ask(presented)
    # Digests of equal length, so that no key's length shows either.
    assert compared == [(32, 32)] * 3


BROKEN: list[tuple[str, str | None]] = [
    *(
        (json.dumps({"key": value}), None)
        for value in (None, True, False, 0, 7, 1.5, [], {}, "", ["a"], {"a": "b"})
    ),
    *(
        (json.dumps({"key": value}), None)
        for value in ("with space", "tab\t", "nul\0", "é", "\ud800", "line\n")
    ),
    *(
        (json.dumps(value), None)
        for value in (None, True, 7, "just-a-string-not-an-object", ["key"], {}, {"KEY": OLD})
    ),
    ("not-json", None),
    ("", None),
    ('{"key": "unterminated', None),
    ('{"key": ' * 40_000, None),
    ('{"key": NaN}', None),
    ("\ufeff" + json.dumps({"key": OLD}), None),
    ("", "binary"),
]


def spellings(string: str) -> set[Any]:
    """What a careless authorizer would take for the key in that SecretString."""
    found: set[str] = {
        string,
        "None",
        "null",
        "True",
        "true",
        "False",
        "0",
        "7",
        "1.5",
        "[]",
        "{}",
        "key",
        "nan",
        OLD,
    }
    try:
        value = json.loads(string)
        found |= {str(value), repr(value), json.dumps(value)}
        member = value.get("key") if isinstance(value, dict) else value
        found |= {str(member), repr(member), json.dumps(member)}
    except (ValueError, RecursionError):
        pass
    return found


@pytest.mark.parametrize("stage", [PENDING, CURRENT, PREVIOUS])
@pytest.mark.parametrize(("string", "binary"), BROKEN, ids=lambda value: str(value)[:25])
def test_a_broken_version_opens_to_nothing(
    world: World, string: str, binary: str | None, stage: str
) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    for label in (PENDING, CURRENT, PREVIOUS):
        if label == stage:
            world.secret.put_string(None if binary else string, label, binary)
        else:
            world.secret.put(NEW, label)
    for presented in spellings(string):
        assert world.ask(presented) != "allow", presented
    assert world.ask(NEW) == "allow"  # and takes none of the others with it


def test_a_broken_current_version_is_not_a_reason_to_refuse(world: World) -> None:
    """A wrong SECRET_KEY_NAME must not be cached by API Gateway as a refusal of every key."""
    world.set(SECRET_KEY_NAME="misspelt")
    world.secret.put(OLD)
    assert world.ask(OLD) == "raise"


def test_a_current_version_that_broke_does_not_leave_its_predecessor_in_force(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    world.secret.put(None)
    world.clock.move(61)
    assert world.ask(OLD) == "raise"


def test_a_broken_version_is_warned_about_by_its_id(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    version = world.secret.put(None)
    assert world.ask(OLD) == "raise"
    assert f"version {version} of the secret has no usable key" in [
        record.getMessage() for record in caplog.records
    ]


@pytest.mark.parametrize("length", [1, 15, 16, 1783, 1784])
def test_a_short_or_too_long_key_works_and_is_warned_about_once(
    world: World, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    """CloudFront sends values of up to 1,783 characters."""
    world.secret.put("k" * length)
    for _ in range(3):
        assert world.ask("k" * length) == "allow"
        world.clock.move(61)
    text = "shorter than 16 or longer than 1783 characters"
    warnings = [record for record in caplog.records if text in record.getMessage()]
    assert len(warnings) == (0 if 16 <= length <= 1783 else 1)
