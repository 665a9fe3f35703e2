//! The alert for people: a Subject, and plain text to act on without opening another tab.
//!
//! The layout is fixed: a section's name stands at the start of a line, everything under it is indented by two. Text
//! that a caller chose goes through [`crate::escape`], so no such line can be forged.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::remedy::{Remedy, history};
use super::{display_name, key_name};
use crate::actor::{Actor, Mfa, SourceAddress, Tool, WebSubject, Who};
use crate::assess::before;
use crate::catalogue::{Kind, Severity};
use crate::enrich::MOST_GRANTS;
use crate::escape::{inert, label, name, without_domains};
use crate::event::GUARD_EVENT_SOURCE;
use crate::finding::{Deadline, Finding, Source, Subject};
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
        let story = match (&finding.subject, name) {
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

/// The whole text, under this Subject.
pub fn body(finding: &Finding, subject: &str, remedy: &Remedy, now: OffsetDateTime) -> String {
    let mut out = Layout::default();
    out.line(subject);
    out.section("WHAT HAPPENED");
    out.item(finding.detection.meaning);
    for particular in &finding.particulars {
        out.item(particular);
    }
    if let Some(doubt) = unconfirmed(finding) {
        out.item(&doubt);
    }
    if let (Kind::KeyDeletionCancelled, Some("Enabled")) = (finding.detection.kind, finding.state()) {
        out.item("KMS now says that it is Enabled: somebody was quicker than this alert.");
    }
    if let Some(error) = &finding.origin.error {
        out.item(&format!("The call failed with {}.", name(error, 400)));
    }
    if finding.is_danger() {
        out.section("TIME LEFT");
        out.item(&deadline(finding, now));
    }
    severity(&mut out, finding);
    subject_section(&mut out, finding);
    who(&mut out, finding);
    way_back(&mut out, finding, remedy);
    out.section("LINKS");
    for (what, address) in &remedy.links {
        out.field(what, address);
    }
    about(&mut out, finding);
    if finding.detection.kind == Kind::UnreadableSignal {
        out.section("RAW TEXT");
        let raw = finding.raw.as_str().map_or_else(|| finding.raw.to_string(), str::to_owned);
        out.item(&inert(&raw, 4_000));
    }
    out.0
}

/// Why an end of a danger isn't the all-clear, if it isn't.
pub(super) fn unconfirmed(finding: &Finding) -> Option<String> {
    if finding.detection.activity == finding.activity() || finding.over {
        return None;
    }
    Some(match finding.state() {
        _ if finding.replayed => {
            "But an archive sent this event again, so it says nothing about the key now: no all-clear.".into()
        }
        Some(state) => {
            format!("But KMS says that the key is {}: it CAN'T BE USED yet, so this is no all-clear.", name(state, 64))
        }
        None => "But KMS didn't confirm it, so this is no all-clear.".into(),
    })
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
        time: clock(finding.time).replace(" UTC", ""),
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
        let _ = writeln!(self.0, "  {name:<14} {value}");
    }
}

/// How long is left, rounded down but for the seconds that the alert itself took; None without a date.
pub(super) fn time_left(deadline: Deadline, now: OffsetDateTime) -> Option<String> {
    let Deadline::At(at, _) = deadline else { return None };
    let minutes = (at - now).whole_minutes();
    Some(match minutes {
        ..=0 => "time is over".into(),
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

pub(super) fn deadline(finding: &Finding, now: OffsetDateTime) -> String {
    match finding.deadline {
        Deadline::At(at, source) => {
            let source = match source {
                Source::Kms => "KMS says so",
                Source::Record => "the record says so",
                Source::Estimate => "estimated from the time of the call and the waiting period",
                Source::Shortest => "at the earliest: the record doesn't tell the waiting period, and 7 days is the shortest",
            };
            let left = time_left(finding.deadline, now).unwrap_or_default();
            let deleted = finding.detection.kind == Kind::KeyDeletionScheduled || finding.detection.kind == Kind::KeyAtRisk && finding.is_pending_deletion();
            let later = if deleted { " KMS may delete up to a day later; don't count on it." } else { "" };
            format!("{left}: until {} ({source}).{later}", clock(at))
        }
        Deadline::AfterReplicas => {
            "No date yet: the waiting period begins when the last replica of this multi-Region key is deleted. Until then it can be undone.".into()
        }
        Deadline::Unknown => "The key is pending deletion; until when isn't known. Look it up at once (aws kms describe-key).".into(),
        Deadline::Immediate => "None: it has already happened.".into(),
        Deadline::None => match finding.detection.kind {
            Kind::KeyMaterialExpiring => "The record doesn't tell when the material expires.".into(),
            Kind::UnreadableSignal => "Unknown.".into(),
            Kind::KeyLossDenied => "Nothing was lost: the call was refused.".into(),
            Kind::KeyStoreDeleted => "No clock is running.".into(),
            _ => "No clock is running, but the harm lasts until it is undone.".into(),
        },
    }
}

fn severity(out: &mut Layout, finding: &Finding) {
    let base = finding.detection.severity;
    out.section("SEVERITY");
    out.item(&format!("{}; this detection starts at {base}.", finding.assessment.severity));
    for reason in &finding.assessment.reasons {
        let verb = if reason.levels > 0 { "Raised" } else { "Lowered" };
        out.item(&format!("{verb}: {}.", reason.text));
    }
}

fn subject_section(out: &mut Layout, finding: &Finding) {
    match &finding.subject {
        Subject::Key(arn) => {
            out.section("KEY");
            out.field("ARN", &arn.to_string());
            facts(out, finding);
        }
        Subject::KeyStore { id, name: given } => {
            out.section("CUSTOM KEY STORE");
            out.field("Id", id.as_deref().unwrap_or("the record holds none that can be one"));
            if let Some(given) = given {
                out.field("Name", &name(given, 256));
            }
        }
        Subject::Cluster { id } => {
            out.section("CLOUDHSM CLUSTER");
            out.field("Id", id.as_deref().unwrap_or("the record holds none that can be one"));
        }
        Subject::Guard { kind, part } => {
            out.section("PART OF THE GUARD");
            out.field("Kind", kind);
            out.field("Which", part);
        }
        Subject::Unknown { given } => {
            out.section("KEY");
            out.item(&match given {
                Some(given) => format!(
                    "Unknown. The event holds {} in its place, which isn't a key's name that can be trusted.",
                    name(given, 256)
                ),
                None => "Unknown: the event doesn't name it.".into(),
            });
            if let Some(region) = &finding.origin.region_given {
                out.item(&format!(
                    "Nor is {} a Region that is known, so no ARN, command or link is built from it.",
                    name(region, 64)
                ));
            }
        }
    }
}

fn facts(out: &mut Layout, finding: &Finding) {
    let facts = &finding.facts;
    if let Fact::Known(aliases) = &facts.aliases {
        out.field("Aliases", &list(aliases.iter().map(|alias| label(alias, 256)), "none"));
    }
    if let Fact::Known(metadata) = &facts.metadata {
        describe(out, metadata);
    }
    if let Fact::Known(tags) = &facts.tags {
        out.field(
            "Tags",
            &list(tags.iter().map(|(key, value)| format!("{}={}", label(key, 128), label(value, 256))), "none"),
        );
    }
    if let Fact::Known(usage) = &facts.last_usage {
        out.field("Last used", &last_usage(usage, finding.time));
    }
    if let Fact::Known(held) = &facts.grants {
        out.field("Grants", &grants(held));
        if !held.resources.is_empty() {
            out.field(
                "For",
                &list(held.resources.iter().map(|(k, v)| format!("{}={}", name(k, 128), name(v, 256))), ""),
            );
        }
        out.field("", "(many uses hold no grant, so this list is never all that depends on the key)");
    }
    for (reason, names) in unknown(finding) {
        out.field("Not known", &format!("{}: {reason}", names.join(", ")));
    }
    // Of another account's key that is only to be expected, and one refusal beside an answer isn't everybody's.
    let ours = finding.origin.account.as_deref() == finding.key().map(|arn| arn.account());
    if ours && facts.metadata.why_unknown() == Some(&Why::DeniedByKeyPolicy) {
        out.item("THE KEY POLICY SHUTS THE ACCOUNT OUT: IAM permissions no longer count for this key.");
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
        Why::NotAsked => "KMS wasn't asked".into(),
        Why::NoKey => "the event names no key to ask about".into(),
        Why::Denied => "KMS refused the guard's role (AccessDenied)".into(),
        Why::DeniedByKeyPolicy => {
            "KMS refused, because no statement of the key policy lets the guard's account ask".into()
        }
        Why::ForbiddenByKeyPolicy => "KMS refused, because the key policy forbids it to the guard's role".into(),
        Why::TimedOut => "KMS didn't answer in time".into(),
        Why::OutOfTime => "there was no time left to ask KMS".into(),
        Why::Throttled => "KMS was asked too often (throttled)".into(),
        Why::NotFound => "KMS knows no such key (any more)".into(),
        Why::Unsupported => "KMS doesn't offer this here".into(),
        Why::NoReader(why) => format!("KMS couldn't be asked in that account: {why}"),
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
    out.field("State", &format!("{state} when asked{origin}"));
    if let Some(date) = metadata.deletion_date {
        out.field("Deletion", &clock(date));
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
        out.field("Managed by", "AWS, for a service; its owner can neither disable nor delete it");
    }
}

fn last_usage(usage: &LastUsage, time: OffsetDateTime) -> String {
    match usage {
        LastUsage::Used { operation, at } => format!("{} ({}), {}", clock(*at), name(operation, 64), before(time, *at)),
        LastUsage::Never => "never since it was created".into(),
        LastUsage::NotSince(since) => {
            format!("not since KMS began to keep track on {}; before that, unknown", clock(*since))
        }
    }
}

fn grants(held: &Grants) -> String {
    let read = if held.more {
        format!("more than {} (at most {MOST_GRANTS} are read)", held.count)
    } else {
        held.count.to_string()
    };
    let holders = list(held.grantees.iter().map(|(who, count)| format!("{count} by {}", name(who, 256))), "");
    if holders.is_empty() { read } else { format!("{read}: {holders}") }
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

/// Nobody did what the guard noticed by looking, and what can't be read, or is a test, tells nobody.
pub(super) fn has_caller(finding: &Finding) -> bool {
    let noticed = finding.origin.event_source == GUARD_EVENT_SOURCE;
    finding.detection.is_signalled()
        && !noticed
        && !matches!(finding.detection.kind, Kind::UnreadableSignal | Kind::GuardTest)
}

fn who(out: &mut Layout, finding: &Finding) {
    if let (Kind::KeyAtRisk, Some(arn)) = (finding.detection.kind, finding.key()) {
        out.section("WHO");
        out.item("A look at the key doesn't tell. CloudTrail does, for 90 days:");
        out.item(&format!("   {}", history(arn)));
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
    let agent =
        actor.user_agent.as_deref().map_or(String::new(), |agent| format!(" (user agent {})", name(agent, 160)));
    out.field("With", &format!("{}{agent}", actor.tool.name()));
    let place = match &actor.place {
        SourceAddress::Ip(ip) => ip.to_string(),
        SourceAddress::Service(service) | SourceAddress::Other(service) => name(service, 256),
        SourceAddress::Unknown => "unknown".into(),
    };
    let endpoint =
        actor.vpc_endpoint.as_deref().map_or(String::new(), |id| format!(", by the VPC endpoint {}", name(id, 64)));
    out.field("From", &format!("{place}{endpoint}"));
    let mfa = match actor.mfa {
        Mfa::Yes => "yes",
        Mfa::No => "NO",
        Mfa::NotApplicable => "not told by this kind of caller",
        Mfa::Unknown => "unknown",
    };
    out.field("Second factor", mfa);
    out.field("Call", &format!("{} at {}", name(&finding.origin.event_name, 128), clock(finding.time)));
}

/// Who it was, in a sentence's worth of words.
pub(crate) fn person(actor: &Actor) -> String {
    let who = match &actor.who {
        Who::Root { assumed: false } => "The account's root user".into(),
        Who::Root { assumed: true } => "The account's root, taken over by centralized root access".into(),
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

fn way_back(out: &mut Layout, finding: &Finding, remedy: &Remedy) {
    let steps = &remedy.steps;
    out.section(if finding.is_danger() { "UNDO IT" } else { "WHAT NOW" });
    out.item(finding.detection.way_back);
    if let Some(account) = finding.account().filter(|_| steps.iter().any(|step| step.command.is_some())) {
        out.item(&format!("With credentials of account {account}:"));
    }
    for (number, step) in (1..).zip(steps) {
        out.item(&format!("{number}. {}", step.what));
        if let Some(command) = &step.command {
            out.item(&format!("   {command}"));
        }
    }
    if let Some(advice) = remedy.if_refused {
        out.item(advice);
    }
}

fn about(out: &mut Layout, finding: &Finding) {
    out.section("ABOUT THIS ALERT");
    out.field("Detection", finding.detection.id);
    if !has_caller(finding) {
        out.field("At", &clock(finding.time));
    }
    if let Some(technique) = finding.detection.technique {
        let ((id, name), (tactic_id, tactic)) = (technique.id_and_name(), technique.tactic());
        out.field("MITRE ATT&CK", &format!("{id} {name} ({tactic_id} {tactic})"));
    }
    if finding.detection.is_loss() {
        out.field("Helps with", "FINOS CCC.KeyMgmt.CN01, NIST 800-53 SC-12(2), PCI DSS 4.0 10.4, ISO 27001 A.8.16");
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
