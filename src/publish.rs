//! SNS: the topics, at the same time.

use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::operation::publish::builders::PublishFluentBuilder;
use aws_sdk_sns::types::MessageAttributeValue;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::error::Error;
use crate::finding::Finding;
use crate::render::{Alert, Value};

/// How many topics an alert goes to at the same time, beside the one for chat channels.
pub const TOPICS: usize = 2;

/// What publishes alerts.
#[derive(Debug, Clone)]
pub struct Publisher {
    sns: Client,
    alerts: String,
    findings: String,
    chat: Option<String>,
}

impl Publisher {
    /// Publishes with this client to these topics, given by their ARNs.
    pub fn new(sns: Client, alerts: String, findings: String, chat: Option<String>) -> Self {
        Self { sns, alerts, findings, chat }
    }

    /// Renders a finding for the topics that there are.
    pub fn render(&self, finding: &Finding, now: OffsetDateTime) -> Alert {
        match self.chat {
            Some(_) => Alert::with_chat(finding, now),
            None => Alert::of(finding, now),
        }
    }

    /// Hands an alert of [`Self::render`] to every topic.
    ///
    /// # Errors
    /// A topic or several didn't take it within `budget`; the others may have.
    pub async fn publish(&self, alert: &Alert, budget: Duration) -> Result<(), Error> {
        let attributes = &alert.attributes;
        let to_people = self.message(&self.alerts, attributes, &alert.text).subject(&alert.subject);
        let to_machines = self.message(&self.findings, attributes, &alert.ocsf);
        let to_channels = self.to_channels(attributes, alert.chat.as_deref());
        let all = async {
            tokio::join!(
                sent("alerts", Some(to_people)),
                sent("findings", Some(to_machines)),
                sent("chat", to_channels),
            )
        };
        let (alerts, findings, chat) = within(budget, all).await?;
        together([alerts, findings, chat])
    }

    /// Hands a message that is for people alone to the alerts topic and the one for chat channels.
    ///
    /// # Errors
    /// A topic or both didn't take it within `budget`.
    #[cfg(feature = "watch")]
    pub async fn tell_people(&self, digest: &crate::render::digest::Digest, budget: Duration) -> Result<(), Error> {
        let attributes = &digest.attributes;
        let to_people = self.message(&self.alerts, attributes, &digest.text).subject(&digest.subject);
        let document = self.chat.as_ref().map(|_| crate::render::chat::digest(digest));
        let to_channels = self.to_channels(attributes, document.as_deref());
        let both = async { tokio::join!(sent("alerts", Some(to_people)), sent("chat", to_channels)) };
        let (alerts, chat) = within(budget, both).await?;
        together([alerts, chat])
    }

    /// Hands a finding that is for machines alone to the findings topic.
    ///
    /// # Errors
    /// The topic didn't take it within `budget`.
    #[cfg(feature = "watch")]
    pub async fn tell_machines(&self, alert: &Alert, budget: Duration) -> Result<(), Error> {
        let message = self.message(&self.findings, &alert.attributes, &alert.ocsf);
        within(budget, sent("findings", Some(message))).await?
    }

    /// What goes to the topic for chat channels, if there is one. SNS refuses the empty message that an alert without a
    /// document would be, so that it fails and isn't left out.
    fn to_channels(
        &self,
        attributes: &[(&'static str, Value)],
        document: Option<&str>,
    ) -> Option<PublishFluentBuilder> {
        Some(self.message(self.chat.as_deref()?, attributes, document.unwrap_or_default()))
    }

    fn message(&self, topic: &str, attributes: &[(&'static str, Value)], body: &str) -> PublishFluentBuilder {
        let attributes = attributes.iter().filter_map(|(name, value)| Some(((*name).to_owned(), attribute(value)?)));
        self.sns.publish().topic_arn(topic).message(body).set_message_attributes(Some(attributes.collect()))
    }
}

async fn sent(topic: &'static str, message: Option<PublishFluentBuilder>) -> Result<(), Error> {
    match message {
        Some(message) => message.send().await.map(drop).map_err(|error| Error::publish(topic, &error)),
        None => Ok(()),
    }
}

async fn within<T>(budget: Duration, answers: impl Future<Output = T>) -> Result<T, Error> {
    timeout(budget, answers).await.map_err(|_| Error::OutOfTime(budget.as_millis()))
}

/// Every topic has to take it.
fn together<const N: usize>(answers: [Result<(), Error>; N]) -> Result<(), Error> {
    let refusals = answers.into_iter().filter_map(Result::err);
    refusals.reduce(|first, second| Error::Both(Box::new(first), Box::new(second))).map_or(Ok(()), Err)
}

/// The attribute as SNS takes it; its builder only fails without a data type.
fn attribute(value: &Value) -> Option<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type(value.data_type()).string_value(value.to_string()).build().ok()
}
