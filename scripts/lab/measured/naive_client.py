# SPDX-License-Identifier: MIT
"""A naive client of the Extension, as in many examples: urllib, both labels asked for on every
request.
"""

from __future__ import annotations

import hmac
import json
import os
import urllib.error
import urllib.parse
import urllib.request

from decision import LABELS, MEMBER, SECRET, answer, presented


def key(label: str) -> bytes | None:
    query = urllib.parse.urlencode({"secretId": SECRET, "versionStage": label})
    port = os.environ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"]
    request = urllib.request.Request(
        f"http://localhost:{port}/secretsmanager/get?{query}",
        headers={"X-Aws-Parameters-Secrets-Token": os.environ["AWS_SESSION_TOKEN"]},
    )
    try:
        with urllib.request.urlopen(request, timeout=3) as response:
            member: str = json.loads(json.load(response)["SecretString"])[MEMBER]
            return member.encode()
    except urllib.error.HTTPError:
        return None


def handler(event: object, context: object) -> dict[str, object]:
    for label in LABELS:
        live = key(label)
        if live and hmac.compare_digest(presented(event), live):
            return answer(event, True)
    return answer(event, False)
