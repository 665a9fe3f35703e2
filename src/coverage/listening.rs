//! Topics.
use super::*;
pub(super) static ALERTS: About = About {
    id: "alerts-heard",
    what: "The alerts topic exists, takes what the guard and its alarms publish, and somebody has confirmed a subscription.",
    kind: "AWS::SNS::Topic",
};
pub(super) static FINDINGS: About = About {
    id: "findings-heard",
    what: "The findings topic exists, takes what the guard publishes, and something is subscribed.",
    kind: "AWS::SNS::Topic",
};
pub(super) static ENCRYPTION: About =
    About { id: "topics-readable", what: "No topic depends on a key that can be lost.", kind: "AWS::KMS::Key" };
pub(super) async fn look(_sdk: &SdkConfig, _guard: &Parts) -> Vec<Check> {
    vec![]
}
