//! Does a change of the guard or its stack start a self-check?

use aws_sdk_lambda::Client as Lambda;
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_types::SdkConfig;

use super::expected::{Parts, restore};
use super::functions::hands_to;
use super::rules::arn_of;
use super::{About, Check, Observation, Stack, is_missing, why};
use crate::escape::name;
use crate::policy::{AccessRequest, Answer};

pub(super) static FOLLOWS: About = About {
    id: "self-check-follows",
    what: "A change to a part of the guard, or to its stack, starts a self-check.",
    kind: "AWS::Lambda::EventSourceMapping",
};

/// Looks at the self-check queue of the Region of `sdk`, and at what takes from it.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, parts: &Parts) -> Check {
    let (sqs, lambda) = (Sqs::new(sdk), Lambda::new(sdk));
    let (Some(url), Some(source)) = (guard.id("SelfCheckQueue"), guard.id("SelfCheckSource")) else {
        let none = format!("The stack {} has nothing that starts a self-check after a change.", guard.stack);
        return Check::of(&FOLLOWS, vec![Observation::fail(none).advise("Deploy again (make deploy).")]);
    };
    let (mut looks, taken) = tokio::join!(taken(&sqs, guard, parts, url), handed_on(&lambda, guard, source));
    looks.push(taken);
    Check::of(&FOLLOWS, looks)
}

/// What a queue's policy says; or what to say of a queue that is gone or can't be read.
pub(super) async fn policy(sqs: &Sqs, url: &str) -> Result<String, Option<String>> {
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::Policy).send().await;
    match answer {
        Ok(answer) => {
            let policy = answer.attributes().and_then(|all| all.get(&QueueAttributeName::Policy)).cloned();
            Ok(policy.unwrap_or_else(|| r#"{"Statement":[]}"#.to_owned()))
        }
        Err(error) if is_missing(&error) => Err(None),
        Err(error) => Err(Some(why("sqs:GetQueueAttributes", &error))),
    }
}

/// Whether the queue takes what each rule sends it.
async fn taken(sqs: &Sqs, guard: &Stack, parts: &Parts, url: &str) -> Vec<Observation> {
    let policy = match policy(sqs, url).await {
        Ok(policy) => policy,
        Err(None) => {
            let gone = "The queue SelfCheckQueue is gone, so no change starts a self-check: the hourly one is left.";
            return vec![restore(Observation::fail(gone), guard)];
        }
        Err(Some(reason)) => return vec![Observation::unknown("Whether the self-check queue takes events", &reason)],
    };
    let queue = guard.queue_arn(url);
    let rules = parts.all(guard, "AWS::Events::Rule").filter(|(_, _, rule)| hands_to(rule, &queue));
    let looks = rules.map(|(logical, id, _)| {
        let rule = arn_of(guard, id);
        let keys = [
            ("aws:sourcearn", rule.as_str()),
            ("aws:sourceaccount", guard.account.as_str()),
            ("aws:securetransport", "true"),
        ];
        let request = AccessRequest {
            principal: "events.amazonaws.com",
            action: "sqs:SendMessage",
            resource: &queue,
            keys: &keys,
        };
        match request.under(&policy) {
            Answer::Allowed => Observation::pass(format!("{logical} may start one.")),
            Answer::Unclear => Observation::unknown(
                &format!("Whether {logical} may start a self-check"),
                "the queue's policy holds a condition that can't be judged",
            ),
            Answer::Forbidden | Answer::Silent => {
                let say = format!("The policy of SelfCheckQueue doesn't let the rule {logical} start a self-check.");
                restore(Observation::fail(say), guard)
            }
        }
    });
    looks.collect()
}

/// Whether Lambda hands what is in the queue to the watch function.
async fn handed_on(lambda: &Lambda, guard: &Stack, source: &str) -> Observation {
    let found = match lambda.get_event_source_mapping().uuid(source).send().await {
        Ok(found) => found,
        Err(error) if is_missing(&error) => {
            let gone = "Nothing takes from the self-check queue: the event source mapping SelfCheckSource is gone.";
            return restore(Observation::fail(gone), guard);
        }
        Err(error) => {
            return Observation::unknown(
                "Whether the self-check queue is read",
                &why("lambda:GetEventSourceMapping", &error),
            );
        }
    };
    let state = found.state().unwrap_or("unknown");
    if !matches!(state, "Enabled" | "Enabling" | "Creating" | "Updating") {
        let off =
            format!("The event source mapping SelfCheckSource is {}: no change starts a self-check.", name(state, 64));
        return restore(Observation::fail(off), guard);
    }
    let own = guard.id("WatchFunction").map(|id| guard.arn("lambda", &format!("function:{id}")));
    match found.function_arn() {
        function if function == own.as_deref() => Observation::pass("The watch function takes it."),
        other => {
            let other = name(other.unwrap_or("no function"), 256);
            restore(
                Observation::fail(format!("SelfCheckSource hands on to {other} and not to the watch function.")),
                guard,
            )
        }
    }
}
