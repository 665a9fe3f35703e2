//! CIS.
use super::*;
pub(super) static CIS: About = About {
    id: "cis-alarm",
    what: "A metric filter and an alarm tell somebody about DisableKey and ScheduleKeyDeletion (CIS 3.7/4.7/5.7, Security Hub CloudWatch.7).",
    kind: "AWS::Logs::MetricFilter",
};
pub(super) async fn look(_sdk: &SdkConfig, _guard: &Parts, _trails: &[trail::Trail]) -> Check {
    Check::of(&CIS, vec![])
}
