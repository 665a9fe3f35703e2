//! Does the proof queue hear the tests of `keyguard doctor --prove`?

use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::Client as Sqs;
use aws_types::SdkConfig;
use futures_util::future::join_all;

use super::expected::restore;
use super::filters::Filter;
use super::{About, Check, Observation, Stack, is_missing, self_check, why};
use crate::policy::{AccessRequest, Answer};

pub(super) static READY: About = About {
    id: "proof-ready",
    what: "The proof queue gets the tests that the topics of this account deliver.",
    kind: "AWS::SQS::Queue",
};

/// How a topic reaches the proof queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leg {
    /// The stack subscribes the queue to it.
    Subscribed,
    /// Not at all: it is another account's.
    Elsewhere,
    /// Not at all: the stack has no subscription.
    Missing,
}

impl Stack {
    /// How the topic for people, for machines or for chat channels reaches the proof queue.
    pub(super) fn leg(&self, which: &str) -> Leg {
        let has = |subscription: &str| self.id(subscription).is_some();
        let subscribed = match which {
            "alerts" => has("ProofAlertsSubscription"),
            "chat" => has("ProofChatSubscription"),
            // One topic for both takes one subscription.
            _ => {
                has("ProofFindingsSubscription")
                    || has("ProofAlertsSubscription") && self.findings_topic() == self.alerts_topic()
            }
        };
        match self.topic(which).and_then(|topic| topic.split(':').nth(4)) {
            _ if subscribed => Leg::Subscribed,
            Some(account) if account != self.account => Leg::Elsewhere,
            _ => Leg::Missing,
        }
    }

    /// Whether an endpoint is the proof queue, by which nobody hears anything.
    pub(super) fn is_proof(&self, endpoint: &str) -> bool {
        self.id("ProofQueue").is_some_and(|url| self.queue_arn(url) == endpoint)
    }
}

/// Looks at the proof queue of the Region of `sdk`. Without it the guard sees and is heard, so nothing here is a failure.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack) -> Check {
    let (sqs, sns) = (Sqs::new(sdk), Sns::new(sdk));
    let Some(url) = guard.id("ProofQueue") else {
        let none =
            format!("The stack {} has no proof queue, so keyguard doctor --prove can't see a test.", guard.stack);
        return Check::of(&READY, vec![Observation::warn(none).advise("Deploy again (make deploy).")]);
    };
    let policy = match self_check::policy(&sqs, url).await {
        Ok(policy) => policy,
        Err(None) => {
            let gone = "The queue ProofQueue is gone, so keyguard doctor --prove can't see a test.";
            return Check::of(&READY, vec![restore(Observation::warn(gone), guard)]);
        }
        Err(Some(reason)) => return Check::of(&READY, vec![Observation::unknown("The proof queue", &reason)]),
    };
    let looks = ["alerts", "findings", "chat"].into_iter();
    let looks = looks.filter_map(|which| Some(heard(&sns, guard, &policy, url, which, guard.topic(which)?)));
    Check::of(&READY, join_all(looks).await)
}

async fn heard(sns: &Sns, guard: &Stack, policy: &str, url: &str, which: &str, topic: &str) -> Observation {
    match guard.leg(which) {
        Leg::Subscribed => {}
        Leg::Elsewhere => {
            return Observation::pass(format!(
                "The {which} topic is in another account, so what it delivers keyguard doctor --prove can't see."
            ));
        }
        Leg::Missing => {
            let none = format!("The proof queue isn't subscribed to the {which} topic.");
            return Observation::warn(none).advise("Deploy again (make deploy).");
        }
    }
    let queue = guard.queue_arn(url);
    let keys = [("aws:sourcearn", topic), ("aws:securetransport", "true")];
    let request =
        AccessRequest { principal: "sns.amazonaws.com", action: "sqs:SendMessage", resource: &queue, keys: &keys };
    if matches!(request.under(policy), Answer::Forbidden | Answer::Silent) {
        let shut = format!("The policy of ProofQueue doesn't let the {which} topic deliver to it.");
        return restore(Observation::warn(shut), guard);
    }
    match filters(sns, topic, &queue).await {
        Ok(filters) if filters.is_empty() => {
            let gone = format!("The proof queue's subscription to the {which} topic is gone.");
            restore(Observation::warn(gone), guard)
        }
        Ok(filters) if filters.iter().flatten().any(|filter| !filter.lets_tests_through(guard)) => {
            let say = format!("The proof queue's subscription to the {which} topic keeps tests out.");
            restore(Observation::warn(say), guard)
        }
        Ok(_) => Observation::pass(format!("It hears the {which} topic.")),
        Err(reason) => Observation::unknown(&format!("Whether the proof queue hears the {which} topic"), &reason),
    }
}

/// The filters of an endpoint's subscriptions to a topic; None for one that takes everything.
async fn filters(sns: &Sns, topic: &str, endpoint: &str) -> Result<Vec<Option<Filter>>, String> {
    let mut pages = sns.list_subscriptions_by_topic().topic_arn(topic).into_paginator().items().send();
    let mut filters = Vec::new();
    while let Some(subscription) = pages.next().await {
        let subscription = subscription.map_err(|error| why("sns:ListSubscriptionsByTopic", &error))?;
        let (Some(arn), true) = (subscription.subscription_arn(), subscription.endpoint() == Some(endpoint)) else {
            continue;
        };
        match sns.get_subscription_attributes().subscription_arn(arn).send().await {
            Ok(answer) => filters.push(Filter::of(&answer.attributes.unwrap_or_default())),
            // Removed meanwhile.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(why("sns:GetSubscriptionAttributes", &error)),
        }
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::StackResource;

    #[test]
    fn leg_is_a_subscription_or_says_why_there_is_none() {
        let legs = |guard: &Stack| ["alerts", "findings"].map(|which| guard.leg(which));
        let mut guard = Stack::example(&[("ExistingFindingsTopicArn", "arn:aws:sns:eu-west-1:444455556666:own")]);
        assert_eq!(legs(&guard), [Leg::Missing, Leg::Elsewhere]);
        let part = |kind: &str, id: &str| StackResource { kind: kind.into(), id: id.into() };
        guard.resources.insert("ProofAlertsSubscription".into(), part("AWS::SNS::Subscription", "arn:1"));
        assert_eq!(legs(&guard), [Leg::Subscribed, Leg::Elsewhere]);
        let both = guard.alerts_topic().map(str::to_owned);
        guard.parameters.insert("ExistingFindingsTopicArn".into(), both.unwrap());
        assert_eq!(legs(&guard), [Leg::Subscribed, Leg::Subscribed]);
        guard.resources.insert("ProofQueue".into(), part("AWS::SQS::Queue", "https://sqs/111122223333/proof"));
        assert!(guard.is_proof("arn:aws:sqs:eu-west-1:111122223333:proof"));
        assert!(!guard.is_proof("arn:aws:sqs:eu-west-1:111122223333:people"));
    }
}
