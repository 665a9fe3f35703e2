//! Rules.
use super::*;
pub(super) static ENABLED: About =
    About { id: "rules-enabled", what: "The guard's rules exist and are enabled.", kind: "AWS::Events::Rule" };
pub(super) static MATCH: About =
    About { id: "rules-match", what: "The rules' patterns match the events they are for.", kind: "AWS::Events::Rule" };
pub(super) static TARGETS: About = About {
    id: "rules-target",
    what: "The rules hand what they match to the alert function.",
    kind: "AWS::Events::Rule",
};
pub(super) static INVOKES: About = About {
    id: "function-invocable",
    what: "The alert function lets EventBridge invoke it for each rule.",
    kind: "AWS::Lambda::Permission",
};
pub(super) static FUNCTION: About = About {
    id: "function-ready",
    what: "The guard's functions exist, can run, and publish to the guard's topics.",
    kind: "AWS::Lambda::Function",
};
pub(super) static KEEPS: About = About {
    id: "failures-kept",
    what: "What the functions fail on goes to their failure queues.",
    kind: "AWS::Lambda::EventInvokeConfig",
};
pub(super) async fn look(_sdk: &SdkConfig, _guard: &Parts) -> Vec<Check> {
    vec![]
}
