//! What EventBridge hands to the function, read into types once.
//!
//! CloudTrail promises little about a record's shape: fields come and go, and a field of an unexpected type counts as
//! absent here. Only what a signal can't do without makes it [`Signal::Unreadable`].
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use std::sync::Arc;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::json::{array, instant, kind, number, parse, text, timestamp, truth};
use crate::key::{KeyArn, Region, is_account_id};

/// The source of every event this guard listens to, in the record's own words.
pub const KMS_EVENT_SOURCE: &str = "kms.amazonaws.com";
/// The source of CloudHSM's events, whose clusters hold the keys of some custom key stores.
pub const CLOUDHSM_EVENT_SOURCE: &str = "cloudhsm.amazonaws.com";
/// The detail-type of a CloudTrail record about an API call.
pub const API_CALL: &str = "AWS API Call via CloudTrail";
/// The detail-type of a CloudTrail record about something that a service did by itself.
pub const SERVICE_EVENT: &str = "AWS Service Event via CloudTrail";
/// The detail-type of a CloudTrail record about a call through a VPC endpoint, if the trail logs network activity.
pub const NETWORK_ACTIVITY: &str = "AWS Network Activity Event via CloudTrail";
/// The error code of a call that the policy of a VPC endpoint refused. Such a call has no other record.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-network-events-with-cloudtrail.html>
pub const ENDPOINT_DENIED: &str = "VpceAccessDenied";
/// The detail-type of KMS's own notice that a key is gone.
pub const KEY_DELETION: &str = "KMS CMK Deletion";
/// The detail-type of KMS's own notice that imported key material expired.
pub const MATERIAL_EXPIRATION: &str = "KMS Imported Key Material Expiration";

/// The source of what the guard says of itself.
pub const GUARD_EVENT_SOURCE: &str = "kms-key-guard";
/// The detail-type of a test that was sent on purpose.
pub const TEST: &str = "KMS Key Guard Test";

/// The source of CloudWatch's own events; only AWS can send with it.
const CLOUDWATCH: &str = "aws.cloudwatch";
/// The detail-type of an alarm's change from one state to another.
const ALARM_STATE_CHANGE: &str = "CloudWatch Alarm State Change";
/// The alarm of every spoke on what it couldn't forward, as `stackset/spoke.yaml` calls it.
const SPOKE_ALARM: &str = "kms-key-guard-spoke-undelivered";

/// One event with the envelope around it and the text it came as.
#[derive(Debug, Clone)]
pub struct Event {
    /// What EventBridge says about the event.
    pub envelope: Envelope,
    /// What it is.
    pub signal: Signal,
    /// The record as it came: the `detail` of an envelope, else the whole.
    pub raw: Arc<Value>,
}

/// The EventBridge envelope; empty around a bare CloudTrail record.
#[derive(Debug, Clone, Default)]
pub struct Envelope {
    /// The event's own id, the same whenever EventBridge delivers it again.
    pub id: Option<String>,
    /// Such as `aws.kms`.
    pub source: Option<String>,
    /// Such as `AWS API Call via CloudTrail`.
    pub detail_type: Option<String>,
    /// The account the event comes from.
    pub account: Option<String>,
    /// The Region the event comes from.
    pub region: Option<String>,
    /// When it happened; None if it can't be read.
    pub time: Option<OffsetDateTime>,
    /// ARNs.
    pub resources: Vec<String>,
    /// Whether somebody had an archive send it again, so that it may be long past.
    /// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-replay-archived-event.html>
    pub replayed: bool,
}

impl Envelope {
    /// The envelope around an event: typed where it is as EventBridge writes it, else field by field, so that one that is
    /// missing or wrong costs no event.
    fn of(event: &mut Value) -> Self {
        // Without the detail, which needn't be copied for this.
        let detail = event.get_mut("detail").map(Value::take);
        let typed = EventBridgeEvent::<Value>::deserialize(&*event);
        if let (Some(place), Some(detail)) = (event.get_mut("detail"), detail) {
            *place = detail;
        }
        let envelope = match typed {
            Ok(typed) => Self::typed(typed),
            Err(_) => Self::leniently(event),
        };
        Self { replayed: event.get("replay-name").is_some_and(|name| !name.is_null()), ..envelope }
    }

    fn typed(event: EventBridgeEvent) -> Self {
        let given = |text: &String| !text.is_empty();
        Self {
            id: event.id.filter(given),
            source: Some(event.source).filter(given),
            detail_type: Some(event.detail_type).filter(given),
            account: event.account.filter(given),
            region: event.region.filter(given),
            time: event.time.and_then(|time| timestamp(&time.to_rfc3339())),
            resources: event.resources.unwrap_or_default(),
            replayed: false,
        }
    }

    fn leniently(event: &Value) -> Self {
        Self {
            id: text(event, "id"),
            source: text(event, "source"),
            detail_type: text(event, "detail-type"),
            account: text(event, "account"),
            region: text(event, "region"),
            time: instant(event, "time"),
            resources: array(event.get("resources")).filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            replayed: false,
        }
    }
}

/// The kinds of events.
#[derive(Debug, Clone)]
pub enum Signal {
    /// Somebody called an API.
    ApiCall(Box<Record>),
    /// A service did something by itself.
    ServiceEvent(Box<Record>),
    /// KMS's own event, without CloudTrail.
    Native {
        /// The detail-type.
        kind: Native,
        /// `detail.key-id`, as it came.
        key_id: Option<String>,
    },
    /// Somebody called an API of another service, which may switch a part of the guard or a trail off.
    OtherService(Box<Record>),
    /// Somebody asked for a test alert.
    Test {
        /// `detail.test-id`; None if that is no UUID.
        id: Option<Uuid>,
    },
    /// The alarm of a spoke on what it couldn't forward.
    SpokeAlarm {
        /// Whether it was in ALARM and isn't any more.
        over: bool,
    },
    /// It came from KMS and can't be understood; the reason.
    Unreadable(String),
    /// It isn't for this guard; the reason.
    Foreign(String),
}

/// KMS's own events that mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Native {
    /// `KMS CMK Deletion`.
    KeyDeletion,
    /// `KMS Imported Key Material Expiration`.
    MaterialExpiration,
}

/// The fields of a CloudTrail record that the guard reads.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Such as `ScheduleKeyDeletion`.
    pub event_name: String,
    /// Such as `kms.amazonaws.com`.
    pub event_source: String,
    /// When the call was made.
    pub event_time: Option<OffsetDateTime>,
    /// CloudTrail's id of this record.
    pub event_id: Option<String>,
    /// The id of the call, if records of it went to several accounts.
    pub shared_event_id: Option<String>,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The Region the call was made to.
    pub region: Option<String>,
    /// The account whose trail this is.
    pub recipient_account: Option<String>,
    /// An IP address, a service's DNS name or `AWS Internal`.
    pub source_ip: Option<String>,
    /// What the caller's program says it is.
    pub user_agent: Option<String>,
    /// The VPC endpoint the call came through.
    pub vpc_endpoint: Option<String>,
    /// Whether the credentials are those of a console session.
    pub from_console: bool,
    /// Present when the call failed.
    pub error_code: Option<String>,
    /// Present when the call failed.
    pub error_message: Option<String>,
    /// Whether the call failed: an error code or message that is anything but null or empty, text or not.
    pub failed: bool,
    /// Who called.
    pub identity: Identity,
    /// What the call asked for.
    pub request: RequestParameters,
    /// What KMS answered.
    pub response: ResponseElements,
    /// The ARNs in `resources`, in their order.
    pub resources: Vec<String>,
    /// The custom key store's name, from `additionalEventData`.
    pub key_store_name: Option<String>,
}

impl Record {
    /// The error in words: code and message, as far as they are there.
    pub fn error(&self) -> String {
        [self.error_code.as_deref(), self.error_message.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ")
    }
}

/// `userIdentity`.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Such as `AssumedRole`; KMS's service events have none.
    pub kind: Option<String>,
    /// The caller's ARN.
    pub arn: Option<String>,
    /// The caller's unique id; for a role session `ID:SESSION-NAME`.
    pub principal_id: Option<String>,
    /// The caller's account.
    pub account: Option<String>,
    /// An IAM user's name, or what the identity provider calls the caller.
    pub user_name: Option<String>,
    /// The service acting for the caller.
    pub invoked_by: Option<String>,
    /// The identity provider of a federated caller.
    pub identity_provider: Option<String>,
    /// The role behind a session: its ARN.
    pub issuer_arn: Option<String>,
    /// The role behind a session: its name.
    pub issuer_name: Option<String>,
    /// The kind of issuer, such as `Role`.
    pub issuer_kind: Option<String>,
    /// Who the session's first caller was, if the administrator demands it to be set.
    pub source_identity: Option<String>,
    /// `mfaAuthenticated`, if the record tells.
    pub mfa: Option<bool>,
    /// Whether the session is root's, taken over through centralized root access.
    pub assumed_root: bool,
    /// The identity provider of a web identity session.
    pub web_provider: Option<String>,
    /// The subject (`sub`) of the web identity token, if the record holds it.
    pub web_subject: Option<String>,
    /// The IAM Identity Center user on whose behalf the call was made.
    pub on_behalf_of: Option<String>,
}

/// `requestParameters`, as far as they matter for a key's life.
#[derive(Debug, Clone, Default)]
pub struct RequestParameters {
    /// Whether the record holds any; many refused calls' records don't.
    pub given: bool,
    /// The key as the caller typed it: id, ARN or alias.
    pub key_id: Option<String>,
    /// ScheduleKeyDeletion: whether a waiting period was asked for, readable or not.
    pub pending_window: bool,
    /// ScheduleKeyDeletion: days.
    pub pending_window_days: Option<i64>,
    /// CloudHSM: the cluster.
    pub cluster_id: Option<String>,
    /// The custom key store.
    pub key_store_id: Option<String>,
    /// UpdateCustomKeyStore: the parameters that change, by name.
    pub parameters: Vec<String>,
    /// DeleteImportedKeyMaterial: the one material that is meant.
    pub key_material_id: Option<String>,
    /// PutKeyPolicy, CreateKey, ReplicateKey: the new policy, JSON text.
    pub policy: Option<String>,
    /// ReplicateKey: where the new key is.
    pub replica_region: Option<String>,
    /// The same three: whether the caller switched the lockout check off.
    pub bypass_lockout_check: bool,
    /// ImportKeyMaterial: `KEY_MATERIAL_EXPIRES` or `KEY_MATERIAL_DOES_NOT_EXPIRE`.
    pub expiration_model: Option<String>,
    /// ImportKeyMaterial: when the material expires.
    pub valid_to: Option<OffsetDateTime>,
    /// ImportKeyMaterial: `NEW_KEY_MATERIAL` or `EXISTING_KEY_MATERIAL`.
    pub import_type: Option<String>,
}

/// `responseElements`.
#[derive(Debug, Clone, Default)]
pub struct ResponseElements {
    /// The key's ARN.
    pub key_id: Option<String>,
    /// CreateKey, ReplicateKey: the new key's ARN.
    pub new_key: Option<String>,
    /// The key's state after the call.
    pub key_state: Option<String>,
    /// ScheduleKeyDeletion: days.
    pub pending_window_days: Option<i64>,
    /// When the key will be deleted; None if the text can't be read as a date.
    pub deletion_date: Option<OffsetDateTime>,
}

impl Event {
    /// Reads what the function was given. Whatever it is, it becomes an event of some kind.
    pub fn read(payload: &str) -> Self {
        match parse(payload) {
            Ok(value) => Self::from_value(value),
            Err(error) => Self {
                envelope: Envelope::default(),
                signal: Signal::Unreadable(format!("the event isn't JSON that can be read: {error}")),
                raw: Arc::new(Value::String(payload.to_owned())),
            },
        }
    }

    /// Reads an EventBridge event or a bare CloudTrail record.
    pub fn from_value(mut value: Value) -> Self {
        if value.get("detail").is_none() && value.get("eventSource").is_some() {
            let envelope = Envelope::default();
            return Self { signal: cloudtrail(&value, &envelope), envelope, raw: value.into() };
        }
        let envelope = Envelope::of(&mut value);
        // EventBridge always names a source. Without one, whoever stored the event dropped it, and the record decides.
        let is_record = |detail: &Value| {
            text(detail, "eventSource").as_deref() == Some(KMS_EVENT_SOURCE) && text(detail, "eventName").is_some()
        };
        let is_stored_record = || envelope.source.is_none() && value.get("detail").is_some_and(is_record);
        if let Some(signal) = about_the_guard(&value, &envelope) {
            let raw = value.get_mut("detail").map_or(Value::Null, Value::take);
            return Self { envelope, signal, raw: raw.into() };
        }
        if envelope.source.as_deref() != Some("aws.kms") && !is_stored_record() {
            let source = envelope.source.as_deref().map_or("no source".into(), |s| format!("the source {s:?}"));
            let signal = Signal::Foreign(format!("not an event of KMS: it has {source}"));
            return Self { envelope, signal, raw: value.into() };
        }
        let detail = value.get_mut("detail").map(Value::take);
        let signal = match (envelope.detail_type.as_deref(), &detail) {
            (Some(API_CALL | SERVICE_EVENT | NETWORK_ACTIVITY) | None, Some(detail)) => cloudtrail(detail, &envelope),
            (Some(API_CALL | SERVICE_EVENT | NETWORK_ACTIVITY) | None, None) => {
                Signal::Unreadable("the event has no detail".into())
            }
            (Some(KEY_DELETION), _) => native(Native::KeyDeletion, detail.as_ref(), &envelope),
            (Some(MATERIAL_EXPIRATION), _) => native(Native::MaterialExpiration, detail.as_ref(), &envelope),
            (Some(other), _) => Signal::Foreign(format!("the detail-type {other:?} isn't one the guard reports")),
        };
        Self { envelope, signal, raw: detail.unwrap_or(value).into() }
    }

    /// The CloudTrail record, if there is one.
    pub fn record(&self) -> Option<&Record> {
        match &self.signal {
            Signal::ApiCall(record) | Signal::ServiceEvent(record) | Signal::OtherService(record) => Some(record),
            _ => None,
        }
    }

    /// Which key a signal is about, by the most reliable of the places that name one.
    pub fn key_arn(&self) -> Option<KeyArn> {
        let first_key = |arns: &[String]| arns.iter().find_map(|arn| arn.parse::<KeyArn>().ok());
        let complete = |name: &str| {
            let here = || KeyArn::new(self.region()?.as_str(), self.account()?, name).ok();
            name.parse().ok().or_else(here)
        };
        // The new key of ReplicateKey is in another Region than the call; the request and the resources name its primary.
        let new_key = || self.record()?.response.new_key.as_deref()?.parse().ok();
        let replica = || {
            let replica_region = self.record()?.request.replica_region.as_deref()?;
            let primary = self.given_key()?;
            KeyArn::new(replica_region, self.account()?, primary.rsplit('/').next()?).ok()
        };
        let from_response = || complete(self.record()?.response.key_id.as_deref()?);
        let from_resources = || first_key(&self.record()?.resources);
        let from_request = || complete(&self.given_key()?);
        let from_envelope = || first_key(&self.envelope.resources);
        // "… on resource: ARN with an explicit deny", "ARN is disabled."
        let from_error = || {
            let words = self.record()?.error_message.as_deref()?.split([' ', ',', ';']);
            words.into_iter().find_map(|word| word.trim_end_matches('.').parse().ok())
        };
        let makes = self.record().is_some_and(|record| makes_a_key(&record.event_name));
        if let Some(made) = makes.then(|| new_key().or_else(replica)).flatten() {
            return Some(made);
        }
        from_response().or_else(from_resources).or_else(from_request).or_else(from_envelope).or_else(from_error)
    }

    /// The account whose trail told, or whose bus the event was on.
    pub fn account(&self) -> Option<&str> {
        let places = [self.record().and_then(|r| r.recipient_account.as_deref()), self.envelope.account.as_deref()];
        places.into_iter().flatten().find(|id| is_account_id(id))
    }

    /// The Region that the call was made to, or whose bus the event was on.
    pub fn region(&self) -> Option<Region> {
        let places = [self.record().and_then(|r| r.region.as_deref()), self.envelope.region.as_deref()];
        places.into_iter().flatten().find_map(|name| name.parse().ok())
    }

    /// The key as the signal's own words have it.
    pub fn given_key(&self) -> Option<String> {
        match &self.signal {
            Signal::Native { key_id, .. } => key_id.clone(),
            _ => self.record()?.request.key_id.clone(),
        }
    }
}

/// Whether a call of this name makes a key, which may have a policy from the start.
pub fn makes_a_key(event_name: &str) -> bool {
    matches!(event_name, "CreateKey" | "ReplicateKey")
}

fn native(kind: Native, detail: Option<&Value>, envelope: &Envelope) -> Signal {
    if envelope.resources.is_empty() && !detail.is_some_and(Value::is_object) {
        return Signal::Unreadable("it names no key: its detail isn't an object, and its resources are empty".into());
    }
    Signal::Native { kind, key_id: detail.and_then(|d| text(d, "key-id")) }
}

/// A test, a spoke's alarm, or a call of another service; only AWS can send with a source of AWS.
fn about_the_guard(event: &Value, envelope: &Envelope) -> Option<Signal> {
    let (source, detail_type) = (envelope.source.as_deref()?, envelope.detail_type.as_deref()?);
    let detail = event.get("detail")?;
    if (source, detail_type) == (GUARD_EVENT_SOURCE, TEST) {
        return Some(Signal::Test { id: text(detail, "test-id").and_then(|id| id.parse().ok()) });
    }
    if (source, detail_type) == (CLOUDWATCH, ALARM_STATE_CHANGE) {
        return spoke_alarm(detail);
    }
    let (event_source, event_name) = (text(detail, "eventSource")?, text(detail, "eventName")?);
    let is_call = source.starts_with("aws.") && detail_type == API_CALL && event_source != KMS_EVENT_SOURCE;
    is_call.then(|| Signal::OtherService(Box::new(record(detail, event_name, event_source))))
}

/// A spoke's alarm that goes off, or is over. A new alarm is OK without ever having been anything else, and one whose state
/// can't be told is taken for the worst.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>
fn spoke_alarm(detail: &Value) -> Option<Signal> {
    let state = |which: &str| text(detail.get(which)?, "value");
    text(detail, "alarmName").filter(|alarm| alarm == SPOKE_ALARM)?;
    match state("state").as_deref() {
        Some("OK") if state("previousState").as_deref() == Some("ALARM") => Some(Signal::SpokeAlarm { over: true }),
        Some("OK" | "INSUFFICIENT_DATA") => None,
        _ => Some(Signal::SpokeAlarm { over: false }),
    }
}

fn cloudtrail(detail: &Value, envelope: &Envelope) -> Signal {
    if !detail.is_object() {
        return Signal::Unreadable(format!("its detail is {}, and a CloudTrail record is an object", kind(detail)));
    }
    // Network activity repeats calls that have records of their own, but for those that a VPC endpoint's policy refused.
    // <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-events.html>
    let by_endpoint = text(detail, "errorCode").as_deref() == Some(ENDPOINT_DENIED);
    let is_network = envelope.detail_type.as_deref() == Some(NETWORK_ACTIVITY);
    match text(detail, "eventCategory") {
        _ if by_endpoint => {}
        Some(category) if category != "Management" => {
            return Signal::Foreign(format!("not a management event: its category is {category:?}"));
        }
        _ if is_network => return Signal::Foreign("network activity that no VPC endpoint's policy refused".into()),
        _ => {}
    }
    let (event_name, event_source) = match (text(detail, "eventName"), text(detail, "eventSource")) {
        (Some(name), Some(source)) => (name, source),
        (_, Some(source)) if source != KMS_EVENT_SOURCE => {
            return Signal::Foreign(format!("not an event of KMS: its eventSource is {source:?}"));
        }
        (name, _) => {
            let field = if name.is_none() { "eventName" } else { "eventSource" };
            let held = detail.get(field).map_or("is missing".into(), |v| format!("is {}, and should be text", kind(v)));
            return Signal::Unreadable(format!("the record's {field} {held}"));
        }
    };
    let event_type = text(detail, "eventType");
    let record = Box::new(record(detail, event_name, event_source));
    let is_service_event = match event_type.as_deref() {
        Some(event_type) => event_type == "AwsServiceEvent",
        None => envelope.detail_type.as_deref() == Some(SERVICE_EVENT),
    };
    if is_service_event { Signal::ServiceEvent(record) } else { Signal::ApiCall(record) }
}

fn record(detail: &Value, event_name: String, event_source: String) -> Record {
    let request = &detail["requestParameters"];
    let response = &detail["responseElements"];
    let service = &detail["serviceEventDetails"];
    // Converters write a field that CloudTrail left out as empty.
    let present = |field: &str| match &detail[field] {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.iter().all(Value::is_null),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    Record {
        event_name,
        event_source,
        event_time: instant(detail, "eventTime"),
        event_id: text(detail, "eventID"),
        shared_event_id: text(detail, "sharedEventID"),
        request_id: text(detail, "requestID"),
        region: text(detail, "awsRegion"),
        recipient_account: text(detail, "recipientAccountId"),
        source_ip: text(detail, "sourceIPAddress"),
        user_agent: text(detail, "userAgent"),
        vpc_endpoint: text(detail, "vpcEndpointId"),
        from_console: truth(detail, "sessionCredentialFromConsole").unwrap_or(false),
        error_code: text(detail, "errorCode"),
        error_message: text(detail, "errorMessage"),
        failed: present("errorCode") || present("errorMessage"),
        identity: identity(&detail["userIdentity"]),
        request: RequestParameters {
            given: request.is_object(),
            key_id: [(request, "keyId"), (request, "keyArn"), (service, "keyId"), (service, "keyArn")]
                .into_iter()
                .find_map(|(holder, field)| text(holder, field)),
            pending_window: request.get("pendingWindowInDays").is_some_and(|days| !days.is_null()),
            pending_window_days: number(request, "pendingWindowInDays"),
            cluster_id: text(request, "clusterId"),
            key_store_id: text(request, "customKeyStoreId"),
            parameters: {
                let given = request.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                given.map(|(name, _)| name.clone()).take(16).collect()
            },
            key_material_id: text(request, "keyMaterialId"),
            policy: text(request, "policy"),
            replica_region: text(request, "replicaRegion"),
            bypass_lockout_check: truth(request, "bypassPolicyLockoutSafetyCheck").unwrap_or(false),
            expiration_model: text(request, "expirationModel"),
            valid_to: instant(request, "validTo"),
            import_type: text(request, "importType"),
        },
        response: ResponseElements {
            key_id: text(response, "keyId"),
            new_key: ["keyMetadata", "replicaKeyMetadata"]
                .into_iter()
                .find_map(|metadata| text(response.get(metadata)?, "arn")),
            key_state: text(response, "keyState"),
            pending_window_days: number(response, "pendingWindowInDays"),
            deletion_date: instant(response, "deletionDate"),
        },
        resources: array(detail.get("resources")).filter_map(|r| text(r, "ARN").or_else(|| text(r, "arn"))).collect(),
        key_store_name: text(&detail["additionalEventData"], "customKeyStoreName"),
    }
}

fn identity(identity: &Value) -> Identity {
    let session = &identity["sessionContext"];
    let issuer = &session["sessionIssuer"];
    let federation = &session["webIdFederationData"];
    Identity {
        kind: text(identity, "type"),
        arn: text(identity, "arn"),
        principal_id: text(identity, "principalId"),
        account: text(identity, "accountId"),
        user_name: text(identity, "userName"),
        invoked_by: text(identity, "invokedBy"),
        identity_provider: text(identity, "identityProvider"),
        issuer_arn: text(issuer, "arn"),
        issuer_name: text(issuer, "userName"),
        issuer_kind: text(issuer, "type"),
        source_identity: text(session, "sourceIdentity"),
        mfa: truth(&session["attributes"], "mfaAuthenticated"),
        assumed_root: truth(session, "assumedRoot").unwrap_or(false),
        web_provider: text(federation, "federatedProvider"),
        web_subject: federation["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .find_map(|(name, value)| name.ends_with(":sub").then(|| value.as_str().map(str::to_owned))?),
        on_behalf_of: text(&identity["onBehalfOf"], "userId"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_of_the_wrong_type_counts_as_absent() {
        let event = Event::read(
            r#"{"eventSource":"kms.amazonaws.com","eventName":"DisableKey","awsRegion":7,"userIdentity":"me",
                "requestParameters":[],"resources":{"ARN":1},"userAgent":{"a":1},"readOnly":"false"}"#,
        );
        let record = event.record().unwrap();
        assert_eq!(record.region, None);
        assert_eq!(record.user_agent, None);
        assert_eq!(record.identity.kind, None);
        assert!(record.resources.is_empty());
    }

    #[test]
    fn error_that_is_not_text_still_means_that_the_call_failed() {
        let failed = |fields: &str| {
            let text = format!(r#"{{"eventSource":"kms.amazonaws.com","eventName":"DisableKey"{fields}}}"#);
            Event::read(&text).record().unwrap().failed
        };
        assert!(failed(r#","errorCode":500"#));
        assert!(failed(r#","errorMessage":"no""#));
        assert!(!failed(r#","errorCode":null,"errorMessage":null"#));
        for empty in [r#""""#, r#"" ""#, "[]", "[null]", "{}"] {
            assert!(!failed(&format!(r#","errorCode":{empty},"errorMessage":{empty}"#)), "{empty}");
            assert!(failed(&format!(r#","errorCode":{empty},"errorMessage":"no""#)), "{empty}");
        }
        assert!(!failed(""));
    }

    #[test]
    fn half_a_character_costs_no_event() {
        for agent in [r"x\ud83d", r"\udd11x", r"\\\ud83d\u0041", r"\ud83d\ud83d\udd11"] {
            let text =
                format!(r#"{{"eventSource":"kms.amazonaws.com","eventName":"DisableKey","userAgent":"{agent}"}}"#);
            let event = Event::read(&text);
            assert_eq!(event.record().unwrap().event_name, "DisableKey");
            assert!(event.record().unwrap().user_agent.as_deref().unwrap().contains('\u{fffd}'), "{agent}");
        }
        let whole = r#"{"eventSource":"kms.amazonaws.com","eventName":"DisableKey","userAgent":"\ud83d\udd11"}"#;
        assert_eq!(Event::read(whole).record().unwrap().user_agent.as_deref(), Some("\u{1f511}"));
    }

    #[test]
    fn another_services_record_is_foreign_even_without_a_name() {
        assert!(matches!(Event::read(r#"{"eventSource":"s3.amazonaws.com"}"#).signal, Signal::Foreign(_)));
        let network = r#"{"eventSource":"kms.amazonaws.com","eventName":"ScheduleKeyDeletion","eventCategory":"NetworkActivity"}"#;
        assert!(matches!(Event::read(network).signal, Signal::Foreign(_)));
        let enveloped = format!(r#"{{"source":"aws.kms","detail-type":"{NETWORK_ACTIVITY}","detail":{network}}}"#);
        assert!(matches!(Event::read(&enveloped).signal, Signal::Foreign(_)));
        let without_category = enveloped.replace(r#","eventCategory":"NetworkActivity""#, "");
        assert!(matches!(Event::read(&without_category).signal, Signal::Foreign(_)));
        let denied = enveloped.replace(r#""eventName""#, r#""errorCode":"VpceAccessDenied","eventName""#);
        assert!(matches!(Event::read(&denied).signal, Signal::ApiCall(_)));
    }

    #[test]
    fn what_is_not_json_is_unreadable_with_its_text_kept() {
        let event = Event::read("{\"detail\": ");
        assert!(matches!(event.signal, Signal::Unreadable(_)));
        assert_eq!(*event.raw, Value::String("{\"detail\": ".into()));
    }
}
