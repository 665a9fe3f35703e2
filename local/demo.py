"""`make demo`: a key is scheduled for deletion and brought back, and the alerts arrive; no AWS account needed."""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import aws as local
from . import steps
from .aws import ACCOUNT, REGION, Inbox, LocalAws, Message
from .build import ARCHITECTURE, LOGS, QUICKLY, ROOT, STATE, build
from .released import opened
from .steps import Failed, detail, step

SAVED = STATE / "demo"
BUILD = STATE / "demo-build"
ALIAS = "alias/payments-db"
TAGS = {"owner": "team-payments", "environment": "production"}
PERSON, ROLE = "alice", "platform-admin"


@dataclass(frozen=True)
class Expected:
    """What a call's alert has to say."""

    event_name: str
    detection: str
    severities: tuple[str, ...]
    activity: str
    says: tuple[str, ...]


SCHEDULED = Expected(
    "ScheduleKeyDeletion",
    "key-deletion-scheduled",
    ("High", "Critical"),
    "Create",
    (ALIAS, PERSON, "cancel-key-deletion", "enable-key", "team-payments"),
)
CANCELLED = Expected("CancelKeyDeletion", "key-deletion-cancelled", ("Informational",), "Update", (ALIAS, "enable-key"))
ENABLED = Expected("EnableKey", "key-enabled", ("Informational",), "Close", (ALIAS,))

NEXT = """
On AWS the alert comes some seconds later than here: CloudTrail takes its time to hand a call to EventBridge.

Next:
  make deploy   deploys the guard to your AWS account; asks for the settings the first time
  make local    leaves the local AWS running, for calls of your own
  README.md     what is reported, what it can't see, where the rest is described"""

SEVERITY_ID = {"Informational": 1, "Low": 2, "Medium": 3, "High": 4, "Critical": 5}
TYPE_UID = {"Create": 200401, "Update": 200402, "Close": 200403}


@dataclass(frozen=True)
class Arrived:
    """A call's alert and finding, and how long the alert took."""

    alert: Message
    finding: Message
    milliseconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port for the local AWS (default: a free one)")
    parser.add_argument("--use", type=Path, help="a release's zip or folder (default: what is built of this code)")
    options = parser.parse_args()
    return steps.main(lambda: _demo(options.port, options.use))


def _demo(port: int, release: Path | None) -> int:
    built = _released(release) if release else _built()
    step("starting the local AWS")
    with LocalAws(port) as aws:
        detail(f"at {aws.endpoint}, account {ACCOUNT}, Region {REGION}")
        aws.start_trail()
        step("deploying template.yaml with sam deploy")
        outputs = local.deploy(aws, built=built)
        step("subscribing a queue to each topic")
        inboxes = (
            aws.inbox(outputs["AlertsTopicArn"], "demo-alerts"),
            aws.inbox(outputs["FindingsTopicArn"], "demo-findings", raw=True),
        )
        faults = _story(aws, *inboxes)
        step("stopping the local AWS")
    if faults:
        print("\nNot every alert was right:", *faults, sep="\n  - ", file=sys.stderr)
        return 1
    step("done: every alert arrived and is right")
    print(NEXT)
    return 0


def _built() -> Path:
    step("building the functions with sam build, unoptimized (the first time takes minutes: it compiles)")
    build(BUILD, **QUICKLY)
    return BUILD


def _released(release: Path) -> Path:
    """The folder of a release that this machine can run."""
    found = opened(release, STATE / "demo-release")
    if found.architecture != ARCHITECTURE:
        raise Failed(f"{release} is for {found.architecture}, and this machine is {ARCHITECTURE}: take that release's zip.")
    step(f"version {found.version} (commit {found.commit}), as released: nothing is compiled")
    return found.folder


def _story(aws: LocalAws, alerts: Inbox, findings: Inbox) -> list[str]:
    """A key's way into danger and back; returns what was wrong with the alerts."""
    step(f"creating a KMS key {ALIAS} and using it")
    kms = aws.client("kms", **aws.person(PERSON, ROLE))
    key = kms.create_key(Tags=[{"TagKey": name, "TagValue": value} for name, value in TAGS.items()])["KeyMetadata"]
    kms.create_alias(AliasName=ALIAS, TargetKeyId=key["KeyId"])
    kms.generate_data_key(KeyId=ALIAS, KeySpec="AES_256")
    detail(key["Arn"])

    calls = (
        (SCHEDULED, lambda: kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)),
        (CANCELLED, lambda: kms.cancel_key_deletion(KeyId=key["KeyId"])),
        (ENABLED, lambda: kms.enable_key(KeyId=key["KeyId"])),
    )
    faults, story = [], set()
    for number, (expected, call) in enumerate(calls, start=1):
        step(f"{PERSON}, in the role {ROLE}, calls {expected.event_name}")
        arrived = _call_and_wait(call, expected, alerts, findings)
        step(f"the alert arrived, {arrived.milliseconds:.0f} ms after the call:")
        _show(arrived.alert)
        saved = _save(number, expected, arrived)
        step(f"its OCSF document is in {saved}")
        faults += wrong(expected, arrived, key["Arn"])
        story.add(arrived.finding.attributes.get("finding_uid"))
    if len(story) > 1:
        faults.append(f"the three alerts should share one finding_uid, they have {sorted(map(str, story))}")
    return faults


def _call_and_wait(call: Any, expected: Expected, alerts: Inbox, findings: Inbox) -> Arrived:
    def wanted(message: Message) -> bool:
        return message.attributes.get("event_name") == expected.event_name

    started = time.time()
    call()
    try:
        alert, finding = alerts.next(wanted), findings.next(wanted)
    except TimeoutError as nothing:
        raise Failed(f"no alert for {expected.event_name}: {nothing}; see {LOGS / 'aws.log'}") from nothing
    return Arrived(alert, finding, (alert.arrived - started) * 1000)


def _show(alert: Message) -> None:
    print(f"\n    │ Subject: {alert.subject}\n    │", flush=True)
    for line in alert.body.rstrip().splitlines():
        print(f"    │ {line}".rstrip(), flush=True)
    print(flush=True)


def _save(number: int, expected: Expected, arrived: Arrived) -> str:
    SAVED.mkdir(parents=True, exist_ok=True)
    name = SAVED / f"{number}-{expected.detection}"
    name.with_suffix(".txt").write_text(f"Subject: {arrived.alert.subject}\n\n{arrived.alert.body}")
    document = name.with_suffix(".json")
    document.write_text(json.dumps(json.loads(arrived.finding.body), indent=2) + "\n")
    return str(document.relative_to(ROOT))


def wrong(expected: Expected, arrived: Arrived, key_arn: str) -> list[str]:
    """What isn't as it should be with an alert and its finding, in words."""
    document = json.loads(arrived.finding.body)
    attributes = arrived.finding.attributes
    severity = attributes.get("severity")
    facts = {
        "the detection attribute": (attributes.get("detection"), expected.detection),
        "the activity attribute": (attributes.get("activity"), expected.activity),
        "the key_arn attribute": (attributes.get("key_arn"), key_arn),
        "the account attribute": (attributes.get("account"), ACCOUNT),
        "the region attribute": (attributes.get("region"), REGION),
        "the alert's attributes": (arrived.alert.attributes, attributes),
        "finding_info.analytic.uid": (document.get("finding_info", {}).get("analytic", {}).get("uid"), expected.detection),
        "finding_info.uid": (document.get("finding_info", {}).get("uid"), attributes.get("finding_uid")),
        "type_uid": (document.get("type_uid"), TYPE_UID[expected.activity]),
        "severity_id": (document.get("severity_id"), SEVERITY_ID.get(severity)),
        "resources[0].uid": (document.get("resources", [{}])[0].get("uid"), key_arn),
    }
    faults = [f"{what} is {found!r}, expected {right!r}" for what, (found, right) in facts.items() if found != right]
    if severity not in expected.severities:
        faults.append(f"the severity is {severity!r}, expected {' or '.join(expected.severities)}")
    text = arrived.alert.subject + "\n" + arrived.alert.body
    faults += [f"the text doesn't say {word!r}" for word in expected.says if word not in text]
    return [f"{expected.event_name}: {fault}" for fault in faults]


if __name__ == "__main__":
    sys.exit(main())
