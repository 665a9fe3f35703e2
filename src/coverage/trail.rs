//! Does a trail record what the guard depends on? Without one no call to KMS reaches EventBridge.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>

use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::operation::get_event_selectors::GetEventSelectorsOutput;
use aws_sdk_cloudtrail::types::{AdvancedFieldSelector, Trail as Described};
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{About, Check, Observation, Stack, plain, rules, why};
use crate::escape::name;
use crate::event::KMS_EVENT_SOURCE;
use crate::trail_selectors::{Management, Selectors};

pub(super) static LOGGING: About =
    About { id: "trail-logging", what: "A trail that covers this Region is logging.", kind: "AWS::CloudTrail::Trail" };
pub(super) static RECORDS: About = About {
    id: "trail-records-kms",
    what: "That trail records the calls to KMS that the guard looks for.",
    kind: "AWS::CloudTrail::Trail",
};
pub(super) static DELIVERS: About = About {
    id: "trail-delivers",
    what: "The trail delivers what it records to its bucket and its log group.",
    kind: "AWS::CloudTrail::Trail",
};

/// A trail that covers the Region.
#[derive(Debug)]
pub(super) struct Trail {
    pub(super) arn: String,
    pub(super) home: String,
    /// The log group it writes to.
    pub(super) log_group: Option<String>,
    /// Whether it is logging, or why that isn't known.
    pub(super) logging: Result<bool, String>,
    /// Why it failed to deliver, to which of its places.
    errors: Vec<(&'static str, String)>,
    /// What it records, or why that isn't known.
    selectors: Result<Chosen, String>,
}

/// A trail's selectors as they are, and as they are judged.
#[derive(Debug)]
struct Chosen {
    /// As the API takes them: `EventSelectors` or `AdvancedEventSelectors`.
    given: Value,
    judged: Selectors,
    /// The same without conditions that leave out single callers.
    but_for_callers: Selectors,
}

/// Looks at the trails of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack) -> (Vec<Trail>, Vec<Check>) {
    checks(&Client::new(sdk), guard).await
}

pub(super) async fn checks(client: &Client, guard: &Stack) -> (Vec<Trail>, Vec<Check>) {
    let trails = match client.describe_trails().include_shadow_trails(true).send().await {
        Ok(answer) => join_all(covering(answer.trail_list(), guard).map(|trail| read(client, trail))).await,
        Err(error) => {
            let reason = why("cloudtrail:DescribeTrails", &error);
            let unknown = |about, what| Check::of(about, vec![Observation::unknown(what, &reason)]);
            let checks = vec![
                unknown(&LOGGING, "Whether a trail logs"),
                unknown(&RECORDS, "What the trails record"),
                unknown(&DELIVERS, "Whether the trails deliver"),
            ];
            return (Vec::new(), checks);
        }
    };
    let checks = vec![logging(&trails, guard), records(&trails, guard), delivers(&trails)];
    (trails, checks)
}

/// A trail of another Region covers this one only as a multi-Region trail.
fn covering<'a>(trails: &'a [Described], guard: &'a Stack) -> impl Iterator<Item = &'a Described> {
    let here = |trail: &&Described| {
        trail.home_region() == Some(guard.region.as_str()) || trail.is_multi_region_trail() == Some(true)
    };
    trails.iter().filter(here)
}

async fn read(client: &Client, trail: &Described) -> Trail {
    let arn = trail.trail_arn().or(trail.name()).unwrap_or_default().to_owned();
    let (status, selectors) =
        tokio::join!(client.get_trail_status().name(&arn).send(), client.get_event_selectors().trail_name(&arn).send());
    let mut errors = Vec::new();
    let logging = match status {
        Ok(status) => {
            let both = [
                ("its bucket", status.latest_delivery_error()),
                ("its log group", status.latest_cloud_watch_logs_delivery_error()),
            ];
            errors.extend(
                both.into_iter()
                    .filter_map(|(to, error)| Some((to, name(error.filter(|error| !error.is_empty())?, 100)))),
            );
            Ok(status.is_logging() == Some(true))
        }
        Err(error) => Err(why("cloudtrail:GetTrailStatus", &error)),
    };
    let selectors = match selectors {
        Ok(answer) => Ok(Chosen::of(given(&answer))),
        // A member account may see an organization's trail and not always its selectors; nobody has set any here.
        Err(_) if trail.has_custom_event_selectors() == Some(false) => Ok(Chosen::of(None)),
        Err(error) => Err(why("cloudtrail:GetEventSelectors", &error)),
    };
    Trail {
        home: trail.home_region().unwrap_or_default().to_owned(),
        log_group: trail.cloud_watch_logs_log_group_arn().map(str::to_owned),
        arn,
        logging,
        errors,
        selectors,
    }
}

impl Trail {
    fn name(&self) -> String {
        let name = self.arn.rsplit('/').next().unwrap_or_default();
        crate::escape::name(name, 128)
    }

    /// The account that may change it, unless it is the guard's own.
    fn owner<'a>(&'a self, guard: &Stack) -> Option<&'a str> {
        self.arn.split(':').nth(4).filter(|account| *account != guard.account)
    }

    fn how(&self, what: &str, guard: &Stack) -> String {
        match self.owner(guard) {
            Some(account) => format!("{what}, in account {}, which owns the trail:", plain(account, "OWNER")),
            None => format!("{what}:"),
        }
    }

    /// `--region` and name for a command.
    fn address(&self, option: &str) -> String {
        format!("--region {} {option} {}", plain(&self.home, "REGION"), plain(&self.arn, "TRAIL-ARN"))
    }

    /// Whether it records such an event; None if that isn't known.
    fn records(&self, event: Management<'_>) -> Option<bool> {
        Some(self.selectors.as_ref().ok()?.judged.log(event))
    }

    /// Whether it is worth asking for more: it logs, or may.
    pub(super) fn may_log(&self) -> bool {
        self.logging != Ok(false)
    }

    /// Whether it is logging and records what the guard looks for; None if that isn't known.
    pub(super) fn sees_kms(&self) -> Option<bool> {
        let records = calls().all(|call| self.records(call) != Some(false));
        if self.logging == Ok(false) || !records {
            return Some(false);
        }
        (self.logging.is_ok() && self.selectors.is_ok()).then_some(true)
    }
}

fn logging(trails: &[Trail], guard: &Stack) -> Check {
    let region = &guard.region;
    if trails.is_empty() {
        let look = Observation::fail(format!(
            "No trail covers {region}, so no call to KMS reaches the guard; only what KMS announces itself does."
        ));
        return Check::of(&LOGGING, vec![create(look, guard)]);
    }
    if let Some(trail) = trails.iter().find(|trail| trail.logging == Ok(true)) {
        let home = name(&trail.home, 64);
        return Check::of(
            &LOGGING,
            vec![Observation::pass(format!("The trail {} (home Region {home}) is logging.", trail.name()))],
        );
    }
    let looks = trails.iter().map(|trail| match &trail.logging {
        Err(reason) => Observation::unknown(&format!("Whether the trail {} is logging", trail.name()), reason).mend(
            &trail.how("Ask with more rights", guard),
            format!("aws cloudtrail get-trail-status {}", trail.address("--name")),
        ),
        Ok(_) => Observation::fail(format!("The trail {} is stopped, and no other covers {region}.", trail.name()))
            .mend(&trail.how("Start it", guard), format!("aws cloudtrail start-logging {}", trail.address("--name"))),
    });
    let mut looks: Vec<_> = looks.collect();
    // A stopped trail isn't a failure yet as long as another may be logging.
    if trails.iter().any(|trail| trail.logging.is_err()) {
        looks.retain(|look| matches!(look.verdict, super::Verdict::Unknown(_)));
    }
    Check::of(&LOGGING, looks)
}

/// A trail in a bucket of its own, with the bucket policy that CloudTrail asks for.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html>
fn create(look: Observation, guard: &Stack) -> Observation {
    let Stack { region, account, .. } = guard;
    let partition = region.partition().name;
    let bucket = format!("cloudtrail-management-{account}-{region}");
    let trail = guard.arn("cloudtrail", "trail/management");
    let allow = |sid: &str, action: &str, resource: &str, only: Value| {
        json!({
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": action,
            "Resource": resource,
            "Condition": {"StringEquals": only},
        })
    };
    let arn = format!("arn:{partition}:s3:::{bucket}");
    let policy = json!({"Version": "2012-10-17", "Statement": [
        allow("CloudTrailChecks", "s3:GetBucketAcl", &arn, json!({"aws:SourceArn": trail})),
        allow(
            "CloudTrailWrites",
            "s3:PutObject",
            &format!("{arn}/AWSLogs/{account}/*"),
            json!({"aws:SourceArn": trail, "s3:x-amz-acl": "bucket-owner-full-control"}),
        ),
    ]});
    // S3's first Region is the one that a bucket gets without a constraint, and can't be named as one.
    let place = match region.as_str() {
        "us-east-1" => String::new(),
        region => format!(" --create-bucket-configuration LocationConstraint={region}"),
    };
    look.mend(
        "Create a bucket for a trail,",
        format!("aws s3api create-bucket --region {region} --bucket {bucket}{place}"),
    )
    .mend(
        "let CloudTrail write there,",
        format!("aws s3api put-bucket-policy --region {region} --bucket {bucket} --policy '{policy}'"),
    )
    .mend(
        "create the trail,",
        format!(
            "aws cloudtrail create-trail --region {region} --name management --is-multi-region-trail --s3-bucket-name {bucket}"
        ),
    )
    .mend("and start it:", format!("aws cloudtrail start-logging --region {region} --name management"))
}

fn records(trails: &[Trail], guard: &Stack) -> Check {
    if trails.is_empty() {
        return Check::of(&RECORDS, vec![Observation::unknown("What is recorded", "there is no trail")]);
    }
    // A stopped trail is the other check's; here it counts only if there is nothing better to judge.
    let any_logs = trails.iter().any(Trail::may_log);
    let looks: Vec<_> =
        trails.iter().filter(|trail| trail.may_log() || !any_logs).map(|trail| record(trail, guard)).collect();
    // One that records everything is enough.
    let best = looks.iter().map(|look| look.verdict.rank()).min();
    let looks = looks.into_iter().filter(|look| Some(look.verdict.rank()) == best).collect();
    Check::of(&RECORDS, looks)
}

/// The calls that the guard's rules look for.
fn calls() -> impl Iterator<Item = Management<'static>> {
    let call = |event_name| Management { event_source: KMS_EVENT_SOURCE, event_name, read_only: false };
    rules::CALLS.iter().map(move |name| call(*name))
}

fn record(trail: &Trail, guard: &Stack) -> Observation {
    let shown = trail.name();
    let chosen = match &trail.selectors {
        Ok(chosen) => chosen,
        Err(reason) => {
            return Observation::unknown(&format!("What the trail {shown} records"), reason).mend(
                &trail.how("Ask with more rights", guard),
                format!("aws cloudtrail get-event-selectors {}", trail.address("--trail-name")),
            );
        }
    };
    let missed = |selectors: &Selectors| -> Vec<_> { calls().filter(|call| !selectors.log(*call)).collect() };
    let mended = |look: Observation, reads: bool| mend(look, trail, chosen, guard, reads);
    let missing = missed(&chosen.judged);
    if !missing.is_empty() && missed(&chosen.but_for_callers).is_empty() {
        let some = format!("The trail {shown} leaves out some callers, so what they do to keys stays unseen.");
        return mended(Observation::warn(some), false);
    }
    if let Some(first) = missing.first() {
        let what = if missing.len() < rules::CALLS.len() {
            format!("The trail {shown} doesn't record {} of KMS.", first.event_name)
        } else {
            format!("The trail {shown} doesn't record the calls to KMS that put keys at risk: {}.", chosen.reason())
        };
        return mended(Observation::fail(what), false);
    }
    if guard.is_on("ReportLostKeyUse") && !chosen.judged.log(Management::KEY_USE) {
        let what = "doesn't record read-only calls to KMS, which ReportLostKeyUse needs";
        return mended(Observation::fail(format!("The trail {shown} {what}.")), true);
    }
    if !chosen.judged.log(Management::TAMPERING) {
        let what = "records KMS and not EventBridge, so nobody learns when a rule of the guard is switched off";
        return mended(Observation::warn(format!("The trail {shown} {what}.")), false);
    }
    Observation::pass(format!(
        "The trail {shown} records the {} calls to KMS that the guard looks for, and changes of its rules.",
        rules::CALLS.len()
    ))
}

/// The command that lets the trail's selectors through what is missing and leaves the rest as it is.
fn mend(look: Observation, trail: &Trail, chosen: &Chosen, guard: &Stack, reads: bool) -> Observation {
    let (option, selectors) = chosen.mended(reads);
    let json = selectors.to_string();
    let acts = |c: char| c == '\'' || !(' '..='~').contains(&c);
    if json.contains(acts) || json.len() > 4_000 {
        return look.advise(trail.how(
            "Change its event selectors (put-event-selectors) so that they include management events of kms.amazonaws.com",
            guard,
        ));
    }
    look.mend(
        &trail.how("Let it record them; this is what it has, with that changed", guard),
        format!("aws cloudtrail put-event-selectors {} {option} '{json}'", trail.address("--trail-name")),
    )
}

fn delivers(trails: &[Trail]) -> Check {
    // What a stopped trail said last is as good as what one says that logs.
    let known: Vec<_> = trails.iter().filter(|trail| trail.logging.is_ok()).collect();
    if known.is_empty() {
        let unknown = Observation::unknown("Whether a trail delivers", "there is none whose status can be read");
        return Check::of(&DELIVERS, vec![unknown]);
    }
    let looks = known.iter().flat_map(|trail| {
        trail.errors.iter().map(|(to, error)| {
            Observation::warn(format!("The trail {} fails to deliver to {to}: {error}.", trail.name())).mend(
                "See since when, and fix the policy or the role that it writes with:",
                format!("aws cloudtrail get-trail-status {}", trail.address("--name")),
            )
        })
    });
    let mut looks: Vec<_> = looks.collect();
    if looks.is_empty() {
        looks.extend(known.iter().map(|trail| {
            let name = trail.name();
            Observation::pass(format!("The trail {name} reports no failed delivery."))
                .of_several(&name, "None of {count} trails reports a failed delivery: {names}.")
        }));
    }
    Check::of(&DELIVERS, looks)
}

/// The selectors as the API takes them; None for a trail that has none.
fn given(answer: &GetEventSelectorsOutput) -> Option<Value> {
    if !answer.advanced_event_selectors().is_empty() {
        let selectors = answer.advanced_event_selectors().iter().map(|selector| {
            let fields: Vec<_> = selector.field_selectors().iter().map(field).collect();
            without_nulls(json!({"Name": selector.name(), "FieldSelectors": fields}))
        });
        return Some(json!({"AdvancedEventSelectors": selectors.collect::<Vec<_>>()}));
    }
    if answer.event_selectors().is_empty() {
        return None;
    }
    let selectors = answer.event_selectors().iter().map(|selector| {
        let data: Vec<_> = selector
            .data_resources()
            .iter()
            .map(|data| without_nulls(json!({"Type": data.r#type(), "Values": data.values()})))
            .collect();
        without_nulls(json!({
            "ReadWriteType": selector.read_write_type().map(|kind| kind.as_str()),
            "IncludeManagementEvents": selector.include_management_events(),
            "DataResources": Some(data).filter(|data| !data.is_empty()),
            "ExcludeManagementEventSources": list(selector.exclude_management_event_sources()),
        }))
    });
    Some(json!({"EventSelectors": selectors.collect::<Vec<_>>()}))
}

fn field(condition: &AdvancedFieldSelector) -> Value {
    without_nulls(json!({
        "Field": condition.field(),
        "Equals": list(condition.equals()),
        "StartsWith": list(condition.starts_with()),
        "EndsWith": list(condition.ends_with()),
        "NotEquals": list(condition.not_equals()),
        "NotStartsWith": list(condition.not_starts_with()),
        "NotEndsWith": list(condition.not_ends_with()),
    }))
}

fn list(texts: &[String]) -> Option<&[String]> {
    Some(texts).filter(|texts| !texts.is_empty())
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

/// The same with the names as CloudTrail's records spell them.
fn as_recorded(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let mut letters = name.chars();
                    let first = letters.next().map(|first| first.to_ascii_lowercase());
                    (first.into_iter().chain(letters).collect(), as_recorded(value))
                })
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(as_recorded).collect()),
        other => other.clone(),
    }
}

fn of<'a>(given: &'a Value, kind: &str) -> &'a Value {
    given.get(kind).unwrap_or(&Value::Null)
}

fn advanced(given: &mut Value) -> Option<&mut Vec<Value>> {
    given.get_mut("AdvancedEventSelectors")?.as_array_mut()
}

fn conditions(selector: &mut Value) -> Option<&mut Vec<Value>> {
    selector.get_mut("FieldSelectors")?.as_array_mut()
}

/// Conditions that leave out single callers or kinds of sign-in, and nothing else.
fn is_about_callers(condition: &Value) -> bool {
    let caller = matches!(condition["Field"].as_str(), Some("userIdentity.arn" | "sessionCredentialFromConsole"));
    caller && ["Equals", "StartsWith", "EndsWith"].iter().all(|only| condition[only].is_null())
}

impl Chosen {
    /// Without selectors a trail records all management events.
    fn of(given: Option<Value>) -> Self {
        let given = given.unwrap_or_else(|| json!({"EventSelectors": [{"ReadWriteType": "All"}]}));
        let mut but_for_callers = given.clone();
        for conditions in advanced(&mut but_for_callers).into_iter().flatten().filter_map(conditions) {
            conditions.retain(|condition| !is_about_callers(condition));
        }
        let judged = |given: &Value| Selectors::of_request(&as_recorded(given)).unwrap_or(Selectors::Basic(Vec::new()));
        Self { judged: judged(&given), but_for_callers: judged(&but_for_callers), given }
    }

    /// Why KMS isn't recorded, in the API's words.
    fn reason(&self) -> &'static str {
        let basic: Vec<_> = of(&self.given, "EventSelectors").as_array().into_iter().flatten().collect();
        if basic.is_empty() {
            return "its advanced event selectors leave them out";
        }
        let managing: Vec<_> = basic.iter().filter(|basic| basic["IncludeManagementEvents"] != false).collect();
        if managing.is_empty() {
            "it records no management events"
        } else if managing.iter().all(|basic| basic["ReadWriteType"] == "ReadOnly") {
            "it records read-only events"
        } else {
            "it excludes kms.amazonaws.com (ExcludeManagementEventSources)"
        }
    }

    /// The option of put-event-selectors, and the selectors with as little changed as does it.
    fn mended(&self, reads: bool) -> (&'static str, Value) {
        let mut given = self.given.clone();
        if let Some(selectors) = advanced(&mut given) {
            let is = |condition: &Value, field: &str| condition["Field"] == field;
            let equals = |condition: &Value, value: &str| condition.pointer("/Equals/0").is_some_and(|v| v == value);
            let management = |condition: &Value| is(condition, "eventCategory") && equals(condition, "Management");
            let mut found = false;
            for conditions in selectors.iter_mut().filter_map(conditions) {
                if conditions.iter().any(management) {
                    found = true;
                    let writes = |condition: &Value| is(condition, "readOnly") && equals(condition, "false");
                    conditions.retain(|condition| management(condition) || (writes(condition) && !reads));
                }
            }
            if !found {
                let all = json!([{"Field": "eventCategory", "Equals": ["Management"]}]);
                selectors.push(json!({"Name": "Management events", "FieldSelectors": all}));
            }
            return ("--advanced-event-selectors", of(&given, "AdvancedEventSelectors").clone());
        }
        if let Some(first) = given.pointer_mut("/EventSelectors/0").and_then(Value::as_object_mut) {
            first.insert("IncludeManagementEvents".into(), true.into());
            if reads || first.get("ReadWriteType").is_some_and(|kind| kind == "ReadOnly") {
                first.insert("ReadWriteType".into(), "All".into());
            }
            if let Some(excluded) = first.get_mut("ExcludeManagementEventSources").and_then(Value::as_array_mut) {
                excluded.retain(|source| source != KMS_EVENT_SOURCE);
            }
        }
        ("--event-selectors", of(&given, "EventSelectors").clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_cloudtrail::error::ErrorMetadata;
    use aws_sdk_cloudtrail::operation::describe_trails::{DescribeTrailsError, DescribeTrailsOutput};
    use aws_sdk_cloudtrail::operation::get_event_selectors::GetEventSelectorsError;
    use aws_sdk_cloudtrail::operation::get_trail_status::{GetTrailStatusError, GetTrailStatusOutput};
    use aws_sdk_cloudtrail::types::{AdvancedEventSelector, EventSelector, ReadWriteType};
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    const OWNER: &str = "444455556666";

    fn denied() -> ErrorMetadata {
        ErrorMetadata::builder().code("AccessDeniedException").build()
    }

    fn trail(account: &str) -> aws_sdk_cloudtrail::types::builders::TrailBuilder {
        let arn = format!("arn:aws:cloudtrail:us-east-1:{account}:trail/organization");
        Described::builder().trail_arn(arn).home_region("us-east-1").is_multi_region_trail(true)
    }

    fn trails(trails: Vec<Described>) -> Rule {
        mock!(Client::describe_trails)
            .then_output(move || DescribeTrailsOutput::builder().set_trail_list(Some(trails.clone())).build())
    }

    fn status(logging: bool, error: Option<&'static str>) -> Rule {
        let output = GetTrailStatusOutput::builder().is_logging(logging);
        let output = output.set_latest_delivery_error(error.map(str::to_owned)).build();
        mock!(Client::get_trail_status).then_output(move || output.clone())
    }

    fn selectors(basic: Option<EventSelector>, advanced: Option<Vec<AdvancedFieldSelector>>) -> Rule {
        let advanced = advanced
            .map(|fields| vec![AdvancedEventSelector::builder().set_field_selectors(Some(fields)).build().unwrap()]);
        mock!(Client::get_event_selectors).then_output(move || {
            GetEventSelectorsOutput::builder()
                .set_event_selectors(basic.clone().map(|basic| vec![basic]))
                .set_advanced_event_selectors(advanced.clone())
                .build()
        })
    }

    async fn verdicts(rules: &[Rule], guard: &Stack) -> Vec<(&'static str, String)> {
        let client = mock_client!(aws_sdk_cloudtrail, RuleMode::MatchAny, &rules.iter().collect::<Vec<_>>());
        let (_, found) = checks(&client, guard).await;
        found.iter().map(|check| (check.verdict.name(), check.verdict.text().to_owned())).collect()
    }

    #[tokio::test]
    async fn organizations_trail_counts_and_what_a_member_may_not_ask_is_unknown() {
        let status = mock!(Client::get_trail_status).then_error(|| GetTrailStatusError::generic(denied()));
        let selectors = mock!(Client::get_event_selectors).then_error(|| GetEventSelectorsError::generic(denied()));
        let seen = trail(OWNER).is_organization_trail(true).build();
        let guard = Stack::example(&[]);
        let client = mock_client!(aws_sdk_cloudtrail, RuleMode::MatchAny, &[&trails(vec![seen]), &status, &selectors]);
        let (_, found) = checks(&client, &guard).await;
        for (check, action) in found.iter().zip(["cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors"]) {
            assert_eq!(check.verdict.name(), "unknown");
            assert!(
                check.verdict.text().ends_with(&format!("no permission for {action}.")),
                "{}",
                check.verdict.text()
            );
            assert!(check.fix[0].what.contains(OWNER));
        }
        // AWS says that nobody has changed its selectors, and then it records everything.
        let seen = trail(OWNER).has_custom_event_selectors(false).build();
        let found = verdicts(&[trails(vec![seen]), status, selectors], &guard).await;
        assert_eq!((found[0].0, found[1].0), ("unknown", "pass"));
    }

    #[tokio::test]
    async fn without_permission_nothing_passes() {
        let none = mock!(Client::describe_trails).then_error(|| DescribeTrailsError::generic(denied()));
        for (verdict, text) in verdicts(&[none], &Stack::example(&[])).await {
            assert_eq!(verdict, "unknown");
            assert!(text.ends_with("no permission for cloudtrail:DescribeTrails."), "{text}");
        }
    }

    #[tokio::test]
    async fn trail_of_another_region_does_not_cover_this_one() {
        let elsewhere = trail("111122223333").is_multi_region_trail(false).build();
        let found = verdicts(&[trails(vec![elsewhere])], &Stack::example(&[])).await;
        assert_eq!(found[0].0, "fail");
        assert!(found[0].1.starts_with("No trail covers eu-west-1"));
    }

    #[tokio::test]
    async fn opt_in_for_lost_keys_needs_read_events_and_nothing_else_does() {
        let writes = EventSelector::builder().read_write_type(ReadWriteType::WriteOnly).build();
        let rules = [trails(vec![trail("111122223333").build()]), status(true, None), selectors(Some(writes), None)];
        assert_eq!(verdicts(&rules, &Stack::example(&[])).await[1].0, "pass");
        let opted_in = Stack::example(&[("ReportLostKeyUse", "true")]);
        let found = verdicts(&rules, &opted_in).await;
        assert_eq!(found[1].0, "fail");
        assert!(found[1].1.contains("read-only calls to KMS, which ReportLostKeyUse needs"), "{}", found[1].1);
    }

    #[tokio::test]
    async fn single_callers_left_out_are_a_warning_and_single_callers_let_in_a_failure() {
        let field = |name: &str| AdvancedFieldSelector::builder().field(name);
        let management = || field("eventCategory").equals("Management").build().unwrap();
        let role = "arn:aws:iam::111122223333:role/noisy";
        for (caller, verdict) in [
            (field("userIdentity.arn").not_equals(role), "warn"),
            (field("userIdentity.arn").equals(role), "fail"),
            (field("sessionCredentialFromConsole").not_equals("true"), "warn"),
        ] {
            let chosen = selectors(None, Some(vec![management(), caller.build().unwrap()]));
            let rules = [trails(vec![trail("111122223333").build()]), status(true, None), chosen];
            assert_eq!(verdicts(&rules, &Stack::example(&[])).await[1].0, verdict);
        }
    }

    #[tokio::test]
    async fn failed_delivery_is_told() {
        let all = EventSelector::builder().read_write_type(ReadWriteType::All).build();
        let rules = [
            trails(vec![trail("111122223333").build()]),
            status(true, Some("AccessDenied")),
            selectors(Some(all), None),
        ];
        let found = verdicts(&rules, &Stack::example(&[])).await;
        assert_eq!(found[2], ("warn", "The trail organization fails to deliver to its bucket: AccessDenied.".into()));
    }

    #[test]
    fn selectors_that_a_shell_would_act_on_are_not_pasted() {
        let trail = Trail {
            arn: "arn:aws:cloudtrail:us-east-1:111122223333:trail/t".into(),
            home: "us-east-1".into(),
            log_group: None,
            logging: Ok(true),
            errors: Vec::new(),
            selectors: Ok(Chosen::of(Some(json!({"EventSelectors": [
                {"ReadWriteType": "ReadOnly", "DataResources": [{"Type": "AWS::S3::Object", "Values": ["a'; rm -rf ~; '"]}]}
            ]})))),
        };
        let look = record(&trail, &Stack::example(&[]));
        assert_eq!(look.verdict.name(), "fail");
        assert!(look.fix.iter().all(|step| step.command.is_none()), "{:?}", look.fix);
    }
}
