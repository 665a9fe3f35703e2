"""`make audit`: what an auditors' tool says of an account before the guard is deployed with its filter and alarm, and after.

The tool is cloud-audit, as published, against the local AWS. Its check AWS-CW-007 looks for CIS 4.7: a metric filter for
DisableKey and ScheduleKeyDeletion on the trail's log group, with an alarm.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from . import aws as local
from . import build, steps
from .aws import ACCOUNT, REGION, STATE, LocalAws
from .build import LOGS
from .steps import Failed, detail, step

LOG_GROUP = "CloudTrail/DefaultLogGroup"
CHECK = "aws-cw-007"
TIMEOUT = 300.0
"""Seconds for one audit, which takes about ten."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("program", type=Path, help="cloud-audit")
    program = parser.parse_args().program.absolute()
    return steps.main(lambda: _audit(program))


def _audit(program: Path) -> int:
    build.prepare()
    step("starting the local AWS")
    with LocalAws(log=LOGS / "aws-audit.log") as aws:
        aws.start_trail(log_group=LOG_GROUP)
        detail(f"account {ACCOUNT}, Region {REGION}, with a trail that writes to the log group {LOG_GROUP}")
        step("auditing the account as it is, with cloud-audit")
        before = verdict(program, aws, "before")
        detail(f"AWS-CW-007: {before}")
        step(f"deploying template.yaml with CloudTrailLogGroupName={LOG_GROUP}")
        local.deploy(aws, {"CloudTrailLogGroupName": LOG_GROUP})
        step("auditing the account again")
        after = verdict(program, aws, "after")
        detail(f"AWS-CW-007: {after}")
    if not before.startswith("fail"):
        raise Failed(f"AWS-CW-007 should fail without the guard; it says: {before}")
    if after != "pass":
        raise Failed(f"AWS-CW-007 should pass with the guard and CloudTrailLogGroupName; it says: {after}")
    step("done: the check fails without the guard and passes with it")
    return 0


def verdict(program: Path, aws: LocalAws, name: str) -> str:
    """What AWS-CW-007 says of the account: `pass`, or `fail` or `unknown` with the reason."""
    report = STATE / "audit" / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [program, "scan", "--quiet", "--regions", REGION, "--format", "json", "--output", report],
            # It reads a configuration from where it runs, and keeps a history at home.
            cwd=report.parent,
            env=local.environment(**aws.environment(), HOME=str(report.parent)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"cloud-audit took more than {TIMEOUT:g} s; see {STATE / 'log' / 'aws-audit.log'}") from None
    # 1 says that there are findings, as there are in every account.
    if done.returncode not in (0, 1) or not report.exists():
        raise Failed(f"cloud-audit failed (status {done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    results = [result for result in json.loads(report.read_text())["results"] if result["check_id"] == CHECK]
    if len(results) != 1:
        raise Failed(f"cloud-audit's report {report} has {len(results)} results of {CHECK} instead of one")
    (result,) = results
    if result["error"] or result["coverage_gaps"]:
        return f"unknown ({result['error'] or result['coverage_gaps']})"
    found = [f"{finding['title']}, {', '.join(finding['compliance_refs'])}" for finding in result["findings"]]
    return f"fail ({'; '.join(found)})" if found else "pass"


if __name__ == "__main__":
    sys.exit(main())
