# SPDX-License-Identifier: MIT
"""What scripts/deploy/rotator.py promises: boto3 over real HTTP, against moto's servers.

``lib.account`` says what stands in for what. scripts/check.py runs this file once, in the
environment of scripts/locks/rotator.txt, as no other test needs boto3. By hand, that is
PYTHON -m pytest --noconftest tests/test_rotator.py
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.account import (
    DONE,
    GET,
    HEADER,
    MEMBER,
    OLD_KEY,
    OLD_TOKEN,
    ROLLOUT,
    SECRET,
    TOKEN,
    UPDATE,
    Answer,
    Api,
    Aws,
    World,
    error,
    first,
    instead,
    lost,
    nothing_shows,
    origin,
    versions,
)
from lib.chain import ROTATOR, STEPS

OTHER_TOKEN, THEIR_KEY = "x" * 32, "TheirKey" * 4
MOVE = "UpdateSecretVersionStage"
KEYS = ["GetSecretValue", "GetSecretValue"]  # of the pending and of the current version
CREATE = ["GetSecretValue", "GetSecretValue", "GetRandomPassword", "PutSecretValue"]
CALLS = [  # of a rotation with two distributions that are deployed after 15 seconds
    *["DescribeSecret", *CREATE],
    *["DescribeSecret", *KEYS, GET, GET, "sleep", *[GET, *KEYS, UPDATE] * 2],
    *["DescribeSecret", *KEYS, *[GET, GET, "sleep"] * 3, GET, GET],
    *["DescribeSecret", *KEYS, GET, GET, "sleep", GET, GET, MOVE, MOVE],
]
OPERATIONS = sorted(set(CALLS) - {"sleep"})
PENDING = {OLD_TOKEN: {"AWSCURRENT"}, TOKEN: {"AWSPENDING"}}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    aws = Aws()
    yield aws
    aws.server.shutdown()
    aws.server.server_close()


@pytest.fixture
def world(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> World:
    """No distribution yet. boto3 itself does not wait between its tries."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return World(aws, monkeypatch)


@pytest.fixture
def one(world: World) -> World:
    """One distribution, whose API origin carries the old key; a rotation has begun."""
    world.add(origin("api", x_origin_verify=OLD_KEY), origin("images"))
    world.begin()
    return world


def begun(world: World) -> World:
    """With two distributions that carry the old key, at one and at two origins."""
    world.add(origin("api", x_origin_verify=OLD_KEY), origin("images", x_other="stays"))
    world.add(origin("shop", X_Origin_Verify=OLD_KEY), origin("api", x_origin_verify=OLD_KEY))
    world.begin()
    return world


@pytest.fixture
def two(world: World) -> World:
    """Two distributions; a rotation has begun."""
    return begun(world)


# A rotation


def test_a_rotation_makes_these_calls_and_ends_with_the_new_key_everywhere(two: World) -> None:
    two.rotate()
    assert two.operations == CALLS
    two.assert_done()


def test_rotations_follow_one_another(one: World) -> None:
    """Also with the ARN of the distribution, and the header's name in any case."""
    one.env("DISTRIBUTION_IDS", f"arn:aws:cloudfront::123456789012:distribution/{one.ids[0]}")
    one.env("HEADER_NAME", "X-ORIGIN-Verify")
    keys = [OLD_KEY]
    for token in (TOKEN, OTHER_TOKEN, "y" * 32):
        if token != TOKEN:
            one.begin(token)
        one.rotate(token=token)
        keys += one.keys("AWSCURRENT")
        assert one.carried(one.ids[0]) == keys[-1:] and one.keys("AWSPREVIOUS") == keys[-2:-1]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(("setting", "length"), [("", 48), ("16", 16), ("999", 999)])
def test_a_new_key_is_letters_and_digits_and_all_else_in_the_secret_stays(
    one: World, setting: str, length: int
) -> None:
    one.env("KEY_LENGTH", setting)
    one.rotate("createSecret")
    text = versions()[TOKEN]["secret_string"]
    assert "café" in text  # an escape would take more of the 65,536 bytes
    new = json.loads(text)
    assert re.fullmatch(rf"[A-Za-z0-9]{{{length}}}", new.pop(MEMBER))
    assert new == {"user": "café", "n": [1, None]}


def test_every_step_can_be_repeated(two: World) -> None:
    for step in STEPS:
        two.rotate(step, step)
    assert two.operations.count("PutSecretValue") == 1 and two.operations.count(UPDATE) == 2
    two.rotate()
    two.assert_done()


def test_a_value_that_another_invocation_stored_meanwhile_stays(one: World) -> None:
    theirs = {"SecretString": json.dumps({MEMBER: THEIR_KEY}), "VersionStages": ["AWSPENDING"]}
    put = {"SecretId": SECRET, "ClientRequestToken": TOKEN, **theirs}
    fault = first(lambda: one.secrets.put_secret_value(**put))
    one.aws.faults["GetRandomPassword"].append(fault)
    one.fails(match="PutSecretValue: ResourceExistsException")
    one.rotate()
    assert one.keys("AWSCURRENT") == [THEIR_KEY]
    one.assert_done()


def test_authorizers_have_two_seconds_to_learn_a_key_before_cloudfront_gets_it(one: World) -> None:
    one.rotate("createSecret", "setSecret")
    times = {operation: now for _, operation, now in one.calls}
    assert times[UPDATE] - times["PutSecretValue"] >= 2


# Interruptions


def test_a_rotation_that_is_interrupted_after_any_call_and_retried_ends_the_same(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(len(CALLS)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            world = begun(World(aws, monkeypatch))
            world.interruption = index
            assert not world.attempt() and world.operations == CALLS[: index + 1]
            assert world.attempt(), index
            world.assert_done()
    with capsys.disabled():
        print(f" [interrupted after each of {len(CALLS)} calls and pauses] ", end="")
    assert len(CALLS) == 43


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(CALLS) - 1), st.integers(0, 600)), max_size=5))
def test_a_rotation_that_is_interrupted_several_times_ends_the_same(
    aws: Aws, interruptions: list[tuple[int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = begun(World(aws, monkeypatch))
        for index, pause in interruptions:
            world.calls.clear()
            world.interruption = index
            world.attempt()
            world.clock.now += pause
            world.check()
        world.interruption = -1
        assert world.attempt()
        world.assert_done()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_answer_that_is_lost_changes_nothing(one: World, operation: str) -> None:
    """boto3 sends the request again, which has been carried out already."""
    one.aws.faults[operation].append(lost)
    assert one.attempt() or one.attempt()  # moving AWSCURRENT twice is an error, then done
    one.assert_done()


@pytest.mark.parametrize("step", STEPS)
def test_a_token_that_is_current_only_loses_awspending(one: World, step: str) -> None:
    one.rotate()
    versions()[TOKEN]["version_stages"].append("AWSPENDING")  # interrupted before it was removed
    one.calls.clear()
    one.rotate(step, step)
    assert one.operations == ["DescribeSecret", MOVE, "DescribeSecret"]
    one.assert_done()


# What the function refuses


def test_a_stuck_rotation_goes_on_and_another_one_cannot_take_its_place(one: World) -> None:
    one.rotate("createSecret", "setSecret")
    with pytest.raises(RuntimeError, match="not complete"):
        one.begin(OTHER_TOKEN)
    versions()[OTHER_TOKEN] = {"createdate": 1, "version_id": OTHER_TOKEN, "version_stages": []}
    for step in STEPS:
        text = one.fails(step, token=OTHER_TOKEN)
        assert text == f"AWSPENDING is on {TOKEN}, not on {OTHER_TOKEN}"
    one.rotate()
    one.assert_done()


@pytest.mark.parametrize("step", STEPS)
def test_a_version_that_is_not_pending_and_a_secret_that_does_not_rotate_are_refused(
    world: World, step: str
) -> None:
    world.add(origin("api", x_origin_verify=OLD_KEY))
    assert world.fails(step) == f"AWSPENDING is on no version, not on {TOKEN}"
    world.begin()
    world.secret.rotation_enabled = False
    world.fails(step, match="rotation is not enabled")
    world.secret.rotation_enabled = True
    world.fails("dropSecret")
    assert world.operations == ["DescribeSecret"] * 3


@pytest.mark.parametrize(
    "key",
    [None, True, 12345678901234567890, [], "", "k" * 15, "k" * 1784, "k" * 15 + " ",
     "k" * 16 + "é", "k" * 16 + "\n", "k" * 16 + "\r\nx: y"],
)  # fmt: skip
def test_a_key_that_no_header_can_carry_goes_nowhere(one: World, key: object) -> None:
    one.store(json.dumps({MEMBER: key}))
    for step in STEPS[1:]:
        one.fails(step, match="no header can carry the key")
    assert set(one.operations) == {"DescribeSecret", "GetSecretValue"} and one.labels() == PENDING


@pytest.mark.parametrize("key", ["k" * 16, "k" * 1783, "!~<&" * 8])
def test_a_key_that_somebody_else_stored_is_taken_if_a_header_can_carry_it(
    one: World, key: str
) -> None:
    one.store(json.dumps({MEMBER: key}))
    one.checks = False  # the stand-in does not decode XML
    one.rotate()
    assert one.carried(one.ids[0]) == [key] and one.labels() == DONE


@pytest.mark.parametrize("text", ["no JSON", "[]", '"text"', "null", None])
@pytest.mark.parametrize("token", [OLD_TOKEN, TOKEN])
def test_a_version_without_a_json_object_is_an_error(one: World, text: str, token: str) -> None:
    one.checks = False
    one.store(text, token)
    if text is None:
        versions()[token].pop("secret_string")
        versions()[token]["secret_binary"] = "AAAA"
    one.fails("createSecret", match=r"^(JSONDecodeError|version (o+|n+) is not a JSON object)$")
    assert "PutSecretValue" not in one.operations


def test_finishing_too_early_is_an_error(one: World) -> None:
    one.fails("finishSecret", match="GetSecretValue: ResourceNotFoundException")
    one.rotate("createSecret")
    one.fails("finishSecret", match="put another value back")
    assert one.labels() == PENDING


def test_awscurrent_that_somebody_moved_meanwhile_is_not_taken_away(one: World) -> None:
    one.rotate(*STEPS[:3])
    put = {"SecretString": json.dumps({MEMBER: THEIR_KEY}), "ClientRequestToken": OTHER_TOKEN}
    fault = first(lambda: one.secrets.put_secret_value(SecretId=SECRET, **put))
    one.aws.faults[GET].append(fault)
    one.fails("finishSecret", match=f"{MOVE}: InvalidParameterException")
    assert one.keys("AWSCURRENT") == [THEIR_KEY]


# The distributions' configurations


def test_the_header_is_set_wherever_it_is_and_nothing_else_changes(world: World) -> None:
    id = world.add(
        origin("api", X_Origin_VERIFY=OLD_KEY, x_origin_verify2="other"),
        origin("images", x_trace="on"),
        origin("shop", x_first="1", x_origin_verify=OLD_KEY, x_last="3"),
        origin("bare"),
    )
    world.begin()
    world.rotate(*STEPS[:2])
    shop = copy.deepcopy(world.config(id))
    shop["Origins"]["Items"][2] = world.before[id]["Origins"]["Items"][2]
    world.change(id, **shop)
    world.fails("testSecret", match="put another value back")  # into one origin of two
    world.rotate()
    assert json.dumps(world.before).count(OLD_KEY) == 2
    world.assert_done()


def full(shape: Any) -> Any:
    """A value of a shape of the API's model, with every member that there is."""
    if shape.type_name == "structure":
        return {name: full(member) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [full(shape.member)] * max(1, shape.metadata.get("min", 1))
    values = {"boolean": True, "integer": 1, "long": 1, "float": 1.5}
    return values.get(shape.type_name) or (shape.enum[0] if shape.enum else "text")


def test_every_member_of_a_configuration_is_sent_back_as_it_came(one: World) -> None:
    """By the API's model as boto3 has it: moto does not keep them all."""
    operation = one.cloudfront.meta.service_model.operation_model(UPDATE)
    config = full(operation.input_shape.members["DistributionConfig"])
    for item in config["Origins"]["Items"]:
        item["CustomHeaders"]["Items"].append({"HeaderName": HEADER, "HeaderValue": OLD_KEY})
    serializer = one.cloudfront._serializer
    request = serializer.serialize_to_request(
        {"Id": "E1", "IfMatch": "E1", "DistributionConfig": config}, operation
    )
    xml = request["body"].partition(b"<DistributionConfig ")[2].partition(b">")[2]
    sent: list[Any] = []

    def answer(proceed: Callable[[], Answer]) -> Answer:
        status, headers, content = proceed()
        head, tail = content.split(b"<DistributionConfig>")[0], b"</Distribution>"
        return status, headers, head + b"<DistributionConfig>" + xml + tail

    def client(service: str) -> Any:
        client = one.client(service)
        note = lambda params, **_: sent.append(copy.deepcopy(params))  # noqa: E731
        client.meta.events.register(f"provide-client-params.cloudfront.{UPDATE}", note)
        return client

    one.rotate("createSecret")
    one.rotator.boto3 = SimpleNamespace(client=client)
    one.aws.faults[GET] = [answer] * 2
    one.aws.faults[UPDATE] = [instead(error(UPDATE, "AccessDenied"))]
    one.fails("setSecret", match="AccessDenied")
    expected = json.loads(json.dumps(config).replace(OLD_KEY, one.keys("AWSPENDING")[0]))
    assert sent == [{"Id": one.ids[0], "IfMatch": "E1", "DistributionConfig": expected}]
    assert expected != config and len(config) > 20


@pytest.mark.parametrize("place", [b"<Comment>", b"</DistributionConfig>"])
def test_what_this_boto3_does_not_know_is_not_removed(one: World, place: bytes) -> None:
    def newer(proceed: Callable[[], Answer]) -> Answer:
        status, headers, content = proceed()
        new = b"<NewSetting><Enabled>true</Enabled></NewSetting>"
        return status, headers, content.replace(place, new + place, 1)

    one.aws.faults[GET] = [newer] * 2
    assert one.fails() == "this boto3 is too old: an update would remove Enabled, NewSetting"
    assert one.carried(one.ids[0]) == [OLD_KEY] and one.labels() == PENDING
    one.rotate()
    one.assert_done()


@pytest.mark.parametrize("ids", ["", "api,shop", "shop"])
def test_a_distribution_without_the_header_or_an_origin_of_origin_ids_changes_none(
    world: World, ids: str
) -> None:
    world.add(origin("api", x_origin_verify=OLD_KEY), origin("shop"))
    second = world.add(origin("api", x_origin_verify2=OLD_KEY))
    world.env("ORIGIN_IDS", ids)
    world.begin()
    text = world.fails(match=f"^{second} lacks an origin of ORIGIN_IDS, or the header {HEADER}")
    assert "Set ORIGIN_IDS" in text and UPDATE not in world.operations


def test_origin_ids_get_the_header_if_they_lack_it_and_no_other_origin_does(world: World) -> None:
    """Such as at the first rotation, before the authorizer is attached."""
    world.checks = False
    apis = origin("api", x_trace="on"), origin("images"), origin("shop", x_origin_verify="else")
    world.env("HEADER_NAME", "X-origin-verify")
    id, other = world.add(*apis), world.add(origin("api", X_Origin_Verify=OLD_KEY))
    world.env("ORIGIN_IDS", "api")
    world.begin()
    world.rotate()
    (key,) = world.keys("AWSCURRENT")
    expected = copy.deepcopy(world.before[id])
    custom = expected["Origins"]["Items"][0]["CustomHeaders"]
    custom["Items"].append({"HeaderName": "X-origin-verify", "HeaderValue": key})
    custom["Quantity"] = 2
    assert world.config(id) == expected and world.carried(other) == [key]


def test_an_origin_beside_origin_ids_that_carries_a_key_of_the_secret_gets_the_new_one(
    world: World,
) -> None:
    """Or it would go on sending a key that is live no more."""
    id = world.add(origin("api", x_origin_verify=OLD_KEY), origin("shop", x_origin_verify=OLD_KEY))
    world.env("ORIGIN_IDS", "api , api")
    world.begin()
    world.rotate()
    assert world.carried(id) == world.keys("AWSCURRENT") * 2


def test_an_update_that_was_overtaken_by_two_rotations_is_not_sent(one: World) -> None:
    """An invocation stalls after it has read CloudFront; meanwhile others finish."""
    rotation = one.rotator.Rotation
    read, reads = rotation.read, iter(["first look", "stalls"])

    def stalls(self: Any, *arguments: Any) -> Any:
        answer = read(self, *arguments)
        if next(reads) == "stalls":
            rotation.read = read
            one.rotate(*STEPS[1:])
            one.begin(OTHER_TOKEN)
            one.rotate(token=OTHER_TOKEN)
        return answer

    one.rotate("createSecret")
    rotation.read = stalls
    one.fails("setSecret", match="^GetSecretValue: ")
    assert one.carried(one.ids[0]) == one.keys("AWSCURRENT")


def test_what_somebody_else_changes_meanwhile_stays(one: World) -> None:
    (id,) = one.ids
    one.aws.faults[UPDATE] = [first(lambda: one.change(id, Comment="theirs"))]
    one.before[id]["Comment"] = "theirs"
    one.rotate()
    one.assert_done()


@pytest.mark.parametrize("code", ["PreconditionFailed", "InvalidIfMatchVersion"])
def test_a_distribution_that_never_stops_changing_is_an_error_after_five_tries(
    one: World, code: str
) -> None:
    one.aws.faults[UPDATE] = [instead(error(UPDATE, code))] * 5
    assert one.fails() == f"{one.ids[0]} changed at each of 5 tries"
    one.aws.faults[UPDATE] = [instead(error(UPDATE, code))] * 4
    one.rotate()
    assert not one.aws.faults[UPDATE]
    one.assert_done()


def test_one_distribution_that_fails_leaves_two_live_keys_and_is_mended_by_the_next_try(
    two: World,
) -> None:
    denied = "User: role is not authorized to perform: cloudfront:UpdateDistribution"
    refusal = instead(error(UPDATE, "AccessDenied", denied, "403 Forbidden"))
    two.aws.faults[UPDATE] = [first(lambda: None), refusal]
    assert two.fails() == f"UpdateDistribution: AccessDenied: {denied}"
    (key,) = two.keys("AWSPENDING")
    assert [set(two.carried(id)) for id in two.ids] == [{key}, {OLD_KEY}]
    two.rotate()
    two.assert_done()


# The wait for CloudFront


def test_it_finishes_only_when_every_distribution_is_deployed(two: World) -> None:
    two.rotate(*STEPS[:2])
    two.aws.distributions[two.ids[1]].changed_at += 300
    two.rotate(*STEPS[2:])
    moved = next(now for _, operation, now in two.calls if operation == MOVE)
    assert all(distribution.deployed(moved) for distribution in two.aws.distributions.values())
    two.assert_done()


@pytest.mark.parametrize("step", STEPS[2:])
def test_a_value_that_somebody_put_back_is_an_error_and_the_next_try_sets_the_key_again(
    two: World, step: str
) -> None:
    two.rotate(*STEPS[: STEPS.index(step)])
    second = two.ids[1]
    back = first(lambda: two.change(second, **two.before[second]))
    two.aws.faults[GET] = [first(lambda: None)] * 2 + [back]
    assert two.fails(step) == f"somebody put another value back into {second}"
    assert two.labels() == PENDING
    two.rotate()
    two.assert_done()


def test_deployed_counts_only_if_a_second_look_sees_the_same_configuration(one: World) -> None:
    """A status may be older than the configuration beside it."""
    (id,) = one.ids
    one.rotate(*STEPS[:2])
    distribution = one.aws.distributions[id]
    distribution.changed_at -= ROLLOUT  # deployed at the first look

    def change() -> None:
        one.change(id, Comment="theirs")
        distribution.changed_at -= ROLLOUT  # and so is this, in no time

    one.aws.faults[GET] = [first(lambda: None), first(change)]
    one.calls.clear()
    one.rotate("testSecret")
    assert one.operations.count(GET) == 3  # one, another one that differs, and the same again


def test_when_the_time_is_nearly_over_it_says_so_and_the_next_try_goes_on(two: World) -> None:
    two.rotate(*STEPS[:2])
    two.aws.distributions[two.ids[1]].changed_at += 600
    ends = two.clock.now + 100
    text = two.fails("testSecret", seconds=100)
    wait = f"no time is left to wait for CloudFront to deploy {two.ids[1]}. The next try goes on"
    assert text == wait and two.clock.now < ends - 10
    two.rotate()
    assert two.operations.count(UPDATE) == 2
    two.assert_done()


# Faults of AWS


@pytest.mark.parametrize("operation", OPERATIONS)
def test_throttling_is_waited_out_and_without_end_is_an_error_that_names_the_operation(
    one: World, operation: str
) -> None:
    throttled = instead(error(operation, "ThrottlingException"))
    one.aws.faults[operation] = [throttled] * 100
    assert one.fails() == f"{operation}: ThrottlingException"
    one.aws.faults[operation] = [throttled] * 2
    one.rotate()
    assert not one.aws.faults[operation]
    one.assert_done()


# TEST_URL


@pytest.fixture
def api(one: World, tmp_path: Path) -> Iterator[Api]:
    api = Api(tmp_path)
    one.env("TEST_URL", api.url)
    one.env("SSL_CERT_FILE", str(api.certificate))
    yield api
    api.server.shutdown()
    api.server.server_close()


def test_the_api_is_asked_with_the_new_key_before_cloudfront_gets_it_and_again_later(
    one: World, api: Api
) -> None:
    carried: list[list[str]] = []
    api.moment = lambda: carried.append(one.carried(one.ids[0]))
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        one.env(name, "http://127.0.0.1:1")  # nothing listens there, and it is not used
    one.rotate()
    (key,) = one.keys("AWSCURRENT")
    assert api.seen == [("GET", "/health?deep=1", key)] * 3
    assert carried == [[OLD_KEY], [key], [key]]
    one.assert_done()


def test_an_old_key_that_is_put_back_while_the_api_is_asked_is_noticed(
    one: World, api: Api
) -> None:
    """The last look at CloudFront is right before AWSCURRENT moves."""
    one.rotate(*STEPS[:3])
    back = dict(one.before[one.ids[0]])
    api.moment = lambda: one.change(one.ids[0], **back)
    one.fails("finishSecret", match="somebody put another value back")
    assert one.labels() == PENDING


@pytest.mark.parametrize(("good", "status"), [(0, 401), (0, 500), (0, 599), (1, 403), (2, 403)])
def test_an_api_that_does_not_take_the_key_is_an_error(
    one: World, api: Api, good: int, status: int
) -> None:
    """At the first time CloudFront keeps the old key; at no time does it become a dead one."""
    api.statuses = [200] * good + [status]
    one.fails(match=f"^TEST_URL answered {status} to the key")
    assert one.carried(one.ids[0]) == ([OLD_KEY] if not good else one.keys("AWSPENDING"))
    assert one.labels() == PENDING
    one.rotate()
    one.assert_done()


@pytest.mark.parametrize("status", [204, 302, 400, 404, 499])
def test_any_other_answer_will_do_and_no_redirect_is_followed(
    one: World, api: Api, status: int
) -> None:
    api.statuses = [status] * 3
    one.rotate()
    assert len(api.seen) == 3
    one.assert_done()


def test_a_certificate_that_nobody_vouches_for_or_for_another_name_gets_no_key(
    one: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.env("TEST_URL", api.url.replace("localhost", "127.0.0.1"))
    assert one.fails() == "SSLCertVerificationError"
    one.env("TEST_URL", api.url)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert one.fails() == "SSLCertVerificationError"
    assert not api.seen and one.carried(one.ids[0]) == [OLD_KEY]


def test_a_server_that_does_not_answer_is_an_error_in_bounded_time(one: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one.env("TEST_URL", f"https://localhost:{silent.getsockname()[1]}/")
        one.rotator.URL_SECONDS = 0.05
        end = threading.Timer(2, silent.close)  # or a function that waits for ever would hang here
        end.start()
        assert one.fails() == "TimeoutError"
        end.cancel()
    assert one.carried(one.ids[0]) == [OLD_KEY]


# Settings


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("DISTRIBUTION_IDS", ["E1", "E1,E2", "arn:aws:cloudfront::123456789012:distribution/E1,E2"],
         ["", "e1", "E1,", ",E1", "E1 E2", "arn:aws:cloudfront::1:distribution/E1", "E1\n"]),
        ("SECRET_KEY_NAME", ["key", "a key"], [""]),
        ("HEADER_NAME", ["", "X-Api-Key", "x" * 256], ["x y", "x:y", "x" * 257, "é", "x\n"]),
        ("KEY_LENGTH", ["", "16", "48", "999"], ["15", "1000", "-48", "4 8", "048", "x", "48\n"]),
        ("ORIGIN_IDS", ["", "api", "api,my shop", "a.example.com"], [",", "api,", ",api"]),
        ("TEST_URL", ["", "https://a.example.com/", "https://a.example.com:8443/b?c=%20d&e"],
         ["http://a.example.com/", "https://a.example.com", "https://u:p@a.example.com/", "x",
          "https://a.example.com/#b", "https://a.example.com/ b", "https:///b", "HTTPS://a/",
          "https://a.example.com:/", "https://[::1]/", "https://a.example.com/\r\nx: y"]),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_before_any_call(
    one: World, name: str, good: list[str], bad: list[str]
) -> None:
    for value in good:
        one.env(name, value)
        one.rotator.Rotation({"Step": "", "SecretId": "", "ClientRequestToken": ""}, None)
    for value in bad:
        one.env(name, value)
        text = one.fails("createSecret", match=f"^{name} must be ")
        assert repr(value)[1:-1] not in text or len(value) < 6
    assert not one.calls


def test_all_wrong_settings_are_named_together(one: World) -> None:
    names = list(one.rotator.SETTINGS)
    for name in names:
        one.env(name, "," if name == "ORIGIN_IDS" else "\n")
    assert [part.split()[0] for part in one.fails("createSecret").split("; ")] == names


# Logs and secrecy


def test_each_step_and_each_wait_is_one_line_of_json(
    one: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (id,) = one.ids
    one.aws.faults[UPDATE] = [instead(error(UPDATE, "PreconditionFailed"))]
    one.rotate()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line.pop("version") for line in lines} == {TOKEN}
    assert {line.pop("distribution", id) for line in lines} == {id}
    assert [tuple(line.values()) for line in lines] == [
        ("createSecret", "done", 0.0),
        ("setSecret", "changed by others", 2.0),
        ("setSecret", "done", 12.0),
        ("testSecret", "InProgress", 0.0),
        ("testSecret", "InProgress", 10.0),
        ("testSecret", "Deployed", 20.0),
        ("testSecret", "Deployed", 30.0),
        ("testSecret", "done", 30.0),
        ("finishSecret", "Deployed", 0.0),
        ("finishSecret", "Deployed", 10.0),
        ("finishSecret", "done", 10.0),
    ]


def test_nothing_shows_a_key_even_if_all_is_logged(one: World, api: Api) -> None:
    with nothing_shows() as text:
        one.rotate()
    assert "a line of another logger" in text.getvalue() and '"done"' in text.getvalue()


@pytest.mark.parametrize(
    ("operation", "code"),
    [*itertools.product(OPERATIONS, ["InvalidArgument"]), (UPDATE, "PreconditionFailed")],
)
def test_an_error_of_aws_that_quotes_a_key_does_not_show_it(
    one: World, operation: str, code: str
) -> None:
    one.rotate("createSecret")
    quote = f"{OLD_KEY} {one.keys('AWSPENDING')[0]}"
    if operation in CREATE[2:]:
        versions()[TOKEN].pop("secret_string")
    one.aws.faults[operation] = [instead(error(operation, code, quote))] * 10
    with pytest.raises(one.rotator.RotationError) as caught, nothing_shows(*quote.split()):
        one.rotate(seconds=45 if code == "PreconditionFailed" else 900)
    assert str(caught.value).startswith((f"{operation}: {code}", "no time is left"))


@pytest.mark.parametrize("text", ["Canary" * 3, '["' + "Canary" * 3, '{"key": "CanaryCanary é"}'])
def test_an_error_about_a_version_does_not_show_its_text_but_keeps_the_stack(
    one: World, text: str
) -> None:
    one.store(text)
    with pytest.raises(one.rotator.RotationError) as caught, nothing_shows("CanaryCanary"):
        one.rotate("setSecret")
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "keys" in frames


def test_an_error_of_boto3_that_quotes_a_parameter_does_not_show_it(one: World) -> None:
    sent: list[str] = []

    def spoil(members: dict[str, Any], **_: object) -> object:
        sent.append(members[MEMBER])
        return [members]  # where a text belongs

    one.rotator.json = SimpleNamespace(loads=json.loads, dumps=spoil)
    with nothing_shows(OLD_KEY) as text:
        assert one.fails("createSecret") == "ParamValidationError"
    assert sent and not any(sent[0][i : i + 8] in text.getvalue() for i in range(40))


# The file


def test_it_is_short_and_needs_nothing_but_boto3() -> None:
    lines = ROTATOR.read_text().splitlines()
    assert len(lines) <= 250 and max(map(len, lines)) <= 100
    imported = {match[1] for line in lines if (match := re.match(r"(?:import|from) (\w+)", line))}
    assert imported - set(sys.stdlib_module_names) == {"boto3", "botocore"}
