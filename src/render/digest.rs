//! The daily digest for people: every key in danger, what couldn't be checked, and what is wrong with the guard itself.

use time::OffsetDateTime;

use super::text::{LONGEST_SUBJECT, Layout, clock, time_left, why_unknown};
use super::{LARGEST_MESSAGE, Value, key_name};
use crate::at_risk::{AtRisk, Sweep};
use crate::catalogue::{Kind, Severity};
use crate::coverage::{Check, Verdict};
use crate::escape::{label, name};
use crate::finding::Deadline;
use crate::key::{KeyArn, LastUsage, Region, Why};

/// What the digest's own `event_name` attribute says, for filter policies.
pub const EVENT_NAME: &str = "daily-digest";
/// Room in the message for its attributes and for what stands below the table, in bytes.
const BESIDE_THE_TABLE: usize = 10_000;
/// How many of the keys that couldn't be looked at are named for each reason.
const NAMED: usize = 10;

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
    /// The checks of the guard itself.
    pub checks: &'a [Check],
    /// The account.
    pub account: &'a str,
    /// The Region.
    pub region: &'a Region,
    /// The schedule's time.
    pub time: OffsetDateTime,
}

impl Digest {
    /// The digest as things stand at `now`; None when nothing is in danger, everything was looked at and the guard is well.
    pub fn of(contents: &Contents, now: OffsetDateTime) -> Option<Self> {
        let ill: Vec<_> =
            contents.checks.iter().filter(|c| matches!(c.verdict, Verdict::Fail(_) | Verdict::Unknown(_))).collect();
        let sweep = contents.sweep;
        if sweep.at_risk.is_empty() && sweep.is_whole() && ill.is_empty() {
            return None;
        }
        let failed = ill.iter().filter(|check| matches!(check.verdict, Verdict::Fail(_))).count();
        let of_the_guard = if failed > 0 { Severity::High } else { Severity::Medium };
        let not_whole = (!sweep.is_whole() || !ill.is_empty()).then_some(of_the_guard);
        let severity = contents.worst.max(not_whole).unwrap_or(Severity::Medium);
        let subject = subject(contents, severity, failed, now);
        let text = text(contents, &ill, now);
        let detection = if sweep.at_risk.is_empty() { Kind::GuardBlind } else { Kind::KeyAtRisk }.detection();
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
        (None, _, 0) => "KMS Key Guard: self-check incomplete".into(),
        (None, _, 1) => "KMS Key Guard: 1 self-check failed".into(),
        (None, _, failed) => format!("KMS Key Guard: {failed} self-checks failed"),
    };
    let severity = severity.name().to_ascii_uppercase();
    let mut line = format!("[{severity}] {what} ({} {})", contents.account, contents.region);
    line.truncate(LONGEST_SUBJECT);
    line
}

fn text(contents: &Contents, ill: &[&Check], now: OffsetDateTime) -> String {
    let Contents { sweep, region, .. } = contents;
    let mut out = Layout::default();
    out.line(&first_line(contents, ill, now));
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
    out.item(&format!("keyguard sweep --region {region} shows the current state."));
    out.item(
        "A key with a deadline also gets its own alert in the last days (REMINDER_DAYS); every key gets a finding each day.",
    );
    out.item("No digest is sent while nothing is wrong.");
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
        None => "No key that was checked is in danger, but not all could be checked.".into(),
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
    out.item("A key that nobody needs stays in this list until it is deleted.");
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
