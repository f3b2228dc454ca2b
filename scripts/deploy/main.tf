# SPDX-License-Identifier: MIT
# The authorizer on an existing HTTP API, as a module of a checkout in which
# `python3 scripts/package.py --no-wheel` made the zip. runbook.md says how to make the secret.
#
#   module "origin_authorizer" {
#     source     = "./CHECKOUT/scripts/deploy"
#     secret_arn = "ARN"
#     api_id     = aws_apigatewayv2_api.YOURS.id
#   }
#
# Let your routes take the two outputs, so that `attach` is one switch for all of them:
#
#   authorization_type = module.origin_authorizer.authorization_type
#   authorizer_id      = module.origin_authorizer.authorizer_id
#
# Set it when CloudFront sends the header, and keep it set: an apply without it detaches.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.20" # the first that takes python3.14
    }
  }
}

variable "secret_arn" {
  description = "ARN of the secret that holds the key. Terraform does not read the key."
  type        = string
}

variable "api_id" {
  description = "ID of an existing HTTP API."
  type        = string
}

variable "attach" {
  description = "Whether the outputs attach the authorizer. First let CloudFront send the header."
  type        = bool
  default     = false
}

variable "name" {
  description = "Name of the function, the role, the authorizer and the alarms."
  type        = string
  default     = "origin-authorizer"
}

variable "secret_key_name" {
  description = "Member of the secret's JSON object that holds the key."
  type        = string
  default     = "key"
}

variable "kms_key_arn" {
  description = "ARN of the customer-managed KMS key that encrypts the secret, if there is one."
  type        = string
  default     = null
}

variable "header_name" {
  description = "The header in which CloudFront sends the key."
  type        = string
  default     = "x-origin-verify"
}

variable "accept_previous_seconds" {
  description = "The previous key stays live until the current version is this many seconds old."
  type        = number
  default     = 900
}

variable "log_retention_days" {
  description = "CloudWatch keeps log lines for this many days."
  type        = number
  default     = 30
}

variable "refusal_threshold" {
  description = "This many refusals within five minutes raise the alarm."
  type        = number
  default     = 10
}

variable "alarm_topic_arn" {
  description = "ARN of an SNS topic that the alarms notify, if there is one."
  type        = string
  default     = null
}

locals {
  zip        = "${path.module}/../../dist/authorizer.zip"
  region     = data.aws_region.current.region
  dns_suffix = data.aws_partition.current.dns_suffix
  namespace  = "SecureAuthorizer/${var.name}"
  function   = { FunctionName = aws_lambda_function.authorizer.function_name }

  counted = { # metric = outcome in the log
    Refusals     = "refuse"
    CouldNotKnow = "error"
  }

  alarms = { # metric = where it is, and how much of it raises the alarm
    Refusals = {
      namespace = local.namespace
      threshold = var.refusal_threshold
      meaning   = "Wrong keys arrived. Somebody bypasses CloudFront, or it sends an old key."
    }
    CouldNotKnow = {
      namespace = local.namespace
      threshold = 1
      meaning   = "The authorizer could not tell whether a key is live. Its log says why."
    }
    Errors = {
      namespace = "AWS/Lambda"
      threshold = 1
      meaning   = "The authorizer failed, so requests got 500."
    }
    Throttles = {
      namespace = "AWS/Lambda"
      threshold = 1
      meaning   = "Lambda throttled the authorizer, so requests got 500."
    }
  }
}

data "aws_apigatewayv2_api" "api" {
  api_id = var.api_id
}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_ssm_parameter" "extension" {
  name = "/aws/service/aws-parameters-and-secrets-lambda-extension/arm64/latest"
}

resource "aws_cloudwatch_log_group" "authorizer" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "authorizer" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "authorizer" {
  name = "authorizer"
  role = aws_iam_role.authorizer.name
  policy = templatefile("${path.module}/role-policy.json", {
    secret_arn      = var.secret_arn
    log_streams_arn = "${aws_cloudwatch_log_group.authorizer.arn}:*"
  })
}

resource "aws_iam_role_policy" "decrypt" {
  count = var.kms_key_arn == null ? 0 : 1
  name  = "decrypt"
  role  = aws_iam_role.authorizer.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "kms:Decrypt"
      Resource = var.kms_key_arn
      Condition = { # only what Secrets Manager encrypted for exactly this secret
        StringEquals = {
          "kms:ViaService"                  = "secretsmanager.${local.region}.${local.dns_suffix}"
          "kms:EncryptionContext:SecretARN" = var.secret_arn
        }
      }
    }]
  })
}

resource "aws_lambda_function" "authorizer" {
  function_name    = var.name
  description      = "Lets a request in only if it carries the key that CloudFront adds"
  role             = aws_iam_role.authorizer.arn
  filename         = local.zip
  source_code_hash = filebase64sha256(local.zip)
  handler          = "authorizer.handler"
  runtime          = "python3.14"
  architectures    = ["arm64"]
  memory_size      = 256
  timeout          = 5
  layers           = [data.aws_ssm_parameter.extension.insecure_value]

  logging_config {
    log_group             = aws_cloudwatch_log_group.authorizer.name
    log_format            = "JSON"
    application_log_level = "INFO"
  }

  environment {
    variables = {
      SECRET_NAME                    = var.secret_arn
      SECRET_KEY_NAME                = var.secret_key_name
      HEADER_NAME                    = var.header_name
      ACCEPT_PREVIOUS_SECONDS        = tostring(var.accept_previous_seconds)
      SECRETS_MANAGER_TTL            = "0"
      SECRETS_MANAGER_TIMEOUT_MILLIS = "3000"
    }
  }
}

resource "aws_apigatewayv2_authorizer" "authorizer" {
  api_id                            = var.api_id
  name                              = var.name
  authorizer_type                   = "REQUEST"
  authorizer_uri                    = aws_lambda_function.authorizer.invoke_arn
  authorizer_payload_format_version = "2.0"
  enable_simple_responses           = true
  identity_sources                  = ["$request.header.${var.header_name}"]
  authorizer_result_ttl_in_seconds  = 300
}

resource "aws_lambda_permission" "authorizer" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.authorizer.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn = join("/authorizers/", [
    data.aws_apigatewayv2_api.api.execution_arn,
    aws_apigatewayv2_authorizer.authorizer.id,
  ])
}

resource "aws_cloudwatch_log_metric_filter" "authorizer" {
  for_each       = local.counted
  name           = each.key
  log_group_name = aws_cloudwatch_log_group.authorizer.name
  pattern        = "{ $.outcome = \"${each.value}\" }"

  metric_transformation {
    namespace = local.namespace
    name      = each.key
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "authorizer" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.meaning
  namespace           = each.value.namespace
  metric_name         = each.key
  dimensions          = each.value.namespace == "AWS/Lambda" ? local.function : {}
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
}

output "authorization_type" {
  description = "For aws_apigatewayv2_route: CUSTOM if attached, otherwise NONE."
  value       = var.attach ? "CUSTOM" : "NONE"
}

output "authorizer_id" {
  description = "For aws_apigatewayv2_route: the authorizer if attached, otherwise null."
  value       = var.attach ? aws_apigatewayv2_authorizer.authorizer.id : null
}

output "function_arn" {
  description = "The authorizer's function."
  value       = aws_lambda_function.authorizer.arn
}
