//! The decision which detection of the catalogue a signal is.
//!
//! The decision rests on the signal alone. What KMS says about the key afterwards changes the severity and the context,
//! never whether there is a finding.

use std::sync::Arc;

use serde_json::Value;
use time::{OffsetDateTime, UtcOffset};

use crate::actor::Actor;
use crate::catalogue::{Detection, Kind};
use crate::escape::inert;
use crate::event::{
    CLOUDHSM_EVENT_SOURCE, ENDPOINT_DENIED, Event, GUARD_EVENT_SOURCE, KMS_EVENT_SOURCE, Native, Record, Signal,
    makes_a_key,
};
use crate::finding::{self, Assessment, Deadline, Finding, Origin, SPOKE, Source, Step, Subject};
use crate::key::{KeyArn, KeyFacts, Why, is_cluster_id, is_key_store_id};
use crate::meaning::{StoreChange, store_change};
use crate::own::OwnStack;
use crate::policy::{self, Certainty, Loss, TrustedSources};
use crate::tamper::{self, Effect};

/// Which of the opt-in detections are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptIns {
    /// `key-loss-denied`.
    pub denied_attempts: bool,
    /// `lost-key-used`.
    pub lost_key_use: bool,
}

/// What decides which signals are findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which opt-in detections are wanted.
    pub opt_ins: OptIns,
    /// Where the account's own people call from, which conditions of key policies are checked against.
    pub trusted_sources: TrustedSources,
    /// The stack that the guard is, whose parts are known by their names; none in a replay.
    pub own: Option<OwnStack>,
}

impl From<OptIns> for Settings {
    fn from(opt_ins: OptIns) -> Self {
        Self { opt_ins, ..Self::default() }
    }
}

/// KMS's cryptographic operations: those that fail when the key is lost.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#cryptographic-operations>
#[rustfmt::skip]
const CRYPTOGRAPHIC_CALLS: [&str; 12] = [
    "Decrypt", "DeriveSharedSecret", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac", "ReEncrypt", "Sign",
    "Verify", "VerifyMac",
];

/// The shortest waiting period that ScheduleKeyDeletion takes, in days.
pub const SHORTEST_WAITING_PERIOD_DAYS: i64 = 7;

/// Its default, which is the longest, in days.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_ScheduleKeyDeletion.html>
const DEFAULT_WAITING_PERIOD_DAYS: i64 = 30;

/// Whether a call of this name can never be a finding, whatever else its record says and whatever is opted in to; lets
/// replay skip most records. `failed` also if that is in doubt; `every_part` is whether calls on other parts of a guard
/// than trails matter.
pub fn is_silence(event_source: &str, event_name: &str, failed: bool, every_part: bool) -> bool {
    if event_source == KMS_EVENT_SOURCE {
        return !failed && CRYPTOGRAPHIC_CALLS.contains(&event_name);
    }
    event_source != CLOUDHSM_EVENT_SOURCE && !tamper::is_watched(event_source, event_name, every_part)
}

/// Decides what a signal is. None is silence. `now` stands in for a time that the signal doesn't tell.
pub fn detect(event: &Event, settings: &Settings, now: OffsetDateTime) -> Option<Finding> {
    let mut case = Case::default();
    let kind = match &event.signal {
        Signal::ApiCall(record) | Signal::OtherService(record) if record.event_source == CLOUDHSM_EVENT_SOURCE => {
            cluster_lost(record, event, &mut case)?
        }
        Signal::ApiCall(record) | Signal::ServiceEvent(record) if record.event_source != KMS_EVENT_SOURCE => {
            return None;
        }
        Signal::ApiCall(record) if record.failed => failed_call(record, event, (settings, now), &mut case)?,
        Signal::ServiceEvent(record) if record.failed => return None,
        Signal::ApiCall(record) | Signal::ServiceEvent(record) => done(record, event, (settings, now), &mut case)?,
        Signal::OtherService(record) if record.failed => return None,
        Signal::OtherService(record) => {
            let request = event.raw.get("requestParameters").unwrap_or(&Value::Null);
            let done = tamper::judge(record, request, settings.own.as_ref())?;
            case.unverified = done.effect == Effect::Unclear;
            case.put_back = done.effect == Effect::PutBack;
            case.particulars = done.particulars;
            case.happened = Some(done.happened);
            case.subject = Some(Subject::Guard { kind: done.kind, part: done.part });
            case.remedy = done.remedy;
            Kind::GuardTampered
        }
        Signal::Test { id } => {
            let part = id.map_or("test".to_owned(), |id| id.to_string());
            case.subject = Some(Subject::Guard { kind: "KMS Key Guard test", part });
            if id.is_none() {
                case.particulars.push("Its test id isn't a UUID, so whatever waits for it can't recognize it.".into());
            }
            Kind::GuardTest
        }
        Signal::SpokeAlarm { over } => {
            spoke(event, *over, &mut case);
            Kind::GuardBlind
        }
        Signal::Native { kind: Native::KeyDeletion, .. } => Kind::KeyDeleted,
        Signal::Native { kind: Native::MaterialExpiration, .. } => Kind::KeyMaterialExpired,
        Signal::Unreadable(why) => {
            case.particulars.push(format!("Why: {}.", inert(why, 300)));
            Kind::UnreadableSignal
        }
        Signal::Foreign(_) => return None,
    };
    Some(finding_of(kind, event, case, now))
}

/// What is particular about a case.
#[derive(Default)]
struct Case {
    /// Sentences; caller-chosen parts are already inert.
    particulars: Vec<String>,
    /// What happened, where the catalogue's words don't fit.
    happened: Option<String>,
    /// What it is about, if that is no key or key store.
    subject: Option<Subject>,
    /// The way back, where the detection and the key don't tell it.
    remedy: Vec<Step>,
    /// Whether the danger is over.
    over: bool,
    /// Whether a part of the guard was put back.
    put_back: bool,
    /// Whether it is a danger only if a guard that can't be verified is none.
    unverified: bool,
    /// What a key store's change means that leaves its keys where they are.
    store_change: Option<&'static StoreChange>,
}

/// What the alarm of a spoke says: an event didn't get to the hub, or the queue with such events is empty again.
fn spoke(event: &Event, over: bool, case: &mut Case) {
    case.subject = Some(Subject::Guard { kind: SPOKE, part: "spoke".into() });
    case.over = over;
    if over {
        case.happened = Some("forwards events again".into());
        case.particulars.push("The spoke's queue of events that it couldn't forward is empty again.".into());
        return;
    }
    case.happened = Some("couldn't forward an event".into());
    case.particulars.push(
        "The spoke in this account and Region couldn't forward an event to the hub, so an alert wasn't sent. The \
         event is in the spoke's queue kms-key-guard-spoke-undelivered, for two weeks."
            .into(),
    );
    if let Some(region) = event.region() {
        case.remedy.push(Step::run(
            "Read this queue's messages (aws sqs receive-message --message-attribute-names All). ERROR_CODE and ERROR_MESSAGE give the cause:",
            format!("aws sqs get-queue-url --region {region} --queue-name kms-key-guard-spoke-undelivered"),
        ));
    }
    case.remedy.push(Step::say(
        "Fix it. Then invoke the hub's alert function with the body of each message, and delete the message (docs/organization.md, When something fails).",
    ));
}

/// What a record means if what it tells of was done. Which of CloudTrail's event types it is doesn't matter: no API call
/// has the name of a service event, or the other way round.
fn done(record: &Record, event: &Event, how: (&Settings, OffsetDateTime), case: &mut Case) -> Option<Kind> {
    Some(match record.event_name.as_str() {
        "ScheduleKeyDeletion" => Kind::KeyDeletionScheduled,
        "DisableKey" => Kind::KeyDisabled,
        "DeleteImportedKeyMaterial" => {
            if let Some(id) = &record.request.key_material_id {
                case.particulars.push(format!("Only this key material was deleted: {}.", inert(id, 128)));
            }
            Kind::KeyMaterialDeleted
        }
        "DisconnectCustomKeyStore" => Kind::KeyStoreDisconnected,
        "UpdateCustomKeyStore" => {
            let changed = record.request.parameters.iter().filter(|name| *name != "customKeyStoreId");
            let changed: Vec<_> = changed.map(|name| inert(name, 64)).collect();
            case.particulars.push(match changed.as_slice() {
                [] => "The record doesn't tell what was changed.".into(),
                _ => format!("The call set: {}.", changed.join(", ")),
            });
            case.store_change = store_change(&record.request.parameters);
            case.happened = case.store_change.map(|change| change.happened.into());
            Kind::KeyStoreChanged
        }
        "DeleteCustomKeyStore" => Kind::KeyStoreDeleted,
        "ConnectCustomKeyStore" => Kind::KeyStoreConnected,
        "CancelKeyDeletion" => Kind::KeyDeletionCancelled,
        "EnableKey" => Kind::KeyEnabled,
        "PutKeyPolicy" => return new_policy(record, event, how, case),
        // Without a policy of its own a key gets the default one.
        name if makes_a_key(name) && (record.request.policy.is_some() || record.request.bypass_lockout_check) => {
            return new_policy(record, event, how, case);
        }
        "ImportKeyMaterial" => return imported(record),
        "DeleteKey" => Kind::KeyDeleted,
        "DeleteExpiredKeyMaterial" => Kind::KeyMaterialExpired,
        _ => return None,
    })
}

/// Without its HSMs a cluster can't serve the key store that may be on it. Only CloudHSM's own events count.
fn cluster_lost(record: &Record, event: &Event, case: &mut Case) -> Option<Kind> {
    let of_cloudhsm = event.envelope.source.as_deref().is_none_or(|source| source == "aws.cloudhsm");
    let happened = match record.event_name.as_str() {
        "DeleteHsm" => "lost an HSM",
        "DeleteCluster" => "deleted",
        _ => return None,
    };
    if record.failed || !of_cloudhsm {
        return None;
    }
    case.happened = Some(happened.into());
    case.subject = Some(Subject::Cluster { id: record.request.cluster_id.clone().filter(|id| is_cluster_id(id)) });
    Some(Kind::KeyStoreClusterLost)
}

/// What a new policy takes away, judged as it was set.
fn new_policy(
    record: &Record,
    event: &Event,
    (settings, now): (&Settings, OffsetDateTime),
    case: &mut Case,
) -> Option<Kind> {
    let key = event.key_arn();
    let arn = key.as_ref().map(KeyArn::to_string);
    let setting = policy::Setting {
        account: key.as_ref().map(KeyArn::account).or(record.recipient_account.as_deref()),
        key_arn: arn.as_deref(),
        trusted: &settings.trusted_sources,
        now: record.event_time.unwrap_or(now),
    };
    let policy = record.request.policy.as_deref();
    let is_default = policy.is_none() && makes_a_key(&record.event_name);
    let judgement = if is_default { None } else { policy::judge(policy, &setting) };
    if record.request.bypass_lockout_check {
        case.particulars
            .push("The caller switched the policy lockout check off (bypassPolicyLockoutSafetyCheck).".into());
    } else {
        judgement.as_ref()?;
    }
    let judged = judgement.as_ref().map(|judgement| (judgement.loss, judgement.certainty));
    case.happened = match judged {
        Some((_, Certainty::Proved)) => None,
        Some((Loss::Lockout, Certainty::From(date))) => Some(format!("will lock its account out on {}", date.date())),
        Some((Loss::Cutoff, Certainty::From(date))) => {
            Some(format!("will be cut off from all but root on {}", date.date()))
        }
        Some((Loss::Lockout, _)) => Some("may lock its account out".into()),
        Some((Loss::Cutoff, _)) => Some("may be cut off from all but root".into()),
        None => Some("had its policy set with the lockout check off".into()),
    };
    // Without the check a policy may do what it doesn't say yet, so its being off isn't a doubt that a network could end.
    case.unverified =
        !record.request.bypass_lockout_check && judged.is_some_and(|(_, certainty)| certainty == Certainty::Unverified);
    case.particulars.extend(judgement.map(|judgement| judgement.sentence));
    if judged.is_some_and(|(loss, _)| loss == Loss::Lockout) {
        case.particulars.extend(policy.and_then(|policy| policy::let_in(policy, &setting)));
    }
    Some(match judged {
        Some((Loss::Cutoff, _)) if !record.request.bypass_lockout_check => Kind::KeyPolicyCutoff,
        _ => Kind::KeyPolicyLockout,
    })
}

/// An import sets a timer, or ends the danger, or adds new material that changes nothing for the data there is.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_ImportKeyMaterial.html>
fn imported(record: &Record) -> Option<Kind> {
    let request = &record.request;
    // Expiry is the API's default, so only a record that says otherwise means that the material stays.
    if request.valid_to.is_some() || request.expiration_model.as_deref() != Some("KEY_MATERIAL_DOES_NOT_EXPIRE") {
        return Some(Kind::KeyMaterialExpiring);
    }
    (request.import_type.as_deref() != Some("NEW_KEY_MATERIAL")).then_some(Kind::KeyMaterialRestored)
}

fn failed_call(record: &Record, event: &Event, how: (&Settings, OffsetDateTime), case: &mut Case) -> Option<Kind> {
    let opt_ins = how.0.opt_ins;
    // Where no key was made, there is none to lose.
    if opt_ins.denied_attempts && is_denied(record) && !makes_a_key(&record.event_name) {
        // Only what would have been a danger is an attempt at one: a harmless policy that was refused isn't.
        done(record, event, how, &mut Case::default()).filter(|kind| kind.detection().is_danger())?;
        if record.error_code.as_deref() == Some(ENDPOINT_DENIED) {
            case.particulars.push("The policy of the VPC endpoint that the call came through refused it.".into());
        }
        if !record.request.given {
            case.particulars.push("The record doesn't hold what the call asked for.".into());
        }
        // Which call it was is known by its name here.
        case.happened = Some(format!("{} denied", record.event_name));
        return Some(Kind::KeyLossDenied);
    }
    let lost = opt_ins.lost_key_use && CRYPTOGRAPHIC_CALLS.contains(&record.event_name.as_str()) && is_lost(record);
    lost.then_some(Kind::LostKeyUsed)
}

/// Whether a call was refused for want of permission. The code is spelled in several ways.
fn is_denied(record: &Record) -> bool {
    let code = record.error_code.as_deref().unwrap_or_default();
    let message = record.error_message.as_deref().unwrap_or_default();
    code.starts_with("AccessDenied")
        || code == ENDPOINT_DENIED
        || code.ends_with("UnauthorizedOperation")
        || message.contains("is not authorized to perform")
}

/// Whether a call failed because the key is disabled or pending deletion: told by the code, or by the message, since the
/// same code stands for several states.
fn is_lost(record: &Record) -> bool {
    let code = record.error_code.as_deref().unwrap_or_default();
    let message = record.error_message.as_deref().unwrap_or_default();
    message.contains("is disabled")
        || is_pending_deletion(message)
        || matches!(code, "Disabled" | "DisabledException" | "KMSDisabledException")
}

/// Whether an error's message says that the key waits to be deleted, or to be deleted after its replicas.
fn is_pending_deletion(message: &str) -> bool {
    message.split_once("is pending").is_some_and(|(_, state)| state.contains("deletion"))
}

fn finding_of(kind: Kind, event: &Event, case: Case, now: OffsetDateTime) -> Finding {
    let detection = kind.detection();
    let record = event.record();
    let subject = case.subject.unwrap_or_else(|| subject(kind, event));
    let time = record.and_then(|r| r.event_time).or(event.envelope.time);
    Finding {
        detection,
        time: time.unwrap_or(now),
        time_known: time.is_some(),
        happened: case.happened.unwrap_or_else(|| detection.happened.to_owned()),
        meaning: case.store_change.map_or(detection.meaning, |change| change.meaning),
        way_back: case.store_change.map_or(detection.way_back, |change| change.way_back),
        deadline: deadline(kind, record, time),
        actor: match (&event.signal, record) {
            (Signal::Native { .. }, _) => Actor::kms(),
            (_, Some(record)) => Actor::of(record),
            (_, None) => Actor::default(),
        },
        origin: origin(detection, event, &subject, time),
        subject,
        over: case.over,
        put_back: case.put_back,
        unverified: case.unverified,
        keeps_its_keys: case.store_change.is_some(),
        replayed: event.envelope.replayed,
        particulars: case.particulars,
        remedy: case.remedy,
        facts: KeyFacts::unknown(Why::NotAsked),
        assessment: Assessment { severity: detection.severity, reasons: Vec::new() },
        raw: Arc::clone(&event.raw),
    }
}

fn subject(kind: Kind, event: &Event) -> Subject {
    let store = event.record().and_then(|record| record.request.key_store_id.as_deref());
    let of_store = matches!(
        kind,
        Kind::KeyStoreDisconnected | Kind::KeyStoreChanged | Kind::KeyStoreDeleted | Kind::KeyStoreConnected
    );
    if of_store || (kind == Kind::KeyLossDenied && store.is_some()) {
        let name = event.record().and_then(|record| record.key_store_name.clone());
        return Subject::KeyStore { id: store.filter(|id| is_key_store_id(id)).map(str::to_owned), name };
    }
    match event.key_arn() {
        Some(arn) => Subject::Key(arn),
        None => Subject::Unknown { given: event.given_key() },
    }
}

fn deadline(kind: Kind, record: Option<&Record>, time: Option<OffsetDateTime>) -> Deadline {
    match (kind, record) {
        (Kind::KeyDeletionScheduled, Some(record)) => {
            if record.response.key_state.as_deref() == Some("PendingReplicaDeletion") {
                return Deadline::AfterReplicas;
            }
            if let Some(date) = record.response.deletion_date {
                return Deadline::At(date, Source::Record);
            }
            // Nothing can be counted from a time that isn't known.
            let Some(time) = time else { return Deadline::Unknown };
            let after = |days| time + time::Duration::days(days);
            match waiting_period_days(record) {
                Some(days) => Deadline::At(after(days), Source::Estimate),
                None if record.request.given && !record.request.pending_window => {
                    Deadline::At(after(DEFAULT_WAITING_PERIOD_DAYS), Source::Estimate)
                }
                None => Deadline::At(after(SHORTEST_WAITING_PERIOD_DAYS), Source::Shortest),
            }
        }
        (Kind::KeyMaterialExpiring, Some(record)) => match record.request.valid_to {
            Some(at) => Deadline::At(at, Source::Record),
            None => Deadline::None,
        },
        (Kind::LostKeyUsed, Some(record)) if record.error_message.as_deref().is_some_and(is_pending_deletion) => {
            Deadline::Unknown
        }
        (Kind::KeyMaterialDeleted | Kind::KeyMaterialExpired | Kind::KeyDeleted, _) => Deadline::Immediate,
        _ => Deadline::None,
    }
}

/// The waiting period in days: what KMS answered, else what was asked for.
fn waiting_period_days(record: &Record) -> Option<i64> {
    let told = [record.response.pending_window_days, record.request.pending_window_days];
    told.into_iter().flatten().find(|days| (SHORTEST_WAITING_PERIOD_DAYS..=DEFAULT_WAITING_PERIOD_DAYS).contains(days))
}

fn origin(detection: &Detection, event: &Event, subject: &Subject, time: Option<OffsetDateTime>) -> Origin {
    let record = event.record();
    let envelope = &event.envelope;
    let event_id = record.and_then(|r| r.event_id.clone());
    let in_cloudtrail = event_id.is_some();
    let test_id = match &event.signal {
        Signal::Test { id } => id.map(|id| id.to_string()),
        _ => None,
    };
    let source = match &event.signal {
        Signal::Test { .. } => GUARD_EVENT_SOURCE,
        Signal::SpokeAlarm { .. } => "monitoring.amazonaws.com",
        _ => KMS_EVENT_SOURCE,
    };
    let region = event.region();
    Origin {
        uid: uid(detection, event, subject, time),
        event_name: record
            .map(|r| r.event_name.clone())
            .or_else(|| envelope.detail_type.clone())
            .unwrap_or_else(|| "unknown".into()),
        event_source: record.map_or_else(|| source.to_owned(), |r| r.event_source.clone()),
        in_cloudtrail,
        event_id: event_id.or(test_id).or_else(|| envelope.id.clone()),
        shared_event_id: record.and_then(|r| r.shared_event_id.clone()),
        request_id: record.and_then(|r| r.request_id.clone()),
        error: record.filter(|r| r.failed).map(Record::error),
        account: event.account().map(str::to_owned),
        region_given: record.and_then(|r| r.region.clone()).filter(|_| region.is_none()),
        region,
        waiting_period_days: record.and_then(waiting_period_days),
    }
}

/// The same for every delivery of the same event, and for every announcement of the same deletion: a replica of a
/// multi-Region key can be made again and deleted again, on another day.
fn uid(detection: &Detection, event: &Event, subject: &Subject, time: Option<OffsetDateTime>) -> uuid::Uuid {
    let named = |what: &str, name: &str| finding::named(detection, what, name);
    if let (Kind::KeyDeleted, Subject::Key(arn)) = (detection.kind, subject) {
        let day = time.map_or_else(|| "unknown".into(), |time| time.to_offset(UtcOffset::UTC).date().to_string());
        return named("key", &format!("{arn}\n{day}"));
    }
    if let Signal::Test { id: Some(id) } = &event.signal {
        return named("test", &id.to_string());
    }
    match event.record().and_then(|r| r.event_id.as_deref()).or(event.envelope.id.as_deref()) {
        Some(id) => named("event", id),
        None => named("text", &event.raw.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Activity;
    use crate::key::Region;
    use serde_json::{Value, json};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 03:12:44 UTC);
    const ALL: Settings = Settings {
        opt_ins: OptIns { denied_attempts: true, lost_key_use: true },
        trusted_sources: TrustedSources::NONE,
        own: None,
    };

    fn call(name: &str, fields: Value) -> Event {
        let mut record = json!({
            "eventSource": "kms.amazonaws.com", "eventName": name, "eventID": "e-1", "eventType": "AwsApiCall",
            "eventTime": "2026-11-21T03:12:44Z", "awsRegion": "eu-west-1", "recipientAccountId": "111122223333",
            "requestParameters": {"keyId": "0f1e2d3c"},
        });
        let object = record.as_object_mut().unwrap();
        object.extend(fields.as_object().unwrap().clone());
        Event::from_value(record)
    }

    fn found(event: &Event) -> Option<Finding> {
        detect(event, &Settings::default(), NOW)
    }

    #[test]
    fn denied_call_is_not_a_loss() {
        let event = call("ScheduleKeyDeletion", json!({"errorCode": "AccessDenied", "errorMessage": "no"}));
        assert!(found(&event).is_none());
        assert_eq!(detect(&event, &ALL, NOW).unwrap().detection.id, "key-loss-denied");
    }

    #[test]
    fn call_that_failed_otherwise_is_silence() {
        let event = call(
            "ScheduleKeyDeletion",
            json!({"errorCode": "KMSInvalidStateException", "errorMessage": "x is pending deletion."}),
        );
        assert!(detect(&event, &ALL, NOW).is_none());
    }

    #[test]
    fn refused_call_is_of_the_trails_account_whatever_key_it_named() {
        let elsewhere = "arn:aws:kms:us-east-1:999999999999:key/abc";
        let event = call("DisableKey", json!({"errorCode": "AccessDenied", "requestParameters": {"keyId": elsewhere}}));
        let finding = detect(&event, &ALL, NOW).unwrap();
        assert_eq!(
            (finding.account(), finding.region().map(Region::as_str)),
            (Some("111122223333"), Some("eu-west-1"))
        );
    }

    #[test]
    fn key_is_read_out_of_the_error_where_nothing_else_names_it() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c";
        let failed = |name: &str, code: &str, message: String| {
            let fields = json!({"errorMessage": message, "errorCode": code, "requestParameters": null});
            detect(&call(name, fields), &ALL, NOW).unwrap().story()
        };
        assert_eq!(failed("Encrypt", "DisabledException", format!("{arn} is disabled.")), arn);
        let denied = format!("User: x is not authorized to perform: y on resource: {arn} with an explicit deny");
        assert_eq!(failed("ScheduleKeyDeletion", "AccessDenied", denied), format!("{arn}#attempt"));
    }

    #[test]
    fn key_in_a_region_that_is_not_known_keeps_its_story() {
        let story = |name: &str, id: &str| {
            found(&call(name, json!({"awsRegion": "nz-north-1", "eventID": id}))).unwrap().story()
        };
        assert_eq!(story("ScheduleKeyDeletion", "e-1"), story("EnableKey", "e-2"));
        assert_eq!(story("DisableKey", "e-3"), "111122223333/nz-north-1/0f1e2d3c");
    }

    #[test]
    fn service_event_counts_whatever_type_the_record_gives_it() {
        assert_eq!(found(&call("DeleteKey", json!({"eventType": null}))).unwrap().detection.id, "key-deleted");
    }

    #[test]
    fn another_services_call_of_the_same_name_is_silence() {
        assert!(found(&call("DisableKey", json!({"eventSource": "example.amazonaws.com"}))).is_none());
    }

    #[test]
    fn deadline_is_the_records_then_an_estimate() {
        let deadline = |fields: Value| found(&call("ScheduleKeyDeletion", fields)).unwrap().deadline;
        assert_eq!(
            deadline(json!({"responseElements": {"deletionDate": "Nov 28, 2026, 12:00:00 AM"}})),
            Deadline::At(datetime!(2026-11-28 00:00 UTC), Source::Record)
        );
        assert_eq!(
            deadline(
                json!({"requestParameters": {"keyId": "a", "pendingWindowInDays": "7"}, "responseElements": {"deletionDate": "?"}})
            ),
            Deadline::At(NOW + time::Duration::days(7), Source::Estimate)
        );
        assert_eq!(deadline(json!({})), Deadline::At(NOW + time::Duration::days(30), Source::Estimate));
        let response = json!({"responseElements": {"pendingWindowInDays": 7.0, "deletionDate": "??"}});
        assert_eq!(deadline(response), Deadline::At(NOW + time::Duration::days(7), Source::Estimate));
        assert_eq!(
            deadline(json!({"requestParameters": null})),
            Deadline::At(NOW + time::Duration::days(7), Source::Shortest)
        );
        assert_eq!(
            deadline(json!({"responseElements": {"keyState": "PendingReplicaDeletion"}})),
            Deadline::AfterReplicas
        );
    }

    #[test]
    fn key_is_taken_from_the_most_reliable_place() {
        let key = |fields: Value| found(&call("DisableKey", fields)).unwrap().story();
        let arn = |id: &str| format!("arn:aws:kms:eu-west-1:111122223333:key/{id}");
        assert_eq!(key(json!({})), arn("0f1e2d3c"));
        assert_eq!(key(json!({"requestParameters": {"keyId": arn("mrk-1")}})), arn("mrk-1"));
        let resources = json!([{"ARN": "arn:aws:kms:eu-west-1:111122223333:alias/x"}, {"ARN": arn("res")}]);
        assert_eq!(key(json!({"resources": resources})), arn("res"));
        assert_eq!(key(json!({"resources": resources, "responseElements": {"keyId": arn("resp")}})), arn("resp"));
    }

    #[test]
    fn key_that_cannot_be_one_is_unknown_and_still_reported() {
        let finding =
            found(&call("ScheduleKeyDeletion", json!({"requestParameters": {"keyId": "x; rm -rf /"}}))).unwrap();
        assert_eq!(finding.subject, Subject::Unknown { given: Some("x; rm -rf /".into()) });
    }

    #[test]
    fn repeated_delivery_has_the_same_uid_and_another_event_another() {
        let uid = |id: &str, name: &str| found(&call(name, json!({"eventID": id}))).unwrap().origin.uid;
        assert_eq!(uid("a", "DisableKey"), uid("a", "DisableKey"));
        assert_ne!(uid("a", "DisableKey"), uid("b", "DisableKey"));
        assert_ne!(uid("a", "DisableKey"), uid("a", "EnableKey"));
    }

    #[test]
    fn every_announcement_of_a_deletion_has_one_uid() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c";
        let native = |id: &str| {
            Event::from_value(
                json!({"id": id, "source": "aws.kms", "detail-type": "KMS CMK Deletion", "resources": [arn],
                "time": "2026-11-21T04:00:00Z", "account": "111122223333", "region": "eu-west-1",
                "detail": {"key-id": "0f1e2d3c"}}),
            )
        };
        let trail = call("DeleteKey", json!({"eventType": "AwsServiceEvent", "resources": [{"ARN": arn}]}));
        let uids = [&native("1"), &native("2"), &trail].map(|event| found(event).unwrap().origin.uid);
        assert!(uids.iter().all(|uid| *uid == uids[0]), "{uids:?}");
    }

    #[test]
    fn new_material_that_stays_is_silence_and_old_material_is_the_end_of_the_danger() {
        let import = |parameters: Value| {
            found(&call("ImportKeyMaterial", json!({"requestParameters": parameters}))).map(|f| f.detection.id)
        };
        let stays = "KEY_MATERIAL_DOES_NOT_EXPIRE";
        assert_eq!(import(json!({"keyId": "a", "expirationModel": stays, "importType": "NEW_KEY_MATERIAL"})), None);
        assert_eq!(import(json!({"keyId": "a", "expirationModel": stays})), Some("key-material-restored"));
        assert_eq!(
            import(json!({"keyId": "a", "expirationModel": stays, "importType": "EXISTING_KEY_MATERIAL"})),
            Some("key-material-restored")
        );
        assert_eq!(import(json!({"keyId": "a", "validTo": "Nov 2, 2027, 11:25:25 PM"})), Some("key-material-expiring"));
    }

    #[test]
    fn lost_key_is_told_by_code_or_message() {
        let used = |fields: Value| detect(&call("Decrypt", fields), &ALL, NOW).map(|f| f.detection.id);
        assert_eq!(used(json!({"errorCode": "DisabledException"})), Some("lost-key-used"));
        assert_eq!(
            used(json!({"errorCode": "KMSInvalidStateException", "errorMessage": "k is pending deletion."})),
            Some("lost-key-used")
        );
        assert_eq!(used(json!({"errorMessage": "k is disabled."})), Some("lost-key-used"));
        assert_eq!(used(json!({"errorCode": "AccessDenied", "errorMessage": "no"})), None);
        assert_eq!(used(json!({})), None);
    }
    #[test]
    fn spokes_alarm_opens_and_closes_a_story_of_its_own_place() {
        let sample = |text: &str| found(&Event::read(text));
        let blind = sample(include_str!("../events/spoke-could-not-forward.json")).unwrap();
        assert_eq!((blind.detection.kind, blind.activity()), (Kind::GuardBlind, Activity::Create));
        assert_eq!(blind.story(), "444455556666/us-east-1/spoke");
        assert!(blind.remedy[0].command.as_deref().unwrap().contains("--region us-east-1"));
        let over = sample(include_str!("../events/spoke-forwards-again.json")).unwrap();
        assert_eq!((over.activity(), over.story()), (Activity::Close, blind.story()));
        assert!(over.remedy.is_empty() && over.origin.uid != blind.origin.uid);
    }

    #[test]
    fn close_of_a_spoke_is_earned_and_a_state_that_is_not_told_is_the_worst() {
        let alarm = |source: &str, detail: Value| {
            found(&Event::from_value(json!({
                "source": source, "detail-type": "CloudWatch Alarm State Change", "account": "444455556666",
                "region": "us-east-1", "detail": detail,
            })))
        };
        let of = |states: Value| {
            let mut detail = json!({"alarmName": "kms-key-guard-spoke-undelivered"});
            detail.as_object_mut().unwrap().extend(states.as_object().unwrap().clone());
            alarm("aws.cloudwatch", detail).map(|finding| finding.over)
        };
        let was = |value: &str| json!({"value": value});
        assert_eq!(of(json!({"state": was("OK"), "previousState": was("ALARM")})), Some(true));
        for previous in [was("INSUFFICIENT_DATA"), json!("ALARM"), Value::Null] {
            assert_eq!(of(json!({"state": was("OK"), "previousState": previous})), None);
        }
        assert_eq!(of(json!({"state": was("INSUFFICIENT_DATA"), "previousState": was("ALARM")})), None);
        for state in [was("ALARM"), json!("ALARM"), json!({}), Value::Null] {
            assert_eq!(of(json!({"state": state, "previousState": was("OK")})), Some(false));
        }
        let forged = json!({"alarmName": "kms-key-guard-spoke-undelivered", "state": was("ALARM")});
        assert!(alarm("my.cloudwatch", forged).is_none());
        for name in
            [json!("kms-key-guard-spoke-undelivered-2"), json!(["kms-key-guard-spoke-undelivered"]), Value::Null]
        {
            assert!(alarm("aws.cloudwatch", json!({"alarmName": name, "state": was("ALARM")})).is_none());
        }
    }
}
