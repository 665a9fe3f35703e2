//! The daily digest for people: every key in danger, what couldn't be checked, and what is wrong with the guard itself.

use std::collections::BTreeMap;

use time::{OffsetDateTime, Weekday};

use super::text::{LONGEST_SUBJECT, Layout, clock, time_left, why_unknown};
use super::{LARGEST_MESSAGE, Value, key_name};
use crate::at_risk::{AtRisk, Sweep};
use crate::catalogue::{Kind, Severity};
use crate::coverage::{Check, Verdict};
use crate::escape::{inert, label, name};
use crate::finding::Deadline;
use crate::key::{KeyArn, LastUsage, Region, Why};

/// What the digest's own `event_name` attribute says, for filter policies.
pub const EVENT_NAME: &str = "daily-digest";
/// Room in the message for its attributes and for what stands below the table, in bytes.
const BESIDE_THE_TABLE: usize = 10_000;
/// How many of the keys that couldn't be looked at are named for each reason.
const NAMED: usize = 10;
/// How many changes are listed.
const CHANGES: usize = 50;
/// How many things the next digest can be compared with: what fits into a line of the log. Where more is wrong than that a
/// digest comes every day.
const MOST_REMEMBERED: usize = 2_000;

/// What a digest holds: the keys by id, checks and whatever else isn't as it should be, each with its state. The next one is
/// compared with it, so nothing in it changes by itself.
pub type DigestState = BTreeMap<String, String>;

/// The digest, ready to be published to the people's topic alone.
#[derive(Debug, Clone)]
pub struct Digest {
    /// Under 100 characters of ASCII, in one line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The message attributes.
    pub attributes: Vec<(&'static str, Value)>,
}

/// What goes into a digest.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// What the sweep found.
    pub sweep: &'a Sweep,
    /// The worst that a key's assessment came to.
    pub worst: Option<Severity>,
    /// Whether people are reminded of a key today.
    pub reminds: bool,
    /// The checks of the guard itself.
    pub checks: &'a [Check],
    /// What the last digest held; None if there was none lately, else why it can't be read.
    pub last: &'a Result<Option<DigestState>, String>,
    /// The account.
    pub account: &'a str,
    /// The Region.
    pub region: &'a Region,
    /// The schedule's time.
    pub time: OffsetDateTime,
}

impl Contents<'_> {
    /// What the digest holds.
    pub fn held(&self) -> DigestState {
        let state = |key: &AtRisk| match key.deadline() {
            Deadline::At(at, _) => format!("{} until {}", key.state(), clock(at)),
            _ => key.state().to_owned(),
        };
        let keys = self.sweep.at_risk.iter().map(|key| (key.arn.id().to_owned(), state(key)));
        let missed = self.sweep.missed.iter().flat_map(|(_, keys)| keys);
        let missed = missed.map(|key| (key.id().to_owned(), "not looked at".to_owned()));
        let not_found = self.sweep.not_found.iter().map(|key| (format!("acknowledged {key}"), "not found".to_owned()));
        let cut_short = self.sweep.cut_short.iter().map(|_| ("the list of keys".to_owned(), "cut short".to_owned()));
        let ill = self.ill().map(|check| (format!("check {}", check.about.id), check.verdict.name().to_owned()));
        keys.chain(missed).chain(not_found).chain(cut_short).chain(ill).collect()
    }

    /// What the next digest can be compared with, if that isn't too much.
    pub fn to_remember(&self) -> Option<DigestState> {
        Some(self.held()).filter(|held| held.len() <= MOST_REMEMBERED)
    }

    fn ill(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| matches!(check.verdict, Verdict::Fail(_) | Verdict::Unknown(_)))
    }
}

impl Digest {
    /// The digest as things stand at `now`. None when nothing is wrong and nothing was when the last one was sent, and when
    /// nothing changed since, no date is near and it isn't Monday.
    pub fn of(contents: &Contents, now: OffsetDateTime) -> Option<Self> {
        let held = contents.held();
        let is_due = match contents.last {
            Ok(None) => !held.is_empty(),
            Ok(Some(last)) if held.is_empty() => !last.is_empty(),
            Ok(Some(last)) => *last != held || contents.reminds || contents.time.weekday() == Weekday::Monday,
            Err(_) => true,
        };
        if !is_due {
            return None;
        }
        let ill: Vec<_> = contents.ill().collect();
        let sweep = contents.sweep;
        let failed = ill.iter().filter(|check| matches!(check.verdict, Verdict::Fail(_))).count();
        let of_the_guard = if failed > 0 { Severity::High } else { Severity::Medium };
        let not_whole = (!sweep.is_whole() || !ill.is_empty()).then_some(of_the_guard);
        let is_over = held.is_empty() && contents.last.is_ok();
        let otherwise = if is_over { Severity::Informational } else { Severity::Medium };
        let severity = contents.worst.max(not_whole).unwrap_or(otherwise);
        let subject = subject(contents, severity, failed, now);
        let text = text(contents, &held, &ill, now);
        let of_keys = !sweep.at_risk.is_empty() || is_over;
        let detection = if of_keys { Kind::KeyAtRisk } else { Kind::GuardBlind }.detection();
        let (account, region) = (contents.account, contents.region);
        let attributes = vec![
            ("detection", Value::Text(detection.id.into())),
            ("severity", Value::Text(severity.name().into())),
            ("severity_id", Value::Number(severity.id())),
            ("activity", Value::Text(detection.activity.name().into())),
            ("account", Value::Text(account.into())),
            ("region", Value::Text(region.to_string())),
            ("event_name", Value::Text(EVENT_NAME.into())),
            ("finding_uid", Value::Text(format!("{account}/{region}/{EVENT_NAME}/{}", contents.time.date()))),
        ];
        Some(Self { subject, text, attributes })
    }
}

fn subject(contents: &Contents, severity: Severity, failed: usize, now: OffsetDateTime) -> String {
    let sweep = contents.sweep;
    let what = match (sweep.at_risk.first(), sweep.not_looked_at(), failed) {
        (Some(first), ..) => {
            let (keys, first_of) = match sweep.at_risk.len() {
                1 => ("1 KMS key".to_owned(), ""),
                count => (format!("{count} KMS keys"), "the first "),
            };
            let end = time_left(first.deadline(), now).map_or(String::new(), |left| {
                let when = left.strip_suffix(" left").map_or("at any moment".into(), |left| format!("in {left}"));
                let lost = match (first.state(), first_of) {
                    ("PendingDeletion", "") => "destroyed",
                    ("PendingDeletion", _) => "is destroyed",
                    _ => "loses its material",
                };
                format!(", {first_of}{lost} {when}")
            });
            format!("{keys} at risk{end}")
        }
        (None, count, _) if count > 0 => format!("{count} of {} KMS keys couldn't be checked", sweep.listed),
        (None, ..) if sweep.cut_short.is_some() => "Not all KMS keys could be checked".into(),
        (None, _, 0) if severity == Severity::Informational => "No KMS key at risk, and every check passes".into(),
        (None, _, 0) if contents.ill().next().is_some() => "KMS Key Guard: self-check incomplete".into(),
        (None, _, 0) if contents.last.is_err() => "KMS Key Guard can't read what its last digest held".into(),
        (None, _, 0) => "KMS Key Guard: an acknowledged KMS key doesn't exist".into(),
        (None, _, 1) => "KMS Key Guard: 1 self-check failed".into(),
        (None, _, failed) => format!("KMS Key Guard: {failed} self-checks failed"),
    };
    let severity = match severity {
        Severity::Informational => "INFO".to_owned(),
        other => other.name().to_ascii_uppercase(),
    };
    let mut line = format!("[{severity}] {what} ({} {})", contents.account, contents.region);
    line.truncate(LONGEST_SUBJECT);
    line
}

fn text(contents: &Contents, held: &DigestState, ill: &[&Check], now: OffsetDateTime) -> String {
    let Contents { sweep, region, .. } = contents;
    let mut out = Layout::default();
    out.line(&first_line(contents, ill, now));
    out.section("SINCE THE LAST DIGEST");
    changes(&mut out, contents, held);
    if !ill.is_empty() {
        out.section("THE GUARD ITSELF");
        for check in ill {
            out.item(&format!("{} {}: {}", check.verdict.name().to_uppercase(), check.about.id, check.verdict.text()));
            for step in &check.fix {
                out.item(&step.what);
                if let Some(command) = &step.command {
                    out.item(command);
                }
            }
        }
        out.item("keyguard doctor shows every check.");
    }
    if !sweep.is_whole() {
        out.section("NOT CHECKED");
        if let Some(why) = &sweep.cut_short {
            out.item(&format!("The list of keys is incomplete: {}.", why_unknown(why)));
        }
        for (why, keys) in &sweep.missed {
            let some: Vec<_> = keys.iter().take(NAMED).map(|key| key.id()).collect();
            let more = if keys.len() > NAMED { ", …" } else { "" };
            let plural = if keys.len() == 1 { "key" } else { "keys" };
            out.item(&format!("{} {plural}: {} ({}{more})", keys.len(), why_unknown(why), some.join(", ")));
        }
        out.item("These may be in danger too.");
        let shut_out = |(why, _): &(Why, _)| matches!(why, Why::DeniedByKeyPolicy | Why::ForbiddenByKeyPolicy);
        if sweep.missed.iter().any(shut_out) {
            out.item(
                "Where the key policy shuts the guard's role out, alerts about the key can't say who uses it: let the \
                 guard's roles call kms:DescribeKey, GetKeyLastUsage, ListGrants and ListResourceTags there.",
            );
        }
    }
    if !sweep.at_risk.is_empty() {
        keys_at_risk(&mut out, contents, now);
    }
    out.section("ABOUT THIS DIGEST");
    out.field("Checked at", &clock(contents.time));
    out.field("Keys", &format!("{}, including AWS managed keys", sweep.listed));
    out.field("At risk", &sweep.at_risk.len().to_string());
    if sweep.acknowledged > 0 {
        out.field("Acknowledged", &format!("{}, disabled on purpose (AcknowledgedKeys)", sweep.acknowledged));
    }
    for key in &sweep.not_found {
        out.item(&format!("AcknowledgedKeys holds {}, which is no key of this account and Region.", name(key, 200)));
    }
    out.item(&format!("keyguard sweep --region {region} shows the current state."));
    out.item(
        "A key with a deadline also gets its own alert in the last days (REMINDER_DAYS); every key gets a finding each day.",
    );
    out.item(
        "A digest comes when something changed, on the days of REMINDER_DAYS, and on Mondays; while nothing is wrong there is none.",
    );
    out.0
}

/// What a lock screen shows below the Subject.
fn first_line(contents: &Contents, ill: &[&Check], now: OffsetDateTime) -> String {
    if let Some(first) = contents.sweep.at_risk.first() {
        let [left, _, state, used, ..] = row(first, contents.time, now, String::new());
        let last = if contents.sweep.at_risk.len() == 1 { "Key" } else { "First" };
        return format!(
            "{last}: {}, {state}, {left}, last used {used}.",
            label(key_name(&first.arn, &first.facts), 256)
        );
    }
    match ill.first() {
        Some(check) => format!("{} {}: {}", check.verdict.name().to_uppercase(), check.about.id, check.verdict.text()),
        None if contents.sweep.missed.is_empty() && contents.sweep.cut_short.is_none() => {
            "No key is in danger, but for those that are acknowledged.".into()
        }
        None => "No key that was checked is in danger, but not all could be checked.".into(),
    }
}

/// What changed; else why there is a digest all the same.
fn changes(out: &mut Layout, contents: &Contents, held: &DigestState) {
    let last = match contents.last {
        Ok(Some(last)) => last,
        Ok(None) => return out.item("No digest of the last three days is remembered, so all of it is new."),
        Err(why) => return out.item(&format!("What it held can't be read, so this one is sent anyway: {why}.")),
    };
    let mut lines = Vec::new();
    for (thing, state) in held {
        match last.get(thing) {
            None => lines.push(format!("New: {thing} ({state})")),
            Some(was) if was != state => lines.push(format!("Changed: {thing} is {state}, was {was}")),
            Some(_) => {}
        }
    }
    let gone = last.iter().filter(|(thing, _)| !held.contains_key(*thing));
    lines.extend(gone.map(|(thing, was)| format!("Gone: {thing} (was {was})")));
    for line in lines.iter().take(CHANGES) {
        out.item(&inert(line, 400));
    }
    match lines.len() {
        0 if contents.reminds => out.item("Nothing changed; a date is near."),
        0 => out.item("Nothing changed; this is Monday's."),
        count if count > CHANGES => out.item(&format!("… and {} more", count - CHANGES)),
        _ => {}
    }
}

fn keys_at_risk(out: &mut Layout, contents: &Contents, now: OffsetDateTime) {
    let Contents { sweep, region, account, .. } = contents;
    out.section("WHAT TO DO");
    out.item(&format!("With credentials of account {account}, for each KEY that is still needed:"));
    let kms = |operation: &str| format!("aws kms {operation} --region {region} --key-id KEY");
    out.item("PendingDeletion or PendingReplicaDeletion, then as for Disabled:");
    out.item(&kms("cancel-key-deletion"));
    out.item("Disabled:");
    out.item(&kms("enable-key"));
    out.item("PendingImport, or material that expires: import the same key material again.");
    out.item("Unavailable: connect the custom key store (aws kms connect-custom-key-store).");
    out.item("A key that nobody needs stays in this list until it is deleted, or is one of AcknowledgedKeys.");
    out.section("KEYS AT RISK, LEAST TIME LEFT FIRST");
    let mut left = sweep.at_risk.len();
    for (number, key) in (1..).zip(&sweep.at_risk) {
        let entry = entry(key, contents.time, now);
        if out.0.len() + entry.iter().map(String::len).sum::<usize>() > LARGEST_MESSAGE - BESIDE_THE_TABLE {
            out.item(&format!("… and {left} more: keyguard sweep --region {region} shows all."));
            break;
        }
        if number > 1 {
            out.line("");
        }
        let [name, what, used, id] = &entry;
        out.item(&format!("{number}. {name}"));
        [what, used, id].into_iter().filter(|line| !line.is_empty()).for_each(|line| out.item(line));
        left -= 1;
    }
}

/// A key in short lines: its name, its state and the time left, its last use, its id unless that is its name.
fn entry(key: &AtRisk, time: OffsetDateTime, now: OffsetDateTime) -> [String; 4] {
    let [left, until, state, used, _, id] = row(key, time, now, key.arn.id().to_owned());
    let name = key_name(&key.arn, &key.facts);
    let left = match key.deadline() {
        Deadline::At(..) if key.state() == "Enabled" => format!("its material expires: {left}, until {until}"),
        Deadline::At(..) => format!("{left}, until {until}"),
        Deadline::AfterReplicas => "no date until its last replica is deleted".into(),
        Deadline::Immediate => "its key material is gone".into(),
        Deadline::Unknown | Deadline::None | Deadline::Lifted => left,
    };
    let (name, id) = if name == id { (id, String::new()) } else { (label(name, 256), format!("Key id: {id}")) };
    [name, format!("{state}, {left}"), format!("Last used: {used}"), id]
}

/// The keys as lines of a table, its head first. `time` is when they were looked at; `named` is what its last column holds.
pub fn table<'a>(
    keys: impl IntoIterator<Item = &'a AtRisk>,
    time: OffsetDateTime,
    now: OffsetDateTime,
    named: impl Fn(&KeyArn) -> String,
) -> Vec<String> {
    let head = ["TIME LEFT", "UNTIL", "STATE", "LAST USED", "ALIAS", "KEY"].map(str::to_owned);
    let rows: Vec<_> =
        std::iter::once(head).chain(keys.into_iter().map(|key| row(key, time, now, named(&key.arn)))).collect();
    let widths: Vec<_> =
        (0..6).map(|column| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<0$}", width.unwrap_or(0).min(40)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(key: &AtRisk, time: OffsetDateTime, now: OffsetDateTime, named: String) -> [String; 6] {
    let (left, until) = match key.deadline() {
        Deadline::At(at, _) => (time_left(key.deadline(), now).unwrap_or_default(), clock(at)),
        Deadline::AfterReplicas => ("no date yet".into(), "its replicas are gone".into()),
        Deadline::Unknown => ("deadline not known".into(), "–".into()),
        Deadline::Immediate => ("none".into(), "–".into()),
        Deadline::None | Deadline::Lifted => ("no deadline".into(), "–".into()),
    };
    let used = match key.facts.last_usage.known() {
        Some(LastUsage::Used { at, .. }) => match (time - *at).whole_days() {
            ..=0 => "today".into(),
            days => format!("{days} d ago"),
        },
        Some(LastUsage::Never) => "never".into(),
        Some(LastUsage::NotSince(since)) => format!("not since {}", since.date()),
        None => "unknown".into(),
    };
    let alias = match key_name(&key.arn, &key.facts) {
        id if id == key.arn.id() => "–".to_owned(),
        alias => alias.to_owned(),
    };
    [left, until, name(key.state(), 64), used, alias, named]
}
