//! The order of things: event, detect, enrich, assess, render, publish.

use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tracing::{error, info, warn};

use crate::assess::{assess, is_held_back};
use crate::config::Config;
use crate::detect::detect;
use crate::enrich::enrich;
use crate::error::Error;
use crate::escape::inert;
use crate::event::{Event, Signal};
use crate::finding::Finding;
use crate::limit::Limits;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::render::display_name;

/// What stays of an invocation's time for publishing, however long look-ups take.
pub const PUBLISH_RESERVE: Duration = Duration::from_secs(8);

/// What stays of an invocation's time to report a failure, so that Lambda hears of it before it ends the function.
pub const REPORT_RESERVE: Duration = Duration::from_millis(500);

/// How long an invocation may take that came without a deadline.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(15);

/// The alert function: its set-up and its clients, made once.
pub struct Guard {
    config: Config,
    kms: aws_sdk_kms::Client,
    /// For the other accounts of an organization.
    members: Option<Members>,
    publisher: Publisher,
    metrics: Metrics,
    limits: Limits,
}

/// What became of an event; the function's answer.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct AlertOutcome {
    /// `published`, `below-minimum`, `rate-limited` or `silent`.
    pub outcome: &'static str,
    /// The detection, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection: Option<&'static str>,
    /// Its severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<&'static str>,
    /// What tells a repeated delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl Guard {
    /// Puts the function together; `sts` makes its client only if there are other accounts to look keys up in.
    pub fn new(
        config: Config,
        kms: aws_sdk_kms::Client,
        sns: aws_sdk_sns::Client,
        sts: impl FnOnce() -> aws_sdk_sts::Client,
        metrics: Metrics,
    ) -> Self {
        let (alerts, findings) = (config.alerts_topic.clone(), config.findings_topic.clone());
        let publisher = Publisher::new(sns, alerts, findings, config.chat_topic.clone());
        let members = config.organization.clone().map(|organization| Members::new(organization, kms.clone(), sts()));
        Self { config, kms, members, publisher, metrics, limits: Limits::default() }
    }

    /// Handles one event of EventBridge.
    ///
    /// # Errors
    /// The alert couldn't be published; Lambda then repeats the invocation.
    pub async fn handle(&self, invocation: LambdaEvent<Box<RawValue>>) -> Result<AlertOutcome, Diagnostic> {
        let begun = SystemTime::now();
        // A deadline that had passed before the function was asked is none: a runtime other than Lambda's.
        let until =
            Some(invocation.context.deadline()).filter(|until| *until > begun).unwrap_or(begun + WITHOUT_DEADLINE);
        let now = OffsetDateTime::now_utc();
        Ok(self
            .answer(invocation.payload.get(), now, || until.duration_since(SystemTime::now()).unwrap_or_default())
            .await?)
    }

    /// Handles one event, with the clock and the time that is left as arguments.
    ///
    /// # Errors
    /// The alert couldn't be published.
    pub async fn answer(
        &self,
        payload: &str,
        now: OffsetDateTime,
        left: impl Fn() -> Duration,
    ) -> Result<AlertOutcome, Error> {
        let began = Instant::now();
        let event = Event::read(payload);
        let Some(mut finding) = detect(&event, &self.config.rules.settings, now) else {
            log_silence(&event);
            return Ok(AlertOutcome { outcome: "silent", detection: None, severity: None, uid: None });
        };
        let budget = self.config.enrich_timeout.min(left().saturating_sub(PUBLISH_RESERVE));
        match &self.members {
            Some(members) => members.enrich(&mut finding, &event, budget).await,
            None => enrich(&mut finding, &self.kms, budget).await,
        }
        finding.assessment = assess(&finding, &self.config.rules);
        let below = is_held_back(&finding, &self.config.rules);
        let limited = !below && self.limits.hold_back(&finding, now);
        // Before publishing: a topic that was deleted first mustn't silence the mass-event alarm too.
        self.metrics.finding(&finding, below || limited);
        if below || limited {
            return Ok(finished(&finding, if below { "below-minimum" } else { "rate-limited" }, None));
        }
        finding.particulars.extend(self.limits.held_back(&finding));
        let alert = self.publisher.render(&finding, now);
        let begun = Instant::now();
        let answer = self.publisher.publish(&alert, left().saturating_sub(REPORT_RESERVE)).await;
        let publish_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(()) => {
                self.limits.published(&finding, now + began.elapsed());
                Ok(finished(&finding, "published", Some(publish_ms)))
            }
            Err(cause) => {
                log_failure(&finding, &cause, publish_ms);
                Err(cause)
            }
        }
    }
}

fn log_silence(event: &Event) {
    let name = event.record().map(|record| inert(&record.event_name, 128)).unwrap_or_default();
    let event_id = event.envelope.id.as_deref().map(|id| inert(id, 128)).unwrap_or_default();
    match &event.signal {
        Signal::Foreign(why) => warn!(event_id, outcome = "silent", why = inert(why, 300), "not for this guard"),
        _ => info!(event_id, event_name = name, outcome = "silent", "nothing to report"),
    }
}

/// Says what became of a finding, in the log and to the caller. The dashboard's queries read these fields.
fn finished(finding: &Finding, outcome: &'static str, publish_ms: Option<u64>) -> AlertOutcome {
    let severity = finding.assessment.severity.name();
    let unknown: Vec<_> = finding.unknown().map(|(fact, _)| fact).collect();
    info!(
        event_id = event_id(finding),
        detection = finding.detection.id,
        severity,
        finding_uid = inert(&finding.story(), 300),
        uid = %finding.origin.uid,
        unknown = unknown.join(", "),
        failed_look_ups = failed_look_ups(finding),
        publish_ms,
        // A mass event is put together of these.
        key_name = display_name(finding),
        caller = finding.actor.id().map(|caller| inert(caller, 300)),
        // The watch function looks for these, and sends the all-clear when KMS confirms it.
        unconfirmed = finding.awaits_confirmation().then_some("yes"),
        outcome,
        "alert"
    );
    AlertOutcome {
        outcome,
        detection: Some(finding.detection.id),
        severity: Some(severity),
        uid: Some(finding.origin.uid.to_string()),
    }
}

fn log_failure(finding: &Finding, cause: &Error, publish_ms: u64) {
    error!(
        event_id = event_id(finding),
        detection = finding.detection.id,
        severity = finding.assessment.severity.name(),
        finding_uid = inert(&finding.story(), 300),
        uid = %finding.origin.uid,
        failed_look_ups = failed_look_ups(finding),
        publish_ms,
        key_name = display_name(finding),
        caller = finding.actor.id().map(|caller| inert(caller, 300)),
        outcome = "failed",
        cause = %cause,
        "alert"
    );
}

/// How many facts KMS was asked for and didn't tell.
fn failed_look_ups(finding: &Finding) -> usize {
    finding.unknown().filter(|(_, why)| why.is_failure()).count()
}

fn event_id(finding: &Finding) -> String {
    finding.origin.event_id.as_deref().map(|id| inert(id, 128)).unwrap_or_default()
}
