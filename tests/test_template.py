# SPDX-License-Identifier: MIT
"""What dist/template.yaml makes, read as CloudFormation reads it."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

import authorizer
import package
from conftest import NEW, OLD, World
from lib.console import ROOT
from lib.copies import inlined_code, parse_template, source
from lib.standins import PENDING, TOKEN

CODE = source("authorizer.py").decode()
TEXT = package.inlined(source("scripts/deploy/template.yaml").decode(), CODE)
TEMPLATE = parse_template(TEXT)
SUPPORTED = [f"python3.{minor}" for minor in range(11, 15)]

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/key-AbCdEf"
NEW_SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:Secret-GhIjKl"
KMS_ARN = "arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:alarms"
LAYER_ARN = (
    "arn:aws:lambda:eu-west-1:015030872274:layer:"
    "AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:12"
)
LOG_STREAMS_ARN = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/stack:*"
FUNCTION_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:stack-Function"
NO_VALUE = object()


class Stack:
    """What CloudFormation makes of the template, with those parameters and the defaults of the
    others.
    """

    def __init__(self, **given: str) -> None:
        assert set(given) <= set(TEMPLATE["Parameters"])
        defaults = {name: entry["Default"] for name, entry in TEMPLATE["Parameters"].items()}
        self.parameters = {**defaults, **given}
        self.resources = self._section("Resources")
        self.outputs = {name: entry["Value"] for name, entry in self._section("Outputs").items()}

    def _section(self, name: str) -> dict[str, Any]:
        entries = TEMPLATE[name].items()
        kept = {
            key: entry
            for key, entry in entries
            if "Condition" not in entry or self.holds(entry["Condition"])
        }
        return {key: self.value(entry) for key, entry in kept.items()}

    def holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self.holds(TEMPLATE["Conditions"][condition])
        ((function, arguments),) = condition.items()
        if function == "Fn::Not":
            return not self.holds(arguments[0])
        assert function == "Fn::Equals"
        return bool(self.value(arguments[0]) == self.value(arguments[1]))

    def reference(self, name: str) -> Any:
        if name in self.parameters:
            return self.parameters[name]
        known = {
            "AWS::NoValue": NO_VALUE,
            "AWS::StackName": "stack",
            "AWS::Region": "eu-west-1",
            "AWS::AccountId": "123456789012",
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "Secret": NEW_SECRET_ARN,
            "LogGroup": "/aws/lambda/stack",
            "LogGroup.Arn": LOG_STREAMS_ARN,
            "Function": "stack-Function",
            "Function.Arn": FUNCTION_ARN,
            "Role.Arn": "arn:aws:iam::123456789012:role/stack-Role",
            "HttpAuthorizer": "http1",
            "RestAuthorizer": "rest1",
        }
        return known[name]

    def value(self, entry: Any) -> Any:
        if isinstance(entry, list):
            return [value for value in map(self.value, entry) if value is not NO_VALUE]
        if not isinstance(entry, dict):
            return entry
        function = next(iter(entry), "")
        arguments: Any = entry.get(function)
        if function == "Ref":
            return self.reference(arguments)
        if function == "Fn::GetAtt":
            return self.reference(".".join(arguments))
        if function == "Fn::If":
            return self.value(arguments[1 if self.holds(arguments[0]) else 2])
        if function == "Fn::Sub":
            text, more = arguments if isinstance(arguments, list) else (arguments, {})
            more = self.value(more)
            return re.sub(
                r"\$\{([^}]+)\}",
                lambda m: more[m[1]] if m[1] in more else self.reference(m[1]),
                text,
            )
        assert not function.startswith("Fn::"), function
        return {
            key: value for key, item in entry.items() if (value := self.value(item)) is not NO_VALUE
        }

    def properties(self, name: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.resources[name]["Properties"]
        return properties

    def kinds(self) -> list[str]:
        return sorted(resource["Type"] for resource in self.resources.values())


def statements(stack: Stack) -> list[dict[str, Any]]:
    (policy,) = stack.properties("Role")["Policies"]
    document: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return document


@functools.cache
def environment(**given: str) -> dict[str, str]:
    variables: dict[str, str] = Stack(**given).properties("Function")["Environment"]["Variables"]
    return variables


# The code in it


def test_the_inlined_code_is_the_file_byte_for_byte() -> None:
    assert inlined_code(TEMPLATE) == {"Function": CODE}
    assert Stack().properties("Function")["Handler"] == "index.handler"


def test_the_inlined_code_passes_the_core_tests_as_index(tmp_path: Path) -> None:
    path = tmp_path / "index.py"
    path.write_bytes(inlined_code(TEMPLATE)["Function"].encode())
    tests = [
        name for name in ("test_decision.py", "test_headers.py") if (ROOT / "tests" / name).exists()
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(f"tests/{name}" for name in tests),
    ]
    env = {**os.environ, "AUTHORIZER_UNDER_TEST": str(path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    code = "import index; print(index.handler.__module__, index.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"index {authorizer.__version__}\n"


# The specification's word


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEXT)
    cfn_lint = str(Path(sys.executable).with_name("cfn-lint"))
    command = [cfn_lint, "--include-checks", "I", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "cfn-lint" not in TEXT  # which could ignore rules


def test_the_runtime_is_the_newest_that_the_specification_and_we_know() -> None:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(
        "eu-west-1", "AWS::Lambda::Function"
    ).schema
    known = [name for name in SUPPORTED if name in schema["properties"]["Runtime"]["enum"]]
    assert Stack().properties("Function")["Runtime"] == known[-1]


# Parameters


def test_parameters_are_described_and_their_defaults_allowed() -> None:
    for name, entry in TEMPLATE["Parameters"].items():
        assert entry["Description"].endswith("."), name
        assert "Default" in entry, name
        if entry["Type"] == "String" and "AllowedValues" not in entry:
            assert re.fullmatch(entry["AllowedPattern"], entry["Default"]), name
            assert entry["ConstraintDescription"], name
        if entry["Type"] == "Number" and "AllowedValues" not in entry:
            assert (
                int(entry["MinValue"])
                <= int(entry["Default"])
                <= int(entry.get("MaxValue", "1000000"))
            ), name
        assert entry["Default"] in entry.get("AllowedValues", [entry["Default"]]), name


def test_the_console_shows_every_parameter_once() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    listed = [name for group in groups for name in group["Parameters"]]
    assert sorted(listed) == sorted(TEMPLATE["Parameters"])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "SecretArn",
            [SECRET_ARN, SECRET_ARN.replace(":aws:", ":aws-us-gov:")],
            [
                "prod/key",
                SECRET_ARN[:-7],
                SECRET_ARN + "*",
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*",
            ],
        ),
        ("SecretKeyName", ["key", "api_key"], ["", "a:b", "a b", "a}"]),
        (
            "KmsKeyArn",
            [KMS_ARN],
            ["arn:aws:kms:eu-west-1:123456789012:alias/mine", "*", KMS_ARN[:-36] + "*"],
        ),
        ("AcceptPreviousSeconds", ["0", "900", "9999"], ["", "-1", "900.5", "09", "10000"]),
        ("ApiId", ["a1b2c3d4e5"], ["A1", "a/*", "*"]),
        ("RestApiId", ["a1b2c3d4e5"], ["A1", "a/*", "*"]),
        ("HeaderName", ["X-Api-Key"], ["", "x y", "x:y", "x_y}"]),
        ("ExtensionLayerArn", [LAYER_ARN], [LAYER_ARN.rpartition(":")[0], "*"]),
        ("ReservedConcurrency", ["1", "50"], ["0", "-1", "1.5", "x"]),
        ("AlarmTopicArn", [TOPIC_ARN], ["alarms", "*"]),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_made(
    name: str, good: list[str], bad: list[str]
) -> None:
    pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)


def test_one_api_cannot_be_named_as_both_kinds() -> None:
    (rule,) = TEMPLATE["Rules"].values()
    (assertion,) = rule["Assertions"]
    assert not Stack(ApiId="", RestApiId="").holds(rule["RuleCondition"])
    same, differ = Stack(ApiId="a1", RestApiId="a1"), Stack(ApiId="a1", RestApiId="b2")
    assert same.holds(rule["RuleCondition"]) and not same.holds(assertion["Assert"])
    assert differ.holds(rule["RuleCondition"]) and differ.holds(assertion["Assert"])


# The function


def test_the_function_as_promised() -> None:
    function = Stack().properties("Function")
    assert (function["Architectures"], function["Timeout"], function["MemorySize"]) == (
        ["arm64"],
        "5",
        "256",
    )
    logs = {"LogGroup": "/aws/lambda/stack", "LogFormat": "JSON", "ApplicationLogLevel": "INFO"}
    assert function["LoggingConfig"] == logs
    assert "ReservedConcurrentExecutions" not in function
    assert (
        Stack(ReservedConcurrency="9").properties("Function")["ReservedConcurrentExecutions"] == "9"
    )
    assert environment(SecretArn=SECRET_ARN) == {
        "SECRET_NAME": SECRET_ARN,
        "SECRET_KEY_NAME": "key",
        "HEADER_NAME": "x-origin-verify",
        "ACCEPT_PREVIOUS_SECONDS": "900",
        "SECRETS_MANAGER_TTL": "0",
        "SECRETS_MANAGER_TIMEOUT_MILLIS": "3000",
    }
    assert environment()["SECRET_NAME"] == NEW_SECRET_ARN


@pytest.mark.parametrize("previous", ["0", "1", "9999"])
def test_the_authorizer_takes_its_settings(previous: str) -> None:
    env = environment(
        AcceptPreviousSeconds=previous, HeaderName="X-Api-Key", SecretKeyName="a/b@c.d"
    )
    settings = authorizer.Settings({**env, "AWS_SESSION_TOKEN": TOKEN})
    assert (settings.accept_previous_seconds, settings.extension_ttl) == (int(previous), 0)
    assert (settings.header, settings.key_name, settings.response_format) == (
        "x-api-key",
        "a/b@c.d",
        "auto",
    )


@pytest.mark.parametrize("level", TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"])
def test_the_authorizer_takes_every_log_level_and_logs_refusals_at_it(
    world: World, level: str
) -> None:
    assert (
        Stack(LogLevel=level).properties("Function")["LoggingConfig"]["ApplicationLogLevel"]
        == level
    )
    world.set(AWS_LAMBDA_LOG_LEVEL=level)  # as Lambda does
    world.secret.put(OLD)
    assert world.ask(NEW) == "refuse"
    assert logging.getLogger("authorizer").isEnabledFor(logging.WARNING)


def test_the_authorizer_gives_up_before_the_extension_does() -> None:
    """Or a label that hangs would get the Extension's one answer, which is also that for an
    absent label.
    """
    milliseconds = int(environment()["SECRETS_MANAGER_TIMEOUT_MILLIS"])
    assert milliseconds >= 1000 * max(authorizer.FIRST_READ_SECONDS, authorizer.READ_SECONDS)
    assert milliseconds < 1000 * int(Stack().properties("Function")["Timeout"])


def test_the_layer_is_made_for_the_architecture_unless_pinned() -> None:
    name = "{{{{resolve:ssm:/aws/service/aws-parameters-and-secrets-lambda-extension/{}/latest}}}}"
    assert Stack().properties("Function")["Layers"] == [name.format("arm64")]
    assert Stack(Architecture="x86_64").properties("Function")["Layers"] == [name.format("x86")]
    assert Stack(ExtensionLayerArn=LAYER_ARN).properties("Function")["Layers"] == [LAYER_ARN]


# The role

ROLES = [
    {"SecretArn": secret, "KmsKeyArn": key, "AcceptPreviousSeconds": previous}
    for secret, key, previous in itertools.product(["", SECRET_ARN], ["", KMS_ARN], ["0", "900"])
]


@pytest.mark.parametrize("given", ROLES, ids=str)
def test_the_role_may_do_what_is_named_here_and_no_more(given: dict[str, str]) -> None:
    secret = given["SecretArn"] or NEW_SECRET_ARN
    labels = ["AWSPENDING", "AWSCURRENT"] + (
        ["AWSPREVIOUS"] if given["AcceptPreviousSeconds"] != "0" else []
    )
    wanted: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": secret,
            "Condition": {"StringEquals": {"secretsmanager:VersionStage": labels}},
        },
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": LOG_STREAMS_ARN,
        },
    ]
    if given["KmsKeyArn"]:
        context = {
            "kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com",
            "kms:EncryptionContext:SecretARN": secret,
        }
        wanted.append(
            {
                "Effect": "Allow",
                "Action": "kms:Decrypt",
                "Resource": KMS_ARN,
                "Condition": {"StringEquals": context},
            }
        )
    assert statements(Stack(**given)) == wanted
    assert set(Stack(**given).properties("Role")) == {"AssumeRolePolicyDocument", "Policies"}


@pytest.mark.parametrize("given", ROLES, ids=str)
def test_no_resource_is_a_wildcard(given: dict[str, str]) -> None:
    """The one asterisk is that of the log group's own streams, which an action on streams must
    name.
    """
    for statement in statements(Stack(**given)):
        assert statement["Effect"] == "Allow" and isinstance(statement["Resource"], str)
        assert "*" not in json.dumps(statement["Action"])
        assert "*" not in statement["Resource"].removesuffix(":log-group:/aws/lambda/stack:*")
        assert not {"NotAction", "NotResource"} & set(statement)


@pytest.mark.parametrize("previous", ["0", "900"])
def test_the_role_allows_exactly_the_labels_that_the_authorizer_reads(
    world: World, previous: str
) -> None:
    given = {"AcceptPreviousSeconds": previous}
    secret = {"SECRET_NAME": world.secret.name, "SECRET_KEY_NAME": world.secret.member}
    world.set(**{**environment(**given), **secret})
    world.secret.put(OLD)
    world.secret.put(NEW)
    world.secret.put(OLD, PENDING)
    assert world.ask("a-wrong-key-a-wrong-key") == "refuse"
    allowed = statements(Stack(**given))[0]["Condition"]["StringEquals"][
        "secretsmanager:VersionStage"
    ]
    assert set(world.extension.seen) == set(allowed)


def test_only_lambda_takes_the_role() -> None:
    (statement,) = Stack().properties("Role")["AssumeRolePolicyDocument"]["Statement"]
    service = {"Service": "lambda.amazonaws.com"}
    assert statement == {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"}


# The authorizers

INVOKE = f"arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{FUNCTION_ARN}/invocations"


def permissions(stack: Stack) -> list[dict[str, str]]:
    return [
        entry["Properties"]
        for entry in stack.resources.values()
        if entry["Type"] == "AWS::Lambda::Permission"
    ]


def permission(source_arn: str) -> dict[str, str]:
    return {
        "Action": "lambda:InvokeFunction",
        "FunctionName": FUNCTION_ARN,
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": f"arn:aws:execute-api:eu-west-1:123456789012:{source_arn}",
    }


def test_an_http_api_gets_simple_responses_and_the_permission_for_its_authorizer() -> None:
    stack = Stack(ApiId="a1", HeaderName="x-api-key", ResultTtlSeconds="60")
    assert stack.properties("HttpAuthorizer") == {
        "ApiId": "a1",
        "Name": "stack",
        "AuthorizerType": "REQUEST",
        "AuthorizerUri": INVOKE,
        "AuthorizerPayloadFormatVersion": "2.0",
        "EnableSimpleResponses": "true",
        "IdentitySource": ["$request.header.x-api-key"],
        "AuthorizerResultTtlInSeconds": "60",
    }
    assert permissions(stack) == [permission("a1/authorizers/http1")]
    assert "AWS::ApiGateway::Authorizer" not in stack.kinds()
    assert stack.outputs["HttpAuthorizerId"] == "http1" and "RestAuthorizerId" not in stack.outputs


def test_a_rest_api_gets_a_request_authorizer_and_its_permission() -> None:
    stack = Stack(RestApiId="r1")
    assert stack.properties("RestAuthorizer") == {
        "RestApiId": "r1",
        "Name": "stack",
        "Type": "REQUEST",
        "AuthorizerUri": INVOKE,
        "IdentitySource": "method.request.header.x-origin-verify",
        "AuthorizerResultTtlInSeconds": "300",
    }
    assert permissions(stack) == [permission("r1/authorizers/rest1")]
    assert "AWS::ApiGatewayV2::Authorizer" not in stack.kinds()
    assert stack.outputs["RestAuthorizerId"] == "rest1" and "HttpAuthorizerId" not in stack.outputs


def test_both_apis_or_none() -> None:
    both = permissions(Stack(ApiId="a1", RestApiId="r1"))
    assert both == [permission("a1/authorizers/http1"), permission("r1/authorizers/rest1")]
    assert permissions(Stack()) == []
    assert not any("Authorizer" in kind for kind in Stack().kinds())


def test_the_authorizer_is_attached_to_no_route() -> None:
    kinds = Stack(ApiId="a1", RestApiId="r1").kinds()
    assert not {
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGateway::Method",
        "AWS::ApiGateway::Deployment",
    } & set(kinds)


# The secret


def test_a_new_secret_is_made_only_if_none_is_given_and_outlives_the_stack() -> None:
    secret = Stack(SecretKeyName="mine").resources["Secret"]
    assert (secret["DeletionPolicy"], secret["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert secret["Properties"]["GenerateSecretString"] == {
        "SecretStringTemplate": "{}",
        "GenerateStringKey": "mine",
        "PasswordLength": "48",
        "ExcludePunctuation": "true",
    }
    assert "KmsKeyId" not in secret["Properties"]
    assert Stack(KmsKeyArn=KMS_ARN).properties("Secret")["KmsKeyId"] == KMS_ARN
    assert "Secret" not in Stack(SecretArn=SECRET_ARN).resources


@pytest.mark.parametrize("given", [{}, {"SecretArn": SECRET_ARN, "SecretKeyName": "mine"}], ids=str)
def test_the_line_to_paste_refers_to_the_key_and_cannot_hold_it(given: dict[str, str]) -> None:
    stack = Stack(**given)
    assert "{{resolve:secretsmanager" not in TEXT + json.dumps(stack.outputs)
    pasted = "Resources:\n  Headers:\n    " + stack.outputs["OriginCustomHeader"]
    (item,) = parse_template(pasted)["Resources"]["Headers"]
    assert item["HeaderName"] == "x-origin-verify"
    separator, parts = item["HeaderValue"]["Fn::Join"]
    arn, member = given.get("SecretArn", NEW_SECRET_ARN), given.get("SecretKeyName", "key")
    assert separator.join(parts) == f"{{{{resolve:secretsmanager:{arn}:SecretString:{member}}}}}"
    assert stack.outputs["SecretArn"] == arn


# Logs, metrics and alarms


def test_the_log_group_has_a_retention() -> None:
    assert Stack(LogRetentionDays="7").properties("LogGroup") == {
        "LogGroupName": "/aws/lambda/stack",
        "RetentionInDays": "7",
    }


def test_the_filters_count_what_the_authorizer_logs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    secret = {"SECRET_NAME": world.secret.name, "SECRET_KEY_NAME": world.secret.member}
    world.set(**{**environment(), **secret}, AWS_LAMBDA_LOG_FORMAT="JSON")
    outcomes: dict[str, list[object]] = {}
    world.secret.put(OLD)
    for name, key in (("allow", OLD), ("refuse", NEW)):
        caplog.clear()
        assert world.ask(key) == name
        outcomes[name] = [getattr(record, "outcome", None) for record in caplog.records]
    caplog.clear()
    world.extension.stop()
    world.clock.move(2)
    assert world.ask(NEW) == "raise"
    outcomes["error"] = [getattr(record, "outcome", None) for record in caplog.records]
    for name, metric, outcome in (
        ("RefusalFilter", "Refusals", "refuse"),
        ("ErrorFilter", "CouldNotKnow", "error"),
    ):
        metric_filter = Stack().properties(name)
        assert metric_filter["LogGroupName"] == "/aws/lambda/stack"
        (transformation,) = metric_filter["MetricTransformations"]
        assert (transformation["MetricName"], transformation["MetricValue"]) == (metric, "1")
        match = re.fullmatch(r'\{ \$\.outcome = "(\w+)" \}', metric_filter["FilterPattern"])
        assert match
        assert {name: lines.count(match[1]) for name, lines in outcomes.items()} == {
            **dict.fromkeys(outcomes, 0),
            outcome: 1,
        }


def alarms(stack: Stack) -> dict[str, dict[str, Any]]:
    entries = stack.resources.items()
    return {
        name: entry["Properties"]
        for name, entry in entries
        if entry["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_the_alarms_watch_the_metrics_and_tell_the_topic_if_there_is_one() -> None:
    transformations = [
        transformation
        for name in ("RefusalFilter", "ErrorFilter")
        for transformation in Stack().properties(name)["MetricTransformations"]
    ]
    made = {(entry["MetricNamespace"], entry["MetricName"]) for entry in transformations}
    watched = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms(Stack()).values()}
    assert watched == made | {("AWS/Lambda", "Throttles"), ("AWS/Lambda", "Errors")}
    for alarm in alarms(Stack()).values():
        assert (alarm["Statistic"], alarm["ComparisonOperator"]) == (
            "Sum",
            "GreaterThanOrEqualToThreshold",
        )
        assert alarm["TreatMissingData"] == "notBreaching"
        assert "AlarmActions" not in alarm
        if alarm["Namespace"] == "AWS/Lambda":
            assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "stack-Function"}]
    assert all(
        alarm["AlarmActions"] == [TOPIC_ARN]
        for alarm in alarms(Stack(AlarmTopicArn=TOPIC_ARN)).values()
    )
    thresholds = {
        name: alarm["Threshold"] for name, alarm in alarms(Stack(RefusalThreshold="42")).items()
    }
    assert thresholds == {
        "RefusalAlarm": "42",
        "CouldNotKnowAlarm": "1",
        "FailureAlarm": "1",
        "ThrottleAlarm": "1",
    }
