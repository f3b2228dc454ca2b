# SPDX-License-Identifier: MIT
"""Every kind of API gets the answer that it understands, and an allow covers the event's own
stage only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conftest import NEW, OLD, World
from lib.standins import API, bare, http_api_1, http_api_2, rest_request, rest_token, websocket

HEADER = "x-origin-verify"


def headers(make: Callable[..., dict[str, Any]], key: str) -> dict[str, Any]:
    """An event of that kind with the key where it belongs."""
    return make(key) if make is rest_token else make({HEADER: key})


@pytest.mark.parametrize("make", [http_api_2, bare])
def test_auto_answers_payload_2_and_the_bare_event_simply(
    world: World, make: Callable[..., dict[str, Any]]
) -> None:
    version = world.secret.put(OLD)
    assert world.handle(headers(make, OLD)) == {
        "isAuthorized": True,
        "context": {"secretStage": "AWSCURRENT", "secretVersionId": version},
    }
    assert world.handle(headers(make, NEW)) == {"isAuthorized": False, "context": {}}


@pytest.mark.parametrize(
    ("make", "stage"),
    [(http_api_1, "$default"), (rest_request, "prod"), (rest_token, "prod"), (websocket, "prod")],
)
def test_auto_answers_everything_else_by_a_policy(
    world: World, make: Callable[..., dict[str, Any]], stage: str
) -> None:
    version = world.secret.put(OLD)

    def policy(effect: str) -> dict[str, Any]:
        statement = {
            "Action": "execute-api:Invoke",
            "Effect": effect,
            "Resource": f"{API}/{stage}/*",
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    assert world.handle(headers(make, OLD)) == {
        "principalId": "cloudfront",
        "policyDocument": policy("Allow"),
        "context": {"secretStage": "AWSCURRENT", "secretVersionId": version},
    }
    assert world.handle(headers(make, NEW)) == {
        "principalId": "cloudfront",
        "policyDocument": policy("Deny"),
        "context": {},
    }


def test_iam_answers_payload_2_by_a_policy_for_its_route_arn(world: World) -> None:
    world.secret.put(OLD)
    world.set(RESPONSE_FORMAT="iam")
    answer = world.handle(http_api_2({HEADER: OLD}))
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert answer["policyDocument"]["Statement"][0]["Resource"] == f"{API}/$default/*"


def test_simple_answers_a_rest_event_simply(world: World) -> None:
    world.secret.put(OLD)
    world.set(RESPONSE_FORMAT="simple")
    assert world.handle(rest_request({HEADER: OLD}))["isAuthorized"] is True


@pytest.mark.parametrize(
    "arn",
    [
        None,
        "",
        7,
        ["x"],
        "*",
        "arn:aws:execute-api:*:*:*/*/*",
        "arn:aws:execute-api:eu-central-1:123456789012:*/prod/GET/x",
        "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/*/GET/x",
        "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/pro?/GET/x",
        "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234",
        "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/prod",
        "arn:aws:lambda:eu-central-1:123456789012:abcdef1234/prod/GET/x",
        " arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/prod/GET/x",
    ],
)
def test_without_a_stage_to_allow_even_a_live_key_is_refused(world: World, arn: object) -> None:
    world.secret.put(OLD)
    world.set(RESPONSE_FORMAT="iam")
    for event in (
        rest_request({HEADER: OLD}) | {"methodArn": arn},
        http_api_2({HEADER: OLD}) | {"routeArn": arn},
    ):
        answer = world.handle(event)
        assert answer["policyDocument"]["Statement"] == [
            {"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": "*"}
        ]


LOCAL = "arn:aws:execute-api:us-east-1:random-account-id:random-api-id/dev/GET/hello"
GATEWAY = "arn:aws:execute-api:us-east-1:000000000000:apigw-http-id/$default/GET/hello"


@pytest.mark.parametrize(
    ("event", "stage"),
    [
        ({"version": "1.0", "type": "REQUEST", "methodArn": LOCAL}, "random-api-id/dev"),
        ({"version": "1.0", "type": "REQUEST", "methodArn": GATEWAY}, "apigw-http-id/$default"),
        ({"version": "1.0", "type": "REQUEST", "routeArn": GATEWAY}, "apigw-http-id/$default"),
        ({"type": "REQUEST", "methodArn": "arn:aws:execute-api:::local/s/GET/"}, "local/s"),
    ],
)
def test_local_gateways_ids_and_either_name_of_the_arn_are_taken(
    world: World, event: dict[str, str], stage: str
) -> None:
    world.secret.put(OLD)
    answer = world.handle(event | {"headers": {HEADER.title(): OLD}})
    (statement,) = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"][-len(stage) - 2 :]) == (
        "Allow",
        f"{stage}/*",
    )


def test_payload_2_with_a_method_arn_gets_its_policy(world: World) -> None:
    """As SAM local sends it."""
    world.secret.put(OLD)
    world.set(RESPONSE_FORMAT="iam")
    event = {"version": "2.0", "type": "REQUEST", "methodArn": LOCAL, "headers": {HEADER: OLD}}
    assert world.handle(event)["policyDocument"]["Statement"][0]["Effect"] == "Allow"


@pytest.mark.parametrize(
    ("version_id", "shown"),
    [("a b", "a b"), ('a"b', "a'b"), ("a\n", "a\\n"), ("é" * 64, "\\xe9" * 64), ("'", "'")],
)
def test_any_version_id_is_read_and_escaped_in_the_context(
    world: World, version_id: str, shown: str
) -> None:
    """A client request token has no pattern, and API Gateway answers 500 for a quote in there."""
    first = world.secret.put(OLD)
    world.secret.versions[version_id] = world.secret.versions.pop(first)
    world.secret.labels["AWSCURRENT"] = version_id
    assert world.handle(http_api_2({HEADER: OLD}))["context"]["secretVersionId"] == shown


@pytest.mark.parametrize("member", [{"version": "1.0"}, {"type": "REQUEST"}, {"methodArn": "x"}])
def test_one_member_of_a_rest_event_is_enough_to_get_a_policy(
    world: World, member: dict[str, str]
) -> None:
    """A simple response would not be understood."""
    world.secret.put(OLD)
    answer = world.handle(bare({HEADER: OLD}) | member)
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso-b"])
def test_every_partition_has_its_arn(world: World, partition: str) -> None:
    world.secret.put(OLD)
    arn = (
        f"arn:{partition}:execute-api:us-gov-west-1:123456789012:abcdef1234/my-stage_1/POST/a/b?c*"
    )
    answer = world.handle(rest_request({HEADER: OLD}) | {"methodArn": arn})
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    stage = f"arn:{partition}:execute-api:us-gov-west-1:123456789012:abcdef1234/my-stage_1"
    assert answer["policyDocument"]["Statement"][0]["Resource"] == f"{stage}/*"


def test_a_stage_may_have_capitals(world: World) -> None:
    world.secret.put(OLD)
    stage = "arn:aws:execute-api:eu-central-1:123456789012:Abcdef1234/Prod"
    answer = world.handle(rest_request({HEADER: OLD}) | {"methodArn": f"{stage}/GET/x"})
    assert answer["policyDocument"]["Statement"][0]["Resource"] == f"{stage}/*"


def test_optional_members_may_be_absent_or_null(world: World) -> None:
    world.secret.put(OLD)
    full = http_api_2({HEADER: OLD})
    needed = {"version", "type", "headers"}
    assert world.handle({name: full[name] for name in needed})["isAuthorized"] is True
    assert (
        world.handle({name: full[name] if name in needed else None for name in full})[
            "isAuthorized"
        ]
        is True
    )


def test_the_context_holds_plain_strings_and_names_the_label(world: World) -> None:
    world.secret.put(OLD)
    pending = world.secret.put(NEW, "AWSPENDING")
    context = world.handle(http_api_2({HEADER: NEW}))["context"]
    assert context == {"secretStage": "AWSPENDING", "secretVersionId": pending}
    assert all(type(value) is str for value in context.values())


def test_a_version_with_two_labels_is_named_current(world: World) -> None:
    """AWSPENDING may stay on the version that became the current one."""
    world.secret.put(OLD)
    world.secret.put(NEW, "AWSPENDING")
    world.secret.finish(keep_pending=True)
    assert world.handle(http_api_2({HEADER: NEW}))["context"]["secretStage"] == "AWSCURRENT"
