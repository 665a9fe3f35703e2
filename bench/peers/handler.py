"""The same job as people deploy it today: a handler that publishes once, with boto3."""

import json
import os

import boto3

LOSSES = ("ScheduleKeyDeletion", "DisableKey", "DeleteImportedKeyMaterial")
sns = boto3.client("sns")


def handler(event: dict, context: object) -> dict:
    """Publish if the event is one of the losses."""
    detail = event["detail"]
    if detail["eventSource"] != "kms.amazonaws.com" or detail["eventName"] not in LOSSES or detail.get("errorCode"):
        return {"outcome": "silent"}
    sns.publish(
        TopicArn=os.environ["ALERTS_TOPIC_ARN"],
        Subject=f"KMS: {detail['eventName']} in {event['account']} {event['region']}",
        Message=json.dumps(detail, indent=2),
    )
    return {"outcome": "published"}
