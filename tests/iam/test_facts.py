"""What AWS's documentation says about permissions and no engine knows."""

import re

from deployed import ROOT
from settings import organization, places


# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
# "You can't use Condition blocks in Amazon SNS topic policies for EventBridge."
def test_no_topic_lets_eventbridge_in():
    statements = [
        (f"{place}: {name}: {statement['Sid']}", statement["Principal"])
        for place in places()
        for stack in place.stacks
        for name, policy in stack.of_type("AWS::SNS::TopicPolicy").items()
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    assert len(statements) > 20
    assert [name for name, principal in statements if "events.amazonaws.com" in str(principal)] == []


# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-delegated-admin.html
# CloudFormation answers CallAs=DELEGATED_ADMIN if the account is among the delegated administrators, and it asks
# Organizations for them with the caller's permissions.
def test_who_calls_as_a_delegated_administrator_may_list_them():
    code = "".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))
    assert re.search(r"CallAs::DelegatedAdmin", code), "nothing calls as a delegated administrator any more"
    policies = organization("aws").identities.items()
    (statements,) = [policy["Statement"] for role, named in policies if "WatchFunctionRole" in role for policy in named.values()]
    allowed = [statement for statement in statements if "organizations:ListDelegatedAdministrators" in statement["Action"]]
    assert [(statement["Effect"], statement["Resource"]) for statement in allowed] == [("Allow", "*")]
