//! Alarms.
use super::*;
pub(super) static QUEUES: About =
    About { id: "failures-empty", what: "The failure queues are empty.", kind: "AWS::SQS::Queue" };
pub(super) static ALARMS: About = About {
    id: "alarms-live",
    what: "The guard's alarms exist, may act, and tell somebody.",
    kind: "AWS::CloudWatch::Alarm",
};
pub(super) async fn look(_sdk: &SdkConfig, _guard: &Parts) -> Vec<Check> {
    vec![]
}
