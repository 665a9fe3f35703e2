//! The alarm that auditors ask for: a metric filter on the trail's log group, and an alarm that somebody receives.
//!
//! CIS AWS Foundations 3.7 (v1.2), 4.7 (v1.4 to v5.0), 5.7 (v6.0, v7.0); Security Hub CloudWatch.7; cloud-audit AWS-CW-007.
//! Those search the pattern for words. This asks CloudWatch Logs itself what the pattern matches, and whether the alarm on
//! that metric goes off at one event and is heard.
//! <https://docs.aws.amazon.com/securityhub/latest/userguide/cloudwatch-controls.html#cloudwatch-7>

use aws_sdk_cloudwatch::Client as CloudWatch;
use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_cloudwatchlogs::Client as Logs;
use aws_sdk_cloudwatchlogs::types::{MetricFilter, MetricTransformation};
use aws_sdk_sns::Client as Sns;
use aws_types::SdkConfig;
use serde_json::Value;

use super::alarms::{deaf, topics};
use super::topics::audiences;
use super::trail::Trail;
use super::{About, Check, Observation, Stack, Verdict, in_region, is_missing, plain, why};
use crate::escape::name;

pub(super) static CIS: About = About {
    id: "cis-alarm",
    what: "A metric filter on the trail's log group, and an alarm that reaches someone, report DisableKey and ScheduleKeyDeletion (CIS 3.7, 4.7, 5.7; Security Hub CloudWatch.7).",
    kind: "AWS::Logs::MetricFilter",
};

/// The pattern that Security Hub compares with, character by character.
const PATTERN: &str =
    "{($.eventSource=kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName=ScheduleKeyDeletion))}";

/// Calls that have to be counted, by different callers.
const COUNTED: [&str; 4] = [
    include_str!("../../events/key-disabled.json"),
    include_str!("../../events/key-disabled-in-console.json"),
    include_str!("../../events/deletion-scheduled.json"),
    include_str!("../../events/deletion-scheduled-by-root.json"),
];

/// Calls that everybody makes all day; a filter that counts them rings without end, and is switched off.
const NOT_COUNTED: [&str; 2] = [
    include_str!("../../events/harmless-decrypt.json"),
    include_str!("../../events/other-source-instance-stopped.json"),
];

/// Looks at the log groups of the trails, in their own Regions.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, trails: &[Trail]) -> Check {
    let wanted = guard.parameter("CloudTrailLogGroupName");
    let bad = |text: String| if wanted.is_some() { Observation::fail(text) } else { Observation::warn(text) };
    let mut looks = Vec::new();
    let any_logs = trails.iter().any(Trail::may_log);
    for trail in trails.iter().filter(|trail| trail.may_log() || !any_logs) {
        let log_group = trail.log_group.as_deref().unwrap_or_default();
        looks.extend(log_group_of(sdk, guard, log_group, trail.sees_kms(), &bad).await);
    }
    if looks.is_empty() {
        let parameter = "Or let the guard add filter and alarm: deploy with the parameter CloudTrailLogGroupName set to that log group.";
        let none = bad("No trail writes to a log group, so there is nothing for a metric filter to count.".into());
        return Check::of(
            &CIS,
            vec![
                none.advise("Give the trail a log group (aws cloudtrail update-trail with --cloud-watch-logs-log-group-arn and --cloud-watch-logs-role-arn).")
                    .advise(parameter),
            ],
        );
    }
    // One log group with all of it is enough.
    let best = looks.iter().map(|look| look.verdict.rank()).min();
    Check::of(&CIS, looks.into_iter().filter(|look| Some(look.verdict.rank()) == best).collect())
}

/// Looks at a trail's log group by its ARN; None if that isn't one.
async fn log_group_of(
    sdk: &SdkConfig,
    guard: &Stack,
    arn: &str,
    trail_sees_kms: Option<bool>,
    bad: &impl Fn(String) -> Observation,
) -> Option<Observation> {
    // arn:aws:logs:REGION:ACCOUNT:log-group:NAME:*
    let mut parts = arn.split(':').skip(3);
    let (region, owner, "log-group", group) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    // A member account is shown the log group of its organization's trail and can't look at it: there is none of that name
    // in the member account.
    if owner != guard.account {
        let owner = plain(owner, "ACCOUNT");
        let unknown = Observation::unknown(
            &format!("What metric filters the log group {} has", name(group, 256)),
            &format!("it belongs to account {owner}, as an organization's trail has it"),
        );
        return Some(unknown.mend(
            &format!("See what there is, with credentials of account {owner}:"),
            format!(
                "aws logs describe-metric-filters --region {} --log-group-name {}",
                plain(region, "REGION"),
                plain(group, "GROUP")
            ),
        ));
    }
    let sdk = in_region(sdk, region);
    let clients = AuditorClients { logs: Logs::new(&sdk), cloudwatch: CloudWatch::new(&sdk), sns: Sns::new(&sdk) };
    Some(clients.look(guard, region, group, trail_sees_kms, bad).await)
}

struct AuditorClients {
    logs: Logs,
    cloudwatch: CloudWatch,
    sns: Sns,
}

impl AuditorClients {
    async fn look(
        &self,
        guard: &Stack,
        region: &str,
        group: &str,
        trail_sees_kms: Option<bool>,
        bad: &impl Fn(String) -> Observation,
    ) -> Observation {
        let shown = name(group, 256);
        let mut filters = Vec::new();
        let mut pages = self.logs.describe_metric_filters().log_group_name(group).into_paginator().items().send();
        while let Some(filter) = pages.next().await {
            match filter {
                Ok(filter) => filters.push(filter),
                Err(error) if is_missing(&error) => {
                    return bad(format!("The log group {shown} that the trail writes to doesn't exist in {region}."))
                        .mend(
                            "Create it again:",
                            format!(
                                "aws logs create-log-group --region {region} --log-group-name {}",
                                plain(group, "GROUP")
                            ),
                        );
                }
                Err(error) => {
                    let reason = why("logs:DescribeMetricFilters", &error);
                    return Observation::unknown(&format!("What metric filters the log group {shown} has"), &reason);
                }
            }
        }
        let mut nearest: Option<Observation> = None;
        for filter in &filters {
            let look = match self.filter(filter).await {
                Ok(Counted::All) => self.alarmed(guard, filter, bad).await,
                Ok(Counted::None) if !speaks_of_kms(filter) => continue,
                Ok(Counted::None) => bad(format!(
                    "The metric filter {} on {shown} speaks of KMS and matches neither DisableKey nor ScheduleKeyDeletion.",
                    called(filter)
                )),
                Ok(Counted::Some(missed)) => {
                    bad(format!("The metric filter {} on {shown} doesn't match every {missed} call.", called(filter)))
                }
                Ok(Counted::TooMuch) => bad(format!(
                    "The metric filter {} on {shown} also counts calls that harm no key, so its alarm says nothing.",
                    called(filter)
                )),
                Err(unknown) => unknown,
            };
            if matches!(look.verdict, Verdict::Pass(_)) && trail_sees_kms == Some(false) {
                let idle = "are there, but the trail doesn't write KMS's calls to the log group";
                return bad(format!("The metric filter {} and its alarm {idle}.", called(filter)))
                    .advise("Fix the trail: the checks trail-logging and trail-records-kms say how.");
            }
            if matches!(look.verdict, Verdict::Pass(_)) && trail_sees_kms.is_none() {
                return Observation::unknown(
                    "Whether the metric filter gets to see KMS's calls",
                    "the trail isn't known to log them",
                );
            }
            if nearest.as_ref().is_none_or(|nearest| look.verdict.rank() < nearest.verdict.rank()) {
                nearest = Some(look);
            }
        }
        let look = nearest.unwrap_or_else(|| {
            bad(format!("No metric filter on the log group {shown} counts DisableKey and ScheduleKeyDeletion."))
        });
        if matches!(look.verdict, Verdict::Pass(_) | Verdict::Unknown(_)) {
            look
        } else {
            add(look, guard, region, group)
        }
    }

    /// Asks CloudWatch Logs what the filter's pattern matches.
    async fn filter(&self, filter: &MetricFilter) -> Result<Counted, Observation> {
        let records: Vec<_> = COUNTED.iter().chain(&NOT_COUNTED).map(|event| record(event)).collect();
        let lines = records.iter().map(|(_, line)| line.clone()).collect();
        let pattern = filter.filter_pattern().unwrap_or_default();
        let answer = self.logs.test_metric_filter().filter_pattern(pattern).set_log_event_messages(Some(lines));
        let answer = answer.send().await.map_err(|error| {
            let reason = why("logs:TestMetricFilter", &error);
            Observation::unknown(&format!("What the metric filter {} matches", called(filter)), &reason)
        })?;
        // Messages are numbered from 1.
        let matched = |at: usize| {
            let number = i64::try_from(at).unwrap_or_default() + 1;
            answer.matches().iter().any(|found| found.event_number() == number)
        };
        let missed = records.iter().enumerate().take(COUNTED.len()).filter(|(at, _)| !matched(*at));
        let missed: Vec<_> = missed.map(|(_, (call, _))| call.clone()).collect();
        Ok(match missed.first() {
            Some(_) if missed.len() == COUNTED.len() => Counted::None,
            Some(call) => Counted::Some(call.clone()),
            None if (COUNTED.len()..records.len()).any(matched) => Counted::TooMuch,
            None => Counted::All,
        })
    }

    /// Whether an alarm on one of the filter's metrics goes off at one event, and is heard.
    async fn alarmed(&self, guard: &Stack, filter: &MetricFilter, bad: &impl Fn(String) -> Observation) -> Observation {
        let mut nearest: Option<Observation> = None;
        for metric in filter.metric_transformations() {
            let (namespace, metric_name) = (metric.metric_namespace(), metric.metric_name());
            let asked = self.cloudwatch.describe_alarms_for_metric().namespace(namespace).metric_name(metric_name);
            let alarms = match asked.send().await {
                Ok(answer) => answer.metric_alarms.unwrap_or_default(),
                Err(error) => {
                    let reason = why("cloudwatch:DescribeAlarmsForMetric", &error);
                    return Observation::unknown(
                        &format!("Which alarms the metric {} has", name(metric_name, 256)),
                        &reason,
                    );
                }
            };
            let audiences = audiences(&self.sns, guard, topics(&alarms)).await;
            for alarm in &alarms {
                let called_alarm = name(alarm.alarm_name().unwrap_or("unnamed"), 256);
                if let Some(reason) = sleeps(alarm, metric) {
                    nearest.get_or_insert(bad(format!(
                        "One DisableKey doesn't set the alarm {called_alarm} off: {reason}."
                    )));
                    continue;
                }
                match deaf(alarm, &audiences, guard, &called_alarm) {
                    None => {
                        let own = filter.filter_pattern() != Some(PATTERN);
                        let pattern = if own { "with a pattern of its own" } else { "with Security Hub's pattern" };
                        return Observation::pass(format!(
                            "The metric filter {}, {pattern}, counts both calls, and the alarm {called_alarm} reports them.",
                            called(filter)
                        ));
                    }
                    Some(Observation { verdict: Verdict::Fail(text), fix, .. }) => {
                        nearest = Some(Observation { fix, ..bad(text) });
                    }
                    Some(look) => nearest = Some(look),
                }
            }
        }
        nearest.unwrap_or_else(|| bad(format!("There is no alarm on the metric of the filter {}.", called(filter))))
    }
}

/// What a filter counts of the calls that it should count.
enum Counted {
    All,
    /// Not every call of this name.
    Some(String),
    None,
    /// All, and what everybody does all day.
    TooMuch,
}

fn called(filter: &MetricFilter) -> String {
    name(filter.filter_name().unwrap_or("unnamed"), 256)
}

/// Whether the filter looks as if it were meant for this.
fn speaks_of_kms(filter: &MetricFilter) -> bool {
    let pattern = filter.filter_pattern().unwrap_or_default();
    ["kms", "DisableKey", "ScheduleKeyDeletion"].iter().any(|word| pattern.contains(word))
}

/// The record as CloudTrail writes it to a log group: the call's name, and the line.
fn record(event: &str) -> (String, String) {
    let event: Value = serde_json::from_str(event).unwrap_or(Value::Null);
    let record = event.get("detail").unwrap_or(&event);
    let call = record.get("eventName").and_then(Value::as_str).unwrap_or_default();
    (call.to_owned(), record.to_string())
}

/// Why one event doesn't set the alarm off; None if it does.
fn sleeps(alarm: &MetricAlarm, metric: &MetricTransformation) -> Option<String> {
    let Ok(value) = metric.metric_value().parse::<f64>() else {
        return Some(format!(
            "the filter's value is {}, which the record needn't hold",
            name(metric.metric_value(), 64)
        ));
    };
    let default = metric.default_value();
    let one = match alarm.statistic().map(|statistic| statistic.as_str()) {
        Some("Sum" | "Maximum") => value,
        // Every record that doesn't match counts too, if the filter has a default.
        Some("SampleCount" | "Average" | "Minimum") if default.is_some() => {
            return Some("its statistic isn't Sum".into());
        }
        Some("SampleCount") => 1.0,
        Some("Average" | "Minimum") => value,
        _ => return Some("its statistic isn't Sum".into()),
    };
    let threshold = alarm.threshold().unwrap_or(f64::INFINITY);
    let comparison = alarm.comparison_operator().map_or("none", |operator| operator.as_str());
    let trips = match comparison {
        "GreaterThanOrEqualToThreshold" => one >= threshold,
        "GreaterThanThreshold" => one > threshold,
        _ => false,
    };
    if !trips {
        return Some(format!("it waits for {} {threshold}", name(comparison, 64)));
    }
    let periods = alarm.datapoints_to_alarm().or(alarm.evaluation_periods()).unwrap_or(1);
    (periods > 1).then(|| format!("it waits for {periods} periods"))
}

/// The commands that add filter and alarm beside what is there, and the parameter that does both.
fn add(look: Observation, guard: &Stack, region: &str, group: &str) -> Observation {
    let (region, shown) = (plain(region, "REGION"), plain(group, "GROUP"));
    let topic = plain(guard.alerts_topic().unwrap_or_default(), "TOPIC-ARN");
    if !look.fix.is_empty() {
        return look;
    }
    if region == guard.region.as_str() {
        return look.advise(format!(
            "Let the guard add the filter and the alarm: deploy with the parameter CloudTrailLogGroupName set to {shown}."
        ));
    }
    look.mend(
        "Add the filter:",
        format!(
            "aws logs put-metric-filter --region {region} --log-group-name {shown} --filter-name kms-key-loss --filter-pattern '{PATTERN}' --metric-transformations metricName=KmsKeyLoss,metricNamespace=KmsKeyGuard,metricValue=1"
        ),
    )
    .mend(
        "Add the alarm, with a topic of that Region:",
        format!(
            "aws cloudwatch put-metric-alarm --region {region} --alarm-name kms-key-loss --namespace KmsKeyGuard --metric-name KmsKeyLoss --statistic Sum --period 300 --evaluation-periods 1 --threshold 1 --comparison-operator GreaterThanOrEqualToThreshold --treat-missing-data notBreaching --alarm-actions {}",
            if topic.contains(&format!(":{region}:")) { topic.as_str() } else { "TOPIC-ARN" }
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sns::config::BehaviorVersion;

    async fn looked_at(owner: &str) -> Observation {
        // Without credentials whoever is asked doesn't answer.
        let sdk = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        let arn = format!("arn:aws:logs:eu-west-1:{owner}:log-group:trail:*");
        log_group_of(&sdk, &Stack::example(&[]), &arn, Some(true), &Observation::fail).await.unwrap()
    }

    #[tokio::test]
    async fn log_group_of_another_account_is_unknown_and_names_the_owner_and_nothing_is_created() {
        let look = looked_at("444455556666").await;
        assert_eq!(look.verdict.name(), "unknown");
        assert!(look.verdict.text().contains("belongs to account 444455556666"), "{}", look.verdict.text());
        let commands: Vec<_> = look.fix.iter().filter_map(|step| step.command.as_deref()).collect();
        assert_eq!(commands, ["aws logs describe-metric-filters --region eu-west-1 --log-group-name trail"]);
    }

    #[tokio::test]
    async fn log_group_of_the_account_itself_is_asked_for_its_filters() {
        let look = looked_at("111122223333").await;
        assert!(look.verdict.text().contains("logs:DescribeMetricFilters"), "{}", look.verdict.text());
    }
}
