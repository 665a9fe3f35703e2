"""A local AWS for this project: ministack with what AWS does beyond it, and the demo that runs on it.

    host.py        the process: ministack on loopback, mended, with one way in for service events
    pinned.py      how functions of the pinned ministack are replaced
    kms.py         key states, last usage
    calls.py       what a client asked of a service and what it got, whatever the protocol, for
    cloudtrail.py  the record that CloudTrail writes of a call, in CloudTrail's own shape, on to
    trails.py      whose trails log a call: the account's, its organization's
    events.py      EventBridge: which rules see it, and how a function or a dead letter queue gets it
    buses.py       EventBridge: from a rule to a bus, in another account and Region too
    schedules.py   Scheduler and scheduled rules, fired when one likes
    logs.py        CloudWatch Logs: filter patterns, metric filters
    metrics.py     CloudWatch: metrics in log lines and of queues, alarms
    stacks.py      the records of what CloudFormation does
    iam.py         what a role or a resource's policy allows there
    sts.py         who may assume a role; functions are their role
    organizations.py  one organization of several accounts
    sns.py         what SNS refuses
    aws.py         starts and stops the host, builds and deploys the stack (demo, `make local`, tests)
    demo.py        `make demo`
    run.py         `make local`
    rig.py         the release binary between a Lambda, an SNS and a KMS on loopback that fail on order
    faults.py      `make faults`
    load.py        `make load`
    accounts.py    `make accounts`
    roster.py      1,000 accounts in 17 Regions, as the hub's digest looks for them
"""
