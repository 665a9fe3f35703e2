"""Small functions on the local AWS, run as the guard is: an executable that speaks the Lambda Runtime API."""

import io
import json
import sys
import textwrap
import zipfile
from typing import Any

from local.aws import LocalAws

BOOTSTRAP = """#!{python}
import json, os, urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"


def handle(event):
{body}


while True:
    with urllib.request.urlopen(API + "next") as invocation:
        request, event = invocation.headers["Lambda-Runtime-Aws-Request-Id"], json.load(invocation)
    try:
        kind, answer = "response", handle(event)
    except Exception as error:
        kind, answer = "error", dict(errorMessage=repr(error), errorType=type(error).__name__)
    body = json.dumps(answer).encode()
    urllib.request.urlopen(urllib.request.Request(API + request + "/" + kind, body, method="POST")).close()
"""


def create(aws: LocalAws, account: str, region: str, name: str, body: str, **settings: Any) -> str:
    """A function whose `handle(event)` has this body, with a role of its own name; returns its ARN."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        file = zipfile.ZipInfo("bootstrap")
        file.external_attr = 0o755 << 16
        archive.writestr(file, BOOTSTRAP.format(python=sys.executable, body=textwrap.indent(body, "    ")))
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = aws.client("iam", account, region).create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
    )["Role"]["Arn"]
    return aws.client("lambda", account, region).create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role,
        Code={"ZipFile": code.getvalue()},
        **settings,
    )["FunctionArn"]


def invoke(aws: LocalAws, account: str, region: str, name: str, event: Any) -> Any:
    """Invoke and wait; the function's error is raised."""
    answer = aws.client("lambda", account, region).invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise AssertionError(payload)
    return payload
