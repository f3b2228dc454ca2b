# SPDX-License-Identifier: MIT
"""What the files in scripts/deploy/ make, read as their tools read them; what their commands do."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

import authorizer
import package
from conftest import NEW, OLD, World, load
from lib.console import ROOT
from lib.copies import inlined_code, parse_template, source, write_all
from lib.standins import PENDING, TOKEN

DEPLOY = ROOT / "scripts" / "deploy"
CODE = source("authorizer.py").decode()
TEXT = package.inlined(source(package.SKELETON).decode(), CODE)
TEMPLATE = parse_template(TEXT)
SAM_TEXT = (DEPLOY / "sam.yaml").read_text()
ROTATOR = source(package.ROTATOR).decode()
ROTATION_TEXT = package.inlined(source(package.ROTATION).decode(), ROTATOR, "rotator.py")
ROTATION = parse_template(ROTATION_TEXT)
POLICY = Template((DEPLOY / "role-policy.json").read_text())
SUPPORTED = [f"python3.{minor}" for minor in range(11, 15)]

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/key-AbCdEf"
KMS_ARN = "arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:alarms"
DISTRIBUTIONS = [f"arn:aws:cloudfront::123456789012:distribution/{id}" for id in ("E1AB", "E2CD")]
ACL_ARN = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/edge/01234567-89ab-cdef"
POLICY_ARN = "arn:aws:iam::123456789012:policy/edge-functions"
EXTENSION = "AWS-Parameters-and-Secrets-Lambda-Extension-Arm64"
LAYER_ARN = f"arn:aws:lambda:eu-west-1:123456789012:layer:{EXTENSION}:12"
NO_VALUE = object()
PSEUDO = {
    "AWS::NoValue": NO_VALUE,
    "AWS::StackName": "stack",
    "AWS::Region": "REGION",
    "AWS::AccountId": "ACCOUNT",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}


class Stack:
    """What CloudFormation makes of a template, with those parameters and the others' defaults.

    Scalars are strings. A reference to a resource is its name, as in "Function" or "Function.Arn".
    """

    def __init__(self, template: dict[str, Any] = TEMPLATE, /, **given: Any) -> None:
        parameters = template.get("Parameters", {})
        assert set(given) <= set(parameters)
        self.template = template
        self.parameters = {name: entry.get("Default") for name, entry in parameters.items()} | given
        self.resources = self._section("Resources")
        self.outputs = {name: entry["Value"] for name, entry in self._section("Outputs").items()}

    def _section(self, name: str) -> dict[str, Any]:
        entries = self.template[name].items()
        return {
            key: self.value(entry)
            for key, entry in entries
            if "Condition" not in entry or self.holds(entry["Condition"])
        }

    def holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((function, arguments),) = condition.items()
        if function == "Fn::Not":
            return not self.holds(arguments[0])
        assert function == "Fn::Equals"
        return bool(self.value(arguments[0]) == self.value(arguments[1]))

    def reference(self, name: str) -> Any:
        return self.parameters.get(name, PSEUDO.get(name, name))

    def value(self, entry: Any) -> Any:
        if isinstance(entry, list):
            return [value for value in map(self.value, entry) if value is not NO_VALUE]
        if not isinstance(entry, dict):
            return entry if isinstance(entry, str) else json.dumps(entry)
        function = next(iter(entry), "")
        arguments: Any = entry.get(function)
        if function == "Ref":
            return self.reference(arguments)
        if function == "Fn::GetAtt":
            return ".".join(arguments)
        if function == "Fn::If":
            return self.value(arguments[1 if self.holds(arguments[0]) else 2])
        if function == "Fn::Join":
            return arguments[0].join(self.value(arguments[1]))
        if function == "Fn::Sub":
            text, more = arguments if isinstance(arguments, list) else (arguments, {})
            more = self.value(more)
            return re.sub(r"\$\{([^}]+)\}", lambda m: more.get(m[1]) or self.reference(m[1]), text)
        assert not function.startswith("Fn::"), function
        return {k: value for k, v in entry.items() if (value := self.value(v)) is not NO_VALUE}

    def properties(self, name: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.resources[name]["Properties"]
        return properties

    def all(self, kind: str) -> list[dict[str, Any]]:
        entries = self.resources.values()
        return [entry["Properties"] for entry in entries if entry["Type"] == f"AWS::{kind}"]


def environment(**given: str) -> dict[str, str]:
    variables: dict[str, str] = Stack(**given).properties("Function")["Environment"]["Variables"]
    return variables


# The code in the template


def test_the_inlined_code_is_the_file_byte_for_byte() -> None:
    assert inlined_code(TEMPLATE) == {"Function": CODE}
    assert Stack().properties("Function")["Handler"] == "index.handler"


# The specification's word

DISTRIBUTION = """\
Resources:
  Distribution:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        Enabled: true
        DefaultCacheBehavior:
          TargetOriginId: api
          ViewerProtocolPolicy: redirect-to-https
          CachePolicyId: 4135ea2d-6df8-44a3-9df3-4b5a84be39ad
        Origins:
          - Id: api
            DomainName: api.example.com
            CustomOriginConfig: { OriginProtocolPolicy: https-only }
            OriginCustomHeaders:
"""
LINE = Stack(SecretArn=SECRET_ARN).outputs["OriginCustomHeader"]
PASTED = "a distribution with the pasted header"
SAM_SWITCH = "        # DefaultAuthorizer: CloudFront\n"
SAM_ATTACHED = SAM_TEXT.replace(SAM_SWITCH, SAM_SWITCH.replace("# ", ""))
LINTED = {
    "template.yaml": TEXT,
    "rotation.yaml": ROTATION_TEXT,
    "sam.yaml": SAM_TEXT,
    "sam.yaml, attached": SAM_ATTACHED,
    PASTED: f"{DISTRIBUTION}              {LINE}\n",
}


@pytest.mark.parametrize("name", LINTED)
def test_cfn_lint_finds_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(LINTED[name])
    cfn_lint = str(Path(sys.executable).with_name("cfn-lint"))
    checks = ["--include-checks", "I"] if name != PASTED else []  # I prefers !Sub to its !Join
    command = [cfn_lint, *checks, "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "cfn-lint" not in LINTED[name]  # which could ignore rules


def terraform(*arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    """Run Terraform there; skip the test if this machine has none."""
    command = shutil.which("terraform")
    if not command:
        pytest.skip("this machine has no terraform")
    return subprocess.run(
        [command, f"-chdir={folder}", *arguments], capture_output=True, text=True, timeout=300
    )


def test_terraform_would_not_format_its_file_otherwise() -> None:
    done = terraform("fmt", "-check", "-diff", "main.tf")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_terraform_validates_its_file(tmp_path: Path) -> None:
    for name in ("main.tf", "role-policy.json"):
        shutil.copy(DEPLOY / name, tmp_path)
    if terraform("init", "-backend=false", folder=tmp_path).returncode:
        pytest.skip("terraform cannot download the AWS provider here")
    done = terraform("validate", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runtime_is_the_newest_that_the_specification_and_we_know() -> None:
    manager = PROVIDER_SCHEMA_MANAGER
    schema = manager.get_resource_schema("eu-west-1", "AWS::Lambda::Function").schema
    known = [name for name in SUPPORTED if name in schema["properties"]["Runtime"]["enum"]]
    assert Stack().properties("Function")["Runtime"] == known[-1]


def test_no_file_names_an_account_or_a_resource_of_anybody() -> None:
    files = [path for path in DEPLOY.iterdir() if path.is_file()]
    assert len(files) > 5
    for path in files:
        found = re.findall(r"[0-9]{12}|\bE[0-9A-Z]{11,}|\w{10}\.execute-api", path.read_text())
        assert not found, path


# All ways alike

NEWEST = "/aws/service/aws-parameters-and-secrets-lambda-extension/arm64/latest"
LAYER = f"{{{{resolve:ssm:{NEWEST}}}}}"
ALIKE: dict[str, Any] = {
    "function": ["python3.14", ["arm64"], "256", "5", [LAYER]],
    "log": ["JSON", "INFO", "30"],
    "variables": {
        "SECRET_NAME": SECRET_ARN,
        "SECRET_KEY_NAME": "key",
        "HEADER_NAME": "x-origin-verify",
        "ACCEPT_PREVIOUS_SECONDS": "900",
        "SECRETS_MANAGER_TTL": "0",
        "SECRETS_MANAGER_TIMEOUT_MILLIS": "3000",
    },
    "policy": json.loads(POLICY.substitute(secret_arn=SECRET_ARN, log_streams_arn="STREAMS")),
    "authorizer": ["2.0", "true", "$request.header.x-origin-verify", "300"],
    "filters": {
        ("Refusals", "1", '{ $.outcome = "refuse" }'),
        ("CouldNotKnow", "1", '{ $.outcome = "error" }'),
    },
    "alarms": {
        ("SecureAuthorizer/stack", "Refusals", "10"),
        ("SecureAuthorizer/stack", "CouldNotKnow", "1"),
        ("AWS/Lambda", "Errors", "1"),
        ("AWS/Lambda", "Throttles", "1"),
    },
    "alarm": {("Sum", "300", "1", "GreaterThanOrEqualToThreshold", "notBreaching")},
}


def made_by(stack: Stack) -> dict[str, Any]:
    """What a CloudFormation stack makes of the authorizer, whatever it calls its resources."""
    ((name, function),) = [
        (name, entry["Properties"])
        for name, entry in stack.resources.items()
        if entry["Type"].endswith("::Function") and "Environment" in entry["Properties"]
    ]
    log, group = function["LoggingConfig"], function["LoggingConfig"]["LogGroup"]
    (role,) = [role for role in stack.all("IAM::Role") if "Policies" in role]
    policy = json.dumps(role["Policies"][0]["PolicyDocument"])
    if apis := stack.all("Serverless::HttpApi"):
        entry = apis[0]["Auth"]["Authorizers"]["CloudFront"]
        (header,), ttl = entry["Identity"]["Headers"], entry["Identity"]["ReauthorizeEvery"]
        identity = f"$request.header.{header}"
    else:
        (entry,) = stack.all("ApiGatewayV2::Authorizer")
        (identity,), ttl = entry["IdentitySource"], entry["AuthorizerResultTtlInSeconds"]
    payload, simple = entry["AuthorizerPayloadFormatVersion"], entry["EnableSimpleResponses"]
    alarms = stack.all("CloudWatch::Alarm")
    for alarm in alarms:
        dimensions = [{"Name": "FunctionName", "Value": name}]
        assert alarm.get("Dimensions", dimensions) == dimensions
        assert ("Dimensions" in alarm) == (alarm["Namespace"] == "AWS/Lambda")
    filters = [
        (made["MetricName"], made["MetricValue"], entry["FilterPattern"])
        for entry in stack.all("Logs::MetricFilter")
        for made in entry["MetricTransformations"]
        if (entry["LogGroupName"], made["MetricNamespace"]) == (group, "SecureAuthorizer/stack")
    ]
    settings = ("Runtime", "Architectures", "MemorySize", "Timeout", "Layers")
    rule = ("Statistic", "Period", "EvaluationPeriods", "ComparisonOperator", "TreatMissingData")
    days = stack.properties(group)["RetentionInDays"]
    return {
        "function": [function[key] for key in settings],
        "log": [log["LogFormat"], log["ApplicationLogLevel"], days],
        "variables": function["Environment"]["Variables"],
        "policy": json.loads(policy.replace(f"{group}.Arn", "STREAMS")),
        "authorizer": [payload, simple, identity, ttl],
        "filters": set(filters),
        "alarms": {(a["Namespace"], a["MetricName"], a["Threshold"]) for a in alarms},
        "alarm": {tuple(alarm[key] for key in rule) for alarm in alarms},
    }


SYNTHESISED = "the CDK app, synthesised"


@pytest.mark.parametrize("way", ["template.yaml", "sam.yaml", SYNTHESISED])
def test_all_ways_make_the_same_and_attach_it_to_nothing(way: str, tmp_path: Path) -> None:
    if way == SYNTHESISED:
        stack = synthesised(tmp_path)
        (route,) = stack.all("ApiGatewayV2::Route")
        assert route["AuthorizationType"] == "NONE"
    else:
        text, given = (TEXT, {"ApiId": "api"}) if way == "template.yaml" else (SAM_TEXT, {})
        stack = Stack(parse_template(text), SecretArn=SECRET_ARN, **given)
        attached = r"^ *DefaultAuthorizer|::Route|::Method|::Deployment|AuthorizationType"
        assert not re.search(attached, text, re.MULTILINE)
    assert made_by(stack) == ALIKE


def synthesised(folder: Path, **context: str) -> Stack:
    """What aws-cdk-lib makes of cdk_app.py. Skips the test where that is not installed."""
    if not importlib.util.find_spec("aws_cdk") or not shutil.which("node"):
        pytest.skip("needs aws-cdk-lib (the extra cdk of pyproject.toml, some 450 MB) and node")
    files = package.build(with_wheel=False)
    write_all(folder / "dist", {"authorizer.zip": files["authorizer.zip"]})
    shutil.copytree(DEPLOY, folder / "scripts" / "deploy")
    context |= {"secret_arn": SECRET_ARN, "backend_url": "https://backend.example.com"}
    env = {"CDK_OUTDIR": str(folder / "out"), "CDK_CONTEXT_JSON": json.dumps(context)}
    command = [sys.executable, str(folder / "scripts" / "deploy" / "cdk_app.py")]
    subprocess.run(command, env={**os.environ, **env}, check=True, timeout=300)
    return Stack(json.loads((folder / "out" / "origin-authorizer.template.json").read_text()))


def test_one_switch_attaches_the_cdk_app(tmp_path: Path) -> None:
    (route,) = synthesised(tmp_path, attach="true").all("ApiGatewayV2::Route")
    assert route["AuthorizationType"] == "CUSTOM" and "AuthorizerId" in route


def test_one_line_attaches_every_route_of_the_sam_template() -> None:
    auth = Stack(parse_template(SAM_ATTACHED), SecretArn=SECRET_ARN).properties("Api")["Auth"]
    assert auth["DefaultAuthorizer"] in auth["Authorizers"]


SAYS = {
    "cdk_app.py": """
        EXTENSION = "{{resolve:ssm:NEWEST}}"
        attach: bool = False,
        secret_key_name: str = "key",
        header_name: str = "x-origin-verify",
        accept_previous_seconds: int = 900,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        refusal_threshold: int = 10,
        policy = Template((HERE / "role-policy.json").read_text(encoding="utf-8")).substitute(
        assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        resources=[kms_key_arn],
        "kms:EncryptionContext:SecretARN": secret_arn,
        f"{api.api_id}/authorizers/{authorizer.authorizer_id}",
        runtime=lambda_.Runtime("python3.14", lambda_.RuntimeFamily.PYTHON),
        architecture=lambda_.Architecture.ARM_64,
        memory_size=256,
        timeout=Duration.seconds(5),
        logging_format=lambda_.LoggingFormat.JSON,
        application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
        "SECRETS_MANAGER_TTL": "0",
        "SECRETS_MANAGER_TIMEOUT_MILLIS": "3000",
        payload_format_version=apigateway.AuthorizerPayloadVersion.VERSION_2_0,
        enable_simple_responses=True,
        identity_source=[f"$request.header.{header_name}"],
        results_cache_ttl=Duration.seconds(300),
        for name, outcome in (("Refusals", "refuse"), ("CouldNotKnow", "error")):
        ("Refusals", namespace, None, refusal_threshold, WRONG_KEYS),
        ("CouldNotKnow", namespace, None, 1, NO_VERDICT),
        ("Errors", "AWS/Lambda", function, 1, FAILED),
        ("Throttles", "AWS/Lambda", function, 1, THROTTLED),
        period=Duration.seconds(300),
        attach=app.node.try_get_context("attach") == "true",
        authorizer=authorizer.route_authorizer,
    """,
    "main.tf": """
        attach: false
        secret_key_name: "key"
        header_name: "x-origin-verify"
        accept_previous_seconds: 900
        log_retention_days: 30
        refusal_threshold: 10
        zip = "${path.module}/../../dist/authorizer.zip"
        name = "NEWEST"
        policy = templatefile("${path.module}/role-policy.json", {
        Principal = { Service = "lambda.amazonaws.com" }
        Resource = var.kms_key_arn
        "kms:EncryptionContext:SecretARN" = var.secret_arn
        data.aws_apigatewayv2_api.api.execution_arn,
        aws_apigatewayv2_authorizer.authorizer.id,
        runtime = "python3.14"
        architectures = ["arm64"]
        memory_size = 256
        timeout = 5
        log_format = "JSON"
        application_log_level = "INFO"
        retention_in_days = var.log_retention_days
        ACCEPT_PREVIOUS_SECONDS = tostring(var.accept_previous_seconds)
        SECRETS_MANAGER_TTL = "0"
        SECRETS_MANAGER_TIMEOUT_MILLIS = "3000"
        authorizer_payload_format_version = "2.0"
        enable_simple_responses = true
        identity_sources = ["$request.header.${var.header_name}"]
        authorizer_result_ttl_in_seconds = 300
        Refusals = "refuse"
        CouldNotKnow = "error"
        Refusals local.namespace var.refusal_threshold
        CouldNotKnow local.namespace 1
        Errors "AWS/Lambda" 1
        Throttles "AWS/Lambda" 1
        dimensions = each.value.namespace == "AWS/Lambda" ? local.function : {}
        statistic = "Sum"
        period = 300
        evaluation_periods = 1
        comparison_operator = "GreaterThanOrEqualToThreshold"
        treat_missing_data = "notBreaching"
        value = var.attach ? "CUSTOM" : "NONE"
        value = var.attach ? aws_apigatewayv2_authorizer.authorizer.id : null
    """,
}


@pytest.mark.parametrize("name", SAYS)
def test_the_cdk_app_and_the_terraform_module_say_the_same(name: str) -> None:
    """Line by line, because aws-cdk-lib and the AWS provider are too large to require."""
    text = (DEPLOY / name).read_text()
    said = {" ".join(line.split()) for line in text.splitlines()}
    defaults = re.findall(r'variable "(\w+)" \{\n(?:  .*\n)*?  default +=(.*)\n', text)
    said |= {f"{variable}:{default}" for variable, default in defaults}
    alarms = re.findall(r"(\w+) = \{\n +namespace = (.*)\n +threshold = (.*)\n", text)
    said |= {" ".join(alarm) for alarm in alarms}
    wanted = {line.strip() for line in SAYS[name].replace("NEWEST", NEWEST).strip().splitlines()}
    assert wanted - said == set()
    variables = re.findall(r'^ +"?([A-Z_]{10,})"?(?: +=|:)', text, re.MULTILINE)
    assert set(variables) == set(ALIKE["variables"])
    assert 'resource "aws_apigatewayv2_route"' not in text


# The template's parameters


@pytest.mark.parametrize("template", [TEMPLATE, ROTATION], ids=["template.yaml", "rotation.yaml"])
def test_parameters_are_labelled_and_described_and_their_defaults_allowed(
    template: dict[str, Any],
) -> None:
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    listed = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(listed) == sorted(interface["ParameterLabels"]) == sorted(template["Parameters"])
    required = {name for name, entry in template["Parameters"].items() if "Default" not in entry}
    assert required == ({"SecretArn", "DistributionArns"} if template is ROTATION else set())
    for name, entry in template["Parameters"].items():
        assert entry["Description"].endswith("."), name
        for sentence in re.split(r"(?<=\.) ", entry["Description"]):
            assert len(sentence.split()) <= 25, sentence
        if "AllowedValues" in entry:
            assert entry["Default"] in entry["AllowedValues"], name
        elif entry["Type"] == "Number":
            least, most = int(entry["MinValue"]), int(entry.get("MaxValue", "1000000"))
            assert least <= int(entry["Default"]) <= most, name
        else:
            assert name in required or re.fullmatch(entry["AllowedPattern"], entry["Default"]), name
            assert entry["ConstraintDescription"], name


PATTERNS = {  # values that are allowed and values that are refused
    "SecretArn": (
        [SECRET_ARN, SECRET_ARN.replace(":aws:", ":aws-us-gov:")],
        ["prod/key", SECRET_ARN[:-7], SECRET_ARN + "*", SECRET_ARN[:-15] + "*"],
    ),
    "SecretKeyName": (["key", "api_key"], ["", "a:b", "a b", "a}"]),
    "KmsKeyArn": ([KMS_ARN], [KMS_ARN.replace("key/", "alias/"), "*", KMS_ARN[:-36] + "*"]),
    "AcceptPreviousSeconds": (["0", "900", "9999"], ["", "-1", "900.5", "09", "10000"]),
    "ApiId": (["a1b2c3d4e5"], ["A1", "a/*", "*"]),
    "RestApiId": (["a1b2c3d4e5"], ["A1", "a/*", "*"]),
    "HeaderName": (["X-Api-Key"], ["", "x y", "x:y", "x_y}"]),
    "ExtensionLayerArn": ([LAYER_ARN], [LAYER_ARN.rpartition(":")[0], "*"]),
    "ReservedConcurrency": (["1", "50"], ["0", "-1", "1.5", "x"]),
    "AlarmTopicArn": ([TOPIC_ARN], ["alarms", "*"]),
    "DistributionArns": (DISTRIBUTIONS, ["", "E1AB", "*", DISTRIBUTIONS[0] + "*"]),
    "OriginIds": (["api", "api,shop.example.com"], [",", "api,", ",api"]),
    "WebAclArn": ([ACL_ARN], ["*", ACL_ARN + "*", ACL_ARN.replace("global", "regional")]),
    "ExtraPolicyArn": ([POLICY_ARN, "arn:aws:iam::aws:policy/x"], ["*", "policy/x"]),
    "TestUrl": (["https://a.example/b?c"], ["http://a.example/b", "https://a.example"]),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_wrong_parameters_are_refused_before_anything_is_made(name: str) -> None:
    allowed, refused = PATTERNS[name]
    templates = TEMPLATE, ROTATION, parse_template(SAM_TEXT)
    entries = [it["Parameters"][name] for it in templates if name in it["Parameters"]]
    patterns = [entry["AllowedPattern"] for entry in entries if "AllowedValues" not in entry]
    assert patterns
    for pattern in patterns:
        assert all(re.fullmatch(pattern, value) for value in allowed)
        assert not any(re.fullmatch(pattern, value) for value in refused)


def test_one_api_cannot_be_named_as_both_kinds() -> None:
    (rule,) = TEMPLATE["Rules"].values()
    (assertion,) = rule["Assertions"]
    assert not Stack().holds(rule["RuleCondition"])
    same, differ = Stack(ApiId="a1", RestApiId="a1"), Stack(ApiId="a1", RestApiId="b2")
    assert same.holds(rule["RuleCondition"]) and not same.holds(assertion["Assert"])
    assert differ.holds(rule["RuleCondition"]) and differ.holds(assertion["Assert"])


# The template's function


def test_what_parameters_change_of_the_function() -> None:
    given = {"ReservedConcurrency": "9", "MemorySize": "512", "Architecture": "x86_64"}
    function, default = Stack(**given).properties("Function"), Stack().properties("Function")
    assert (function["MemorySize"], function["ReservedConcurrentExecutions"]) == ("512", "9")
    assert "ReservedConcurrentExecutions" not in default
    assert function["Architectures"] == ["x86_64"]
    assert function["Layers"] == [LAYER.replace("arm64", "x86")]
    assert Stack(ExtensionLayerArn=LAYER_ARN).properties("Function")["Layers"] == [LAYER_ARN]
    assert Stack(LogRetentionDays="7").properties("LogGroup")["RetentionInDays"] == "7"
    assert environment()["SECRET_NAME"] == "Secret"


@pytest.mark.parametrize("previous", ["0", "1", "9999"])
def test_the_authorizer_takes_its_settings(previous: str) -> None:
    given = {"AcceptPreviousSeconds": previous, "HeaderName": "X-Api-Key", "SecretKeyName": "a/b@c"}
    settings = authorizer.Settings({**environment(**given), "AWS_SESSION_TOKEN": TOKEN})
    assert (settings.accept_previous_seconds, settings.extension_ttl) == (int(previous), 0)
    assert (settings.header, settings.key_name) == ("x-api-key", "a/b@c")
    assert settings.response_format == "auto"


@pytest.mark.parametrize("level", TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"])
def test_the_authorizer_logs_refusals_at_every_level(world: World, level: str) -> None:
    log = Stack(LogLevel=level).properties("Function")["LoggingConfig"]
    world.set(AWS_LAMBDA_LOG_LEVEL=log["ApplicationLogLevel"])  # as Lambda does
    world.secret.put(OLD)
    assert world.ask(NEW) == "refuse"
    assert logging.getLogger("authorizer").isEnabledFor(logging.WARNING)
    assert log["ApplicationLogLevel"] == level


def test_the_authorizer_gives_up_before_the_extension_does() -> None:
    """Or a read that hangs would end in the Extension's answer for an absent label."""
    milliseconds = int(environment()["SECRETS_MANAGER_TIMEOUT_MILLIS"])
    longest = max(authorizer.FIRST_READ_SECONDS, authorizer.READ_SECONDS)
    assert 1000 * longest <= milliseconds < 1000 * int(Stack().properties("Function")["Timeout"])


# The role

ROLES = [
    {"SecretArn": secret, "KmsKeyArn": key, "AcceptPreviousSeconds": previous}
    for secret, key, previous in itertools.product(["", SECRET_ARN], ["", KMS_ARN], ["0", "900"])
]


def statements(stack: Stack) -> list[dict[str, Any]]:
    (policy,) = stack.properties("Role")["Policies"]
    document: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return document


@pytest.mark.parametrize("given", ROLES, ids=str)
def test_the_role_may_do_what_is_named_here_and_no_more(given: dict[str, str]) -> None:
    secret, stack = given["SecretArn"] or "Secret", Stack(**given)
    grace = given["AcceptPreviousSeconds"] != "0"
    labels = ["AWSPENDING", "AWSCURRENT", "AWSPREVIOUS"][: 3 if grace else 2]
    write = ["logs:CreateLogStream", "logs:PutLogEvents"]
    only = {
        "kms:ViaService": "secretsmanager.REGION.amazonaws.com",
        "kms:EncryptionContext:SecretARN": secret,
    }
    wanted = [
        ("secretsmanager:GetSecretValue", secret, {"secretsmanager:VersionStage": labels}),
        (write, "LogGroup.Arn", None),
        ("kms:Decrypt", KMS_ARN, only),
    ]
    allowed = [
        {"Effect": "Allow", "Action": action, "Resource": resource}
        | ({"Condition": {"StringEquals": condition}} if condition else {})
        for action, resource, condition in wanted
    ]
    service = {"Service": "lambda.amazonaws.com"}
    stacks = [stack]
    if given["SecretArn"] and grace:  # sam.yaml has no other secret and always names the labels
        stacks.append(Stack(parse_template(SAM_TEXT), **given))
    for stack in stacks:
        assert statements(stack) == allowed[: 3 if given["KmsKeyArn"] else 2]
        role = stack.properties("Role")
        assert set(role) == {"AssumeRolePolicyDocument", "Policies"}
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement == {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"}


@pytest.mark.parametrize("previous", ["0", "900"])
def test_the_role_allows_exactly_the_labels_that_are_read(world: World, previous: str) -> None:
    given = {"AcceptPreviousSeconds": previous}
    secret = {"SECRET_NAME": world.secret.name, "SECRET_KEY_NAME": world.secret.member}
    world.set(**{**environment(**given), **secret})
    world.secret.put(OLD)
    world.secret.put(NEW)
    world.secret.put(OLD, PENDING)
    assert world.ask("a-wrong-key-a-wrong-key") == "refuse"
    (condition,) = statements(Stack(**given))[0]["Condition"]["StringEquals"].values()
    assert set(world.extension.seen) == set(condition)


# The authorizers

URI = "arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/Function.Arn/invocations"


def callers(stack: Stack) -> list[str]:
    """Who may call the function."""
    for permission in stack.all("Lambda::Permission"):
        who = (permission["Action"], permission["FunctionName"], permission["Principal"])
        assert who == ("lambda:InvokeFunction", "Function.Arn", "apigateway.amazonaws.com")
    return [permission["SourceArn"] for permission in stack.all("Lambda::Permission")]


HTTP_CALLER = "arn:aws:execute-api:REGION:ACCOUNT:a1/authorizers/HttpAuthorizer"
REST_CALLER = "arn:aws:execute-api:REGION:ACCOUNT:r1/authorizers/RestAuthorizer"


def test_an_http_api_gets_simple_responses_and_the_permission_for_its_authorizer() -> None:
    stack = Stack(ApiId="a1", HeaderName="x-api-key", ResultTtlSeconds="60")
    assert stack.all("ApiGatewayV2::Authorizer") == [
        {
            "ApiId": "a1",
            "Name": "stack",
            "AuthorizerType": "REQUEST",
            "AuthorizerUri": URI,
            "AuthorizerPayloadFormatVersion": "2.0",
            "EnableSimpleResponses": "true",
            "IdentitySource": ["$request.header.x-api-key"],
            "AuthorizerResultTtlInSeconds": "60",
        }
    ]
    assert callers(stack) == [HTTP_CALLER] and not stack.all("ApiGateway::Authorizer")
    assert stack.outputs["HttpAuthorizerId"] == "HttpAuthorizer"
    assert "RestAuthorizerId" not in stack.outputs


def test_a_rest_api_gets_a_request_authorizer_and_its_permission() -> None:
    stack = Stack(RestApiId="r1")
    assert stack.all("ApiGateway::Authorizer") == [
        {
            "RestApiId": "r1",
            "Name": "stack",
            "Type": "REQUEST",
            "AuthorizerUri": URI,
            "IdentitySource": "method.request.header.x-origin-verify",
            "AuthorizerResultTtlInSeconds": "300",
        }
    ]
    assert callers(stack) == [REST_CALLER] and not stack.all("ApiGatewayV2::Authorizer")
    assert stack.outputs["RestAuthorizerId"] == "RestAuthorizer"
    assert "HttpAuthorizerId" not in stack.outputs


def test_both_apis_or_none() -> None:
    assert callers(Stack(ApiId="a1", RestApiId="r1")) == [HTTP_CALLER, REST_CALLER]
    assert callers(Stack()) == []
    assert not any("Authorizer" in entry["Type"] for entry in Stack().resources.values())


# The template's secret, logs and alarms


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
    arn, member = given.get("SecretArn", "Secret"), given.get("SecretKeyName", "key")
    resolved = f"{{{{resolve:secretsmanager:{arn}:SecretString:{member}}}}}"
    assert separator.join(parts) == resolved
    assert stack.outputs["SecretArn"] == arn


def test_the_filters_count_what_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    secret = {"SECRET_NAME": world.secret.name, "SECRET_KEY_NAME": world.secret.member}
    world.set(**{**environment(), **secret}, AWS_LAMBDA_LOG_FORMAT="JSON")
    world.secret.put(OLD)
    assert (world.ask(OLD), world.ask(NEW)) == ("allow", "refuse")
    world.extension.stop()
    world.clock.move(2)
    assert world.ask(NEW) == "raise"
    outcomes = [getattr(record, "outcome", None) for record in caplog.records]
    for _, _, pattern in ALIKE["filters"]:
        match = re.fullmatch(r'\{ \$\.outcome = "(\w+)" \}', pattern)
        assert match and outcomes.count(match[1]) == 1


def test_the_alarms_tell_the_topic_if_there_is_one() -> None:
    sam = parse_template(SAM_TEXT)
    for topic in ("", TOPIC_ARN):
        for stack in (Stack(AlarmTopicArn=topic), Stack(sam, AlarmTopicArn=topic)):
            told = [alarm.get("AlarmActions", [""]) for alarm in stack.all("CloudWatch::Alarm")]
            assert told == [[topic]] * 4
    assert Stack(RefusalThreshold="42").properties("RefusalAlarm")["Threshold"] == "42"


# The template of the rotation function


def rotation(**given: Any) -> Stack:
    return Stack(ROTATION, **{"SecretArn": SECRET_ARN, "DistributionArns": DISTRIBUTIONS, **given})


def test_the_rotation_stack_makes_these_resources_and_no_others() -> None:
    assert {name: entry["Type"] for name, entry in rotation().resources.items()} == {
        "LogGroup": "AWS::Logs::LogGroup",
        "Role": "AWS::IAM::Role",
        "Permission": "AWS::Lambda::Permission",
        "RotationSchedule": "AWS::SecretsManager::RotationSchedule",
        "FailureAlarm": "AWS::CloudWatch::Alarm",
        "Function": "AWS::Lambda::Function",
    }
    assert inlined_code(ROTATION) == {"Function": ROTATOR}


def test_the_rotation_function_has_cloudfronts_time_and_runs_once_at_a_time() -> None:
    function = rotation().properties("Function")
    settings = ("Runtime", "Architectures", "MemorySize", "Timeout", "Handler")
    made = [function[name] for name in settings]
    runtime = Stack().properties("Function")["Runtime"]
    assert made == [runtime, ["arm64"], "256", "900", "index.handler"]
    assert function["ReservedConcurrentExecutions"] == "1"
    unlimited = rotation(ReservedConcurrency="").properties("Function")
    assert "ReservedConcurrentExecutions" not in unlimited
    log = {"LogGroup": "LogGroup", "LogFormat": "JSON", "ApplicationLogLevel": "INFO"}
    assert function["LoggingConfig"] == log
    group = {"LogGroupName": "/aws/lambda/stack", "RetentionInDays": "7"}
    assert rotation(LogRetentionDays="7").properties("LogGroup") == group


@pytest.mark.parametrize("given", [{}, {"OriginIds": "api,shop", "TestUrl": "https://a.example/b"}])
def test_the_rotation_function_takes_its_settings(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules of rotator.py itself, which needs no boto3 for them."""
    boto: Any = ModuleType("boto3")
    boto.ClientError = Exception
    for name in ("boto3", "botocore", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, name, boto)
    rules = load("rotator", DEPLOY / "rotator.py").SETTINGS
    variables = rotation(**given).properties("Function")["Environment"]["Variables"]
    assert variables == {
        "DISTRIBUTION_IDS": ",".join(DISTRIBUTIONS),
        "SECRET_KEY_NAME": "key",
        "HEADER_NAME": "x-origin-verify",
        "ORIGIN_IDS": given.get("OriginIds", ""),
        "TEST_URL": given.get("TestUrl", ""),
    }
    assert all(re.fullmatch(rules[name][1], value) for name, value in variables.items())


def test_secrets_manager_of_this_account_invokes_it_at_once_and_by_the_calendar() -> None:
    stack = rotation(RotationDays="7")
    assert stack.properties("Permission") == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": "Function.Arn",
        "Principal": "secretsmanager.amazonaws.com",
        "SourceAccount": "ACCOUNT",
    }
    assert stack.resources["RotationSchedule"] == {
        "Type": "AWS::SecretsManager::RotationSchedule",
        "DependsOn": ["Permission", "FailureAlarm"],
        "Properties": {
            "SecretId": SECRET_ARN,
            "RotationLambdaARN": "Function.Arn",
            "RotateImmediatelyOnUpdate": "true",
            "RotationRules": {"AutomaticallyAfterDays": "7"},
        },
    }
    assert ROTATION["Parameters"]["RotationDays"]["Default"] == "30"


@pytest.mark.parametrize("arns", [DISTRIBUTIONS, DISTRIBUTIONS[:1]], ids=len)
@pytest.mark.parametrize("policy", ["", POLICY_ARN])
@pytest.mark.parametrize("acl", ["", ACL_ARN])
@pytest.mark.parametrize("key", ["", KMS_ARN])
def test_the_rotation_role_may_do_what_is_named_here_and_no_more(
    key: str, acl: str, policy: str, arns: list[str]
) -> None:
    secret = ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]
    edge = ["cloudfront:GetDistribution", "cloudfront:UpdateDistribution"]
    only = {
        "kms:ViaService": "secretsmanager.REGION.amazonaws.com",
        "kms:EncryptionContext:SecretARN": SECRET_ARN,
    }
    wanted: list[tuple[Any, Any]] = [
        ([f"secretsmanager:{action}" for action in secret], SECRET_ARN),
        ("secretsmanager:GetRandomPassword", "*"),
        (edge, arns),
        (["logs:CreateLogStream", "logs:PutLogEvents"], "LogGroup.Arn"),
        *([(["kms:Decrypt", "kms:GenerateDataKey"], KMS_ARN)] if key else []),
        *([("wafv2:GetWebACL", ACL_ARN)] if acl else []),
    ]
    stack = rotation(KmsKeyArn=key, WebAclArn=acl, ExtraPolicyArn=policy, DistributionArns=arns)
    assert statements(stack) == [
        {"Effect": "Allow", "Action": action, "Resource": resource}
        | ({"Condition": {"StringEquals": only}} if resource == KMS_ARN else {})
        for action, resource in wanted
    ]
    role = stack.properties("Role")
    assert role.get("ManagedPolicyArns", []) == ([policy] if policy else [])
    assert (
        role["AssumeRolePolicyDocument"] == Stack().properties("Role")["AssumeRolePolicyDocument"]
    )


def test_the_rotation_role_has_a_permission_for_each_call_and_for_no_other() -> None:
    calls = re.findall(r"self\.(secrets|cloudfront)\.([a-z_]+)\(", ROTATOR)
    services = {"secrets": "secretsmanager", "cloudfront": "cloudfront"}
    called = {f"{services[name]}:{call.title().replace('_', '')}" for name, call in calls}
    listed = re.findall(
        r'"((?:secretsmanager|cloudfront):\w+)"', json.dumps(statements(rotation()))
    )
    assert called == set(listed) and len(called) == 7


def test_the_rotation_alarm_watches_the_functions_errors_and_tells_the_topic() -> None:
    alarm = rotation().properties("FailureAlarm")
    rule = ("Statistic", "Period", "EvaluationPeriods", "ComparisonOperator", "TreatMissingData")
    assert {tuple(alarm[key] for key in rule)} == ALIKE["alarm"]
    watched = (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"])
    assert watched == ("AWS/Lambda", "Errors", "1")
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "Function"}]
    assert "AlarmActions" not in alarm
    told = rotation(AlarmTopicArn=TOPIC_ARN).properties("FailureAlarm")["AlarmActions"]
    assert told == [TOPIC_ARN]


# The commands that the README and the runbook print

FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
KEY = "canary-key-0123456789-abcdefghijklmnopqrstuvwxyz"
AWS = f"""#!{sys.executable}
import json, os, pathlib, sys
state = pathlib.Path(os.environ["STATE"])
with open(state / "calls", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
command = sys.argv[2]
if os.environ.get("FAIL") == command:
    sys.exit(254)
if command == "get-distribution-config" and "--query" not in sys.argv:
    print((state / "was.json").read_text())
elif command == "get-secret-value":
    print(json.dumps({{"SecretString": json.dumps({{"key": "{KEY}"}})}}))
elif command == "get-random-password":
    print(json.dumps({{"RandomPassword": "{KEY}"}}))
elif command == "update-distribution":
    path = sys.argv[sys.argv.index("--distribution-config") + 1].removeprefix("file://")
    (state / "new.json").write_text(pathlib.Path(path).read_text())
    print("its answer holds {KEY} too")
elif "Versions[].VersionStages[]" in sys.argv:
    print("AWSCURRENT\tAWSPREVIOUS")
elif "--query" in sys.argv:
    print("answer-of-" + command)
for path in (word[7:] for word in sys.argv if word.startswith("file://")):
    with open(state / "modes", "a") as modes:
        print(oct(os.stat(path).st_mode & 0o777), file=modes)
"""


def fences(document: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block, without the indentation of a list."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [(match[2], textwrap.dedent(match[3])) for match in FENCE.finditer(text)]
    assert text.count("```") == 2 * len(found)
    return found


def shell(document: str) -> list[str]:
    return [text for language, text in fences(document) if language == "sh"]


RUNBOOK = "scripts/deploy/runbook.md"
(SET_HEADER,) = [text for text in shell(RUNBOOK) if text.startswith("set_header() (")]


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md", RUNBOOK])
def test_every_fence_is_a_picture_or_a_command_that_parses(document: str) -> None:
    assert {language for language, _ in fences(document)} <= {"sh", "mermaid", "text"}
    for text in shell(document):
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
        assert document != RUNBOOK or "#" not in text  # an interactive zsh knows no comments


def origin(identity: str, *headers: tuple[str, str]) -> dict[str, object]:
    items = [{"HeaderName": header, "HeaderValue": value} for header, value in headers]
    custom = {"Quantity": len(items), **({"Items": items} if items else {})}
    return {"Id": identity, "CustomHeaders": custom}


def run(
    folder: Path, script: str, *origins: dict[str, object], **env: str
) -> subprocess.CompletedProcess[str]:
    """Run commands beside a stand-in for aws; what it was asked is then in that folder."""
    for made in ("bin", "tmp"):
        (folder / made).mkdir()
    own = '[ "${1#scripts/}" != "$1" ]'  # a command of ours, which has tests of its own
    python = f'#!/bin/sh\n{own} || exec {sys.executable} "$@"\n'
    nothing = "#!/bin/sh\n"
    for name, text in (("aws", AWS), ("python3", python), ("sleep", nothing), ("curl", nothing)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    config = {"Comment": "kept", "Origins": {"Quantity": len(origins), "Items": list(origins)}}
    (folder / "was.json").write_text(json.dumps({"ETag": "E1", "DistributionConfig": config}))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    given = {"PATH": path, "TMPDIR": str(folder / "tmp"), "STATE": str(folder), **env}
    command = ["bash", "-euc", script]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **given}, capture_output=True, text=True, timeout=60
    )
    assert KEY not in done.stdout + done.stderr + (folder / "calls").read_text()
    assert list((folder / "tmp").iterdir()) == [] and not (folder / "key.json").exists()
    modes = folder / "modes"  # of the files that were given to aws
    assert not modes.exists() or set(modes.read_text().split()) == {"0o600"}
    return done


def asked(folder: Path) -> list[str]:
    """The commands that aws was given, without the services."""
    return [json.loads(line)[1] for line in (folder / "calls").read_text().splitlines()]


def test_the_readme_deploys_in_an_order_that_locks_nobody_out(tmp_path: Path) -> None:
    """Each variable is assigned before it is used, and routes change when all else is done."""
    commands = shell("README.md")
    first, last = (
        next(i for i, text in enumerate(commands) if word in text)
        for word in ("aws cloudformation deploy", "aws apigatewayv2 update-route")
    )
    done = run(tmp_path, "".join(commands[first : last + 1]), origin("your-origin"))
    assert done.returncode == 0, done.stderr
    changes = ("deploy", "list-secret-version-ids", "invoke", "update-route")
    assert [name for name in asked(tmp_path) if name in changes] == [
        "deploy", "deploy", "list-secret-version-ids", "invoke", "invoke", "update-route",
    ]  # fmt: skip
    for number, template in enumerate(("template.yaml", "rotation.yaml")):
        text = "".join(commands[first : last + 1]).split("--parameter-overrides")[number + 1]
        given = re.findall(r"\b([A-Z][A-Za-z]+)=\"", text.split("\n}")[0].split("until")[0])
        skeleton = (ROOT / "scripts" / "deploy" / template).read_text()
        assert given and set(given) <= set(parse_template(skeleton)["Parameters"]), template
    assert '"--authorizer-id", "answer-of-describe-stacks"' in (tmp_path / "calls").read_text()


def test_the_runbook_can_be_pasted_from_its_first_to_its_last_command(tmp_path: Path) -> None:
    done = run(tmp_path, "".join(shell(RUNBOOK)), origin("your-origin"))
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path)[-2:] == ["delete-stack", "delete-secret"]
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    assert '"--secret-id", "answer-of-create-secret"' in last
    for text in shell(RUNBOOK):
        assert text.count("make_key &&") == text.count("rm key.json")


HEADER = "DISTRIBUTION=D ORIGIN=api SECRET=S MEMBER=key HEADER=x-origin-verify\n" + SET_HEADER


def test_the_header_is_set_and_the_key_shows_nowhere_else(tmp_path: Path) -> None:
    others = origin("other", ("x-origin-verify", "not-ours"))
    api = origin("api", ("x-kept", "1"), ("X-Origin-Verify", "old"))
    done = run(tmp_path, HEADER + "set_header AWSPENDING", others, api)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "new.json").read_text()) == {
        "Comment": "kept",
        "Origins": {
            "Quantity": 2,
            "Items": [others, origin("api", ("x-kept", "1"), ("x-origin-verify", KEY))],
        },
    }
    calls = (tmp_path / "calls").read_text()
    assert '"--if-match", "E1"' in calls and '"--version-stage", "AWSPENDING"' in calls
    assert asked(tmp_path) == ["get-secret-value", "get-distribution-config", "update-distribution"]


def test_an_origin_without_headers_gets_its_first(tmp_path: Path) -> None:
    assert run(tmp_path, HEADER + "set_header AWSCURRENT", origin("api")).returncode == 0
    new = json.loads((tmp_path / "new.json").read_text())
    assert new["Origins"]["Items"] == [origin("api", ("x-origin-verify", KEY))]


@pytest.mark.parametrize("failing", ["get-distribution-config", "get-secret-value", "no origin"])
def test_nothing_is_updated_after_a_failure(tmp_path: Path, failing: str) -> None:
    there = origin("elsewhere" if failing == "no origin" else "api")
    script = HEADER + "if set_header AWSCURRENT; then exit 0; else exit 3; fi"
    assert run(tmp_path, script, there, FAIL=failing).returncode == 3
    assert "update-distribution" not in asked(tmp_path)
