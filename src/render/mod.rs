//! A finding as an alert: for people, for machines, and the attributes that subscriptions filter by.

pub mod chat;
#[cfg(feature = "watch")]
pub mod digest;
#[cfg(feature = "watch")]
pub mod mass;
pub mod ocsf;
pub mod remedy;
pub mod text;
mod writer;

use std::fmt;

use time::OffsetDateTime;

use self::remedy::Remedy;
use crate::finding::{Finding, Subject};
use crate::key::{KeyArn, KeyFacts};
use crate::meaning;

/// The size in bytes that a message with its attributes stays under: SNS takes 262,144.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub const LARGEST_MESSAGE: usize = 250_000;

/// A finding, ready to be published.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Under 100 characters of ASCII, in one line.
    pub subject: String,
    /// For people.
    pub text: String,
    /// For machines: one OCSF Detection Finding as JSON.
    pub ocsf: String,
    /// For chat channels: one custom notification as JSON, if there is a topic for it.
    pub chat: Option<String>,
    /// The message attributes: at most ten, none of them empty.
    pub attributes: Vec<(&'static str, Value)>,
}

/// The value of a message attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// SNS's data type `String`.
    Text(String),
    /// SNS's data type `Number`.
    Number(u8),
}

impl Value {
    /// SNS's name of the data type.
    pub fn data_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "String",
            Self::Number(_) => "Number",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Alert {
    /// Renders a finding as things stand at `now`, for people and for machines.
    pub fn of(finding: &Finding, now: OffsetDateTime) -> Self {
        Self::rendered(finding, now, false)
    }

    /// The same, and for chat channels.
    pub fn with_chat(finding: &Finding, now: OffsetDateTime) -> Self {
        Self::rendered(finding, now, true)
    }

    fn rendered(finding: &Finding, now: OffsetDateTime, with_chat: bool) -> Self {
        let mut corrected = finding.clone();
        meaning::correct(&mut corrected, now);
        let finding = &corrected;
        let subject = text::subject(finding, now);
        let remedy = Remedy::of(finding);
        let text = text::body(finding, &remedy, now);
        let ocsf = ocsf::document(finding, &subject, &remedy, now);
        let mut alert = Self { subject, text, ocsf, chat: None, attributes: attributes(finding) };
        alert.chat = with_chat.then(|| chat::document(finding, &alert, &remedy, now));
        alert
    }
}

/// What filter policies can choose by. What isn't known is left out, since SNS refuses empty values.
fn attributes(finding: &Finding) -> Vec<(&'static str, Value)> {
    let severity = finding.assessment.severity;
    let text = |value: &str| Some(Value::Text(crate::escape::inert(value, 256))).filter(|_| !value.is_empty());
    let all = [
        ("detection", text(finding.detection.id)),
        ("severity", text(severity.name())),
        ("severity_id", Some(Value::Number(severity.id()))),
        ("activity", text(finding.activity().name())),
        ("account", finding.account().and_then(text)),
        ("region", finding.region().and_then(|region| text(region.as_str()))),
        ("event_name", text(&finding.origin.event_name)),
        ("key_arn", finding.key().and_then(|arn| text(&arn.to_string()))),
        ("finding_uid", text(&finding.story())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The key's name for people, likewise.
pub(crate) fn key_name<'a>(arn: &'a KeyArn, facts: &'a KeyFacts) -> &'a str {
    let aliases = facts.aliases.known().into_iter().flatten();
    aliases.map(String::as_str).find(|alias| crate::escape::is_plain(alias)).unwrap_or(arn.id())
}

/// The subject's name for people: an alias if there is a plain one, else the id.
pub(crate) fn display_name(finding: &Finding) -> String {
    match &finding.subject {
        Subject::Key(arn) => key_name(arn, &finding.facts).to_owned(),
        Subject::KeyStore { id, name } => {
            let plain = name.as_deref().filter(|name| crate::escape::is_plain(name));
            plain.or(id.as_deref()).unwrap_or("unknown").to_owned()
        }
        Subject::Cluster { id } => id.as_deref().unwrap_or("unknown").to_owned(),
        Subject::Guard { part, .. } => part.clone(),
        Subject::Unknown { .. } => "unknown".into(),
    }
}
