"""`make local`: the guard, deployed to a local AWS that keeps running until Ctrl-C."""

import argparse
import sys
import time

from . import aws as local
from . import build, steps
from .aws import ACCOUNT, REGION, Inbox
from .steps import step


def main() -> int:
    parser = argparse.ArgumentParser(prog="make local", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="port for the local AWS (default: 4566)")
    port = parser.parse_args().port
    return steps.main(lambda: _until_stopped(port))


def _until_stopped(port: int) -> int:
    """Ctrl-C is how it is meant to end, whenever it comes."""
    try:
        _run(port)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    return 0


def _run(port: int) -> None:
    build.prepare()
    step("starting the local AWS and deploying template.yaml to it")
    with local.guarded(port) as (aws, outputs):
        alerts = aws.inbox(outputs["AlertsTopicArn"], "people")
        findings = aws.inbox(outputs["FindingsTopicArn"], "machines", raw=True)
        step("ready; Ctrl-C stops it. In another terminal:")
        print(_advice(aws.environment(), findings.url), flush=True)
        _show_alerts(alerts)


def _advice(environment: dict[str, str], findings_url: str) -> str:
    exports = "\n".join(f"export {name}={value}" for name, value in environment.items())
    return f"""
{exports}
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
export PATH="{local.ROOT}/.venv/bin:$PATH"

key=$(aws kms create-key --query KeyMetadata.KeyId --output text)
aws kms schedule-key-deletion --key-id "$key" --pending-window-in-days 7
aws kms cancel-key-deletion --key-id "$key"
aws kms enable-key --key-id "$key"

Alerts appear here. The OCSF findings wait in a queue:
aws --endpoint-url "$AWS_ENDPOINT_URL" sqs receive-message --queue-url {findings_url}

Account {ACCOUNT}, Region {REGION}; a 12-digit access key id is the account that it belongs to.
"""


def _show_alerts(alerts: Inbox) -> None:
    while True:
        for alert in alerts.all():
            step(f"Subject: {alert.subject}")
            print("\n" + alert.body, flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
