"""What happens to an event when the alert can't go out."""

import json

from local.aws import Inbox

from .conftest import Guarded


def queue(guarded: Guarded, output: str) -> Inbox:
    return Inbox(guarded.aws.client("sqs"), guarded.outputs[output])


def test_an_event_that_the_function_fails_on_ends_in_its_failure_queue(breakable: Guarded) -> None:
    key = breakable.key()
    breakable.aws.client("sns").delete_topic(TopicArn=breakable.outputs["AlertsTopicArn"])
    key.kms.schedule_key_deletion(KeyId=key.arn, PendingWindowInDays=7)
    # That the topic was deleted is an event of its own, and fails likewise.
    failures = queue(breakable, "AlertFailureQueueUrl")
    failure = json.loads(failures.next(lambda message: '"ScheduleKeyDeletion"' in message.body, timeout=60).body)
    assert failure["requestContext"]["condition"] == "RetriesExhausted"
    assert failure["requestContext"]["approximateInvokeCount"] == 3
    assert failure["requestPayload"]["detail"]["eventName"] == "ScheduleKeyDeletion"
    assert failure["requestPayload"]["detail"]["responseElements"]["keyId"] == key.arn
    assert failure["responsePayload"]["errorMessage"]
    # The other topic took the finding each time, and its uid tells the repeats.
    findings = [json.loads(key.findings.next().body) for _ in range(3)]
    assert len({finding["metadata"]["uid"] for finding in findings}) == 1


def forbid_invocations(guarded: Guarded) -> None:
    """Take the permission to invoke the function away from the rule that sees calls; the others tell of that."""
    functions, name = guarded.aws.client("lambda"), guarded.outputs["AlertFunctionName"]
    for statement in json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"]:
        if "rule.api-call" in json.dumps(statement):
            functions.remove_permission(FunctionName=name, StatementId=statement["Sid"])


def test_an_event_that_cannot_reach_the_function_ends_in_the_rules_dead_letter_queue(breakable: Guarded) -> None:
    key = breakable.key()
    forbid_invocations(breakable)
    key.kms.disable_key(KeyId=key.arn)
    letter = queue(breakable, "RuleDeadLetterQueueUrl").next()
    assert letter.attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert json.loads(letter.body)["detail"]["eventName"] == "DisableKey"
    assert not key.alerts.all()
