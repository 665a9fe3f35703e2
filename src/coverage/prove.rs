//! Sends a test through the guard, and waits until it comes out of every topic into the stack's proof queue.
//!
//! The test goes the way of every signal from the event bus on: rule, alert function, topics, a subscriber. What it
//! doesn't go through is CloudTrail, which takes no made-up calls; [`crate::coverage`] looks at the trail.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::coverage::alarms::redrive;
use crate::coverage::proof::Leg;
use crate::coverage::{About, Check, Observation, Stack, in_region, is_missing, why};
use crate::escape::{inert, name};

/// The event's source and detail-type, which the template's GuardTestRule looks for.
const SOURCE: &str = "kms-key-guard";
const DETAIL_TYPE: &str = "KMS Key Guard Test";
/// The detection of the alerts that come of it.
const DETECTION: &str = "guard-test";

/// How long one look into the queue waits, in seconds.
const WAIT_SECONDS: i32 = 4;
/// How long another one's test that was read stays out of sight, in seconds.
const OTHERS_HIDDEN: i32 = 1;

static BUS: About = About { id: "prove-bus", what: "The event bus takes the test.", kind: "AWS::Events::EventBus" };
static FUNCTION: About = About {
    id: "prove-function",
    what: "A rule delivers the test to the alert function, which runs.",
    kind: "AWS::Lambda::Function",
};
static ALERTS: About =
    About { id: "prove-alerts", what: "The test arrives through the alerts topic.", kind: "AWS::SNS::Topic" };
static FINDINGS: About =
    About { id: "prove-findings", what: "The test arrives through the findings topic.", kind: "AWS::SNS::Topic" };

static CHAT: About = About {
    id: "prove-chat",
    what: "The test arrives through the chat topic, if there is one.",
    kind: "AWS::SNS::Topic",
};

/// The legs of the way, in order.
pub static LEGS: [&About; 5] = [&BUS, &FUNCTION, &ALERTS, &FINDINGS, &CHAT];

/// After how long a test of which nothing is seen is sent again: the function publishes one a minute at most, so it may have
/// held this one back.
const AGAIN: Duration = Duration::from_secs(61);

/// Why there was no test.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// What becomes of it couldn't be seen, so nothing was sent.
    #[error("no test was sent: {0}")]
    NotSent(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What came of a test.
pub struct Proof {
    /// Its id, which both alerts carry.
    pub id: Uuid,
    /// Each leg, in order; or why there are none.
    pub legs: Result<Vec<Check>, ProveError>,
}

struct ProveClients {
    events: aws_sdk_eventbridge::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    sqs: aws_sdk_sqs::Client,
}

/// What arrived, and what is wrong with it, if anything is.
#[derive(Default)]
struct Arrived {
    /// By topic.
    through: BTreeMap<&'static str, Result<(), String>>,
    /// Why the queue couldn't be read the last time, if so.
    deaf: Option<String>,
}

/// Runs one test of this guard, until it came out or `interrupt` ends.
pub async fn prove(sdk: &SdkConfig, guard: &Stack, timeout: Duration, interrupt: impl Future<Output = ()>) -> Proof {
    let sdk = in_region(sdk, guard.region.as_str());
    let clients = ProveClients {
        events: aws_sdk_eventbridge::Client::new(&sdk),
        logs: aws_sdk_cloudwatchlogs::Client::new(&sdk),
        sqs: aws_sdk_sqs::Client::new(&sdk),
    };
    let id = Uuid::new_v4();
    let legs = tokio::select! {
        legs = clients.test(guard, id, timeout) => legs,
        () = interrupt => Err(ProveError::Interrupted),
    };
    Proof { id, legs }
}

impl ProveClients {
    async fn test(&self, guard: &Stack, id: Uuid, timeout: Duration) -> Result<Vec<Check>, ProveError> {
        let Some(queue) = guard.id("ProofQueue") else {
            let none = format!("the stack {} has no proof queue: deploy this version", guard.stack);
            return Err(ProveError::NotSent(none));
        };
        let mut arrived = Arrived::default();
        // Nobody gets a test that nobody could see arrive.
        self.read(queue, 0, &mut arrived, guard, id).await.map_err(ProveError::NotSent)?;
        let sent = OffsetDateTime::now_utc();
        if let Err(look) = self.send(id).await {
            let unknown =
                |about| Check::of(about, vec![Observation::unknown("The result", "the test couldn't be sent")]);
            let mut legs = vec![Check::of(&BUS, vec![look])];
            legs.push(unknown(&FUNCTION));
            legs.extend(topics(guard).map(|(about, _)| unknown(about)));
            return Ok(legs);
        }
        let mut legs = vec![Check::of(&BUS, vec![Observation::pass("The bus took it.")])];
        self.wait(queue, &mut arrived, guard, id, timeout).await;
        let deaf = arrived.deaf.clone();
        let (function, ran) = match arrived.through.is_empty() {
            false => (Observation::pass("The function ran."), true),
            true => self.function(guard, id, sent).await,
        };
        legs.push(Check::of(&FUNCTION, vec![function]));
        let seconds = timeout.as_secs();
        for (about, which) in topics(guard) {
            let look = match (arrived.through.get(which), guard.leg(which)) {
                (Some(Ok(())), _) => Observation::pass(format!("It arrived through the {which} topic.")),
                (Some(Err(wrong)), _) => {
                    Observation::fail(format!("It arrived through the {which} topic, but {wrong}."))
                }
                (None, Leg::Elsewhere) => Observation::warn(format!(
                    "Whether the {which} topic delivered it can't be seen from here: the topic is in another account."
                ))
                .advise("Ask a subscriber of it; the test has TEST in its Subject."),
                (None, Leg::Missing) => Observation::unknown(
                    &format!("Whether the {which} topic delivered it"),
                    "the proof queue isn't subscribed to it; deploy again",
                ),
                (None, Leg::Subscribed) if deaf.is_some() => {
                    let reason = deaf.as_deref().unwrap_or_default();
                    Observation::unknown(&format!("Whether the {which} topic delivered it"), reason)
                }
                (None, Leg::Subscribed) if ran => Observation::fail(format!(
                    "The {which} topic didn't deliver it: the function ran, and nothing arrived within {seconds} s."
                ))
                .advise(format!(
                    "See the checks {which}-heard, topics-readable and proof-ready, and the function's log."
                )),
                (None, Leg::Subscribed) => {
                    Observation::unknown(&format!("Whether the {which} topic delivers"), "the test didn't get that far")
                }
            };
            legs.push(Check::of(about, vec![look]));
        }
        Ok(legs)
    }

    async fn send(&self, id: Uuid) -> Result<(), Observation> {
        let entry = PutEventsRequestEntry::builder()
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .detail(json!({"test-id": id.to_string()}).to_string());
        let sent = self.events.put_events().entries(entry.build()).send().await;
        let answer =
            sent.map_err(|error| Observation::unknown("Whether the bus takes it", &why("events:PutEvents", &error)))?;
        match answer.entries().iter().find_map(|entry| entry.error_code()) {
            Some(code) => Err(Observation::fail(format!("The bus refused it: {}.", name(code, 100)))),
            None => Ok(()),
        }
    }

    /// Reads the queue until all that it can hear has come, or the time is over. A test may be sent twice.
    async fn wait(&self, queue: &str, arrived: &mut Arrived, guard: &Stack, id: Uuid, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut again = Some(Instant::now() + AGAIN);
        let heard: Vec<_> = topics(guard).filter(|(_, which)| guard.leg(which) == Leg::Subscribed).collect();
        while Instant::now() < until && heard.iter().any(|(_, which)| !arrived.through.contains_key(which)) {
            if arrived.through.is_empty() && again.is_some_and(|at| at <= Instant::now()) {
                again = None;
                // That it couldn't be sent now doesn't matter: it was sent before.
                let _ = self.send(id).await;
            }
            arrived.deaf = self.read(queue, WAIT_SECONDS, arrived, guard, id).await.err();
            if arrived.deaf.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Takes what is in the queue, and what it was waiting for out of it. What another one's test left stays there.
    async fn read(&self, queue: &str, wait: i32, arrived: &mut Arrived, guard: &Stack, id: Uuid) -> Result<(), String> {
        let receive = self.sqs.receive_message().queue_url(queue).wait_time_seconds(wait);
        let received = receive.max_number_of_messages(10).visibility_timeout(OTHERS_HIDDEN).send().await;
        let received = received.map_err(|error| match is_missing(&error) {
            true => "the proof queue is gone; the check proof-ready says how to put it back".to_owned(),
            false => why("sqs:ReceiveMessage", &error),
        })?;
        for message in received.messages() {
            let taken = arrived.take(message.body().unwrap_or_default(), guard, id);
            if let Some(receipt) = message.receipt_handle().filter(|_| taken) {
                let deleted = self.sqs.delete_message().queue_url(queue).receipt_handle(receipt).send().await;
                deleted.map_err(|error| why("sqs:DeleteMessage", &error))?;
            }
        }
        Ok(())
    }

    /// Nothing arrived: whether the function ever ran, and where the test is if it didn't.
    async fn function(&self, guard: &Stack, id: Uuid, sent: OffsetDateTime) -> (Observation, bool) {
        let group = guard.id("AlertLogGroup").unwrap_or_default();
        // The function's log line of a test carries its id.
        let mut pages = self
            .logs
            .filter_log_events()
            .log_group_name(group)
            .start_time((sent.unix_timestamp() - 60) * 1_000)
            .filter_pattern(format!("\"{id}\""))
            .into_paginator()
            .send();
        let mut said: Option<String> = None;
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => {
                    said = page.events().iter().rev().find_map(|line| line.message().map(str::to_owned)).or(said)
                }
                Err(error) => {
                    let reason = why("logs:FilterLogEvents", &error);
                    return (Observation::unknown("Whether the function ran", &reason), false);
                }
            }
        }
        if let Some(line) = said {
            return ran(&line);
        }
        for (logical, meaning) in [
            (
                "RuleDeadLetterQueue",
                "EventBridge couldn't deliver it to the function: see the check function-invocable",
            ),
            ("AlertFailureQueue", "the function failed on it three times: see its log"),
        ] {
            let Some(url) = guard.id(logical) else { continue };
            let count = self.sqs.get_queue_attributes().queue_url(url);
            let count = count.attribute_names(QueueAttributeName::ApproximateNumberOfMessages).send().await;
            // Doctor's own check has told if the queue can't be read.
            let count = count.ok().and_then(|answer| {
                answer.attributes()?.get(&QueueAttributeName::ApproximateNumberOfMessages)?.parse::<u64>().ok()
            });
            if count.is_some_and(|count| count > 0) {
                let look =
                    Observation::fail(format!("It didn't come out, and {logical} isn't empty: probably {meaning}."));
                return (look.mend("See what is in it:", redrive(guard, url)), false);
            }
        }
        let nowhere =
            "It isn't in the function's log or a failure queue: the rule didn't match it or didn't deliver it.";
        (Observation::fail(nowhere).advise("See the checks rules-enabled, rules-match and rules-target."), false)
    }
}

/// What the function's log line of a test says, and whether the function handed the test to its topics.
fn ran(line: &str) -> (Observation, bool) {
    let fields: Value = serde_json::from_str(line).unwrap_or(Value::Null);
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    match field("outcome") {
        Some("failed") => {
            let cause = inert(field("cause").unwrap_or("no cause told"), 400);
            (Observation::fail(format!("The function ran and failed: {cause}.")), true)
        }
        Some("rate-limited") => {
            let held = "The function ran and held this test back, as it published another less than a minute before.";
            (Observation::fail(held).advise("Wait a minute, then run doctor --prove again."), false)
        }
        _ => (Observation::pass("The function ran, as its log says."), true),
    }
}

/// The topics that a test goes to.
fn topics(guard: &Stack) -> impl Iterator<Item = (&'static About, &'static str)> {
    let all = [(&ALERTS, "alerts"), (&FINDINGS, "findings"), (&CHAT, "chat")];
    let with_chat = guard.chat_topic().is_some();
    all.into_iter().filter(move |(_, which)| *which != "chat" || with_chat)
}

impl Arrived {
    /// Takes SNS's envelope if it holds this test, and not another one; whether it did.
    fn take(&mut self, body: &str, guard: &Stack, id: Uuid) -> bool {
        let Ok(envelope) = serde_json::from_str::<Value>(body) else { return false };
        let field = |name: &str| envelope.get(name).and_then(Value::as_str).unwrap_or_default();
        let (topic, message) = (field("TopicArn"), field("Message"));
        if !message.contains(&id.to_string()) {
            return false;
        }
        // One topic may be both, and then the findings are what is JSON.
        let document: Option<Value> = serde_json::from_str(message).ok().filter(Value::is_object);
        let (through, well, wrong) = match document {
            Some(document) if Some(topic) == guard.chat_topic() => {
                let title = document.pointer("/content/title").and_then(Value::as_str).unwrap_or_default();
                ("chat", title.contains("TEST"), "its title doesn't say TEST")
            }
            Some(finding) if Some(topic) == guard.findings_topic() => {
                let is_test = finding.pointer("/finding_info/analytic/uid").is_some_and(|uid| uid == DETECTION);
                let mild = finding.get("severity_id").is_some_and(|severity| severity == 1);
                ("findings", is_test && mild, "it isn't an Informational finding of guard-test")
            }
            None if Some(topic) == guard.alerts_topic() => {
                ("alerts", field("Subject").contains("TEST"), "its Subject doesn't say TEST")
            }
            _ => return true,
        };
        self.through.insert(through, if well { Ok(()) } else { Err(wrong.to_owned()) });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_test_is_told_from_another_and_from_what_is_no_test() {
        let (guard, id) = (Stack::example(&[]), Uuid::from_u128(1));
        let envelope = |topic: &str, subject: &str, message: &str| {
            let topic = format!("arn:aws:sns:eu-west-1:111122223333:{topic}");
            json!({"TopicArn": topic, "Subject": subject, "Message": message}).to_string()
        };
        let mut arrived = Arrived::default();
        for other in ["", "[]", &envelope("alerts", "TEST", "another id")] {
            assert!(!arrived.take(other, &guard, id));
        }
        assert!(arrived.take(&envelope("alerts", "[INFORMATIONAL] TEST", &format!("test {id}")), &guard, id));
        assert_eq!(arrived.through.get("alerts"), Some(&Ok(())));
        let severe =
            json!({"severity_id": 5, "finding_info": {"analytic": {"uid": "guard-test"}}, "id": id.to_string()});
        assert!(arrived.take(&envelope("findings", "", &severe.to_string()), &guard, id));
        assert!(arrived.through["findings"].as_ref().unwrap_err().contains("isn't an Informational finding"));
        // Only a guard with such a topic has that leg.
        assert_eq!(topics(&guard).count(), 2);
        let mut with_chat = Stack::example(&[]);
        let topic = "arn:aws:sns:eu-west-1:111122223333:chat";
        let part = crate::coverage::StackResource { kind: "AWS::SNS::Topic".into(), id: topic.into() };
        with_chat.resources.insert("ChatTopicNotifications".into(), part);
        let shown = json!({"id": id.to_string(), "content": {"title": "[INFO] TEST"}}).to_string();
        assert!(arrived.take(&envelope("chat", "", &shown), &with_chat, id));
        assert_eq!((topics(&with_chat).count(), arrived.through.get("chat")), (3, Some(&Ok(()))));
    }

    #[test]
    fn test_that_was_held_back_is_no_failure_of_the_topics() {
        let (look, ran) = ran(r#"{"outcome": "rate-limited", "detection": "guard-test"}"#);
        let check = Check::of(&FUNCTION, vec![look]);
        assert!(!ran && check.verdict.text().contains("held this test back"), "{check:?}");
        assert_eq!(check.fix[0].what, "Wait a minute, then run doctor --prove again.");
    }
}
