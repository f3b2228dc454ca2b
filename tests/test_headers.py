# SPDX-License-Identifier: MIT
"""Header handling: whatever the event, only the one exact value opens, and nothing makes the
handler raise.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import OLD, World
from lib.standins import bare, http_api_1, http_api_2, rest_request, rest_token, websocket

HEADER = "x-origin-verify"

# Text as JSON can carry it: any code point, lone surrogates too.
any_text = st.text(st.characters(), max_size=20)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | any_text | st.just(OLD)
)
any_json = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
mixed_case = st.lists(st.booleans(), min_size=len(HEADER), max_size=len(HEADER)).map(
    lambda uppers: "".join(char.upper() if upper else char for char, upper in zip(HEADER, uppers))
)
# An event with the members that matter, each of any shape: it gets further than arbitrary JSON
# does.
members = [
    "version",
    "type",
    "headers",
    "multiValueHeaders",
    "authorizationToken",
    "routeArn",
    "methodArn",
]
members += ["requestContext", "routeKey", "httpMethod", "resource", "identitySource"]
hostile_headers = st.dictionaries(mixed_case | any_text, any_json, max_size=3)
hostile_event = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(members, any_json)
    | {
        "version": st.sampled_from(["2.0", "1.0", 2.0, None]),
        "type": st.sampled_from(["REQUEST", "TOKEN", None]),
        "headers": hostile_headers | any_json,
        "multiValueHeaders": hostile_headers | any_json,
    },
)


def allowed(answer: dict[str, Any]) -> bool:
    """Whether API Gateway would let the request through; the answer has one of the two forms."""
    if "isAuthorized" in answer:
        assert set(answer) == {"isAuthorized", "context"}
        assert type(answer["isAuthorized"]) is bool
        return answer["isAuthorized"] is True
    assert set(answer) == {"principalId", "policyDocument", "context"}
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Effect"] in ("Allow", "Deny")
    return bool(statement["Effect"] == "Allow")


def carried(event: object) -> list[object]:
    """All that an event gives for the header, written anew and the slow way: the values of every
    spelling.
    """
    if not isinstance(event, dict):
        return []
    if event.get("type") == "TOKEN":
        return [event.get("authorizationToken")]
    single, multi = event.get("headers"), event.get("multiValueHeaders")
    found: list[object] = []
    if isinstance(single, dict):
        found += [value for name, value in single.items() if name.casefold() == HEADER]
    if isinstance(multi, dict):
        for name, value in multi.items():
            values = value if isinstance(value, list) else [value]
            found += values if name.casefold() == HEADER else []
    return found


@given(st.data())
def test_no_event_raises_and_only_one_exact_value_opens(world: World, data: st.DataObject) -> None:
    world.secret.labels or world.secret.put(OLD)
    event = data.draw(any_json | hostile_event)
    if allowed(world.handle(event)):
        assert carried(event) and all(value == OLD for value in carried(event)), event
    json.dumps(world.handle(event))  # Lambda has to be able to


@given(event=any_json | hostile_event, form=st.sampled_from(["auto", "simple", "iam"]))
def test_with_nothing_to_read_an_event_is_refused_or_ends_in_the_documented_error(
    world: World, event: Any, form: str
) -> None:
    world.set(RESPONSE_FORMAT=form)
    if world.extension.faults == {}:
        world.extension.faults["*"] = lambda request, _: request.send(404, b"")
    world.restart()
    try:
        assert not allowed(world.handle(event))
    except world.module.SecretUnavailableError:
        assert carried(event)  # there was something to judge


@given(name=mixed_case)
def test_any_case_of_the_name_finds_the_header(world: World, name: str) -> None:
    world.secret.labels or world.secret.put(OLD)
    for make in (http_api_2, http_api_1, rest_request, websocket, bare):
        assert allowed(world.handle(make({name: OLD})))


@given(case=mixed_case)
def test_any_case_of_the_setting_finds_the_header(world: World, case: str) -> None:
    world.secret.labels or world.secret.put(OLD)
    world.set(HEADER_NAME=case)
    world.restart()
    assert world.ask(OLD) == "allow"


@given(
    names=st.lists(mixed_case, min_size=2, max_size=4, unique=True),
    values=st.lists(st.just(OLD) | any_text | st.none()),
)
def test_two_names_that_differ_in_case_are_ambiguous(
    world: World, names: list[str], values: list[Any]
) -> None:
    world.secret.labels or world.secret.put(OLD)
    headers = {name: values[i] if i < len(values) else OLD for i, name in enumerate(names)}
    assert not allowed(world.handle(http_api_2(headers)))
    assert not allowed(
        world.handle(rest_request(None, {name: [value] for name, value in headers.items()}))
    )


@given(name=mixed_case, values=st.lists(st.just(OLD) | any_text, min_size=2, max_size=3))
@example(name=HEADER, values=[OLD, OLD])
def test_a_list_of_several_values_is_ambiguous(world: World, name: str, values: list[str]) -> None:
    world.secret.labels or world.secret.put(OLD)
    assert not allowed(world.handle(rest_request({name: values[-1]}, {name: values})))
    assert not allowed(world.handle(rest_request(None, {name: values})))


@given(one=mixed_case, other=mixed_case, value=any_text | st.none())
def test_two_places_that_disagree_are_ambiguous(
    world: World, one: str, other: str, value: Any
) -> None:
    world.secret.labels or world.secret.put(OLD)
    assert not allowed(world.handle(rest_request({one: OLD}, {other: [value]})))
    assert not allowed(world.handle(rest_request({one: value}, {other: [OLD]})))
    assert allowed(world.handle(rest_request({one: OLD}, {other: [OLD]})))


def test_other_headers_do_not_matter(world: World) -> None:
    world.secret.put(OLD)
    others = {
        "host": "api.example.com",
        f"x-{HEADER}": "x",
        HEADER[:-1]: "y",
        f"{HEADER}-2": "z",
        "": "",
        "accept": None,
    }
    lists = {name: [value, value] for name, value in others.items()}
    for make in (http_api_2, http_api_1, rest_request, websocket, bare):
        assert allowed(world.handle(make({**others, HEADER: OLD})))
        assert not allowed(world.handle(make({**others, "accept": OLD})))
    assert allowed(world.handle(rest_request(others, {**lists, HEADER: [OLD]})))


def test_either_place_alone_will_do(world: World) -> None:
    world.secret.put(OLD)
    assert allowed(world.handle(rest_request({HEADER: OLD})))
    assert allowed(world.handle(rest_request(None, {HEADER: [OLD]})))


def test_a_token_event_carries_the_key_in_its_token_and_nowhere_else(world: World) -> None:
    world.secret.put(OLD)
    assert allowed(world.handle(rest_token(OLD)))
    assert not allowed(world.handle(rest_token(None) | {"headers": {HEADER: OLD}}))
    assert not allowed(world.handle(rest_request(None) | {"authorizationToken": OLD}))


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "x",
        7,
        {},
        {"headers": None},
        {"headers": []},
        {"headers": {}},
        {"headers": {HEADER: None}},
        {"headers": {HEADER: ""}},
        {"headers": {HEADER: [OLD]}},
        {"headers": {HEADER: OLD + " "}},
        {"headers": {HEADER: "é" * 9}},
        {"headers": {HEADER: "x" * 10_241}},
        {"headers": {HEADER: OLD, HEADER.upper(): OLD}},
        {"headers": {HEADER: 7}},
    ],
)
def test_what_cannot_be_a_key_is_refused_without_reading_anything(
    world: World, event: object
) -> None:
    world.secret.put(OLD)
    world.extension.stop()  # or it would raise
    assert world.handle(event) == {"isAuthorized": False, "context": {}}


def test_what_is_nested_is_refused_however_deep(world: World) -> None:
    """Python compares nested lists by recursion."""
    world.secret.put(OLD)
    values: list[Any] = [OLD, OLD]
    for _ in range(100_000):
        values = [[value] for value in values]
    assert not allowed(world.handle(rest_request({HEADER: values[0]}, {HEADER: [values[1]]})))


def test_the_longest_key_that_can_arrive_is_judged(world: World) -> None:
    longest = "x" * 10_240
    world.secret.put(longest)
    assert world.ask(longest) == "allow"
    world.secret.put(longest + "x")
    world.clock.move(61)
    assert world.ask(longest + "x") == "refuse"
    assert world.ask("x") == "raise"  # with such a version no request could pass


@given(
    space=st.sampled_from(
        [" ", "\t", "\r", "\n", "\0", "\u00a0", "\ufeff", "\u200b", '"', ",", "%20"]
    )
)
def test_the_value_is_never_trimmed_or_decoded(world: World, space: str) -> None:
    world.secret.labels or world.secret.put(OLD)
    for value in (
        space + OLD,
        OLD + space,
        f"{OLD},{OLD}",
        f'"{OLD}"',
        OLD.replace("-", "%2D"),
        OLD.upper(),
    ):
        assert world.ask(value) == "refuse"
