"""`make compare`: the guard beside the rule with an input transformer that people copy, on the same calls.

    python -m local.compare [--update]

`zero_code.yaml` is such a rule. Both are deployed to the local AWS, and a person makes the calls of STORY with an ordinary
client. What arrives is shown side by side, and counted into the tables of README.md and docs/comparison.md, which must say
the same; `--update` (UPDATE=1) writes them.
"""

import argparse
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timezone
from itertools import zip_longest
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from . import aws as local
from . import steps
from .aws import ACCOUNT, REGION, Inbox, LocalAws, Message
from .build import LOGS, ROOT, STATE, built
from .steps import Failed, detail, step

SAVED = STATE / "compare"
STACK = "zero-code"
ALIAS = "alias/payments-db"
TAGS = {"owner": "team-payments"}
PERSON, ROLE = "alice", "platform-admin"
NO_SUBJECT = "AWS Notification Message"
"""What SNS puts there if the publisher gives none."""
PATIENCE = 20.0
"""Seconds to wait for a mail."""
SHOWN = 24
"""Lines of a mail that are shown; the whole of it is saved."""
LOCKED_OUT = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"}, "Action": "kms:*", "Resource": "*"}
    ],
}


@dataclass(frozen=True)
class Call:
    """A call of the story, and which detection of the guard reports it, if one does."""

    says: str
    make: Callable[["Stage"], Any]
    detection: str = ""
    refused: bool = False


def _refused(stage: "Stage") -> None:
    """A second deletion, which KMS refuses: the key is pending deletion already."""
    kms = stage.kms
    try:
        kms.schedule_key_deletion(KeyId=stage.key, PendingWindowInDays=7)
    except kms.exceptions.KMSInvalidStateException:
        return
    raise Failed("KMS should refuse to schedule a deletion twice")


STORY = (
    Call(
        "a deletion is scheduled",
        lambda stage: stage.kms.schedule_key_deletion(KeyId=stage.key, PendingWindowInDays=7),
        "key-deletion-scheduled",
    ),
    Call("a deletion is refused", _refused, refused=True),
    Call("it is cancelled", lambda stage: stage.kms.cancel_key_deletion(KeyId=stage.key), "key-deletion-cancelled"),
    Call("the key is enabled again", lambda stage: stage.kms.enable_key(KeyId=stage.key), "key-enabled"),
    Call("a key is disabled", lambda stage: stage.kms.disable_key(KeyId=stage.key), "key-disabled"),
    Call(
        "imported material is deleted",
        lambda stage: stage.kms.delete_imported_key_material(KeyId=stage.imported),
        "key-material-deleted",
    ),
    Call(
        "a policy locks the account out",
        lambda stage: stage.kms.put_key_policy(
            KeyId=stage.other, Policy=json.dumps(LOCKED_OUT), BypassPolicyLockoutSafetyCheck=True
        ),
        "key-policy-lockout",
    ),
    Call("the trail is stopped", lambda stage: stage.trails.stop_logging(Name="management"), "guard-tampered"),
)


@dataclass(frozen=True)
class Fact:
    """Something that whoever gets the mail about the scheduled deletion wants to know, and how to see it there."""

    what: str
    among: Callable[["Stage", Message], bool]


def _says(*words: Callable[["Stage"], str]) -> Callable[["Stage", Message], bool]:
    return lambda stage, mail: all(word(stage) in f"{mail.subject}\n{mail.body}" for word in words)


FACTS = (
    Fact("which call, on which key, by whom", _says(lambda _: "ScheduleKeyDeletion", lambda s: s.key, lambda _: PERSON)),
    Fact("the key's alias and tags", _says(lambda _: ALIAS, lambda _: TAGS["owner"])),
    Fact("a Subject that says it", lambda stage, mail: stage.key.split("-")[0] in mail.subject),
    Fact("until when it can be undone", _says(lambda s: s.deadline)),
    Fact("when the key was last used, and by which operation", _says(lambda _: "Last used", lambda _: "GenerateDataKey")),
    Fact("how severe it is", lambda _, mail: any(f"[{level}]" in mail.subject for level in ("HIGH", "CRITICAL"))),
    Fact("the commands that undo it", _says(lambda _: "aws kms cancel-key-deletion", lambda _: "aws kms enable-key")),
)


@dataclass
class Stage:
    """The keys that the calls are about, and the clients that make them, as a person in a role."""

    kms: Any
    trails: Any
    key: str
    imported: str
    other: str
    deadline: str = ""


@dataclass
class Played:
    """What a call brought."""

    call: Call
    rule: list[Message] = field(default_factory=list)
    guard: list[Message] = field(default_factory=list)

    def row(self) -> tuple[str, str, str]:
        """The call, the rule's mail and the guard's, in a few words."""
        of_rule = "a mail" if self.rule else "–"
        if self.rule and self.call.refused:
            of_rule = "a mail, as if it had happened"
        alerts = [f"{mail.attributes['severity']}: `{mail.attributes['detection']}`" for mail in self.guard]
        return self.call.says, of_rule, ", ".join(alerts) or "–"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make compare", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the tables of the documents")
    options = parser.parse_args()
    return steps.main(lambda: _compare(options.update))


def _compare(update: bool) -> int:
    built()
    step("starting the local AWS")
    with LocalAws(log=LOGS / "aws-compare.log") as aws:
        aws.start_trail()
        step("deploying the guard, and beside it a rule with an input transformer (local/zero_code.yaml)")
        topic = local.deploy(aws)["AlertsTopicArn"]
        rule, guard = aws.inbox(_zero_code(aws), "compare-rule"), aws.inbox(topic, "compare-guard")
        stage = _stage(aws)
        played = []
        for call in STORY:
            step(f"{PERSON}, in the role {ROLE}: {call.says}")
            played.append(_play(call, stage, rule, guard))
            if call is STORY[0]:
                deletion = stage.kms.describe_key(KeyId=stage.key)["KeyMetadata"]["DeletionDate"]
                stage.deadline = f"{deletion.astimezone(timezone.utc):%Y-%m-%d}"
            _show(len(played), played[-1])
    tables = {"calls": calls_table(played), "mail": mail_table(stage, played[0])}
    step("what arrived:")
    for lines in tables.values():
        print("", *lines, sep="\n")
    print()
    stale = [fault for name, lines in tables.items() for fault in documented(name, lines, update)]
    if stale:
        raise Failed("\n".join([*stale, "make compare UPDATE=1 writes what was found."]))
    step("done: the documents say the same")
    return 0


def _zero_code(aws: LocalAws) -> str:
    """Deploy the rule; returns its topic."""
    stacks = aws.client("cloudformation")
    stacks.create_stack(StackName=STACK, TemplateBody=(ROOT / "local" / "zero_code.yaml").read_text())
    stacks.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (output,) = stacks.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    return output["OutputValue"]


def _stage(aws: LocalAws) -> Stage:
    person = aws.person(PERSON, ROLE)
    kms = aws.client("kms", **person)
    key = kms.create_key(Tags=[{"TagKey": name, "TagValue": value} for name, value in TAGS.items()])["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=ALIAS, TargetKeyId=key)
    imported = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    wrapping = kms.get_parameters_for_import(
        KeyId=imported, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
    )
    oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
    kms.import_key_material(
        KeyId=imported,
        ImportToken=wrapping["ImportToken"],
        EncryptedKeyMaterial=load_der_public_key(wrapping["PublicKey"]).encrypt(os.urandom(32), oaep),
        ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
    )
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    # A key that nobody has ever used is a lesser loss to the guard.
    for used in (ALIAS, imported, other):
        kms.generate_data_key(KeyId=used, KeySpec="AES_256")
    return Stage(kms, aws.client("cloudtrail", **person), key, imported, other)


def _play(call: Call, stage: Stage, rule: Inbox, guard: Inbox) -> Played:
    """Make the call, and collect what came of it.

    The rule's mail is there before the call is answered. The guard's takes a moment, so its detection is waited for; where
    it should say nothing, both get another call after it, and what stands before that one's mails is all there is.
    """
    for inbox in (rule, guard):
        inbox.all()
    call.make(stage)
    played = Played(call)
    if call.detection:
        try:
            played.guard.append(guard.next(lambda mail: mail.attributes.get("detection") == call.detection, PATIENCE))
        except TimeoutError as nothing:
            raise Failed(f"no alert when {call.says}: {nothing}; see {LOGS / 'aws-compare.log'}") from nothing
        played.rule = rule.all()
        return played
    marker = stage.kms.create_key()["KeyMetadata"]["KeyId"]
    stage.kms.disable_key(KeyId=marker)
    try:
        guard.next(lambda mail: marker in mail.attributes.get("key_arn", ""), PATIENCE)
        rule.next(lambda mail: marker in mail.body, PATIENCE)
    except TimeoutError as nothing:
        raise Failed(f"the mails about the key {marker} should have come: {nothing}") from nothing
    time.sleep(1)
    played.rule, played.guard = rule.all(), _alerts(guard.all())
    return played


def _alerts(mails: list[Message]) -> list[Message]:
    """Without what the guard's alarms send, which is no alert on a key."""
    return [mail for mail in mails if "detection" in mail.attributes]


def _show(number: int, played: Played) -> None:
    """Both mails side by side; the whole of them is saved."""
    SAVED.mkdir(parents=True, exist_ok=True)
    texts = {}
    for of, mails in (("rule", played.rule), ("guard", played.guard)):
        texts[of] = "\n\n".join(f"Subject: {mail.subject or NO_SUBJECT}\n\n{mail.body}".rstrip() for mail in mails) or "(no mail)"
        (SAVED / f"{number}-{of}.txt").write_text(texts[of] + "\n")
    columns = max(shutil.get_terminal_size((120, 24)).columns, 80)
    for line in side_by_side("THE RULE\n\n" + texts["rule"], "THE GUARD\n\n" + texts["guard"], columns):
        print(line)
    detail(f"the whole mails: {(SAVED / f'{number}-*.txt').relative_to(ROOT)}")


def side_by_side(left: str, right: str, columns: int, most: int = SHOWN) -> list[str]:
    """Two texts in two columns, each wrapped and cut after so many lines."""
    width = (columns - 7) // 2
    cut = [_cut(text, width, most) for text in (left, right)]
    return [f"  │ {one:<{width}} │ {other}".rstrip() for one, other in zip_longest(*cut, fillvalue="")]


def _cut(text: str, width: int, most: int) -> list[str]:
    lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) or [""]]
    return lines if len(lines) <= most else [*lines[: most - 1], f"… {len(lines) - most + 1} more lines"]


def calls_table(played: list[Played]) -> list[str]:
    """The table of the calls: what each of the two reported."""
    return table(("when", "the rule sends", "the guard sends"), [one.row() for one in played])


def mail_table(stage: Stage, scheduled: Played) -> list[str]:
    """The table of the mails on the scheduled deletion: what each of the two says."""

    def said(fact: Fact, mails: list[Message]) -> str:
        return "yes" if any(fact.among(stage, mail) for mail in mails) else "no"

    rows = [(fact.what, said(fact, scheduled.rule), said(fact, scheduled.guard)) for fact in FACTS]
    return table(("the mail on a scheduled deletion says", "the rule's", "the guard's"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


DOCUMENTS = {"calls": "README.md", "mail": "docs/comparison.md"}
"""Where each table is."""


def marker(name: str) -> str:
    """The line before and after a table of a document."""
    return f"<!-- by make compare: {name} -->"


def documented(name: str, lines: list[str], update: bool) -> list[str]:
    """What is wrong with a document's table, after it was written if that is asked for."""
    document = ROOT / DOCUMENTS[name]
    parts = document.read_text().split(marker(name) + "\n")
    if len(parts) != 3:
        return [f"{DOCUMENTS[name]} should have the line {marker(name)} before and after its table."]
    wanted = "\n".join(lines) + "\n"
    if update:
        document.write_text(f"{marker(name)}\n".join([parts[0], wanted, parts[2]]))
    elif parts[1] != wanted:
        return [f"The table in {DOCUMENTS[name]} isn't what was found."]
    return []


if __name__ == "__main__":
    sys.exit(main())
