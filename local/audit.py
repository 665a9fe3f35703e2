"""`make audit`: what auditors' tools say of an account before the guard is deployed with its filter and alarm, and after.

The tools are cloud-audit and Prowler, as published, against the local AWS. Each has a check for CIS 4.7: a metric filter
for DisableKey and ScheduleKeyDeletion on the trail's log group, with an alarm. Then both judge the guard's own resources,
a hub's and a spoke's: what they find is what docs/scanners.md explains and docs/scanners/ mutes, no more and no less.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samcli.yamlhelper import yaml_parse

from . import aws as local
from . import build, steps
from .aws import ACCOUNT, REGION, STATE, LocalAws
from .build import LOGS, ROOT
from .steps import Failed, detail, step

MEMBER = "444455556666"
LOG_GROUP = "CloudTrail/DefaultLogGroup"
EVERYTHING = {
    "CloudTrailLogGroupName": LOG_GROUP,
    "AlertEmail": "kms-alerts@example.com",
    "ReportDeniedAttempts": "true",
    "ReportLostKeyUse": "true",
    "CreateDashboard": "true",
}
SPOKE = "StackSet-kms-key-guard-spoke-0f1e2d3c"
PAIR = {"cloud-audit": "aws-cw-007", "Prowler": "cloudwatch_log_metric_filter_disable_or_scheduled_deletion_of_kms_cmk"}
"""The check of each tool for the metric filter and the alarm."""
SERVICES = "awslambda cloudformation cloudwatch eventbridge iam kms sns sqs".split()
"""Prowler's services that have checks for types of resources that the templates have."""
MUTED = {"cloud-audit": ROOT / "docs/scanners/cloud-audit.yml", "Prowler": ROOT / "docs/scanners/prowler-mutelist.yaml"}
BY_BUILD = {"awslambda_function_no_secrets_in_code"}
"""Found in some builds: it depends on what the compiler puts side by side."""
DOCUMENT = ROOT / "docs/scanners.md"
TIMEOUT = 600.0
"""Seconds for one audit; Prowler takes three minutes on a busy machine."""


@dataclass(frozen=True)
class Finding:
    """What a tool says is wrong with something."""

    check: str
    resource: str
    text: str
    muted: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("cloud_audit", type=Path, help="cloud-audit")
    parser.add_argument("prowler", type=Path, help="Prowler")
    programs = parser.parse_args()
    return steps.main(lambda: _audit(programs.cloud_audit.absolute(), programs.prowler.absolute()))


def _audit(cloud_audit: Path, prowler: Path) -> int:
    build.built()
    step("starting the local AWS")
    with LocalAws(log=LOGS / "aws-audit.log") as aws:
        aws.start_trail(log_group=LOG_GROUP)
        aws.start_trail(MEMBER)
        detail(f"account {ACCOUNT}, Region {REGION}, with a trail that writes to the log group {LOG_GROUP}")
        auditors = CloudAudit(cloud_audit, aws), Prowler(prowler, aws)
        faults = []

        def look(name: str, right: str) -> None:
            for auditor in auditors:
                verdict = auditor.verdict(name)
                detail(f"{auditor.name}, {PAIR[auditor.name]}: {verdict}")
                if not verdict.startswith(right):
                    faults.append(f"{auditor.name}'s {PAIR[auditor.name]} should {right} {name} the guard is deployed; it says: {verdict}")

        step("auditing the account as it is")
        look("before", "fail")
        step(f"deploying template.yaml with CloudTrailLogGroupName={LOG_GROUP}, as a hub, and a spoke in the account {MEMBER}")
        _deploy(aws)
        step("auditing the account again")
        look("after", "pass")
        step("auditing the guard's own resources")
        ours = {account: set(_physical(aws, account)) for account in (ACCOUNT, MEMBER)}
        for auditor in auditors:
            found = [finding for account in ours for finding in auditor.about(ours[account], account)]
            faults += _compared(auditor.name, found)
    if faults:
        raise Failed("\n".join(["Not as it should be:", *faults]))
    step("done: the check fails without the guard and passes with it, and all that is said of the guard itself is known")
    return 0


def _deploy(aws: LocalAws) -> None:
    """The hub with everything, and a spoke as a StackSet brings it."""
    organization = aws.organization(ACCOUNT, MEMBER)
    hub = local.deploy(aws, {**EVERYTHING, "OrganizationId": organization})
    # As docs/scanners.md advises.
    protect = aws.client("cloudformation").update_termination_protection
    protect(StackName=local.STACK, EnableTerminationProtection=True)
    parameters = dict(pair.split("=", 1) for pair in hub["SpokeParameters"].split()) | {"HomeRegion": REGION}
    stacks = aws.client("cloudformation", MEMBER)
    stacks.create_stack(
        StackName=SPOKE,
        TemplateBody=(ROOT / "stackset/spoke.yaml").read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName=SPOKE, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def _physical(aws: LocalAws, account: str) -> Iterator[str]:
    """The names of a stack and all that it made."""
    stack = local.STACK if account == ACCOUNT else SPOKE
    yield stack
    pages = aws.client("cloudformation", account).get_paginator("list_stack_resources").paginate(StackName=stack)
    for resource in (resource for page in pages for resource in page["StackResourceSummaries"]):
        yield _name(resource["PhysicalResourceId"])


def _name(identifier: str) -> str:
    """The name in an ARN, a URL or a name: what stands last, but for a stack's own id."""
    parts = re.split(r"[:/|]", identifier.removesuffix(":*"))
    return parts[-2] if "stack" in parts[:-2] else parts[-1]


def _compared(auditor: str, found: list[Finding]) -> Iterator[str]:
    """What isn't as the document and the list of muted checks have it."""
    text, listed = DOCUMENT.read_text(), set(muted(auditor))
    checks = {finding.check: finding for finding in found}
    for check, finding in sorted(checks.items()):
        places = sorted({_name(finding.resource) for finding in found if finding.check == check})
        detail(f"{auditor}, {check}: {', '.join(places)}")
        if f"`{check}`" not in text:
            yield f"{auditor}'s {check} isn't in {DOCUMENT.name}: {finding.text}"
    yield from (f"{MUTED[auditor].name} mutes {check}, which {auditor} doesn't find" for check in sorted(listed - set(checks) - BY_BUILD))
    for finding in found:
        if not finding.muted:
            yield f"{auditor}'s {finding.check} isn't muted for {finding.resource}: {finding.text}"


def muted(auditor: str) -> Iterator[str]:
    """The checks that a list in docs/scanners/ mutes."""
    document = yaml_parse(MUTED[auditor].read_text())
    if auditor == "Prowler":
        yield from document["Mutelist"]["Accounts"]["*"]["Checks"]
    else:
        yield from (suppression["check_id"] for suppression in document["suppressions"])


class CloudAudit:
    """https://pypi.org/project/cloud-audit/"""

    name = "cloud-audit"

    def __init__(self, program: Path, aws: LocalAws) -> None:
        self._program, self._aws = program, aws

    def verdict(self, name: str) -> str:
        """What it says of the metric filter and the alarm: `pass`, or `fail` or `unknown` with the reason."""
        results = [result for result in self._results(name, ACCOUNT) if result["check_id"] == PAIR[self.name]]
        if len(results) != 1:
            raise Failed(f"cloud-audit has {len(results)} results of {PAIR[self.name]} instead of one")
        (result,) = results
        if result["error"] or result["coverage_gaps"]:
            return f"unknown ({result['error'] or result['coverage_gaps']})"
        found = [f"{finding['title']}, {', '.join(finding['compliance_refs'])}" for finding in result["findings"]]
        return f"fail ({'; '.join(found)})" if found else "pass"

    def about(self, ours: set[str], account: str) -> Iterator[Finding]:
        """What it finds on these resources; it leaves out what is muted."""
        found = set(self._about(ours, account, f"{account}-whole"))
        left = set(self._about(ours, account, f"{account}-muted", "--config", MUTED[self.name]))
        yield from (Finding(*finding, muted=finding not in left) for finding in sorted(found))

    def _about(self, ours: set[str], account: str, name: str, *options: str | Path) -> Iterator[tuple[str, str, str]]:
        for result in self._results(name, account, *options):
            for finding in result["findings"]:
                if _name(finding["resource_id"]) in ours:
                    yield result["check_id"], finding["resource_id"], finding["title"]

    def _results(self, name: str, account: str, *options: str | Path) -> list[dict]:
        report = STATE / "audit" / "cloud-audit" / f"{name}.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        command = [self._program, "scan", "--quiet", "--regions", REGION, "--format", "json", "--output", report, *options]
        # 1 says that there are findings, as there are in every account.
        said = _run(self._aws, account, command, report.parent, statuses={0, 1})
        if not report.exists():
            raise Failed(f"cloud-audit wrote no report:\n{said}")
        return json.loads(report.read_text())["results"]


class Prowler:
    """https://pypi.org/project/prowler/"""

    name = "Prowler"

    def __init__(self, program: Path, aws: LocalAws) -> None:
        self._program, self._aws = program, aws

    def verdict(self, name: str) -> str:
        """What it says of the metric filter and the alarm: `pass`, or `fail` or `manual` with the reason."""
        (result,) = self._results(name, ACCOUNT, "--checks", PAIR[self.name])
        status, reason = result["status_code"].lower(), result["status_detail"]
        return status if status == "pass" else f"{status} ({reason})"

    def about(self, ours: set[str], account: str) -> Iterator[Finding]:
        """What it finds on these resources; it marks what is muted."""
        for result in self._results(account, account, "--services", *SERVICES, "--mutelist-file", MUTED[self.name]):
            (resource,) = result["resources"]
            if result["status_code"] != "PASS" and _name(resource["uid"]) in ours:
                check, muted = result["metadata"]["event_code"], result["status"] == "Suppressed"
                yield Finding(check, resource["uid"], result["status_detail"], muted)

    def _results(self, name: str, account: str, *options: str | Path) -> list[dict]:
        folder = STATE / "audit" / "prowler" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        output = ["--output-formats", "json-ocsf", "--output-directory", folder, "--output-filename", "report"]
        # What it writes on the terminal isn't needed, and it asks for new releases of itself there.
        quiet = ["--no-banner", "--no-color", "--ignore-exit-code-3", "--log-level", "ERROR"]
        said = _run(self._aws, account, [self._program, "aws", "--region", REGION, *quiet, *output, *options], folder)
        report = folder / "report.ocsf.json"
        if not report.exists():
            raise Failed(f"Prowler wrote no report:\n{said}")
        return json.loads(report.read_text())


def _run(aws: LocalAws, account: str, command: list[str | Path], home: Path, statuses: set[int] = frozenset({0})) -> str:
    """What a tool printed, run against an account of the local AWS."""
    try:
        done = subprocess.run(
            command,
            # They read a configuration from where they run, and keep a history at home.
            cwd=home,
            env=local.environment(**aws.environment(account), HOME=str(home)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0].name} took more than {TIMEOUT:g} s; see {LOGS / 'aws-audit.log'}") from None
    said = (done.stdout + done.stderr)[-4000:]
    if done.returncode not in statuses:
        raise Failed(f"{command[0].name} failed (status {done.returncode}):\n{said}")
    return said


if __name__ == "__main__":
    sys.exit(main())
