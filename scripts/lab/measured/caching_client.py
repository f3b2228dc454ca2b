# SPDX-License-Identifier: MIT
"""boto3 behind aws-secretsmanager-caching, refreshed every 5 seconds."""

from __future__ import annotations

import hmac
import json

from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

from decision import LABELS, MEMBER, SECRET, answer, presented

CACHE = SecretCache(SecretCacheConfig(secret_refresh_interval=5))


def handler(event: object, context: object) -> dict[str, object]:
    for label in LABELS:
        secret = CACHE.get_secret_string(SECRET, label)
        if secret and hmac.compare_digest(presented(event), json.loads(secret)[MEMBER].encode()):
            return answer(event, True)
    return answer(event, False)
