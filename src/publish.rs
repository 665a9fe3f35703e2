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
        let to_people = self.message(&self.alerts, alert, &alert.text).subject(&alert.subject);
        let to_machines = self.message(&self.findings, alert, &alert.ocsf);
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

    fn message(&self, topic: &str, alert: &Alert, body: &str) -> PublishFluentBuilder {
        let attributes =
            alert.attributes.iter().filter_map(|(name, value)| Some(((*name).to_owned(), attribute(value)?)));
        self.sns.publish().topic_arn(topic).message(body).set_message_attributes(Some(attributes.collect()))
    }
}

/// The attribute as SNS takes it; its builder only fails without a data type.
fn attribute(value: &Value) -> Option<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type(value.data_type()).string_value(value.to_string()).build().ok()
}
