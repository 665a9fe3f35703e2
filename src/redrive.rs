//! The events in a failure queue, through the alert function again.
//!
//! Two kinds of messages wait there: what EventBridge couldn't hand to the function (the rule's dead-letter queue), and
//! what the function failed on after Lambda's retries (its on-failure destination). A message is deleted only after the
//! function said what it made of it, so whatever interrupts this, nothing is lost; at worst an alert is repeated, with
//! the same uid. Whoever may write to the queue chooses what a message says, so the function to invoke isn't taken from it.

use std::collections::HashSet;
use std::fmt;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_sqs::types::Message;
use serde_json::Value;

use crate::aws::failure::why;
use crate::coverage::is_missing;
use crate::escape::{inert, name};
use crate::event::Event;
use crate::key::{Region, is_account_id};

/// How long a message stays hidden while this works on it, in seconds: longer than the function may take.
const HIDDEN_SECONDS: i32 = 30;
/// How long to wait for a message before the queue counts as empty, in seconds.
const WAIT_SECONDS: i32 = 2;

/// A failure queue and the function behind it.
pub struct Redrive {
    sqs: aws_sdk_sqs::Client,
    lambda: aws_sdk_lambda::Client,
    queue: Queue,
    function: Function,
}

/// A queue by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The URL.
    pub url: String,
    /// The account that owns it.
    pub account: String,
    name: String,
}

impl Queue {
    /// Reads `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`, or the same at an endpoint of one's own.
    ///
    /// # Errors
    /// It is no queue's URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let path = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        match path.split('/').collect::<Vec<_>>().as_slice() {
            [host, account, queue] if !host.is_empty() && is_account_id(account) && !queue.is_empty() => {
                Ok(Self { url: url.to_owned(), account: (*account).to_owned(), name: (*queue).to_owned() })
            }
            _ => Err(format!(
                "{} isn't a queue's URL; it takes one such as https://sqs.eu-west-1.amazonaws.com/111122223333/NAME",
                name(url, 300)
            )),
        }
    }
}

impl Queue {
    /// Whether both are the same queue of one Region: SQS takes several hosts for it.
    pub fn is(&self, other: &Self) -> bool {
        (&self.account, &self.name) == (&other.account, &other.name)
    }
}

/// The function that is invoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its ARN, without version or alias.
    arn: String,
    /// The version or alias, if one was named.
    qualifier: Option<String>,
}

impl Function {
    /// Reads a function of this account and Region in any spelling that Lambda takes: its name, with the account or the
    /// Region and the account before it, or its ARN; each with or without a version or alias.
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
    ///
    /// # Errors
    /// It is no function's name, or another account's or Region's.
    pub fn parse(given: &str, account: &str, region: &Region) -> Result<Self, String> {
        let shown = name(given, 200);
        let partition = region.partition().name;
        let wrong = || {
            format!(
                "{shown} isn't a function; it takes a name such as kms-key-guard-alert, or an ARN such as \
                 arn:{partition}:lambda:{region}:{account}:function:kms-key-guard-alert"
            )
        };
        let parts: Vec<_> = given.split(':').collect();
        let (of_partition, parts) = match parts.as_slice() {
            ["arn", partition, "lambda", rest @ ..] => (Some(*partition), rest),
            rest => (None, rest),
        };
        let (place, parts) = match parts {
            [place, rest @ ..] if !rest.is_empty() && place.parse::<Region>().is_ok() => (Some(*place), rest),
            rest => (None, rest),
        };
        let (owner, parts) = match parts {
            [owner, rest @ ..] if !rest.is_empty() && is_account_id(owner) => (Some(*owner), rest),
            rest => (None, rest),
        };
        let parts = match parts {
            ["function", rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        let (function, qualifier) = match parts {
            [function] => (*function, None),
            [function, qualifier] => (*function, Some(*qualifier)),
            _ => return Err(wrong()),
        };
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let is_qualifier = |text: &str| text == "$LATEST" || is_word(text);
        let is_whole = of_partition.is_none() || (place.is_some() && owner.is_some());
        if !is_word(function) || !qualifier.is_none_or(is_qualifier) || !is_whole {
            return Err(wrong());
        }
        let ours = [(of_partition, partition), (place, region.as_str()), (owner, account)];
        if let Some((theirs, ours)) =
            ours.into_iter().find_map(|(its, ours)| Some((its.filter(|its| *its != ours)?, ours)))
        {
            return Err(format!(
                "{shown} is a function of {theirs}, and the queue is in {ours}; only the guard of the queue's own account \
                 and Region is invoked"
            ));
        }
        Ok(Self {
            arn: format!("arn:{partition}:lambda:{region}:{account}:function:{function}"),
            qualifier: qualifier.map(str::to_owned),
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn)?;
        self.qualifier.iter().try_for_each(|qualifier| write!(f, ":{qualifier}"))
    }
}

/// A message as it is in the queue, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The event that the function didn't handle.
    pub event: Value,
    /// The function it was for: its ARN.
    pub function: String,
    /// Why it is here.
    pub why: String,
}

impl Stored {
    /// Understands a message of either kind: its body, and its attributes by name.
    ///
    /// # Errors
    /// Why it can't be understood.
    pub fn read(body: &str, attribute: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let body: Value = serde_json::from_str(body).map_err(|error| format!("it isn't JSON ({error})"))?;
        let (event, function, why) =
            if let (Some(context), Some(payload)) = (body.get("requestContext"), body.get("requestPayload")) {
                let function = context["functionArn"].as_str().map(str::to_owned);
                let attempts = context["approximateInvokeCount"].as_u64().unwrap_or_default();
                let error =
                    body.pointer("/responsePayload/errorMessage").and_then(Value::as_str).unwrap_or("no error told");
                let condition = context["condition"].as_str().unwrap_or("the function failed");
                (payload.clone(), function, format!("{condition} after {attempts} attempts: {error}"))
            } else {
                let code = attribute("ERROR_CODE").unwrap_or_else(|| "not delivered".into());
                let message = attribute("ERROR_MESSAGE").unwrap_or_else(|| "no error told".into());
                (body, attribute("TARGET_ARN"), format!("{code}: {message}"))
            };
        if !event.is_object() {
            return Err("it holds no event: that would be a JSON object".into());
        }
        let function = function.ok_or("it doesn't name the function it was for")?;
        let why = inert(&why, 200);
        Ok(Self {
            event,
            function: unqualified(&function)
                .ok_or_else(|| format!("{} isn't a function's ARN", name(&function, 200)))?,
            why,
        })
    }

    /// What the event is, in a few words.
    pub fn what(&self) -> String {
        let event = Event::from_value(self.event.clone());
        let named = event.record().map(|record| record.event_name.clone()).or(event.envelope.detail_type);
        let id = event.envelope.id.unwrap_or_else(|| "without an id".into());
        format!("{} ({})", name(&named.unwrap_or_else(|| "an event".into()), 64), name(&id, 64))
    }
}

/// A function's ARN without version or alias.
fn unqualified(arn: &str) -> Option<String> {
    let parts: Vec<_> = arn.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "lambda", region, account, "function", function, ..]
            if region.parse::<Region>().is_ok() && is_account_id(account) && !function.is_empty() =>
        {
            Some(parts.iter().take(7).copied().collect::<Vec<_>>().join(":"))
        }
        _ => None,
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Shown only.
    Listed(Stored),
    /// The function handled it, with this outcome, and it is deleted.
    Sent(Stored, String),
    /// It stays in the queue, for this reason.
    Left(String),
}

/// Something that stops the whole run, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(String);

impl Redrive {
    /// For this queue and the function behind it, the only one that is invoked.
    pub fn new(sqs: aws_sdk_sqs::Client, lambda: aws_sdk_lambda::Client, queue: Queue, function: Function) -> Self {
        Self { sqs, lambda, queue, function }
    }

    /// Goes through the queue once and tells each message's id and fate. Without `act` nothing is sent or deleted.
    ///
    /// # Errors
    /// The queue can't be read; what had been done until then stays done.
    pub async fn run(&self, act: bool, mut tell: impl FnMut(&str, &Fate)) -> Result<(), Stopped> {
        let mut kept = Vec::new();
        let mut seen = HashSet::new();
        let done = loop {
            let message = match self.receive().await {
                Ok(Some(message)) => message,
                Ok(None) => break Ok(()),
                Err(stopped) => break Err(stopped),
            };
            let id = message.message_id().unwrap_or("unnamed").to_owned();
            // A long run meets again what it left; once around is enough.
            if !seen.insert(id.clone()) {
                kept.extend(message.receipt_handle);
                break Ok(());
            }
            let fate = self.handle(&message, act).await;
            if !matches!(fate, Fate::Sent(..)) {
                kept.extend(message.receipt_handle);
            }
            tell(&id, &fate);
        };
        self.show_again(&kept).await;
        done
    }

    /// One message at a time, so that whatever ends this leaves only one hidden.
    async fn receive(&self) -> Result<Option<Message>, Stopped> {
        let request = self.sqs.receive_message().queue_url(&self.queue.url).max_number_of_messages(1);
        let request =
            request.visibility_timeout(HIDDEN_SECONDS).wait_time_seconds(WAIT_SECONDS).message_attribute_names("All");
        let answer = request.send().await.map_err(|error| {
            let reason = match is_missing(&error) {
                true => format!("there is no queue {} in this Region", name(&self.queue.url, 300)),
                false => why("sqs:ReceiveMessage", &error),
            };
            Stopped(format!("the queue can't be read: {reason}"))
        })?;
        Ok(answer.messages.unwrap_or_default().pop())
    }

    async fn handle(&self, message: &Message, act: bool) -> Fate {
        let attribute = |name: &str| Some(message.message_attributes()?.get(name)?.string_value()?.to_owned());
        let stored = match Stored::read(message.body().unwrap_or_default(), attribute) {
            Ok(stored) => stored,
            Err(why) => return Fate::Left(format!("it can't be understood: {why}")),
        };
        if stored.function != self.function.arn {
            return Fate::Left(format!(
                "it names another function, {}, which isn't invoked",
                name(&stored.function, 200)
            ));
        }
        if !act {
            return Fate::Listed(stored);
        }
        match self.invoke(&stored).await {
            Err(why) => Fate::Left(why),
            Ok(outcome) => match self.delete(message).await {
                Ok(()) => Fate::Sent(stored, outcome),
                Err(why) => Fate::Left(format!("the function handled it ({outcome}), but it can't be deleted: {why}")),
            },
        }
    }

    /// Waits for the function's own answer: only a handled event may be deleted.
    async fn invoke(&self, stored: &Stored) -> Result<String, String> {
        let payload = Blob::new(stored.event.to_string());
        let request = self.lambda.invoke().function_name(&self.function.arn).payload(payload);
        let answer = request.set_qualifier(self.function.qualifier.clone()).send().await;
        let answer = answer
            .map_err(|error| format!("the function can't be invoked: {}", why("lambda:InvokeFunction", &error)))?;
        let said: Value =
            answer.payload.and_then(|payload| serde_json::from_slice(payload.as_ref()).ok()).unwrap_or_default();
        if let Some(kind) = answer.function_error {
            let error = said.get("errorMessage").and_then(Value::as_str).unwrap_or("no error told");
            return Err(format!("the function failed again ({}): {}", inert(&kind, 64), inert(error, 300)));
        }
        match said.get("outcome").and_then(Value::as_str) {
            Some(outcome) => Ok(inert(outcome, 64)),
            None => Err("the function's answer isn't one of the guard's".into()),
        }
    }

    async fn delete(&self, message: &Message) -> Result<(), String> {
        let request =
            self.sqs.delete_message().queue_url(&self.queue.url).set_receipt_handle(message.receipt_handle.clone());
        request.send().await.map(drop).map_err(|error| why("sqs:DeleteMessage", &error))
    }

    /// Lets what stays be received again at once, not only when it would show by itself.
    async fn show_again(&self, receipts: &[String]) {
        for receipt in receipts {
            let request = self.sqs.change_message_visibility().queue_url(&self.queue.url).receipt_handle(receipt);
            // It shows again by itself soon enough.
            let _ = request.visibility_timeout(0).send().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:111122223333:function:guard";

    #[test]
    fn failed_invocation_is_read() {
        let body = json!({
            "version": "1.0",
            "requestContext": {"functionArn": format!("{FUNCTION}:$LATEST"), "condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": {"id": "e-1", "source": "aws.kms", "detail-type": "KMS CMK Deletion"},
            "responsePayload": {"errorMessage": "the alerts topic didn't take the alert\nx"},
        });
        let stored = Stored::read(&body.to_string(), |_| None).unwrap();
        assert_eq!(stored.function, FUNCTION);
        assert_eq!(stored.event["id"], "e-1");
        assert_eq!(stored.why, r"RetriesExhausted after 3 attempts: the alerts topic didn't take the alert\u{a}x");
        assert_eq!(stored.what(), "\"KMS CMK Deletion\" (e-1)");
    }

    #[test]
    fn undelivered_event_is_read() {
        let attribute = |name: &str| match name {
            "TARGET_ARN" => Some(FUNCTION.to_owned()),
            "ERROR_CODE" => Some("NO_PERMISSIONS".to_owned()),
            _ => None,
        };
        let stored = Stored::read(r#"{"id":"e-2","detail":{}}"#, attribute).unwrap();
        assert_eq!((stored.function.as_str(), stored.why.as_str()), (FUNCTION, "NO_PERMISSIONS: no error told"));
        assert_eq!(stored.event["id"], "e-2");
    }

    #[test]
    fn what_holds_no_event_or_names_no_function_is_refused() {
        let target = |_: &str| Some(FUNCTION.to_owned());
        assert!(Stored::read("not json", target).unwrap_err().contains("isn't JSON"));
        assert!(Stored::read("7", target).unwrap_err().contains("holds no event"));
        assert!(Stored::read("{}", |_| None).unwrap_err().contains("doesn't name the function"));
        assert!(
            Stored::read("{}", |_| Some("arn:aws:sqs:eu-west-1:111122223333:q".into()))
                .unwrap_err()
                .contains("isn't a function's ARN")
        );
    }

    fn function(given: &str) -> Result<Function, String> {
        Function::parse(given, "111122223333", &"eu-west-1".parse().unwrap())
    }

    #[test]
    fn function_is_read_in_every_spelling_that_lambda_takes() {
        for given in [
            "guard",
            "function:guard",
            "111122223333:guard",
            "111122223333:function:guard",
            "eu-west-1:111122223333:guard",
            "eu-west-1:111122223333:function:guard",
            FUNCTION,
        ] {
            assert_eq!(function(given).unwrap().to_string(), FUNCTION, "{given}");
            for qualifier in ["$LATEST", "prod", "7"] {
                let with = function(&format!("{given}:{qualifier}")).unwrap();
                assert_eq!((with.arn.as_str(), with.qualifier.as_deref()), (FUNCTION, Some(qualifier)), "{given}");
            }
        }
    }

    #[test]
    fn what_is_not_a_function_of_this_account_and_region_is_refused() {
        for given in [
            "",
            "a b",
            "$(id)",
            "guard:",
            ":guard",
            "guard:prod:2",
            "../guard",
            "arn:aws:lambda:guard",
            "arn:aws:sqs:eu-west-1:111122223333:guard",
            "arn:aws:lambda:eu-west-1:111122223333:layer:guard:1",
            "https://lambda.eu-west-1.amazonaws.com/guard",
        ] {
            assert!(function(given).unwrap_err().contains("isn't a function; it takes"), "{given}");
        }
        for (given, other) in [
            ("444455556666:guard", "444455556666"),
            ("us-east-1:111122223333:guard", "us-east-1"),
            ("arn:aws:lambda:eu-west-1:444455556666:function:guard", "444455556666"),
            ("arn:aws:lambda:us-east-1:111122223333:function:guard:prod", "us-east-1"),
            ("arn:aws-cn:lambda:eu-west-1:111122223333:function:guard", "aws-cn"),
        ] {
            assert!(function(given).unwrap_err().contains(&format!("is a function of {other}")), "{given}");
        }
    }

    #[test]
    fn queue_is_told_by_its_url() {
        let queue = Queue::parse("https://sqs.eu-west-1.amazonaws.com/111122223333/alerts-failed").unwrap();
        assert_eq!(queue.account, "111122223333");
        let local = Queue::parse("http://127.0.0.1:4566/111122223333/q").unwrap();
        assert!(local.is(&Queue::parse("https://eu-west-1.queue.amazonaws.com/111122223333/q").unwrap()));
        assert!(!local.is(&Queue::parse("http://127.0.0.1:4566/444455556666/q").unwrap()) && !local.is(&queue));
        for url in [
            "",
            "alerts-failed",
            "https://sqs.eu-west-1.amazonaws.com/q",
            "arn:aws:sqs:eu-west-1:111122223333:q",
            "https://h/1/q",
        ] {
            assert!(Queue::parse(url).unwrap_err().contains("isn't a queue's URL"), "{url}");
        }
    }
}
