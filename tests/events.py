# SPDX-License-Identifier: MIT
"""Authorizer events as API Gateway sends them, by the kind of API and payload format."""

from __future__ import annotations

from typing import Any

API = "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234"


def http_api_2(headers: object, stage: str = "$default") -> dict[str, Any]:
    """HTTP API, payload format 2.0."""
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": f"{API}/{stage}/GET/items/1",
        "identitySource": ["whatever"],
        "routeKey": "GET /items/{id}",
        "rawPath": "/items/1",
        "rawQueryString": "",
        "cookies": [],
        "headers": headers,
        "queryStringParameters": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "http": {"method": "GET", "path": "/items/1", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7"},
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "GET /items/{id}",
            "stage": stage,
        },
        "pathParameters": {"id": "1"},
    }


def http_api_1(headers: object, multi: object = None) -> dict[str, Any]:
    """HTTP API, payload format 1.0."""
    return {
        "version": "1.0",
        "type": "REQUEST",
        "methodArn": f"{API}/$default/GET/items/1",
        "identitySource": "whatever",
        "authorizationToken": "whatever",
        "resource": "/items/{id}",
        "path": "/items/1",
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": multi,
        "requestContext": {"identity": {"sourceIp": "192.0.2.7"}, "requestId": "JKJaXmPLvHcESHA="},
    }


def rest_request(headers: object, multi: object = None) -> dict[str, Any]:
    """REST API, authorizer of type REQUEST."""
    event = http_api_1(headers, multi)
    del event["version"], event["identitySource"], event["authorizationToken"]
    return event | {"methodArn": f"{API}/prod/GET/items/1"}


def rest_token(token: object) -> dict[str, Any]:
    """REST API, authorizer of type TOKEN: these three members and no others."""
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": f"{API}/prod/GET/items/1"}


def websocket(headers: object, multi: object = None) -> dict[str, Any]:
    """WebSocket API, $connect."""
    return {
        "type": "REQUEST",
        "methodArn": f"{API}/prod/$connect",
        "headers": headers,
        "multiValueHeaders": multi,
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "identity": {"sourceIp": "192.0.2.7"},
            "requestId": "JKJaXmPLvHcESHA=",
        },
    }


def bare(headers: object) -> dict[str, Any]:
    """What the predecessor documents."""
    return {"headers": headers}
