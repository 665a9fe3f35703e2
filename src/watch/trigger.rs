//! What starts a self-check beside the schedule: the guard's stack or a part of it was changed.
//!
//! EventBridge puts such events into the self-check queue, and Lambda brings what is in it, one batch at a time. An event only
//! says that it is time to look; what is true the checks find out.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::escape::name;
use crate::watch::Home;

/// How far apart two such runs begin at least. What is given back comes again after the queue's visibility timeout, which is
/// longer.
const APART: Duration = Duration::minutes(5);

/// A message of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    message_id: String,
    body: String,
    attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    sent_timestamp: String,
}

/// A message that is to come again.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    item_identifier: String,
}

/// What to do about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Look now.
    Look,
    /// Give it back: the last run was too short a while ago.
    Later,
    /// Nothing: a run that began later has seen it all.
    Nothing,
}

/// The messages of a batch; None if the payload is none.
pub(super) fn messages(payload: &str) -> Option<Vec<Message>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Batch {
        records: Vec<Message>,
    }
    serde_json::from_str::<Batch>(payload).ok().map(|batch| batch.records)
}

/// Gives all of a batch back.
pub(super) fn again(messages: &[Message]) -> Vec<ItemFailure> {
    messages.iter().map(|message| ItemFailure { item_identifier: message.message_id.clone() }).collect()
}

/// What to do at this time about what these messages report, when the last run that messages started began at `last`.
pub(super) fn then<'a>(
    mut messages: impl Iterator<Item = &'a Message>,
    last: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Then {
    let unseen = |message: &Message| last.is_none_or(|last| message.sent().is_none_or(|sent| sent > last));
    match (messages.any(unseen), last) {
        (false, _) => Then::Nothing,
        (true, Some(last)) if now - last < APART => Then::Later,
        (true, _) => Then::Look,
    }
}

impl Message {
    fn sent(&self) -> Option<OffsetDateTime> {
        let milliseconds: i128 = self.attributes.sent_timestamp.parse().ok()?;
        OffsetDateTime::from_unix_timestamp_nanos(milliseconds.checked_mul(1_000_000)?).ok()
    }

    /// Whether it is about this guard. The rules let nothing else through, but whoever may send to the queue needs no rule.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn is_about(&self, stack: &str, home: &Home) -> Result<(), String> {
        let event: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let field = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        match (field("/source"), field("/detail-type")) {
            ("aws.cloudformation", "CloudFormation Stack Status Change") => {
                let Home { account, region } = home;
                let partition = region.partition().name;
                let own = format!("arn:{partition}:cloudformation:{region}:{account}:stack/{stack}/");
                match field("/detail/stack-id") {
                    id if id.starts_with(&own) => Ok(()),
                    other => Err(format!("it is about the stack {} and not this guard's", name(other, 256))),
                }
            }
            // Which part the rule has told, and the checks look at every one.
            (source, "AWS API Call via CloudTrail") if source.starts_with("aws.") => Ok(()),
            (source, kind) => Err(format!(
                "it is {} of {}, and neither a call nor a stack's status",
                name(kind, 100),
                name(source, 100)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-25 12:00 UTC);

    fn home() -> Home {
        Home { account: "111122223333".into(), region: "eu-west-1".parse().unwrap() }
    }

    fn sent(at: OffsetDateTime, body: &str) -> Message {
        let timestamp = (at.unix_timestamp_nanos() / 1_000_000).to_string();
        let record = json!({"messageId": "m-1", "body": body, "attributes": {"SentTimestamp": timestamp}, "eventSource": "aws:sqs"});
        messages(&json!({"Records": [record]}).to_string()).unwrap().remove(0)
    }

    fn status_of(stack: &str) -> String {
        json!({
            "source": "aws.cloudformation", "detail-type": "CloudFormation Stack Status Change",
            "detail": {"stack-id": stack, "status-details": {"status": "UPDATE_COMPLETE", "status-reason": ""}},
        })
        .to_string()
    }

    #[test]
    fn thousand_events_in_a_minute_are_one_run_now_and_one_later() {
        let all: Vec<_> = (0..1_000).map(|n| sent(NOW + Duration::milliseconds(60 * n), "")).collect();
        let (mut last, mut runs) = (None, Vec::new());
        // Each batch comes half a minute after its first message was sent, and again when it was given back.
        for batch in all.chunks(10) {
            let mut now = batch[0].sent().unwrap() + Duration::seconds(30);
            now = last.map_or(now, |last: OffsetDateTime| now.max(last));
            while then(batch.iter(), last, now) == Then::Later {
                now += Duration::seconds(330);
            }
            if then(batch.iter(), last, now) == Then::Look {
                last = Some(now);
                runs.push(now);
            }
        }
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert!(runs[1] - runs[0] >= APART);
        assert!(runs[1] > all[999].sent().unwrap(), "the last one always");
    }

    #[test]
    fn what_a_run_has_seen_starts_no_other() {
        let before = sent(NOW, "");
        let look = |last, now| then([&before].into_iter(), last, now);
        assert_eq!(look(None, NOW), Then::Look);
        assert_eq!(look(Some(NOW + Duration::SECOND), NOW + Duration::HOUR), Then::Nothing);
        assert_eq!(look(Some(NOW - Duration::SECOND), NOW), Then::Later);
        assert_eq!(look(Some(NOW - APART), NOW), Then::Look);
        assert_eq!(then([].into_iter(), None, NOW), Then::Nothing);
        let undated = Message { attributes: Attributes { sent_timestamp: "soon".into() }, ..before.clone() };
        assert_eq!(then([&undated].into_iter(), Some(NOW - APART), NOW), Then::Look);
    }

    #[test]
    fn own_stack_and_calls_count_and_anything_else_is_ignored_with_its_reason() {
        let call = |source: &str| {
            json!({"source": source, "detail-type": "AWS API Call via CloudTrail", "detail": {}}).to_string()
        };
        let own = "arn:aws:cloudformation:eu-west-1:111122223333:stack/kms-key-guard/1";
        for body in [status_of(own), call("aws.events")] {
            assert_eq!(sent(NOW, &body).is_about("kms-key-guard", &home()), Ok(()), "{body}");
        }
        for (body, says) in [
            (
                status_of(&own.replace("kms-key-guard/", "kms-key-guard-2/")),
                "the stack arn:aws:cloudformation:eu-west-1",
            ),
            (status_of(&own.replace("1111", "4444")), "and not this guard's"),
            (status_of("a\n\u{202e}b"), r#"the stack "a\u{a}\u{202e}b" and"#),
            (call("own"), "neither a call nor a stack's status"),
            ("{".into(), "neither a call nor a stack's status"),
            ("[[[[".into(), "neither a call nor a stack's status"),
        ] {
            let why = sent(NOW, &body).is_about("kms-key-guard", &home()).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn batch_is_told_from_a_tick_and_given_back_whole() {
        assert_eq!(messages(r#"{"look": "sweep", "time": "2026-11-22T06:00:00Z"}"#), None);
        assert_eq!(messages(r#"{"Records": [{"messageId": 1}]}"#), None);
        let back = serde_json::to_value(again(&[sent(NOW, "")])).unwrap();
        assert_eq!(back, json!([{"itemIdentifier": "m-1"}]));
    }
}
