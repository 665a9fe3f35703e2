"""Panther's rule for this subject, on Panther's own core library: `python panther.py EVENT SECONDS`.

The condition and what goes with an alert are those of AWS.KMS.CustomerManagedKeyLoss, said again here; the library runs
them as Panther does. Prints how often a second it gets from a record's bytes to its alert, in JSON.
"""

import json
import sys
import time
from pathlib import Path

from panther_core.enriched_event import PantherEvent
from panther_core.rule import Rule

LOSS = '''
FIELDS = ("eventName", "eventSource", "awsRegion", "recipientAccountId", "sourceIPAddress", "userAgent", "userIdentity")

def rule(event):
    failed = event.get("errorCode") or event.get("errorMessage")
    return not failed and event.get("eventName") in {"DisableKey", "ScheduleKeyDeletion"}

def dedup(event):
    keys = [resource for resource in event.get("resources") or [] if resource.get("type") == "AWS::KMS::Key"]
    return keys[0].get("ARN") if keys else event.get("eventName")

def alert_context(event):
    return {field: event.get(field) for field in FIELDS}
'''


def main() -> None:
    record = json.dumps(json.loads(Path(sys.argv[1]).read_bytes())["detail"]).encode()
    loss = Rule({"id": "AWS.KMS.CustomerManagedKeyLoss", "versionId": "1", "body": LOSS, "severity": "INFO"})

    def alert() -> None:
        result = loss.run(PantherEvent(json.loads(record)), {}, {})
        if not (result.trigger_alert and result.alert_context_output) or result.errored:
            sys.exit(f"Panther's rule gives no alert for {sys.argv[1]}: {result}")

    best = 0.0
    for _ in range(5):
        began, times = time.perf_counter(), 0
        while (took := time.perf_counter() - began) < float(sys.argv[2]):
            alert()
            times += 1
        best = max(best, times / took)
    print(json.dumps({"alerts_per_second": round(best)}))


main()
