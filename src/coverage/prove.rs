//! Sends a test through the guard, and waits until it comes out of both topics.
//!
//! The test goes the way of every signal from the event bus on: rule, alert function, topics, a subscriber. What it
//! doesn't go through is CloudTrail, which takes no made-up calls; [`crate::coverage`] looks at the trail.

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
use crate::coverage::{About, Check, Observation, Stack, in_region, plain, why};
use crate::escape::{inert, name};
use crate::finding::Step;

/// The event's source and detail-type, which the template's GuardTestRule looks for.
const SOURCE: &str = "kms-key-guard";
const DETAIL_TYPE: &str = "KMS Key Guard Test";
/// The detection of the alerts that come of it.
const DETECTION: &str = "guard-test";

/// SNS takes a moment before a new subscription gets what is published.
const SETTLE: Duration = Duration::from_secs(2);
/// How long one look into the queue waits, in seconds.
const WAIT_SECONDS: i32 = 4;

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

/// The legs of the way, in order.
pub static LEGS: [&About; 4] = [&BUS, &FUNCTION, &ALERTS, &FINDINGS];

/// Why there was no test.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The listener couldn't be set up, so nothing was sent.
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
    /// The temporary queue and subscriptions that couldn't be removed, each with the command that does.
    pub left_behind: Vec<Step>,
}

struct ProveClients {
    events: aws_sdk_eventbridge::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
}

/// A queue of our own that listens to both topics.
#[derive(Default)]
struct Listener {
    queue: Option<String>,
    subscriptions: Vec<String>,
}

/// What arrived; None while it hasn't, else what is wrong with it, if anything is.
#[derive(Default)]
struct Arrived {
    alert: Option<Result<(), String>>,
    finding: Option<Result<(), String>>,
    /// Why the queue couldn't be read the last time, if so.
    deaf: Option<String>,
}

/// Runs one test of this guard. The temporary queue and subscriptions are removed in any case, also when `interrupt`
/// ends first.
pub async fn prove(sdk: &SdkConfig, guard: &Stack, timeout: Duration, interrupt: impl Future<Output = ()>) -> Proof {
    let sdk = in_region(sdk, guard.region.as_str());
    let clients = ProveClients {
        events: aws_sdk_eventbridge::Client::new(&sdk),
        logs: aws_sdk_cloudwatchlogs::Client::new(&sdk),
        sns: aws_sdk_sns::Client::new(&sdk),
        sqs: aws_sdk_sqs::Client::new(&sdk),
    };
    let id = Uuid::new_v4();
    let mut listener = Listener::default();
    // Not to be interrupted: what is half made couldn't be removed.
    let legs = match clients.listen(guard, id, &mut listener).await {
        Err(reason) => Err(ProveError::NotSent(reason)),
        Ok(()) => tokio::select! {
            legs = clients.test(guard, id, &listener, timeout) => Ok(legs),
            () = interrupt => Err(ProveError::Interrupted),
        },
    };
    Proof { id, legs, left_behind: clients.remove(guard, &listener).await }
}

impl ProveClients {
    /// Makes a queue that only the two topics may send to, and subscribes it to the tests alone.
    async fn listen(&self, guard: &Stack, id: Uuid, listener: &mut Listener) -> Result<(), String> {
        let (Some(alerts), Some(findings)) = (guard.alerts_topic(), guard.findings_topic()) else {
            return Err(format!("the stack {} doesn't name both topics", guard.stack));
        };
        let queue_name = format!("kms-key-guard-test-{id}");
        let arn = guard.arn("sqs", &queue_name);
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": [alerts, findings]}},
        }]});
        let created = self
            .sqs
            .create_queue()
            .queue_name(&queue_name)
            .attributes(QueueAttributeName::Policy, policy.to_string())
            .attributes(QueueAttributeName::MessageRetentionPeriod, "3600")
            .attributes(QueueAttributeName::SqsManagedSseEnabled, "true")
            .send();
        let created = created.await.map_err(|error| why("sqs:CreateQueue", &error))?;
        listener.queue = created.queue_url().map(str::to_owned);
        let only_tests = json!({"detection": [DETECTION]}).to_string();
        for topic in [alerts, findings] {
            let subscribed = self
                .sns
                .subscribe()
                .topic_arn(topic)
                .protocol("sqs")
                .endpoint(&arn)
                .attributes("FilterPolicy", &only_tests)
                .return_subscription_arn(true)
                .send();
            let subscribed = subscribed.await.map_err(|error| why("sns:Subscribe", &error))?;
            listener.subscriptions.extend(subscribed.subscription_arn().map(str::to_owned));
        }
        Ok(())
    }

    async fn remove(&self, guard: &Stack, listener: &Listener) -> Vec<Step> {
        let mut left = Vec::new();
        let mut note = |what: &str, reason: String, command: String| {
            left.push(Step { what: format!("{what} is left behind ({reason}); remove it:"), command: Some(command) });
        };
        for arn in &listener.subscriptions {
            if let Err(error) = self.sns.unsubscribe().subscription_arn(arn).send().await {
                let command = format!(
                    "aws sns unsubscribe --region {} --subscription-arn {}",
                    guard.region,
                    plain(arn, "SUBSCRIPTION-ARN")
                );
                note("A subscription of the test's queue", why("sns:Unsubscribe", &error), command);
            }
        }
        if let Some(url) = &listener.queue
            && let Err(error) = self.sqs.delete_queue().queue_url(url).send().await
        {
            let command =
                format!("aws sqs delete-queue --region {} --queue-url {}", guard.region, plain(url, "QUEUE-URL"));
            note("The test's queue", why("sqs:DeleteQueue", &error), command);
        }
        left
    }

    async fn test(&self, guard: &Stack, id: Uuid, listener: &Listener, timeout: Duration) -> Vec<Check> {
        tokio::time::sleep(SETTLE).await;
        let sent = OffsetDateTime::now_utc();
        if let Err(look) = self.send(id).await {
            let unknown =
                |about| Check::of(about, vec![Observation::unknown("The result", "the test couldn't be sent")]);
            let mut legs = vec![Check::of(&BUS, vec![look])];
            legs.extend([&FUNCTION, &ALERTS, &FINDINGS].map(unknown));
            return legs;
        }
        let mut legs = vec![Check::of(&BUS, vec![Observation::pass("The bus took it.")])];
        let arrived = self.wait(guard, id, listener, timeout).await;
        let deaf = arrived.deaf.clone();
        let (function, ran) = if arrived.alert.is_some() || arrived.finding.is_some() {
            (Observation::pass("The function ran."), true)
        } else {
            self.function(guard, id, sent).await
        };
        legs.push(Check::of(&FUNCTION, vec![function]));
        let seconds = timeout.as_secs();
        for (about, which, arrived) in [(&ALERTS, "alerts", arrived.alert), (&FINDINGS, "findings", arrived.finding)] {
            let look = match arrived {
                Some(Ok(())) => Observation::pass(format!("It arrived through the {which} topic.")),
                Some(Err(wrong)) => Observation::fail(format!("It arrived through the {which} topic, but {wrong}.")),
                None if deaf.is_some() => {
                    let reason = deaf.as_deref().unwrap_or_default();
                    Observation::unknown(&format!("Whether the {which} topic delivered it"), reason)
                }
                None if ran => Observation::fail(format!(
                    "The {which} topic didn't deliver it: the function ran, and nothing arrived within {seconds} s."
                ))
                .advise(format!("See the checks {which}-heard and topics-readable, and the function's log.")),
                None => {
                    Observation::unknown(&format!("Whether the {which} topic delivers"), "the test didn't get that far")
                }
            };
            legs.push(Check::of(about, vec![look]));
        }
        legs
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

    /// Reads the queue until both have come, or the time is over.
    async fn wait(&self, guard: &Stack, id: Uuid, listener: &Listener, timeout: Duration) -> Arrived {
        let until = Instant::now() + timeout;
        let mut arrived = Arrived::default();
        let Some(queue) = &listener.queue else { return arrived };
        while Instant::now() < until && !arrived.both() {
            let received = self.sqs.receive_message().queue_url(queue).wait_time_seconds(WAIT_SECONDS);
            match received.max_number_of_messages(10).send().await {
                Ok(answer) => {
                    arrived.deaf = None;
                    for message in answer.messages() {
                        arrived.take(message.body().unwrap_or_default(), guard, id);
                    }
                }
                Err(error) => {
                    arrived.deaf = Some(why("sqs:ReceiveMessage", &error));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        arrived
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
            let fields: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            let field = |name: &str| fields.get(name).and_then(Value::as_str);
            return match field("outcome") {
                Some("failed") => {
                    let cause = inert(field("cause").unwrap_or("no cause told"), 400);
                    (Observation::fail(format!("The function ran and failed: {cause}.")), true)
                }
                _ => (Observation::pass("The function ran, as its log says."), true),
            };
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

impl Arrived {
    fn both(&self) -> bool {
        self.alert.is_some() && self.finding.is_some()
    }

    /// Takes SNS's envelope if it holds this test, and not an earlier one.
    fn take(&mut self, body: &str, guard: &Stack, id: Uuid) {
        let Ok(envelope) = serde_json::from_str::<Value>(body) else { return };
        let field = |name: &str| envelope.get(name).and_then(Value::as_str).unwrap_or_default();
        let (topic, message) = (field("TopicArn"), field("Message"));
        if !message.contains(&id.to_string()) {
            return;
        }
        // One topic may be both, and then the findings are what is JSON.
        let finding: Option<Value> = serde_json::from_str(message).ok().filter(Value::is_object);
        match finding {
            Some(finding) if Some(topic) == guard.findings_topic() => {
                let is_test = finding.pointer("/finding_info/analytic/uid").is_some_and(|uid| uid == DETECTION);
                let mild = finding.get("severity_id").is_some_and(|severity| severity == 1);
                let wrong = "it isn't an Informational finding of guard-test";
                self.finding = Some(if is_test && mild { Ok(()) } else { Err(wrong.into()) });
            }
            None if Some(topic) == guard.alerts_topic() => {
                let marked = field("Subject").contains("TEST");
                self.alert = Some(if marked { Ok(()) } else { Err("its Subject doesn't say TEST".into()) });
            }
            _ => {}
        }
    }
}
