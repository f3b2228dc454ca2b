# SPDX-License-Identifier: MIT
"""The authorizer as a CDK construct, and an app that puts it before a backend.

``python3 scripts/package.py --no-wheel`` makes the zip that this deploys. For an app of your own,
import :class:`OriginAuthorizer` and give its ``route_authorizer`` to every route. To try it as it
is, after ``pip install aws-cdk-lib`` and ``cdk bootstrap``, with the secret of runbook.md::

    cdk deploy --app "python3 scripts/deploy/cdk_app.py" -c secret_arn=ARN -c backend_url=URL

No route uses the authorizer until ``-c attach=true``. Set that when CloudFront sends the header,
then keep it in cdk.json: a deployment without it detaches the authorizer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from string import Template

from aws_cdk import App, Aws, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

HERE = Path(__file__).resolve().parent
ZIP = HERE.parent.parent / "dist" / "authorizer.zip"
EXTENSION = "{{resolve:ssm:/aws/service/aws-parameters-and-secrets-lambda-extension/arm64/latest}}"
ACCESS_LOG = {  # secretVersionId shows when the old key is no longer used
    "requestId": "$context.requestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "route": "$context.routeKey",
    "status": "$context.status",
    "authorizerError": "$context.authorizer.error",
    "secretVersionId": "$context.authorizer.secretVersionId",
}
WRONG_KEYS = "Wrong keys arrived. Somebody bypasses CloudFront, or it sends an old key."
NO_VERDICT = "The authorizer could not tell whether a key is live. Its log says why."
FAILED = "The authorizer failed, so requests got 500."
THROTTLED = "Lambda throttled the authorizer, so requests got 500."


class OriginAuthorizer(Construct):
    """The authorizer of one HTTP API, with its function, role, log group and alarms.

    ``secret_arn`` names the secret and ``kms_key_arn`` its customer-managed key, if it has one.
    ``route_authorizer`` is for every route: with ``attach`` the authorizer, otherwise none.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        api: apigateway.IHttpApi,
        secret_arn: str,
        attach: bool = False,
        secret_key_name: str = "key",
        kms_key_arn: str | None = None,
        header_name: str = "x-origin-verify",
        accept_previous_seconds: int = 900,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        refusal_threshold: int = 10,
        alarm_topic_arn: str | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        log_group = logs.LogGroup(
            self, "LogGroup", retention=log_retention, removal_policy=RemovalPolicy.DESTROY
        )
        policy = Template((HERE / "role-policy.json").read_text(encoding="utf-8")).substitute(
            secret_arn=secret_arn, log_streams_arn=log_group.log_group_arn
        )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"authorizer": iam.PolicyDocument.from_json(json.loads(policy))},
        )
        if kms_key_arn is not None:
            role.add_to_policy(
                iam.PolicyStatement(
                    actions=["kms:Decrypt"],
                    resources=[kms_key_arn],
                    conditions={  # only what Secrets Manager encrypted for exactly this secret
                        "StringEquals": {
                            "kms:ViaService": f"secretsmanager.{Aws.REGION}.{Aws.URL_SUFFIX}",
                            "kms:EncryptionContext:SecretARN": secret_arn,
                        }
                    },
                )
            )
        self.function = lambda_.Function(
            self,
            "Function",
            description="Lets a request in only if it carries the key that CloudFront adds",
            code=lambda_.Code.from_asset(str(ZIP)),
            role=role,
            runtime=lambda_.Runtime("python3.14", lambda_.RuntimeFamily.PYTHON),
            handler="authorizer.handler",
            architecture=lambda_.Architecture.ARM_64,
            memory_size=256,
            timeout=Duration.seconds(5),
            layers=[lambda_.LayerVersion.from_layer_version_arn(self, "Extension", EXTENSION)],
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            environment={
                "SECRET_NAME": secret_arn,
                "SECRET_KEY_NAME": secret_key_name,
                "HEADER_NAME": header_name,
                "ACCEPT_PREVIOUS_SECONDS": str(accept_previous_seconds),
                "SECRETS_MANAGER_TTL": "0",
                "SECRETS_MANAGER_TIMEOUT_MILLIS": "3000",
            },
        )
        authorizer = apigateway.HttpAuthorizer(
            self,
            "Authorizer",
            http_api=api,
            type=apigateway.HttpAuthorizerType.LAMBDA,
            authorizer_uri=f"arn:{Aws.PARTITION}:apigateway:{Aws.REGION}:lambda:path"
            f"/2015-03-31/functions/{self.function.function_arn}/invocations",
            payload_format_version=apigateway.AuthorizerPayloadVersion.VERSION_2_0,
            enable_simple_responses=True,
            identity_source=[f"$request.header.{header_name}"],
            results_cache_ttl=Duration.seconds(300),
        )
        self.function.add_permission(
            "Invoke",
            principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
            source_arn=f"arn:{Aws.PARTITION}:execute-api:{Aws.REGION}:{Aws.ACCOUNT_ID}:"
            f"{api.api_id}/authorizers/{authorizer.authorizer_id}",
        )
        self.route_authorizer: apigateway.IHttpRouteAuthorizer = (
            apigateway.HttpAuthorizer.from_http_authorizer_attributes(
                self, "Attached", authorizer_id=authorizer.authorizer_id, authorizer_type="CUSTOM"
            )
            if attach
            else apigateway.HttpNoneAuthorizer()
        )
        namespace = f"SecureAuthorizer/{Aws.STACK_NAME}"
        for name, outcome in (("Refusals", "refuse"), ("CouldNotKnow", "error")):
            log_group.add_metric_filter(
                f"{name}Filter",
                filter_pattern=logs.FilterPattern.literal(f'{{ $.outcome = "{outcome}" }}'),
                metric_namespace=namespace,
                metric_name=name,
                metric_value="1",
            )
        function = {"FunctionName": self.function.function_name}
        for name, where, dimensions, threshold, meaning in (
            ("Refusals", namespace, None, refusal_threshold, WRONG_KEYS),
            ("CouldNotKnow", namespace, None, 1, NO_VERDICT),
            ("Errors", "AWS/Lambda", function, 1, FAILED),
            ("Throttles", "AWS/Lambda", function, 1, THROTTLED),
        ):
            alarm = cloudwatch.Alarm(
                self,
                f"{name}Alarm",
                alarm_description=meaning,
                metric=cloudwatch.Metric(
                    namespace=where,
                    metric_name=name,
                    dimensions_map=dimensions,
                    statistic="Sum",
                    period=Duration.seconds(300),
                ),
                threshold=threshold,
                evaluation_periods=1,
                comparison_operator=(
                    cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
                ),
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            if alarm_topic_arn is not None:
                topic = sns.Topic.from_topic_arn(self, f"{name}Topic", alarm_topic_arn)
                alarm.add_alarm_action(actions.SnsAction(topic))


def main() -> None:
    """Make the app's template. Exits with 1 if a context value or the zip is missing."""
    app = App()
    secret_arn = app.node.try_get_context("secret_arn")
    backend_url = app.node.try_get_context("backend_url")
    if not secret_arn or not backend_url:
        sys.exit("cdk_app.py: give the context values -c secret_arn=ARN and -c backend_url=URL")
    if not ZIP.exists():
        sys.exit(
            "cdk_app.py: there is no dist/authorizer.zip; run python3 scripts/package.py --no-wheel"
        )
    stack = Stack(app, "origin-authorizer")
    api = apigateway.HttpApi(stack, "Api", create_default_stage=False)
    access_log = logs.LogGroup(stack, "AccessLog", retention=logs.RetentionDays.ONE_MONTH)
    apigateway.CfnStage(
        stack,
        "Stage",
        api_id=api.api_id,
        stage_name="$default",
        auto_deploy=True,
        access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
            destination_arn=access_log.log_group_arn, format=json.dumps(ACCESS_LOG)
        ),
    )
    authorizer = OriginAuthorizer(
        stack,
        "Authorizer",
        api=api,
        secret_arn=secret_arn,
        attach=app.node.try_get_context("attach") == "true",
        kms_key_arn=app.node.try_get_context("kms_key_arn"),
        alarm_topic_arn=app.node.try_get_context("alarm_topic_arn"),
    )
    api.add_routes(
        path="/{proxy+}",
        integration=integrations.HttpUrlIntegration("Backend", f"{backend_url}/{{proxy}}"),
        authorizer=authorizer.route_authorizer,
    )
    CfnOutput(stack, "ApiId", value=api.api_id)
    CfnOutput(stack, "FunctionArn", value=authorizer.function.function_arn)
    CfnOutput(stack, "SecretArn", value=secret_arn)
    app.synth()


if __name__ == "__main__":
    main()
