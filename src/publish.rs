//! SNS: the two topics, at the same time.

use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::operation::publish::builders::PublishFluentBuilder;
use aws_sdk_sns::types::MessageAttributeValue;
use tokio::time::timeout;

use crate::error::Error;
use crate::render::{Alert, Value};

/// How many topics an alert goes to at the same time.
pub const TOPICS: usize = 2;

/// What publishes alerts.
#[derive(Debug, Clone)]
pub struct Publisher {
    sns: Client,
    alerts: String,
    findings: String,
}

impl Publisher {
    /// Publishes with this client to these topics, given by their ARNs.
    pub fn new(sns: Client, alerts: String, findings: String) -> Self {
        Self { sns, alerts, findings }
    }

    /// Hands the alert to both topics.
    ///
    /// # Errors
    /// One topic or both didn't take it within `budget`; the other may have.
    pub async fn publish(&self, alert: &Alert, budget: Duration) -> Result<(), Error> {
        let to_people = self.message(&self.alerts, &alert.attributes, &alert.text).subject(&alert.subject);
        let to_machines = self.message(&self.findings, &alert.attributes, &alert.ocsf);
        let both = async { tokio::join!(to_people.send(), to_machines.send()) };
        let Ok((alerts, findings)) = timeout(budget, both).await else {
            return Err(Error::OutOfTime(budget.as_millis()));
        };
        let alerts = alerts.map_err(|error| Error::publish("alerts", &error));
        let findings = findings.map_err(|error| Error::publish("findings", &error));
        match (alerts, findings) {
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(alerts), Err(findings)) => Err(Error::Both(Box::new(alerts), Box::new(findings))),
        }
    }

    /// Hands a message that is for people alone to the alerts topic.
    ///
    /// # Errors
    /// The topic didn't take it within `budget`.
    #[cfg(feature = "watch")]
    pub async fn tell_people(&self, digest: &crate::render::digest::Digest, budget: Duration) -> Result<(), Error> {
        let message = self.message(&self.alerts, &digest.attributes, &digest.text).subject(&digest.subject);
        sent("alerts", message, budget).await
    }

    /// Hands a finding that is for machines alone to the findings topic.
    ///
    /// # Errors
    /// The topic didn't take it within `budget`.
    #[cfg(feature = "watch")]
    pub async fn tell_machines(&self, alert: &Alert, budget: Duration) -> Result<(), Error> {
        sent("findings", self.message(&self.findings, &alert.attributes, &alert.ocsf), budget).await
    }

    fn message(&self, topic: &str, attributes: &[(&'static str, Value)], body: &str) -> PublishFluentBuilder {
        let attributes = attributes.iter().filter_map(|(name, value)| Some(((*name).to_owned(), attribute(value)?)));
        self.sns.publish().topic_arn(topic).message(body).set_message_attributes(Some(attributes.collect()))
    }
}

#[cfg(feature = "watch")]
async fn sent(topic: &'static str, message: PublishFluentBuilder, budget: Duration) -> Result<(), Error> {
    match timeout(budget, message.send()).await {
        Ok(answer) => answer.map(drop).map_err(|error| Error::publish(topic, &error)),
        Err(_) => Err(Error::OutOfTime(budget.as_millis())),
    }
}

/// The attribute as SNS takes it; its builder only fails without a data type.
fn attribute(value: &Value) -> Option<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type(value.data_type()).string_value(value.to_string()).build().ok()
}
