"""The local AWS: ministack, with what AWS does beyond it.

    host.py        the process: ministack on loopback, fixed, with one way in for service events
    pinned.py      how functions of the pinned ministack are replaced
    kms.py         key states, last usage
    calls.py       what a client asked of a service and what it got, whatever the protocol, for
    cloudtrail.py  the record that CloudTrail writes of a call, in CloudTrail's own shape, on to
    recorder.py    what the guard's roles call, written down for tests/iam
    trails.py      whose trails log a call: the account's, its organization's
    events.py      EventBridge: which rules see it, and how a function or a dead letter queue gets it
    buses.py       EventBridge: from a rule to a bus, in another account and Region too
    schedules.py   Scheduler and scheduled rules, fired when one likes
    logs.py        CloudWatch Logs: filter patterns, metric filters
    metrics.py     CloudWatch: metrics in log lines and of queues, alarms
    stacks.py      the records of what CloudFormation does
    drift.py       change sets that revert drift
    iam.py         what a role or a resource's policy allows there
    sts.py         who may assume a role; functions are their role
    organizations.py  one organization of several accounts
    sns.py         what SNS refuses
"""
