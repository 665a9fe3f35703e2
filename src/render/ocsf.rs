//! The alert for machines: one OCSF 1.5.0 Detection Finding.
//!
//! Valid against the published schema and against py-ocsf-models, which asks for more; so there are no nulls, no empty
//! objects and no attributes of our own. <https://schema.ocsf.io/1.5.0/classes/detection_finding>

use serde_json::Value;
use time::OffsetDateTime;

use super::remedy::Remedy;
use super::writer::{Object, line};
use super::{LARGEST_MESSAGE, display_name, text};
use crate::actor::{Actor, Mfa, SourceAddress, Who};
use crate::catalogue::{Activity, Kind, Technique};
use crate::escape::inert;
use crate::event::GUARD_EVENT_SOURCE;
use crate::finding::{Deadline, Finding, Source, Subject};
use crate::key::{Grants, KeyFacts, LastUsage, MultiRegion, Partition, Region};

/// Room in the message for the attributes beside the document, in bytes.
const ATTRIBUTES: usize = 4_000;

/// What is left out if even a document without the record would be too large, which values that AWS allows can't bring
/// about; the least needed first.
const LEAST_NEEDED: [&str; 5] = ["grants", "tags", "aliases", "description", "custom_key_store_id"];

/// The document as one line of JSON, with this Subject for its message. The raw record is shortened first if the whole
/// would be too large for SNS; `unmapped.shortened` says so.
pub fn document(finding: &Finding, subject: &str, remedy: &Remedy, now: OffsetDateTime) -> String {
    let record = &*finding.raw;
    let is_object = record.as_object().is_some_and(|fields| !fields.is_empty());
    let most = LARGEST_MESSAGE - ATTRIBUTES;
    let write = |shape: Shape| shape.write(finding, subject, remedy, now);
    // Nearly every document is so small that it needn't be measured in parts.
    if is_object {
        let whole = write(Shape { left_out: 0, record: Shown::Whole });
        if whole.len() <= most / 2 {
            return whole;
        }
    }
    let without_record = |left_out| write(Shape { left_out, record: Shown::Nothing }).len();
    let (mut left_out, mut length) = (0, without_record(0));
    while left_out < LEAST_NEEDED.len() && length > most / 2 {
        left_out += 1;
        length = without_record(left_out);
    }
    if is_object {
        let whole = write(Shape { left_out, record: Shown::Whole });
        if whole.len() <= most {
            return whole;
        }
    }
    let raw = match record {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A character of the text can take six bytes in JSON.
    let end = raw.floor_char_boundary(most.saturating_sub(length + 200) / 6);
    let text = raw.get(..end).unwrap_or_default();
    write(Shape { left_out, record: Shown::Start { text, of: raw.len() } })
}

/// How much of it all a document holds.
struct Shape<'a> {
    /// How many of [`LEAST_NEEDED`] it goes without.
    left_out: usize,
    record: Shown<'a>,
}

/// How a document shows the record.
enum Shown<'a> {
    /// As an object, in the evidence.
    Whole,
    /// As text: this start of so many bytes.
    Start {
        text: &'a str,
        of: usize,
    },
    Nothing,
}

impl Shape<'_> {
    fn write(&self, finding: &Finding, subject: &str, remedy: &Remedy, now: OffsetDateTime) -> String {
        let detection = finding.detection;
        let (activity, severity) = (finding.activity(), finding.assessment.severity);
        let time = milliseconds(finding.time);
        let status = match activity {
            Activity::Create => (1, "New"),
            Activity::Update => (2, "In Progress"),
            Activity::Close => (4, "Resolved"),
        };
        line(|o| {
            o.put("activity_id", activity.id());
            o.put("activity_name", activity.name());
            o.put("category_uid", 2);
            o.put("category_name", "Findings");
            o.put("class_uid", 2004);
            o.put("class_name", "Detection Finding");
            o.put("type_uid", 200_400 + u32::from(activity.id()));
            o.put("type_name", format!("Detection Finding: {}", activity.name()));
            o.put("time", time);
            o.put("severity_id", severity.id());
            o.put("severity", severity.name());
            o.put("status_id", status.0);
            o.put("status", status.1);
            o.put("is_alert", detection.kind != Kind::GuardTest);
            o.put("message", subject);
            o.object("metadata", |o| {
                o.put("version", "1.5.0");
                o.put("uid", finding.origin.uid.to_string());
                o.texts("profiles", ["cloud"]);
                o.object("product", product);
                o.put("logged_time", milliseconds(now));
                o.put("original_time", finding.time_known.then(|| finding.time.unix_timestamp().to_string()));
                o.put("event_code", inert(&finding.origin.event_name, 128));
            });
            o.object("cloud", |o| {
                o.put("provider", "AWS");
                o.put("region", finding.region().map(Region::as_str));
                o.put("cloud_partition", partition(finding));
                o.object("account", |o| account(o, finding.account().unwrap_or("unknown")));
            });
            o.object("api", |o| api(o, finding));
            o.object("finding_info", |o| {
                o.put("uid", finding.story());
                o.put("title", detection.title);
                o.put("desc", description(finding));
                o.texts("types", [detection.id]);
                o.put("created_time", finding.time_known.then_some(time));
                o.object("analytic", |o| {
                    o.put("uid", detection.id);
                    o.put("name", detection.title);
                    o.put("type_id", 1);
                    o.put("type", "Rule");
                });
                o.objects("attacks", detection.technique, attack);
                o.texts("data_sources", [inert(&finding.origin.event_source, 128)]);
                o.put("src_url", remedy.links.iter().find(|(what, _)| *what == "Event").map(|(_, address)| address));
            });
            o.objects("resources", [()], |o, ()| self.resource(o, finding));
            o.objects("evidences", [()], |o, ()| {
                evidence(o, finding);
                if matches!(self.record, Shown::Whole) {
                    o.put("data", &*finding.raw);
                }
            });
            o.object("remediation", |o| {
                o.put("desc", remediation(finding, remedy));
                let pages = remedy.links.iter().map(|(_, address)| address).filter(|link| link.starts_with("https://"));
                o.texts("references", pages);
            });
            o.put("risk_details", risk(finding));
            o.object("unmapped", |o| {
                o.put("base_severity", detection.severity.name());
                if !finding.time_known {
                    o.put("time", "unknown: the event tells none, so time is when the guard read it");
                }
                o.object("deadline", |o| deadline(o, finding.deadline));
                o.put("event_id", finding.origin.event_id.as_deref().map(|id| inert(id, 128)));
                o.put("shared_event_id", finding.origin.shared_event_id.as_deref().map(|id| inert(id, 128)));
                o.put("mfa", mfa(finding.actor.mfa));
                if self.left_out > 0 {
                    o.put("left_out", "facts about the key: too large");
                }
                if let Shown::Start { text, of } = self.record
                    && text.len() < of
                {
                    o.put("shortened", format!("raw_data holds the first {} of {of} bytes of the record", text.len()));
                }
            });
            if let Shown::Start { text, .. } = self.record {
                o.put("raw_data", text);
            }
        })
    }

    fn keeps(&self, field: &str) -> bool {
        !LEAST_NEEDED.iter().take(self.left_out).any(|left_out| *left_out == field)
    }

    fn resource(&self, o: &mut Object, finding: &Finding) {
        let (uid, kind) = match &finding.subject {
            Subject::Key(arn) => (Some(arn.to_string()), "AWS::KMS::Key"),
            Subject::KeyStore { id, .. } => (id.clone(), "AWS::KMS::CustomKeyStore"),
            Subject::Cluster { id } => (id.clone(), "AWS::CloudHSM::Cluster"),
            Subject::Guard { kind, part } => (Some(part.clone()), *kind),
            Subject::Unknown { .. } => (None, "AWS::KMS::Key"),
        };
        o.put("uid", uid.as_deref().unwrap_or("unknown"));
        o.put("name", display_name(finding));
        o.put("type", kind);
        o.put("region", finding.region().map(Region::as_str));
        o.put("cloud_partition", partition(finding));
        if self.keeps("tags") {
            let tags = finding.facts.tags.known().into_iter().flatten();
            o.objects("tags", tags.take(50), |o, (name, value)| named(o, cut(name, 128), cut(value, 256)));
        }
        o.object("data", |o| self.data(o, finding));
    }

    fn data(&self, o: &mut Object, finding: &Finding) {
        let KeyFacts { metadata, aliases, last_usage: usage, grants, .. } = &finding.facts;
        let metadata = metadata.known();
        let given = match &finding.subject {
            Subject::Unknown { given } => given.as_deref(),
            Subject::KeyStore { name, .. } => name.as_deref(),
            Subject::Key(_) | Subject::Cluster { .. } | Subject::Guard { .. } => None,
        };
        o.put("given_name", given.map(|given| cut(given, 256)));
        if let Some(metadata) = metadata {
            o.put("spec", metadata.spec.as_deref().map(|spec| cut(spec, 64)));
            o.put("state", metadata.state.as_deref().map(|state| cut(state, 64)));
            o.put("origin", metadata.origin.as_deref().map(|origin| cut(origin, 64)));
            o.put("manager", if metadata.aws_managed { "AWS" } else { "CUSTOMER" });
            if self.keeps("description") {
                o.put("description", metadata.description.as_deref().map(|description| cut(description, 8_192)));
            }
            if self.keeps("custom_key_store_id") {
                o.put("custom_key_store_id", metadata.custom_key_store_id.as_deref().map(|id| cut(id, 64)));
            }
            o.object("multi_region", |o| multi_region(o, &metadata.multi_region));
            o.put("material_valid_to", metadata.valid_to.map(milliseconds));
        }
        if let (Some(aliases), true) = (aliases.known(), self.keeps("aliases")) {
            o.texts("aliases", cuts(aliases, 256));
        }
        if let Some(usage) = usage.known() {
            o.object("last_usage", |o| last_usage(o, usage));
        }
        if let (Some(grants), true) = (grants.known(), self.keeps("grants")) {
            o.object("grants", |o| dependants(o, grants));
        }
        o.object("unknown", |o| {
            for (fact, why) in finding.unknown() {
                o.put(&fact.replace(' ', "_"), text::why_unknown(why));
            }
        });
    }
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000 + i64::from(time.millisecond())
}

fn product(o: &mut Object) {
    o.put("name", "KMS Key Guard");
    o.put("vendor_name", "KMS Key Guard");
    o.put("version", env!("CARGO_PKG_VERSION"));
}

fn account(o: &mut Object, id: &str) {
    o.put("uid", id);
    o.put("name", id);
    o.put("type_id", 10);
    o.put("type", "AWS Account");
}

fn partition(finding: &Finding) -> Option<&'static str> {
    finding.region().map(Region::partition).map(|Partition { name, .. }| *name)
}

fn api(o: &mut Object, finding: &Finding) {
    let origin = &finding.origin;
    let service = inert(&origin.event_source, 128);
    o.put("operation", inert(&origin.event_name, 128));
    o.object("service", |o| {
        o.put("name", &service);
        o.put("uid", &service);
        o.put("version", api_version(&origin.event_source));
    });
    o.object("request", |o| o.put("uid", origin.request_id.as_deref().map(|id| inert(id, 128))));
    o.object("response", |o| o.put("error", origin.error.as_deref().map(|error| inert(error, 1_000))));
}

/// The version of the service's API.
fn api_version(event_source: &str) -> &'static str {
    match event_source {
        "cloudformation.amazonaws.com" => "2010-05-15",
        "cloudhsm.amazonaws.com" => "2017-04-28",
        "cloudtrail.amazonaws.com" => "2013-11-01",
        "events.amazonaws.com" => "2015-10-07",
        "iam.amazonaws.com" => "2010-05-08",
        "lambda.amazonaws.com" => "2015-03-31",
        "logs.amazonaws.com" => "2014-03-28",
        "monitoring.amazonaws.com" => "2010-08-01",
        "scheduler.amazonaws.com" => "2021-06-30",
        "sns.amazonaws.com" => "2010-03-31",
        "sqs.amazonaws.com" => "2012-11-05",
        GUARD_EVENT_SOURCE => env!("CARGO_PKG_VERSION"),
        _ => "2014-11-01",
    }
}

fn description(finding: &Finding) -> String {
    let mut sentences = vec![text::meaning(finding)];
    sentences.extend(finding.particulars.iter().cloned());
    sentences.join(" ")
}

fn attack(o: &mut Object, technique: Technique) {
    let (uid, name) = technique.id_and_name();
    let tactic = technique.tactic();
    o.put("version", "17.1");
    o.object("tactic", |o| {
        o.put("uid", tactic.0);
        o.put("name", tactic.1);
    });
    o.object("technique", |o| {
        o.put("uid", uid);
        o.put("name", name);
    });
}

fn named(o: &mut Object, name: &str, value: &str) {
    o.put("name", name);
    o.put("value", value);
}

/// What a caller chose goes into the JSON as it is, which quotes it, but no longer than AWS lets it be.
fn cut(text: &str, most: usize) -> &str {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

fn cuts(texts: &[String], most: usize) -> impl Iterator<Item = &str> {
    texts.iter().take(50).map(move |text| cut(text, most))
}

fn multi_region(o: &mut Object, of: &MultiRegion) {
    match of {
        MultiRegion::No => {}
        MultiRegion::Primary(replicas) => {
            o.put("type", "PRIMARY");
            o.texts("replica_regions", cuts(replicas, 64));
        }
        MultiRegion::Replica(primary) => {
            o.put("type", "REPLICA");
            o.put("primary_region", cut(primary, 64));
        }
    }
}

fn last_usage(o: &mut Object, usage: &LastUsage) {
    match usage {
        LastUsage::Used { operation, at } => {
            o.put("operation", cut(operation, 64));
            o.put("time", milliseconds(*at));
        }
        LastUsage::Never => o.put("never_since_creation", true),
        LastUsage::NotSince(since) => o.put("not_since", milliseconds(*since)),
    }
}

fn dependants(o: &mut Object, grants: &Grants) {
    o.put("count", grants.count);
    o.put("more", grants.more);
    o.objects("grantees", grants.grantees.iter().take(50), |o, (who, count)| {
        o.put("principal", cut(who, 256));
        o.put("count", count);
    });
    o.objects("resources", grants.resources.iter().take(50), |o, (name, value)| {
        named(o, cut(name, 128), cut(value, 512))
    });
}

fn evidence(o: &mut Object, finding: &Finding) {
    let actor = &finding.actor;
    let (ip, service) = match &actor.place {
        SourceAddress::Ip(ip) => (Some(ip), None),
        SourceAddress::Service(name) | SourceAddress::Other(name) => (None, Some(cut(name, 256))),
        SourceAddress::Unknown => (None, None),
    };
    o.object("actor", |o| {
        o.object("user", |o| user(o, actor));
        o.object("session", |o| session(o, actor));
        o.put("invoked_by", actor.invoked_by.as_deref().map(|service| cut(service, 256)));
    });
    o.object("api", |o| api(o, finding));
    o.object("src_endpoint", |o| {
        o.put("ip", ip);
        o.put("svc_name", service);
        o.put("uid", actor.vpc_endpoint.as_deref().map(|id| cut(id, 64)));
    });
    o.object("http_request", |o| o.put("user_agent", actor.user_agent.as_deref().map(|agent| cut(agent, 1_024))));
}

fn user(o: &mut Object, actor: &Actor) {
    let (name, type_id, kind) = match &actor.who {
        Who::Root { .. } => (Some("root"), 2, "Admin"),
        Who::IamUser(user) | Who::IdentityCenter { user, .. } => (Some(user.as_str()), 1, "User"),
        Who::WebIdentity { session, .. } => (Some(session.as_str()), 0, "Unknown"),
        Who::Role { role, session } => (Some(session.as_deref().unwrap_or(role)), 0, "Unknown"),
        Who::Federated { name, .. } => (Some(name.as_str()), 1, "User"),
        Who::Service(service) => (Some(service.as_str()), 3, "System"),
        Who::Account(_) | Who::Unknown => (None, 0, "Unknown"),
    };
    let uid = actor.arn.as_deref().or(actor.principal_id.as_deref());
    if name.is_none() && uid.is_none() && actor.account.is_none() {
        return;
    }
    o.put("name", name.map(|name| cut(name, 256)));
    o.put("uid", uid.map(|uid| cut(uid, 512)));
    o.put("uid_alt", actor.source_identity.as_deref().or(actor.on_behalf_of.as_deref()).map(|id| cut(id, 256)));
    o.put("type_id", type_id);
    o.put("type", kind);
    o.put("full_name", (actor.who != Who::Unknown).then(|| text::person(actor)));
    if let Some(id) = &actor.account {
        o.object("account", |o| account(o, id));
    }
}

fn session(o: &mut Object, actor: &Actor) {
    let uid = match &actor.who {
        Who::WebIdentity { session, .. } => Some(session),
        Who::Role { session, .. } => session.as_ref(),
        Who::IdentityCenter { user, .. } => Some(user),
        _ => None,
    };
    let is_mfa = match actor.mfa {
        Mfa::Yes => Some(true),
        Mfa::No => Some(false),
        Mfa::NotApplicable | Mfa::Unknown => None,
    };
    o.put("uid", uid.map(|uid| cut(uid, 256)));
    o.put("issuer", actor.role_arn.as_deref().map(|arn| cut(arn, 512)));
    o.put("is_mfa", is_mfa);
}

fn mfa(mfa: Mfa) -> &'static str {
    match mfa {
        Mfa::Yes => "yes",
        Mfa::No => "no",
        Mfa::NotApplicable => "not applicable",
        Mfa::Unknown => "unknown",
    }
}

fn deadline(o: &mut Object, deadline: Deadline) {
    let kind = match deadline {
        Deadline::At(..) => "at",
        Deadline::AfterReplicas => "after-replicas",
        Deadline::Unknown => "unknown",
        Deadline::Immediate => "immediate",
        Deadline::None | Deadline::Lifted => "none",
    };
    o.put("kind", kind);
    if let Deadline::At(at, source) = deadline {
        let source = match source {
            Source::Kms => "kms",
            Source::Record => "record",
            Source::Estimate => "estimate",
            Source::Shortest => "shortest",
        };
        o.put("time", milliseconds(at));
        o.put("source", source);
    }
}

fn remediation(finding: &Finding, remedy: &Remedy) -> String {
    let mut lines = vec![text::way_back(finding).to_owned()];
    for (number, step) in (1..).zip(&remedy.steps) {
        lines.push(format!("{number}. {}", step.what));
        lines.extend(step.command.clone());
    }
    lines.extend(remedy.if_refused.map(str::to_owned));
    lines.join("\n")
}

fn risk(finding: &Finding) -> String {
    let mut sentences = vec![format!("Base severity: {}.", finding.detection.severity)];
    for reason in &finding.assessment.reasons {
        sentences.push(format!("{}: {}.", if reason.levels > 0 { "Raised" } else { "Lowered" }, reason.text));
    }
    sentences.join(" ")
}
