//! The alert for machines: one OCSF 1.5.0 Detection Finding.
//!
//! Valid against the published schema and against py-ocsf-models, which asks for more; so there are no nulls, no empty
//! objects and no attributes of our own. <https://schema.ocsf.io/1.5.0/classes/detection_finding>

use std::fmt::Write;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{LARGEST_MESSAGE, display_name, remedy, text};
use crate::actor::{Mfa, Place, Who};
use crate::detect::{Kind, Technique};
use crate::escape::{acts, inert};
use crate::event::GUARD_EVENT_SOURCE;
use crate::finding::{Activity, Deadline, Finding, Source, Subject};
use crate::key::{Grants, KeyFacts, LastUsage, MultiRegion, Partition, Region};

/// Room in the message for the attributes beside the document, in bytes.
const ATTRIBUTES: usize = 4_000;

/// What is left out if even a document without the record would be too large, which values that AWS allows can't bring
/// about; the least needed first.
const LEAST_NEEDED: [&str; 5] = ["grants", "tags", "aliases", "description", "custom_key_store_id"];

/// The document as one line of JSON, with this Subject for its message. The raw record is shortened first if the whole
/// would be too large for SNS; `unmapped.shortened` says so.
pub fn document(finding: &Finding, subject: &str, now: OffsetDateTime) -> String {
    let record = &finding.raw;
    let is_object = record.as_object().is_some_and(|fields| !fields.is_empty());
    let mut document = without_record(finding, subject, now);
    let most = LARGEST_MESSAGE - ATTRIBUTES;
    // Nearly every document is so small that it needn't be measured in parts.
    if is_object {
        put(&mut document, "/evidences/0", "data", record.clone());
        let whole = line(&document);
        if whole.len() <= most / 2 {
            return whole;
        }
        remove(&mut document, "/evidences/0", "data");
    }
    let mut length = line(&document).len();
    for field in LEAST_NEEDED {
        if length <= most / 2 {
            break;
        }
        let parent = if field == "tags" { "/resources/0" } else { "/resources/0/data" };
        remove(&mut document, parent, field);
        put(&mut document, "/unmapped", "left_out", "facts about the key: too large".into());
        length = line(&document).len();
    }
    let room = most.saturating_sub(length);
    if is_object && line(record).len() <= room {
        put(&mut document, "/evidences/0", "data", record.clone());
        return line(&document);
    }
    let raw = record.as_str().map_or_else(|| record.to_string(), str::to_owned);
    // A character of the text can take six bytes in JSON.
    let end = floor_char_boundary(&raw, room.saturating_sub(200) / 6);
    if end < raw.len() {
        let shortened = format!("raw_data holds the first {end} of {} bytes of the record", raw.len());
        put(&mut document, "/unmapped", "shortened", shortened.into());
    }
    if let Some(raw) = raw.get(..end).filter(|raw| !raw.is_empty()) {
        put(&mut document, "", "raw_data", raw.into());
    }
    line(&document)
}

/// Sets a field of the object that the JSON pointer leads to.
fn put(document: &mut Value, parent: &str, field: &str, value: Value) {
    if let Some(parent) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(field.to_owned(), value);
    }
}

/// Removes a field of the object that the JSON pointer leads to.
fn remove(document: &mut Value, parent: &str, field: &str) {
    if let Some(parent) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(field);
    }
}

/// The value as one line of JSON. Characters that act are escaped, so that nothing that splits at Unicode's line
/// separators or shows the line on a terminal is led astray.
fn line(value: &Value) -> String {
    let json = value.to_string();
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json;
    }
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside strings JSON is ASCII, and inside them serde_json has escaped what JSON wants escaped.
        if !c.is_ascii_graphic() && c != ' ' && acts(c) {
            // Writing to a String doesn't fail.
            let _ = c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(line, "\\u{unit:04x}"));
        } else {
            line.push(c);
        }
    }
    line
}

fn floor_char_boundary(text: &str, most: usize) -> usize {
    let most = most.min(text.len());
    (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn without_record(finding: &Finding, subject: &str, now: OffsetDateTime) -> Value {
    let links = remedy::links(finding);
    let detection = finding.detection;
    let (activity, severity) = (finding.activity(), finding.assessment.severity);
    let region = finding.region().map(Region::as_str);
    let time = milliseconds(finding.time);
    let status = match activity {
        Activity::Create => (1, "New"),
        Activity::Update => (2, "In Progress"),
        Activity::Close => (4, "Resolved"),
    };
    let mut document = json!({
        "activity_id": activity.id(),
        "activity_name": activity.name(),
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_400 + u32::from(activity.id()),
        "type_name": format!("Detection Finding: {}", activity.name()),
        "time": time,
        "severity_id": severity.id(),
        "severity": severity.name(),
        "status_id": status.0,
        "status": status.1,
        "is_alert": detection.kind != Kind::GuardTest,
        "message": subject,
        "metadata": {
            "version": "1.5.0",
            "uid": finding.origin.uid.to_string(),
            "profiles": ["cloud"],
            "product": product(),
            "logged_time": milliseconds(now),
            "original_time": finding.time.unix_timestamp().to_string(),
            "event_code": inert(&finding.origin.event_name, 128),
        },
        "cloud": {
            "provider": "AWS",
            "region": region,
            "cloud_partition": partition(finding),
            "account": account(finding.account().unwrap_or("unknown")),
        },
        "api": api(finding),
        "finding_info": {
            "uid": finding.story(),
            "title": detection.title,
            "desc": description(finding),
            "types": [detection.id],
            "created_time": time,
            "analytic": {"uid": detection.id, "name": detection.title, "type_id": 1, "type": "Rule"},
            "attacks": detection.technique.map(attack).into_iter().collect::<Vec<_>>(),
            "data_sources": [inert(&finding.origin.event_source, 128)],
            "src_url": links.iter().find(|(what, _)| *what == "the event").map(|(_, address)| address),
        },
        "resources": [resource(finding)],
        "evidences": [evidence(finding)],
        "remediation": {
            "desc": remediation(finding),
            "references": links.iter().map(|(_, address)| address).collect::<Vec<_>>(),
        },
        "risk_details": risk(finding),
        "unmapped": {
            "base_severity": detection.severity.name(),
            "deadline": deadline(finding.deadline),
            "event_id": finding.origin.event_id.as_deref().map(|id| inert(id, 128)),
            "shared_event_id": finding.origin.shared_event_id.as_deref().map(|id| inert(id, 128)),
            "mfa": mfa(finding.actor.mfa),
        },
    });
    prune(&mut document);
    document
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000 + i64::from(time.millisecond())
}

fn product() -> Value {
    json!({"name": "KMS Key Guard", "vendor_name": "KMS Key Guard", "version": env!("CARGO_PKG_VERSION")})
}

fn account(id: &str) -> Value {
    json!({"uid": id, "name": id, "type_id": 10, "type": "AWS Account"})
}

fn partition(finding: &Finding) -> Option<&'static str> {
    finding.region().map(Region::partition).map(|Partition { name, .. }| *name)
}

fn api(finding: &Finding) -> Value {
    let service = inert(&finding.origin.event_source, 128);
    json!({
        "operation": inert(&finding.origin.event_name, 128),
        "service": {"name": service, "uid": service, "version": api_version(&finding.origin.event_source)},
        "request": {"uid": finding.origin.request_id.as_deref().map(|id| inert(id, 128))},
        "response": {"error": finding.origin.error.as_deref().map(|error| inert(error, 1_000))},
    })
}

/// The version of the service's API.
fn api_version(event_source: &str) -> &'static str {
    match event_source {
        "cloudformation.amazonaws.com" => "2010-05-15",
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
    let mut sentences = vec![finding.detection.meaning.to_owned()];
    sentences.extend(finding.particulars.iter().cloned());
    sentences.join(" ")
}

fn attack(technique: Technique) -> Value {
    let (uid, name) = technique.id_and_name();
    let tactic = technique.tactic();
    json!({"version": "17.1", "tactic": {"uid": tactic.0, "name": tactic.1}, "technique": {"uid": uid, "name": name}})
}

fn resource(finding: &Finding) -> Value {
    let (uid, kind) = match &finding.subject {
        Subject::Key(arn) => (Some(arn.to_string()), "AWS::KMS::Key"),
        Subject::KeyStore { id, .. } => (id.clone(), "AWS::KMS::CustomKeyStore"),
        Subject::Guard { kind, part } => (Some(part.clone()), *kind),
        Subject::Unknown { .. } => (None, "AWS::KMS::Key"),
    };
    let tags = finding.facts.tags.known().into_iter().flatten();
    let tags: Vec<_> =
        tags.take(50).map(|(name, value)| json!({"name": cut(name, 128), "value": cut(value, 256)})).collect();
    json!({
        "uid": uid.unwrap_or_else(|| "unknown".into()),
        "name": display_name(finding),
        "type": kind,
        "region": finding.region().map(Region::as_str),
        "cloud_partition": partition(finding),
        "tags": tags,
        "data": data(finding),
    })
}

/// What a caller chose goes into the JSON as it is, which quotes it, but no longer than AWS lets it be.
fn cut(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default().to_owned()
}

fn cuts(texts: &[String], most: usize) -> Vec<String> {
    texts.iter().take(50).map(|text| cut(text, most)).collect()
}

fn data(finding: &Finding) -> Value {
    let KeyFacts { metadata, aliases, last_usage, grants, .. } = &finding.facts;
    let metadata = metadata.known();
    let given = match &finding.subject {
        Subject::Unknown { given } => given.as_deref().map(|given| cut(given, 256)),
        Subject::KeyStore { name, .. } => name.as_deref().map(|name| cut(name, 256)),
        Subject::Key(_) | Subject::Guard { .. } => None,
    };
    let unknown = finding.unknown().map(|(fact, why)| (fact.replace(' ', "_"), text::why_unknown(why).into()));
    json!({
        "given_name": given,
        "state": metadata.and_then(|m| m.state.as_deref()).map(|state| cut(state, 64)),
        "origin": metadata.and_then(|m| m.origin.as_deref()).map(|origin| cut(origin, 64)),
        "manager": metadata.map(|m| if m.aws_managed { "AWS" } else { "CUSTOMER" }),
        "description": metadata.and_then(|m| m.description.as_deref()).map(|description| cut(description, 8_192)),
        "custom_key_store_id": metadata.and_then(|m| m.custom_key_store_id.as_deref()).map(|id| cut(id, 64)),
        "multi_region": metadata.map(|m| multi_region(&m.multi_region)),
        "material_valid_to": metadata.and_then(|m| m.valid_to).map(milliseconds),
        "aliases": aliases.known().map(|aliases| cuts(aliases, 256)),
        "last_usage": last_usage.known().map(usage),
        "grants": grants.known().map(dependants),
        "unknown": unknown.collect::<Map<_, Value>>(),
    })
}

fn multi_region(of: &MultiRegion) -> Value {
    match of {
        MultiRegion::No => Value::Null,
        MultiRegion::Primary(replicas) => json!({"type": "PRIMARY", "replica_regions": cuts(replicas, 64)}),
        MultiRegion::Replica(primary) => json!({"type": "REPLICA", "primary_region": cut(primary, 64)}),
    }
}

fn usage(usage: &LastUsage) -> Value {
    match usage {
        LastUsage::Used { operation, at } => json!({"operation": cut(operation, 64), "time": milliseconds(*at)}),
        LastUsage::Never => json!({"never_since_creation": true}),
        LastUsage::NotSince(since) => json!({"not_since": milliseconds(*since)}),
    }
}

fn dependants(grants: &Grants) -> Value {
    let grantees: Vec<_> = grants
        .grantees
        .iter()
        .take(50)
        .map(|(who, count)| json!({"principal": cut(who, 256), "count": count}))
        .collect();
    let resources: Vec<_> = grants
        .resources
        .iter()
        .take(50)
        .map(|(name, value)| json!({"name": cut(name, 128), "value": cut(value, 512)}))
        .collect();
    json!({"count": grants.count, "more": grants.more, "grantees": grantees, "resources": resources})
}

fn evidence(finding: &Finding) -> Value {
    let actor = &finding.actor;
    let (ip, service) = match &actor.place {
        Place::Ip(ip) => (Some(ip.to_string()), None),
        Place::Service(name) | Place::Other(name) => (None, Some(cut(name, 256))),
        Place::Unknown => (None, None),
    };
    json!({
        "actor": {
            "user": user(finding),
            "session": session(finding),
            "invoked_by": actor.invoked_by.as_deref().map(|service| cut(service, 256)),
        },
        "api": api(finding),
        "src_endpoint": {"ip": ip, "svc_name": service, "vpc_endpoint_uid": Value::Null, "uid": actor.vpc_endpoint.as_deref().map(|id| cut(id, 64))},
        "http_request": {"user_agent": actor.user_agent.as_deref().map(|agent| cut(agent, 1_024))},
    })
}

fn user(finding: &Finding) -> Value {
    let actor = &finding.actor;
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
        return Value::Null;
    }
    json!({
        "name": name.map(|name| cut(name, 256)),
        "uid": uid.map(|uid| cut(uid, 512)),
        "uid_alt": actor.source_identity.as_deref().or(actor.on_behalf_of.as_deref()).map(|id| cut(id, 256)),
        "type_id": type_id,
        "type": kind,
        "full_name": (finding.actor.who != Who::Unknown).then(|| text::person(actor)),
        "account": actor.account.as_deref().map(account),
    })
}

fn session(finding: &Finding) -> Value {
    let actor = &finding.actor;
    let uid = match &actor.who {
        Who::WebIdentity { session, .. } => Some(session),
        Who::Role { session, .. } => session.as_ref(),
        Who::IdentityCenter { user, .. } => Some(user),
        _ => None,
    };
    json!({
        "uid": uid.map(|uid| cut(uid, 256)),
        "issuer": actor.role_arn.as_deref().map(|arn| cut(arn, 512)),
        "is_mfa": match actor.mfa {
            Mfa::Yes => Value::Bool(true),
            Mfa::No => Value::Bool(false),
            Mfa::NotApplicable | Mfa::Unknown => Value::Null,
        },
    })
}

fn mfa(mfa: Mfa) -> &'static str {
    match mfa {
        Mfa::Yes => "yes",
        Mfa::No => "no",
        Mfa::NotApplicable => "not applicable",
        Mfa::Unknown => "unknown",
    }
}

fn deadline(deadline: Deadline) -> Value {
    match deadline {
        Deadline::At(at, source) => {
            let source = match source {
                Source::Kms => "kms",
                Source::Record => "record",
                Source::Estimate => "estimate",
                Source::Shortest => "shortest",
            };
            json!({"kind": "at", "time": milliseconds(at), "source": source})
        }
        Deadline::AfterReplicas => json!({"kind": "after-replicas"}),
        Deadline::Unknown => json!({"kind": "unknown"}),
        Deadline::Immediate => json!({"kind": "immediate"}),
        Deadline::None => json!({"kind": "none"}),
    }
}

fn remediation(finding: &Finding) -> String {
    let mut lines = vec![finding.detection.way_back.to_owned()];
    for (number, step) in (1..).zip(remedy::steps(finding)) {
        lines.push(format!("{number}. {}", step.what));
        lines.extend(step.command);
    }
    lines.extend(remedy::if_refused(finding).map(str::to_owned));
    lines.join("\n")
}

fn risk(finding: &Finding) -> String {
    let mut sentences = vec![format!("Starts at {}.", finding.detection.severity)];
    for reason in &finding.assessment.reasons {
        sentences.push(format!("{}: {}.", if reason.levels > 0 { "Raised" } else { "Lowered" }, reason.text));
    }
    sentences.join(" ")
}

/// Takes out nulls, empty texts, empty lists and empty objects, at any depth; whether anything is left.
fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => {
            list.retain_mut(prune);
            !list.is_empty()
        }
        Value::Object(map) => {
            map.retain(|_, value| prune(value));
            !map.is_empty()
        }
        Value::Bool(_) | Value::Number(_) => true,
    }
}
