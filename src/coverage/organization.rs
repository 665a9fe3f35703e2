//! Which accounts and Regions of an organization the hub should hear from, and which of them are missing.
//!
//! What should be: the accounts of the StackSet's organizational units and the management account, times the StackSet's
//! Regions. What is: the StackSet's own word on each instance, and the heartbeats that came by the way of an alert.
//! Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_cloudformation::types::{CallAs, StackInstanceDetailedStatus, StackInstanceStatus, StackInstanceSummary};
use aws_sdk_organizations::types::{Account, AccountState};
use aws_sdk_sns::error::DisplayErrorContext;
use aws_types::SdkConfig;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use crate::coverage::{About, Check, Verdict};
use crate::escape::inert;
use crate::key::{Region, is_account_id};

/// The name of the StackSet that `stackset/org.yaml` makes.
pub const STACK_SET: &str = "kms-key-guard-spoke";

/// A spoke says twice a day that it is there; one that was silent for so long has missed both and some.
pub const HEARD_WITHIN: Duration = Duration::hours(26);

/// How long the hub's log keeps heartbeats (template.yaml); where the StackSet can't be read, who sent one in that time is
/// all that is known of who should.
const KEPT: Duration = Duration::days(7);

/// How many of one kind are named.
const NAMED: usize = 40;

/// The check of the digest that the roster is.
pub static HEARD: About = About {
    id: "organization-heard",
    what: "Every account and Region of the organization has a spoke that reaches the hub.",
    kind: "AWS::CloudFormation::StackSet",
};

/// An account and a Region.
pub type Spoke = (String, Region);

/// What is wrong with a place, the worst first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The StackSet has no instance there.
    NoSpoke,
    /// The StackSet says that the instance isn't as it should be; its words, inert.
    NotHealthy(String),
    /// No heartbeat came.
    Silent,
}

/// Who should be heard, and who isn't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// How many accounts should be heard.
    pub accounts: usize,
    /// In how many Regions.
    pub regions: usize,
    /// In how many places, each an account and a Region.
    pub places: usize,
    /// What is missing, by place.
    pub missing: BTreeMap<Spoke, Missing>,
    /// What couldn't be looked at, in sentences that are already inert.
    pub unknown: Vec<String>,
}

/// What the organization should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedSpokes {
    /// The accounts that StackSets reach, and whether each has been there long enough for a heartbeat.
    pub members: BTreeMap<String, bool>,
    /// The account that StackSets don't reach.
    pub management: Option<String>,
    /// The StackSet's Regions.
    pub regions: Vec<Region>,
}

impl Roster {
    /// Compares what should be with what is. `instances` holds what is wrong with each instance, None if nothing is;
    /// without it, or without the heartbeats, that part is left out.
    pub fn of(
        expected: &ExpectedSpokes,
        instances: Option<&BTreeMap<Spoke, Option<String>>>,
        heard: Option<&BTreeSet<Spoke>>,
    ) -> Self {
        let mut missing = BTreeMap::new();
        let places =
            |account: &String| expected.regions.iter().map(|region| (account.clone(), region.clone())).collect();
        let silent = |place: &Spoke| heard.is_some_and(|heard| !heard.contains(place));
        for (account, settled) in &expected.members {
            let places: Vec<Spoke> = places(account);
            for place in places {
                let wrong = match instances.map(|instances| instances.get(&place)) {
                    Some(None) => Some(Missing::NoSpoke),
                    Some(Some(Some(words))) => Some(Missing::NotHealthy(words.clone())),
                    Some(Some(None)) | None => (*settled && silent(&place)).then_some(Missing::Silent),
                };
                missing.extend(wrong.map(|wrong| (place, wrong)));
            }
        }
        if let Some(account) = &expected.management {
            let places: Vec<Spoke> = places(account);
            missing.extend(places.into_iter().filter(silent).map(|place| (place, Missing::Silent)));
        }
        let accounts = expected.members.len() + usize::from(expected.management.is_some());
        let regions = expected.regions.len();
        Self { accounts, regions, places: accounts * regions, missing, unknown: Vec::new() }
    }

    /// What the heartbeats alone tell, each place's last one by its time in milliseconds: who fell silent.
    fn of_heartbeats(last: &BTreeMap<Spoke, i64>, now: OffsetDateTime) -> Self {
        let since = (now - HEARD_WITHIN).unix_timestamp() * 1_000;
        let silent = last.iter().filter(|(_, at)| **at < since);
        Self {
            accounts: last.keys().map(|(account, _)| account).collect::<BTreeSet<_>>().len(),
            regions: last.keys().map(|(_, region)| region).collect::<BTreeSet<_>>().len(),
            places: last.len(),
            missing: silent.map(|(place, _)| (place.clone(), Missing::Silent)).collect(),
            unknown: Vec::new(),
        }
    }

    /// Whether everybody was heard, and everything could be looked at.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty()
    }

    /// In sentences, one a line, for the digest.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} accounts in {} Regions should be heard; {} of these {} places are missing.",
            self.accounts,
            self.regions,
            self.missing.len(),
            self.places
        )];
        type IsOne = fn(&Missing) -> bool;
        let kinds: [(&str, IsOne); 3] = [
            ("have no spoke", |missing| matches!(missing, Missing::NoSpoke)),
            ("have a spoke that isn't healthy", |missing| matches!(missing, Missing::NotHealthy(_))),
            ("were silent for 26 hours", |missing| matches!(missing, Missing::Silent)),
        ];
        for (what, is) in kinds {
            let places: Vec<_> = self.missing.iter().filter(|(_, missing)| is(missing)).collect();
            if !places.is_empty() {
                lines.push(format!("{} {what}: {}.", places.len(), self.named(&places)));
            }
        }
        lines.extend(self.unknown.iter().cloned());
        lines
    }

    /// As a check among those of the guard itself.
    pub fn check(&self) -> Check {
        let text = self.text().join(" ");
        let verdict = match (self.missing.is_empty(), self.unknown.is_empty()) {
            (false, _) => Verdict::Fail(text),
            (true, false) => Verdict::Unknown(text),
            (true, true) => Verdict::Pass(text),
        };
        Check { about: &HEARD, verdict, fix: Vec::new() }
    }

    /// The places account by account, as far as there is room.
    fn named(&self, places: &[(&Spoke, &Missing)]) -> String {
        let mut accounts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((account, region), missing) in places {
            let words = match missing {
                Missing::NotHealthy(words) => format!("{region} ({words})"),
                Missing::NoSpoke | Missing::Silent => region.to_string(),
            };
            accounts.entry(account).or_default().push(words);
        }
        let all = accounts.len();
        let named = accounts.into_iter().take(NAMED).map(|(account, regions)| {
            let whole = regions.len() == self.regions && self.regions > 3 && !regions.iter().any(|r| r.contains('('));
            if whole { format!("{account} in all Regions") } else { format!("{account} in {}", regions.join(", ")) }
        });
        let named: Vec<_> = named.collect();
        let more = if all > NAMED { format!("; and {} accounts more", all - NAMED) } else { String::new() };
        format!("{}{more}", named.join("; "))
    }
}

/// Asks Organizations, the StackSet and the log of heartbeats, all at once. What can't be asked is told as such.
pub async fn roster(sdk: &SdkConfig, heartbeats: &str, now: OffsetDateTime) -> Roster {
    let stacks = aws_sdk_cloudformation::Client::new(sdk);
    let logs = aws_sdk_cloudwatchlogs::Client::new(sdk);
    let set = match stack_set(&stacks).await {
        Ok(set) => set,
        Err(why) => return without_stack_set(&logs, heartbeats, now, &why).await,
    };
    let organizations = aws_sdk_organizations::Client::new(sdk);
    let (expected, instances, heard) = tokio::join!(
        expected(&organizations, &set, now),
        instances(&stacks, &set),
        heard(&logs, heartbeats, now - HEARD_WITHIN)
    );
    let heard = heard.map(|heard| heard.into_keys().collect::<BTreeSet<_>>());
    let mut unknown = Vec::new();
    let mut note = |what: &str, why: &String| unknown.push(format!("{what} couldn't be read: {why}."));
    if let Err(why) = &expected {
        note("The organization's accounts", why);
    }
    if let Err(why) = &instances {
        note("The StackSet's instances", why);
    }
    if let Err(why) = &heard {
        note("The heartbeats", why);
    }
    let roster = Roster::of(&expected.unwrap_or_default(), instances.ok().as_ref(), heard.ok().as_ref());
    Roster { unknown, ..roster }
}

/// Where it can't be told who should be heard: who was and isn't any more.
async fn without_stack_set(
    logs: &aws_sdk_cloudwatchlogs::Client,
    heartbeats: &str,
    now: OffsetDateTime,
    why: &str,
) -> Roster {
    let mut unknown = vec![format!(
        "The StackSet {STACK_SET} couldn't be read: {why}. Counted are the places that sent a heartbeat in the last 7 days."
    )];
    let last = heard(logs, heartbeats, now - KEPT).await.unwrap_or_else(|why| {
        unknown.push(format!("The heartbeats couldn't be read: {why}."));
        BTreeMap::new()
    });
    Roster { unknown, ..Roster::of_heartbeats(&last, now) }
}

struct StackSet {
    call_as: CallAs,
    units: Vec<String>,
    regions: Vec<Region>,
}

/// The StackSet, as a delegated administrator or as the management account, whichever this account is.
async fn stack_set(stacks: &aws_sdk_cloudformation::Client) -> Result<StackSet, String> {
    let ask = |call_as: CallAs| stacks.describe_stack_set().stack_set_name(STACK_SET).call_as(call_as).send();
    let (call_as, answer) = match ask(CallAs::DelegatedAdmin).await {
        Ok(answer) => (CallAs::DelegatedAdmin, answer),
        Err(refused) => match ask(CallAs::SelfValue).await {
            Ok(answer) => (CallAs::SelfValue, answer),
            Err(_) => return Err(said(refused)),
        },
    };
    let set = answer.stack_set.ok_or("the answer is empty")?;
    let regions = set.regions().iter().filter_map(|region| region.parse().ok()).collect();
    Ok(StackSet { call_as, units: set.organizational_unit_ids.unwrap_or_default(), regions })
}

/// The accounts of the organizational units and of those below them, and the management account.
async fn expected(
    organizations: &aws_sdk_organizations::Client,
    set: &StackSet,
    now: OffsetDateTime,
) -> Result<ExpectedSpokes, String> {
    let described = organizations.describe_organization().send().await.map_err(said)?;
    let management = described.organization.and_then(|organization| organization.master_account_id);
    let mut members = BTreeMap::new();
    let mut note = |account: &Account| {
        let id = account.id().unwrap_or_default();
        if account.state() == Some(&AccountState::Active) && management.as_deref() != Some(id) && is_account_id(id) {
            let joined = account.joined_timestamp().map_or(0, |joined| joined.secs());
            members.insert(id.to_owned(), joined < (now - HEARD_WITHIN).unix_timestamp());
        }
    };
    if set.units.iter().any(|unit| unit.starts_with("r-")) {
        let mut pages = organizations.list_accounts().into_paginator().send();
        while let Some(page) = pages.next().await {
            page.map_err(said)?.accounts().iter().for_each(&mut note);
        }
    } else {
        let mut units = set.units.clone();
        while let Some(unit) = units.pop() {
            let mut pages = organizations.list_accounts_for_parent().parent_id(&unit).into_paginator().send();
            while let Some(page) = pages.next().await {
                page.map_err(said)?.accounts().iter().for_each(&mut note);
            }
            let mut pages =
                organizations.list_organizational_units_for_parent().parent_id(&unit).into_paginator().send();
            while let Some(page) = pages.next().await {
                units.extend(page.map_err(said)?.organizational_units().iter().filter_map(|unit| unit.id.clone()));
            }
        }
    }
    Ok(ExpectedSpokes { members, management, regions: set.regions.clone() })
}

/// What the StackSet says of each instance: None if it is well.
async fn instances(
    stacks: &aws_sdk_cloudformation::Client,
    set: &StackSet,
) -> Result<BTreeMap<Spoke, Option<String>>, String> {
    let request = stacks.list_stack_instances().stack_set_name(STACK_SET).call_as(set.call_as.clone()).max_results(100);
    let (mut pages, mut found) = (request.into_paginator().send(), BTreeMap::new());
    while let Some(page) = pages.next().await {
        let page = page.map_err(said)?;
        found.extend(page.summaries().iter().filter_map(|instance| {
            let place = (instance.account()?.to_owned(), instance.region()?.parse().ok()?);
            Some((place, wrong(instance)))
        }));
    }
    Ok(found)
}

/// An instance is well if it is current and its last operation succeeded or is under way.
fn wrong(instance: &StackInstanceSummary) -> Option<String> {
    let detailed = instance.stack_instance_status().and_then(|status| status.detailed_status());
    let going = matches!(
        detailed,
        None | Some(
            StackInstanceDetailedStatus::Succeeded
                | StackInstanceDetailedStatus::Pending
                | StackInstanceDetailedStatus::Running
        )
    );
    let current = instance.status() == Some(&StackInstanceStatus::Current);
    let under_way =
        matches!(detailed, Some(StackInstanceDetailedStatus::Pending | StackInstanceDetailedStatus::Running));
    if going && (current || under_way) {
        return None;
    }
    let words = [
        instance.status().map(|status| status.as_str()),
        detailed.map(|status| status.as_str()),
        instance.status_reason(),
    ];
    Some(inert(&words.into_iter().flatten().collect::<Vec<_>>().join(", "), 120))
}

/// The places whose heartbeats came since then, with the time of the last in milliseconds.
async fn heard(
    logs: &aws_sdk_cloudwatchlogs::Client,
    group: &str,
    since: OffsetDateTime,
) -> Result<BTreeMap<Spoke, i64>, String> {
    let request = logs.filter_log_events().log_group_name(group).start_time(since.unix_timestamp() * 1_000);
    let (mut pages, mut heard) = (request.into_paginator().send(), BTreeMap::new());
    while let Some(page) = pages.next().await {
        for event in page.map_err(said)?.events() {
            if let Some(place) = event.message().and_then(place) {
                let last = heard.entry(place).or_insert(i64::MIN);
                *last = (*last).max(event.timestamp().unwrap_or(i64::MIN));
            }
        }
    }
    Ok(heard)
}

/// Where a heartbeat comes from, in EventBridge's words and not in the sender's.
fn place(message: &str) -> Option<Spoke> {
    #[derive(Deserialize)]
    struct Heartbeat {
        account: String,
        region: String,
    }
    let heartbeat: Heartbeat = serde_json::from_str(message).ok()?;
    Some((heartbeat.account, heartbeat.region.parse().ok()?))
}

fn said<E: std::error::Error>(error: E) -> String {
    inert(&DisplayErrorContext(error).to_string(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGEMENT: &str = "123456789012";
    const MEMBER: &str = "444455556666";
    const HUB: &str = "111122223333";

    fn place(account: &str, region: &str) -> Spoke {
        (account.to_owned(), region.parse().unwrap())
    }

    fn expected(regions: &[&str]) -> ExpectedSpokes {
        ExpectedSpokes {
            members: [(MEMBER.to_owned(), true), (HUB.to_owned(), true)].into(),
            management: Some(MANAGEMENT.to_owned()),
            regions: regions.iter().map(|region| region.parse().unwrap()).collect(),
        }
    }

    fn all(regions: &[&str]) -> (BTreeMap<Spoke, Option<String>>, BTreeSet<Spoke>) {
        let places = |accounts: &[&str]| -> Vec<Spoke> {
            accounts.iter().flat_map(|account| regions.iter().map(|region| place(account, region))).collect()
        };
        let instances = places(&[MEMBER, HUB]).into_iter().map(|place| (place, None)).collect();
        (instances, places(&[MEMBER, HUB, MANAGEMENT]).into_iter().collect())
    }

    #[test]
    fn nobody_is_missing_when_all_are_heard() {
        let (instances, heard) = all(&["eu-west-1", "us-east-1"]);
        let roster = Roster::of(&expected(&["eu-west-1", "us-east-1"]), Some(&instances), Some(&heard));
        assert!(roster.is_whole());
        assert_eq!((roster.accounts, roster.regions), (3, 2));
        assert_eq!(roster.check().verdict.name(), "pass");
    }

    #[test]
    fn place_is_missing_for_the_worst_reason_there_is() {
        let regions = ["eu-west-1", "us-east-1"];
        let (mut instances, mut heard) = all(&regions);
        instances.remove(&place(MEMBER, "us-east-1"));
        heard.remove(&place(MEMBER, "us-east-1"));
        instances.insert(place(HUB, "us-east-1"), Some("OUTDATED, FAILED".into()));
        heard.remove(&place(HUB, "us-east-1"));
        heard.remove(&place(MEMBER, "eu-west-1"));
        heard.remove(&place(MANAGEMENT, "us-east-1"));
        let roster = Roster::of(&expected(&regions), Some(&instances), Some(&heard));
        assert_eq!(
            roster.missing,
            [
                (place(HUB, "us-east-1"), Missing::NotHealthy("OUTDATED, FAILED".into())),
                (place(MANAGEMENT, "us-east-1"), Missing::Silent),
                (place(MEMBER, "eu-west-1"), Missing::Silent),
                (place(MEMBER, "us-east-1"), Missing::NoSpoke),
            ]
            .into()
        );
        assert_eq!(roster.check().verdict.name(), "fail");
        assert_eq!(
            roster.text(),
            [
                "3 accounts in 2 Regions should be heard; 4 of these 6 places are missing.",
                "1 have no spoke: 444455556666 in us-east-1.",
                "1 have a spoke that isn't healthy: 111122223333 in us-east-1 (OUTDATED, FAILED).",
                "2 were silent for 26 hours: 123456789012 in us-east-1; 444455556666 in eu-west-1.",
            ]
        );
    }

    #[test]
    fn account_that_has_just_joined_is_not_silent_yet() {
        let (instances, _) = all(&["eu-west-1"]);
        let mut expected = expected(&["eu-west-1"]);
        expected.members = [(MEMBER.to_owned(), false)].into();
        expected.management = None;
        assert!(Roster::of(&expected, Some(&instances), Some(&BTreeSet::new())).is_whole());
    }

    #[test]
    fn what_could_not_be_read_makes_nobody_missing() {
        let (_, heard) = all(&["eu-west-1"]);
        assert!(Roster::of(&expected(&["eu-west-1"]), None, Some(&heard)).missing.is_empty());
        let (instances, _) = all(&["eu-west-1"]);
        assert!(Roster::of(&expected(&["eu-west-1"]), Some(&instances), None).missing.is_empty());
        let roster = Roster { unknown: vec!["The heartbeats couldn't be read: no.".into()], ..Roster::default() };
        assert_eq!(roster.check().verdict.name(), "unknown");
        assert!(roster.check().verdict.text().ends_with("The heartbeats couldn't be read: no."));
    }

    #[test]
    fn without_the_stack_set_a_place_that_fell_silent_is_named() {
        let now = time::macros::datetime!(2026-11-21 06:00 UTC);
        let hours_ago = |hours: i64| (now - Duration::hours(hours)).unix_timestamp() * 1_000;
        let last = [
            (place(MEMBER, "eu-west-1"), hours_ago(25)),
            (place(MEMBER, "us-east-1"), hours_ago(27)),
            (place(HUB, "us-east-1"), hours_ago(1)),
        ];
        let roster = Roster::of_heartbeats(&last.clone().into(), now);
        assert_eq!(
            roster.text(),
            [
                "2 accounts in 2 Regions should be heard; 1 of these 3 places are missing.",
                "1 were silent for 26 hours: 444455556666 in us-east-1.",
            ]
        );
        assert!(
            Roster::of_heartbeats(&last.into_iter().filter(|(_, at)| *at > hours_ago(26)).collect(), now).is_whole()
        );
    }

    #[test]
    fn whole_account_is_named_once_and_a_long_list_is_cut() {
        let regions = ["eu-west-1", "us-east-1", "eu-north-1", "us-west-2"];
        let mut expected = expected(&regions);
        expected.members = (0..50).map(|n| (format!("{:012}", 444_455_550_000_u64 + n), true)).collect();
        expected.management = None;
        let roster = Roster::of(&expected, Some(&BTreeMap::new()), None);
        let text = roster.text().join("\n");
        assert_eq!(roster.missing.len(), 200);
        assert!(
            text.contains("200 have no spoke: 444455550000 in all Regions; 444455550001 in all Regions;"),
            "{text}"
        );
        assert!(text.ends_with("; and 10 accounts more."), "{text}");
    }

    #[test]
    fn instance_is_well_when_it_is_current_or_being_made_so() {
        let summary = |status: StackInstanceStatus, detailed: StackInstanceDetailedStatus| {
            let detailed = aws_sdk_cloudformation::types::StackInstanceComprehensiveStatus::builder()
                .detailed_status(detailed)
                .build();
            wrong(&StackInstanceSummary::builder().status(status).stack_instance_status(detailed).build())
        };
        assert_eq!(summary(StackInstanceStatus::Current, StackInstanceDetailedStatus::Succeeded), None);
        assert_eq!(summary(StackInstanceStatus::Outdated, StackInstanceDetailedStatus::Running), None);
        assert_eq!(
            summary(StackInstanceStatus::Outdated, StackInstanceDetailedStatus::Failed).unwrap(),
            "OUTDATED, FAILED"
        );
        assert_eq!(
            summary(StackInstanceStatus::Outdated, StackInstanceDetailedStatus::Succeeded).unwrap(),
            "OUTDATED, SUCCEEDED"
        );
        assert_eq!(
            summary(StackInstanceStatus::Inoperable, StackInstanceDetailedStatus::Inoperable).unwrap(),
            "INOPERABLE, INOPERABLE"
        );
    }

    #[test]
    fn heartbeat_says_where_it_comes_from() {
        let beat = r#"{"source":"aws.events","account":"444455556666","region":"us-east-1","detail":{}}"#;
        assert_eq!(super::place(beat), Some(place(MEMBER, "us-east-1")));
        assert_eq!(super::place("not json"), None);
        assert_eq!(super::place(r#"{"account":"444455556666","region":"moon"}"#), None);
    }
}
