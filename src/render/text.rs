//! The alert for people: a Subject, and plain text to act on without opening another tab.
//!
//! The first screen of a phone comes first, without a heading: what it means, the time left, who, which key; then how to
//! undo it. After that a section's name stands at the start of a line, and everything under it is indented by two. Text
//! that a caller chose goes through [`crate::escape`]: it can't begin a line, and stands in quotes, so no line can be
//! forged. Nothing is aligned, since mail clients show it in a proportional font.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::remedy::{Remedy, history};
use super::{display_name, key_name};
use crate::actor::{Actor, Mfa, SourceAddress, Tool, ToolBy, WebSubject, Who};
use crate::assess::before;
use crate::catalogue::{Kind, Severity};
use crate::enrich::MOST_GRANTS;
use crate::escape::{inert, label, name, without_domains};
use crate::event::GUARD_EVENT_SOURCE;
use crate::finding::{Deadline, Finding, SPOKE, Source, Subject};
use crate::key::{Fact, Grants, KeyArn, KeyMetadata, LastUsage, MultiRegion, Why};

/// How many characters SNS takes in a Subject: fewer than 100.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub(super) const LONGEST_SUBJECT: usize = 99;

/// The most that is shown of a list, such as tags.
const LONGEST_LIST: usize = 20;

/// And the most room a list takes.
const LONGEST_LIST_BYTES: usize = 4_000;

/// One line: how bad, what, what happened to it, how long is left, where.
pub fn subject(finding: &Finding, now: OffsetDateTime) -> String {
    let severity = match finding.assessment.severity {
        Severity::Informational => "INFO".to_owned(),
        other => other.name().to_ascii_uppercase(),
    };
    let thing = match &finding.subject {
        Subject::KeyStore { .. } => "Key store",
        Subject::Cluster { .. } => "CloudHSM cluster",
        Subject::Guard { .. } => "KMS Key Guard",
        Subject::Unknown { .. } if finding.detection.kind == Kind::UnreadableSignal => "KMS",
        _ => "KMS key",
    };
    let left = match time_left(finding.deadline, now) {
        Some(left) => format!(", {left}"),
        None => String::new(),
    };
    let account = finding.account().unwrap_or("unknown account");
    let region = finding.region().map_or("unknown Region", |region| region.as_str());
    let line = |name: &str| {
        let happened = &finding.happened;
        let blind = finding.detection.kind == Kind::GuardBlind;
        let story = match (&finding.subject, name) {
            (Subject::Guard { .. }, "") if blind => format!("{thing} {happened}"),
            (Subject::Guard { .. }, part) if blind => format!("{thing} {happened}: {part}"),
            (Subject::Guard { .. }, "") => format!("{thing}: {happened}"),
            (Subject::Guard { .. }, part) => format!("{thing}: {happened}, {part}"),
            (_, "") => format!("{thing} {happened}"),
            (_, name) => format!("{thing} {name} {happened}"),
        };
        format!("[{severity}] {story}{left} ({account} {region})")
    };
    let separator = if thing == "KMS Key Guard" { ", " } else { " " };
    let room = LONGEST_SUBJECT.saturating_sub(line("").len() + separator.len());
    let fitting = match &finding.subject {
        _ if thing == "KMS" => String::new(),
        Subject::Key(arn) => subject_key(arn, finding, room),
        _ => shortened(&display_name(finding), room),
    };
    let mut subject = line(&fitting);
    subject.retain(|c| (' '..='~').contains(&c));
    subject.truncate(LONGEST_SUBJECT);
    subject
}

/// How long an alias has to be on a key to be taken for its name without a mark.
const SETTLED: time::Duration = time::Duration::days(7);

/// A key's name in a Subject: the alias that has been on it longest, marked if that isn't long, and always the first eight
/// characters of the id, which nobody chooses.
fn subject_key(arn: &KeyArn, finding: &Finding, room: usize) -> String {
    let id = arn.id();
    let short = id.get(..8).unwrap_or(id);
    let alias = without_domains(key_name(arn, &finding.facts));
    if alias == id {
        return if id.len() <= room { id.to_owned() } else { short.to_owned() };
    }
    let is_new = finding.facts.alias_since.is_some_and(|since| finding.time - since < SETTLED);
    let tail = format!(" ({}{short})", if is_new { "new alias, " } else { "" });
    let room = room.saturating_sub(tail.len());
    // What every alias begins with says the least.
    let fitting = if alias.len() > room { alias.trim_start_matches("alias/") } else { &alias };
    let alias = shortened(fitting, room);
    if alias.is_empty() { short.to_owned() } else { alias + &tail }
}

/// The name, or as much of it as there is room for, with two dots; nothing if that would be too little to know it by.
fn shortened(name: &str, room: usize) -> String {
    match name.get(..room.saturating_sub(2)) {
        Some(start) if name.len() > room && room > 10 => format!("{start}.."),
        _ if name.len() > room => String::new(),
        _ => name.to_owned(),
    }
}

/// The whole text. The Subject isn't repeated in it.
pub fn body(finding: &Finding, remedy: &Remedy, now: OffsetDateTime) -> String {
    let mut out = Layout::default();
    first_lines(&mut out, finding, now);
    undo(&mut out, finding, remedy);
    details(&mut out, finding);
    severity(&mut out, finding);
    dependants(&mut out, finding);
    key(&mut out, finding);
    who(&mut out, finding);
    about(&mut out, finding);
    out.section("LINKS");
    for (what, address) in &remedy.links {
        out.field(what, address);
    }
    if finding.detection.kind == Kind::UnreadableSignal {
        out.section("RAW TEXT");
        let raw = finding.raw.as_str().map_or_else(|| finding.raw.to_string(), str::to_owned);
        out.item(&inert(&raw, 4_000));
    }
    out.0
}

/// What a phone shows before anybody scrolls, and a lock screen of it the first 100 characters.
fn first_lines(out: &mut Layout, finding: &Finding, now: OffsetDateTime) {
    // What is wrong with the guard says more than what that means.
    let cause = finding.particulars.first().filter(|_| finding.is_danger() && !has_details(finding));
    cause.into_iter().for_each(|cause| out.line(cause));
    out.line(&meaning(finding));
    if !has_details(finding) {
        finding.particulars.iter().skip(usize::from(cause.is_some())).for_each(|particular| out.line(particular));
    }
    if let Some(left) = deadline(finding, now).filter(|_| finding.is_danger()) {
        out.line(&format!("Time left: {left}"));
    }
    if has_caller(finding) {
        out.line(&format!("By: {}", person(&finding.actor)));
        let Actor { tool, tool_by, .. } = finding.actor;
        if tool_by != ToolBy::Aws && !matches!(tool, Tool::Other | Tool::Unknown) {
            out.line(&format!("Tool: {}{}", tool.name(), tool_by.caution()));
        }
    }
    let known = |id: &Option<String>| id.clone().unwrap_or_else(|| "not named in a way that can be trusted".into());
    let (label, thing) = match &finding.subject {
        Subject::Key(arn) => match key_name(arn, &finding.facts) {
            id if id == arn.id() => ("Key", id.to_owned()),
            alias => ("Key", format!("{} ({})", label(alias, 256), arn.id())),
        },
        Subject::KeyStore { id, name: Some(given) } => {
            ("Custom key store", format!("{} ({})", name(given, 256), known(id)))
        }
        Subject::KeyStore { id, name: None } => ("Custom key store", known(id)),
        Subject::Cluster { id } => ("CloudHSM cluster", known(id)),
        Subject::Guard { part, .. } if finding.detection.kind == Kind::GuardTest => ("Test", part.clone()),
        Subject::Guard { kind: SPOKE, .. } => ("Part of the guard", SPOKE.to_owned()),
        Subject::Guard { part, .. } if finding.detection.kind == Kind::GuardBlind => ("Check", part.clone()),
        Subject::Guard { kind, part } => ("Part of the guard", format!("{part} ({kind})")),
        Subject::Unknown { .. } => ("Key", "not known, see below".into()),
    };
    out.line(&format!("{label}: {thing}"));
}

/// What it means, in a sentence: the catalogue's, or what became of it.
pub(super) fn meaning(finding: &Finding) -> String {
    let detection = finding.detection;
    if finding.over {
        return "The problem reported earlier is fixed.".into();
    }
    if finding.put_back {
        return "Somebody put a part of the guard back to what its template says.".into();
    }
    if detection.activity != finding.activity() {
        return match finding.state() {
            _ if finding.replayed => {
                "Not an all-clear: this event was replayed from an archive and says nothing about the key's state now."
                    .into()
            }
            Some(state) => {
                format!("Not an all-clear: KMS says that the key is {}, so it CAN'T BE USED yet.", name(state, 64))
            }
            None => "Not an all-clear: KMS didn't confirm that the key can be used again.".into(),
        };
    }
    match (detection.kind, finding.state()) {
        (Kind::KeyDeletionCancelled, Some("Enabled")) => {
            "The key won't be deleted, and KMS says that it is already Enabled.".into()
        }
        _ => finding.meaning.to_owned(),
    }
}

/// How it can be undone, in a sentence, likewise.
pub(super) fn way_back(finding: &Finding) -> &'static str {
    match finding.detection {
        _ if finding.over || finding.put_back => "Nothing to do.",
        detection if detection.activity != finding.activity() => "Check the key's state (aws kms describe-key).",
        _ => finding.way_back,
    }
}

/// Whether the particulars come after the commands: of a danger to a key, and of what a call changed in the guard.
fn has_details(finding: &Finding) -> bool {
    (finding.is_danger() || finding.put_back) && finding.detection.kind != Kind::GuardBlind
}

fn details(out: &mut Layout, finding: &Finding) {
    let mut lines: Vec<String> = if has_details(finding) { finding.particulars.clone() } else { Vec::new() };
    if let Some(error) = &finding.origin.error {
        lines.push(format!("The call failed with {}.", name(error, 400)));
    }
    // Of another account's key that is only to be expected, and one refusal beside an answer isn't everybody's.
    let ours = finding.origin.account.as_deref() == finding.key().map(|arn| arn.account());
    if ours && finding.facts.metadata.why_unknown() == Some(&Why::DeniedByKeyPolicy) {
        lines.push("THE KEY POLICY LOCKS THE ACCOUNT OUT: IAM permissions have no effect on this key.".into());
    }
    if !lines.is_empty() {
        out.section("DETAILS");
        lines.iter().for_each(|line| out.item(line));
    }
}

/// A finding in one line of a table.
pub struct Row {
    /// When it happened.
    pub time: String,
    /// The account; `?` if the record doesn't tell.
    pub account: String,
    /// The Region; `?` if the record doesn't tell.
    pub region: String,
    /// The key or key store, and how long is left.
    pub subject: String,
    /// Who did it.
    pub who: String,
}

/// The finding for a table.
pub fn row(finding: &Finding, now: OffsetDateTime) -> Row {
    let left = time_left(finding.deadline, now).map_or(String::new(), |left| format!(", {left}"));
    Row {
        time: time(finding).replace(" UTC", ""),
        account: finding.account().unwrap_or("?").to_owned(),
        region: finding.region().map_or("?", |region| region.as_str()).to_owned(),
        subject: format!("{}{left}", display_name(finding)),
        who: person(&finding.actor),
    }
}

/// A text in the alerts' layout.
#[derive(Default)]
pub(super) struct Layout(pub(super) String);

// Writing to a String doesn't fail.
impl Layout {
    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }

    pub(super) fn section(&mut self, name: &str) {
        self.line("");
        self.line(name);
    }

    pub(super) fn item(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {text}");
    }

    pub(super) fn field(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name}: {value}");
    }
}

/// How long is left, rounded down but for the seconds that the alert itself took; None without a date.
pub(super) fn time_left(deadline: Deadline, now: OffsetDateTime) -> Option<String> {
    let Deadline::At(at, _) = deadline else { return None };
    let minutes = (at - now).whole_minutes();
    Some(match minutes {
        ..=0 => "time is up".into(),
        1..=119 => format!("{minutes} min left"),
        120..=2_819 => format!("{} h left", (minutes + 5) / 60),
        _ => format!("{} d left", (minutes + 60) / (24 * 60)),
    })
}

/// A time for people: `2026-11-28 03:12:44 UTC`.
pub(super) fn clock(time: OffsetDateTime) -> String {
    let text = time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_else(|_| time.to_string());
    text.replace('T', " ").replace('Z', " UTC")
}

/// When it happened.
fn time(finding: &Finding) -> String {
    if finding.time_known { clock(finding.time) } else { "time unknown".into() }
}

/// The time left for the first screen; None where that says nothing.
pub(super) fn deadline(finding: &Finding, now: OffsetDateTime) -> Option<String> {
    Some(match finding.deadline {
        Deadline::At(at, source) => {
            let left = time_left(finding.deadline, now)?;
            let Some(left) = left.strip_suffix(" left") else {
                return Some(format!("none since {}. Try at once.", clock(at)));
            };
            let doubt = match source {
                Source::Kms | Source::Record => "",
                Source::Estimate => " (estimated from the waiting period)",
                Source::Shortest => {
                    " at the earliest (the record doesn't hold the waiting period; 7 days is the shortest)"
                }
            };
            format!("{left}, until {}{doubt}", clock(at))
        }
        Deadline::AfterReplicas => {
            "no date yet. The waiting period starts when the last replica of this multi-Region key is deleted.".into()
        }
        Deadline::Unknown => {
            "not known. The key is pending deletion: check the date now (aws kms describe-key).".into()
        }
        Deadline::Lifted => "no deadline any more, by KMS's answer".into(),
        Deadline::Immediate => "none, it has already happened".into(),
        Deadline::None => match finding.detection.kind {
            Kind::KeyMaterialExpiring => "not known; the record doesn't hold the expiry date".into(),
            Kind::KeyLossDenied | Kind::KeyStoreDeleted | Kind::UnreadableSignal => return None,
            Kind::KeyStoreChanged if finding.keeps_its_keys => return None,
            Kind::GuardBlind | Kind::GuardTampered => return None,
            _ => "no deadline".into(),
        },
    })
}

fn severity(out: &mut Layout, finding: &Finding) {
    let (severity, base) = (finding.assessment.severity, finding.detection.severity);
    let reasons = &finding.assessment.reasons;
    out.section("SEVERITY");
    out.item(&match reasons.as_slice() {
        [] => format!("{severity}."),
        _ => format!("{severity}. The base severity of {} is {base}.", finding.detection.id),
    });
    for reason in reasons {
        let verb = if reason.levels > 0 { "Raised" } else { "Lowered" };
        out.item(&format!("{verb}: {}.", reason.text));
    }
}

/// Who would miss the key, as far as KMS knows.
fn dependants(out: &mut Layout, finding: &Finding) {
    if finding.key().is_none() {
        return;
    }
    out.section("WHAT DEPENDS ON IT");
    let facts = &finding.facts;
    if let Fact::Known(usage) = &facts.last_usage {
        out.field("Last used", &last_usage(usage, finding));
    }
    if let Fact::Known(held) = &facts.grants {
        out.field("Grants", &grants(held));
        if !held.resources.is_empty() {
            let resources = held.resources.iter().map(|(k, v)| format!("{}={}", name(k, 128), name(v, 256)));
            out.field("Granted for", &list(resources, ""));
        }
        out.item("Many uses need no grant, so this list is never complete.");
    }
    if let Fact::Known(tags) = &facts.tags {
        let tags = tags.iter().map(|(key, value)| format!("{}={}", label(key, 128), label(value, 256)));
        out.field("Tags", &list(tags, "none"));
    }
    for (reason, names) in unknown(finding) {
        out.field("Not known", &format!("{} ({reason})", names.join(", ")));
    }
}

fn key(out: &mut Layout, finding: &Finding) {
    match &finding.subject {
        Subject::Key(arn) => {
            out.section("KEY");
            out.field("ARN", &arn.to_string());
            if let Fact::Known(aliases) = &finding.facts.aliases {
                out.field("Aliases", &list(aliases.iter().map(|alias| label(alias, 256)), "none"));
            }
            if let Fact::Known(metadata) = &finding.facts.metadata {
                describe(out, metadata);
            }
            if let Deadline::At(_, source) = finding.deadline {
                let from = match source {
                    Source::Kms => "KMS",
                    Source::Record => "the event's record",
                    Source::Estimate => "the time of the call plus the waiting period",
                    Source::Shortest => "the time of the call plus the shortest waiting period",
                };
                out.field("Deadline from", from);
                let kind = finding.detection.kind;
                if kind == Kind::KeyDeletionScheduled || kind == Kind::KeyAtRisk && finding.is_pending_deletion() {
                    out.item("KMS may delete the key up to 24 hours later; don't rely on it.");
                }
            }
        }
        Subject::Unknown { given } => {
            out.section("KEY");
            out.item(&match given {
                Some(given) => format!(
                    "Not known. The event holds {} in its place, which isn't a valid name of a key.",
                    name(given, 256)
                ),
                None => "Not known: the event doesn't name it.".into(),
            });
            if let Some(region) = &finding.origin.region_given {
                out.item(&format!(
                    "{} isn't a known Region either, so there is no ARN, command or link.",
                    name(region, 64)
                ));
            }
        }
        Subject::KeyStore { .. } | Subject::Cluster { .. } | Subject::Guard { .. } => {}
    }
}

/// The facts that are unknown, gathered by reason.
fn unknown(finding: &Finding) -> Vec<(String, Vec<&'static str>)> {
    let mut by_reason: Vec<(String, Vec<&'static str>)> = Vec::new();
    for (fact, why) in finding.unknown() {
        let reason = why_unknown(why);
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, facts)) => facts.push(fact),
            None => by_reason.push((reason, vec![fact])),
        }
    }
    by_reason
}

/// The reason in words.
pub fn why_unknown(why: &Why) -> String {
    match why {
        Why::NotAsked | Why::NoTime => "not looked up".into(),
        Why::NoKey => "the event names no key".into(),
        Why::Denied => "KMS refused the guard's role (AccessDenied)".into(),
        Why::DeniedByKeyPolicy => "KMS refused: no statement of the key policy lets the guard's account in".into(),
        Why::ForbiddenByKeyPolicy => "KMS refused: the key policy denies it to the guard's role".into(),
        Why::TimedOut => "KMS didn't answer in time".into(),
        Why::OutOfTime => "no time was left to look it up".into(),
        Why::Throttled => "KMS throttled the look-up".into(),
        Why::NotFound => "KMS has no such key, or no longer".into(),
        Why::Unsupported => "KMS doesn't offer this here".into(),
        Why::NoReader(why) => format!("no look-up in that account: {why}"),
        Why::Failed(what) => format!("the look-up failed ({})", inert(what, 100)),
    }
}

fn describe(out: &mut Layout, metadata: &KeyMetadata) {
    if let Some(description) = &metadata.description {
        out.field("Description", &label(description, 300));
    }
    let state = metadata.state.as_deref().map_or("unknown".into(), |state| name(state, 64));
    let origin = match metadata.origin.as_deref() {
        Some("EXTERNAL") => ", with imported key material".into(),
        Some("AWS_KMS") | None => String::new(),
        Some(other) => format!(", key material from {}", name(other, 64)),
    };
    out.field("State", &format!("{state} when looked up{origin}"));
    if let Some(date) = metadata.deletion_date {
        out.field("Deletion date", &clock(date));
    }
    if let Some(store) = &metadata.custom_key_store_id {
        out.field("Key store", &name(store, 64));
    }
    match &metadata.multi_region {
        MultiRegion::No => {}
        MultiRegion::Primary(replicas) => {
            out.field(
                "Multi-Region",
                &format!(
                    "primary; replicas in {}",
                    list(replicas.iter().map(|region| name(region, 64)), "no other Region")
                ),
            );
        }
        MultiRegion::Replica(primary) => {
            out.field("Multi-Region", &format!("replica; the primary is in {}", name(primary, 64)))
        }
    }
    if let Some(valid_to) = metadata.valid_to {
        out.field("Material", &format!("expires {}", clock(valid_to)));
    }
    if metadata.aws_managed {
        out.field("Managed by", "AWS, for a service; the account can neither disable nor delete it");
    }
}

fn last_usage(usage: &LastUsage, finding: &Finding) -> String {
    match usage {
        LastUsage::Used { operation, at } if finding.time_known => {
            format!("{} ({}), {}", clock(*at), name(operation, 64), before(finding, *at))
        }
        LastUsage::Used { operation, at } => format!("{} ({})", clock(*at), name(operation, 64)),
        LastUsage::Never => "never since it was created".into(),
        LastUsage::NotSince(since) => {
            format!("not since {}, when KMS began to track use; before that, unknown", clock(*since))
        }
    }
}

fn grants(held: &Grants) -> String {
    let read = if held.more {
        format!("more than {}, of which {MOST_GRANTS} were read", held.count)
    } else {
        held.count.to_string()
    };
    let holders = list(held.grantees.iter().map(|(who, count)| format!("{count} by {}", name(who, 256))), "");
    if holders.is_empty() { read } else { format!("{read} ({holders})") }
}

/// The things with commas between, cut where they get too many or too long.
fn list(things: impl ExactSizeIterator<Item = String>, none: &str) -> String {
    let count = things.len();
    let (mut list, mut shown) = (String::new(), 0);
    for thing in things.take(LONGEST_LIST) {
        if shown > 0 && list.len() + thing.len() > LONGEST_LIST_BYTES {
            break;
        }
        list.push_str(if shown == 0 { "" } else { ", " });
        list.push_str(&thing);
        shown += 1;
    }
    match count - shown {
        _ if count == 0 => none.to_owned(),
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// Whether somebody's call is behind it: not behind what the guard noticed itself, a test, or what can't be read.
pub(super) fn has_caller(finding: &Finding) -> bool {
    let noticed = finding.origin.event_source == GUARD_EVENT_SOURCE;
    finding.detection.is_signalled()
        && !noticed
        && !matches!(finding.detection.kind, Kind::UnreadableSignal | Kind::GuardTest)
}

fn who(out: &mut Layout, finding: &Finding) {
    if let (Kind::KeyAtRisk, Some(arn)) = (finding.detection.kind, finding.key()) {
        out.section("WHO");
        out.item("The daily check can't tell. CloudTrail can, for 90 days:");
        out.item(&history(arn));
        return;
    }
    if !has_caller(finding) {
        return;
    }
    let actor = &finding.actor;
    out.section("WHO");
    out.item(&person(actor));
    for (label, value) in [
        ("ARN", &actor.arn),
        ("Account", &actor.account.clone().filter(|_| actor.cross_account)),
        ("Source id", &actor.source_identity),
        ("On behalf of", &actor.on_behalf_of),
        ("Through", &actor.invoked_by.clone().filter(|by| Who::Service(by.clone()) != actor.who)),
    ] {
        if let Some(value) = value {
            out.field(label, &name(value, 512));
        }
    }
    out.field("Tool", &format!("{}{}", actor.tool.name(), actor.tool_by.caution()));
    if let Some(agent) = &actor.user_agent {
        out.field("User agent", &name(agent, 512));
    }
    let place = match &actor.place {
        SourceAddress::Ip(ip) => ip.to_string(),
        SourceAddress::Service(service) | SourceAddress::Other(service) => name(service, 256),
        SourceAddress::Unknown => "unknown".into(),
    };
    let endpoint = actor
        .vpc_endpoint
        .as_deref()
        .map_or(String::new(), |id| format!(", through the VPC endpoint {}", name(id, 64)));
    out.field("From", &format!("{place}{endpoint}"));
    let mfa = match actor.mfa {
        Mfa::Yes => "yes",
        Mfa::No => "NO",
        Mfa::NotApplicable => "not recorded for this kind of caller",
        Mfa::Unknown => "unknown",
    };
    out.field("MFA", mfa);
    out.field("Call", &format!("{} at {}", name(&finding.origin.event_name, 128), time(finding)));
}

/// Who it was, in a sentence's worth of words.
pub(crate) fn person(actor: &Actor) -> String {
    let who = match &actor.who {
        Who::Root { assumed: false } => "The account's root user".into(),
        Who::Root { assumed: true } => "The account's root user, through centralized root access".into(),
        Who::IamUser(user) => format!("IAM user {}", name(user, 128)),
        Who::IdentityCenter { permission_set, user } => {
            let set =
                permission_set.as_deref().map_or(String::new(), |set| format!(" (permission set {})", name(set, 128)));
            format!("{}, through IAM Identity Center{set}", name(user, 256))
        }
        Who::WebIdentity { provider, role, session, subject } => {
            let caller = match subject {
                Some(WebSubject::GitHub { repository, workflow, context }) => {
                    let workflow = workflow
                        .as_deref()
                        .map_or(String::new(), |workflow| format!(", workflow {}", name(workflow, 256)));
                    format!("GitHub Actions of {}{workflow} ({})", name(repository, 128), name(context, 256))
                }
                Some(WebSubject::Other(subject)) => format!("{} of {}", name(subject, 256), name(provider, 128)),
                None => format!("a program known to {}", name(provider, 128)),
            };
            format!("{caller}, in role {}, session {}", name(role, 128), name(session, 128))
        }
        Who::Role { role, session } => {
            let session =
                session.as_deref().map_or(String::new(), |session| format!(", session {}", name(session, 128)));
            format!("Role {}{session}", name(role, 128))
        }
        Who::Federated { kind, name: who } => format!("{} {}", name(kind, 64), name(who, 256)),
        Who::Service(service) if service == "AWS Internal" || service == "kms.amazonaws.com" => "AWS KMS itself".into(),
        Who::Service(service) => format!("The AWS service {}", name(service, 256)),
        Who::Account(account) => format!("Somebody in account {}", name(account, 64)),
        Who::Unknown => "Unknown: the record doesn't say".into(),
    };
    let far = if actor.cross_account { ", OF ANOTHER ACCOUNT" } else { "" };
    // Only what AWS vouches for belongs beside the name; other tools are told by a user agent that anybody can choose.
    let by_machine = if actor.tool == Tool::CloudFormation { ", with CloudFormation" } else { "" };
    format!("{who}{far}{by_machine}")
}

fn undo(out: &mut Layout, finding: &Finding, remedy: &Remedy) {
    let steps = &remedy.steps;
    let commands = steps.iter().any(|step| step.command.is_some());
    out.section(if finding.is_danger() { "UNDO IT" } else { "WHAT TO DO" });
    // The steps that bring a key back say what the sentence says.
    if !commands || !finding.detection.is_loss() {
        out.item(way_back(finding));
    }
    if let Some(account) = finding.account().filter(|_| commands) {
        out.item(&format!("With credentials of account {account}:"));
    }
    for (number, step) in (1..).zip(steps) {
        if number > 1 {
            out.line("");
        }
        out.item(&format!("{number}. {}", step.what));
        if let Some(command) = &step.command {
            out.item(command);
        }
    }
    if let Some(advice) = remedy.if_refused {
        out.line("");
        out.item(advice);
    }
}

fn about(out: &mut Layout, finding: &Finding) {
    out.section("ABOUT THIS ALERT");
    out.field("Detection", finding.detection.id);
    if let Some(account) = finding.account() {
        out.field("Account", account);
    }
    if let Some(region) = finding.region() {
        out.field("Region", region.as_str());
    }
    if !has_caller(finding) {
        out.field("Time", &time(finding));
    }
    if let Some(technique) = finding.detection.technique {
        let ((id, name), (tactic_id, tactic)) = (technique.id_and_name(), technique.tactic());
        out.field("MITRE ATT&CK", &format!("{id} {name} ({tactic_id} {tactic})"));
    }
    if finding.detection.is_loss() {
        out.field("Controls", "FINOS CCC.KeyMgmt.CN01, NIST 800-53 SC-12(2), PCI DSS 4.0 10.4, ISO 27001 A.8.16");
    }
    if let Some(id) = &finding.origin.event_id {
        out.field("Event", &name(id, 128));
    }
    if let Some(id) = &finding.origin.shared_event_id {
        out.field("Shared event", &name(id, 128));
    }
    out.field("Finding", &inert(&finding.story(), 300));
    out.field("This alert", &finding.origin.uid.to_string());
}
