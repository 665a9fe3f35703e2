//! Trails.
use super::*;
pub(super) static LOGGING: About =
    About { id: "trail-logging", what: "A trail that covers this Region is logging.", kind: "AWS::CloudTrail::Trail" };
pub(super) static RECORDS: About = About {
    id: "trail-records-kms",
    what: "A trail records the calls to KMS that the guard looks for.",
    kind: "AWS::CloudTrail::Trail",
};
pub(super) static DELIVERS: About =
    About { id: "trail-delivers", what: "The trail can deliver what it records.", kind: "AWS::CloudTrail::Trail" };
pub(super) struct Trail {}
pub(super) async fn look(_sdk: &SdkConfig, _guard: &Parts) -> (Vec<Trail>, Vec<Check>) {
    (vec![], vec![])
}
