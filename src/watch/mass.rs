//! Many keys at once: the alarm on that starts the watch function, which reads out of the alert function's log which keys, and
//! tells people once.

use std::collections::HashSet;

use aws_sdk_cloudwatchlogs::error::DisplayErrorContext;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use tokio::time::{Instant, timeout_at};

use crate::catalogue::{Activity, CATALOGUE, Detection};
use crate::escape::inert;
use crate::render::mass::KeyLoss;

/// How far back before the alarm the log is read: the alarm's ten minutes, and as many for what is late.
pub const LOOK_BACK: time::Duration = time::Duration::minutes(20);
/// How many things are counted at most.
const MOST_LOSSES: usize = 20_000;

/// When the alarm went off, if this is what CloudWatch sends a function for it.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html>
pub(super) fn alarm(payload: &str) -> Option<OffsetDateTime> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sent {
        source: String,
        alarm_data: AlarmData,
    }
    #[derive(Deserialize)]
    struct AlarmData {
        state: AlarmState,
    }
    #[derive(Deserialize)]
    struct AlarmState {
        value: String,
        timestamp: String,
    }
    let Sent { source, alarm_data: AlarmData { state } } = serde_json::from_str(payload).ok()?;
    let went_off = source == "aws.cloudwatch" && state.value == "ALARM";
    OffsetDateTime::parse(&state.timestamp, &Iso8601::DEFAULT).ok().filter(|_| went_off)
}

/// What the alert function put into its log since then as put at risk, each key once, the first first.
///
/// # Errors
/// Why the log can't be read.
pub(super) async fn losses(
    logs: &aws_sdk_cloudwatchlogs::Client,
    log_group: &str,
    since: OffsetDateTime,
    until: Instant,
) -> Result<Vec<KeyLoss>, String> {
    let request = logs.filter_log_events().log_group_name(log_group).start_time(since.unix_timestamp() * 1_000);
    let mut pages = request.filter_pattern("{ $.message = \"alert\" }").into_paginator().send();
    let (mut losses, mut known) = (Vec::new(), HashSet::new());
    while losses.len() < MOST_LOSSES {
        let page = match timeout_at(until, pages.next()).await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(_) if losses.is_empty() => return Err("that took too long".into()),
            Err(_) => break,
        };
        let page = page.map_err(|error| inert(&DisplayErrorContext(error).to_string(), 400))?;
        let lines = page.events().iter().filter_map(|event| loss(event.message()?, event.timestamp()?));
        losses.extend(lines.filter(|loss| known.insert(loss.thing.clone())));
    }
    Ok(losses)
}

/// What a line of the alert function's log says, if it counts for the alarm.
fn loss(line: &str, logged_ms: i64) -> Option<KeyLoss> {
    #[derive(Deserialize)]
    struct AlertLine {
        detection: String,
        finding_uid: String,
        key_name: Option<String>,
        caller: Option<String>,
    }
    let line: AlertLine = serde_json::from_str(line).ok()?;
    let counts = |of: &&Detection| of.id == line.detection && of.is_loss() && of.activity == Activity::Create;
    let thing = line.finding_uid.split('#').next().unwrap_or_default().to_owned();
    Some(KeyLoss {
        at: OffsetDateTime::from_unix_timestamp(logged_ms / 1_000).ok()?,
        detection: CATALOGUE.iter().find(counts)?.id,
        name: line.key_name.unwrap_or_else(|| thing.clone()),
        thing,
        caller: line.caller.unwrap_or_else(|| "unknown".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn alarm_that_went_off_is_told_from_everything_else() {
        let sent = r#"{"source": "aws.cloudwatch", "alarmArn": "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:kms-key-guard.MassEventAlarm", "accountId": "111122223333", "time": "2026-11-22T03:14:07.512+0000", "region": "eu-west-1", "alarmData": {"alarmName": "kms-key-guard.MassEventAlarm", "state": {"value": "ALARM", "reason": "Threshold Crossed", "timestamp": "2026-11-22T03:14:07.401+0000"}, "previousState": {"value": "OK"}, "configuration": {}}}"#;
        assert_eq!(alarm(sent), Some(datetime!(2026-11-22 03:14:07.401 UTC)));
        for other in [
            "",
            r#"{"look": "sweep", "time": "2026-11-22T06:00:00Z"}"#,
            &sent.replacen("\"ALARM\"", "\"OK\"", 1),
            &sent.replace("aws.cloudwatch", "aws.kms"),
            &sent.replace("2026-11-22T03:14:07.401+0000", "soon"),
        ] {
            assert_eq!(alarm(other), None, "{other}");
        }
    }

    #[test]
    fn line_counts_if_it_says_that_a_key_was_put_at_risk() {
        const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c";
        let line = |detection: &str| {
            format!(
                r#"{{"message":"alert","detection":"{detection}","finding_uid":"{KEY}#policy","key_name":"alias/a","caller":"arn:aws:iam::111122223333:user/x","outcome":"below-minimum"}}"#
            )
        };
        let found = loss(&line("key-policy-lockout"), 1_795_316_400_123).unwrap();
        assert_eq!(
            (found.at, found.thing.as_str(), found.name.as_str()),
            (datetime!(2026-11-22 03:00 UTC), KEY, "alias/a")
        );
        assert_eq!(
            (found.detection, found.caller.as_str()),
            ("key-policy-lockout", "arn:aws:iam::111122223333:user/x")
        );
        for other in ["key-enabled", "key-loss-denied", "guard-tampered", "lost-key-used", "key-at-risk", "made-up"] {
            assert_eq!(loss(&line(other), 0), None, "{other}");
        }
        assert_eq!(loss("START RequestId: 1", 0), None);
        let bare = loss(&format!(r#"{{"detection":"key-disabled","finding_uid":"{KEY}"}}"#), 0).unwrap();
        assert_eq!((bare.name.as_str(), bare.caller.as_str()), (KEY, "unknown"));
    }
}
