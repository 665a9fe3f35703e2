//! The message about a mass event: many keys at once, as one text for people.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::Value;
use super::digest::Digest;
use super::text::{LONGEST_SUBJECT, Layout, clock};
use crate::catalogue::Severity;
use crate::escape::{inert, name};
use crate::key::{KeyArn, Region};

/// What the message's own `event_name` attribute says, for filter policies.
pub const EVENT_NAME: &str = "mass-event";
/// How many keys are listed; the rest are counted.
const KEYS: usize = 50;
/// How many accounts and callers are.
const GROUPS: usize = 20;

/// A key or key store that was put at risk, as the alert function's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLoss {
    /// When it was reported.
    pub at: OffsetDateTime,
    /// The detection's id.
    pub detection: &'static str,
    /// The key's ARN, or account, Region and id of a key store.
    pub thing: String,
    /// Its name for people.
    pub name: String,
    /// Who did it.
    pub caller: String,
}

/// What is known of a mass event.
#[derive(Debug, Clone)]
pub struct MassEvent<'a> {
    /// When the alarm went off.
    pub time: OffsetDateTime,
    /// Since when the log was read.
    pub since: OffsetDateTime,
    /// What was put at risk, each once; or why the log can't be read.
    pub losses: Result<Vec<KeyLoss>, String>,
    /// The guard's account.
    pub account: &'a str,
    /// Its Region.
    pub region: &'a Region,
}

impl MassEvent<'_> {
    /// The message.
    pub fn message(&self) -> Digest {
        let (account, region) = (self.account, self.region);
        let keys = match &self.losses {
            Ok(losses) if losses.len() == 1 => "1 KMS key".into(),
            Ok(losses) if !losses.is_empty() => format!("{} KMS keys", losses.len()),
            _ => "Many KMS keys".to_owned(),
        };
        let mut subject = format!("[CRITICAL] {keys} put at risk within minutes ({account} {region})");
        subject.truncate(LONGEST_SUBJECT);
        let attributes = vec![
            ("detection", Value::Text("key-at-risk".into())),
            ("severity", Value::Text(Severity::Critical.name().into())),
            ("severity_id", Value::Number(Severity::Critical.id())),
            ("activity", Value::Text("Create".into())),
            ("account", Value::Text(account.into())),
            ("region", Value::Text(region.to_string())),
            ("event_name", Value::Text(EVENT_NAME.into())),
            ("finding_uid", Value::Text(format!("{account}/{region}/{EVENT_NAME}/{}", self.time.unix_timestamp()))),
        ];
        Digest { text: self.text(), subject, attributes }
    }

    fn text(&self) -> String {
        let mut out = Layout::default();
        out.line("Many keys were put at risk at once. Treat it as an attack until shown otherwise.");
        out.section("WHAT TO DO");
        out.item(
            "Stop the principal first. Then cancel the deletions and enable the keys, as the alert of each describes.",
        );
        out.item(&format!("keyguard sweep --region {} shows every key at risk now, with the commands.", self.region));
        match &self.losses {
            Err(why) => {
                out.section("KEYS");
                out.item(&format!("Which keys isn't known here: the alert function's log can't be read ({why})."));
                out.item("The alert of each key says which, and by whom.");
            }
            Ok(losses) if losses.is_empty() => {
                out.section("KEYS");
                out.item("The alert function's log names no key yet.");
            }
            Ok(losses) => lists(&mut out, losses),
        }
        out.section("ABOUT THIS MESSAGE");
        out.field("Alarm", &clock(self.time));
        out.field("Log read since", &clock(self.since));
        out.item("Each key has an alert of its own. One that is put at risk from now on isn't in this list.");
        out.0
    }
}

fn lists(out: &mut Layout, losses: &[KeyLoss]) {
    let groups = |of: fn(&KeyLoss) -> String| {
        let mut counts = BTreeMap::<String, usize>::new();
        losses.iter().for_each(|loss| *counts.entry(of(loss)).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    };
    for (section, groups) in [("BY WHOM", groups(|loss| name(&loss.caller, 300))), ("ACCOUNTS", groups(place))] {
        out.section(section);
        for (group, count) in groups.iter().take(GROUPS) {
            out.item(&format!("{count}: {group}"));
        }
        if groups.len() > GROUPS {
            out.item(&format!("… and {} more", groups.len() - GROUPS));
        }
    }
    out.section("KEYS");
    for KeyLoss { at, detection, thing, name: called, .. } in losses.iter().take(KEYS) {
        out.item(&format!("{}, {detection}, {}, {}", clock(*at), name(called, 300), name(thing, 300)));
    }
    if losses.len() > KEYS {
        out.item(&format!("… and {} more", losses.len() - KEYS));
    }
}

/// Account and Region.
fn place(loss: &KeyLoss) -> String {
    match loss.thing.parse::<KeyArn>() {
        Ok(arn) => format!("{} {}", arn.account(), arn.region()),
        Err(_) => inert(&loss.thing.splitn(3, '/').take(2).collect::<Vec<_>>().join(" "), 100),
    }
}
