//! Does the proof queue hear the tests of `keyguard doctor --prove`?

use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::Client as Sqs;
use aws_types::SdkConfig;
use futures_util::future::join_all;

use super::expected::restore;
use super::filters::Filter;
use super::{About, Check, Observation, Stack, is_missing, self_check, why};
use crate::escape::name;
use crate::policy::{AccessRequest, Answer};

pub(super) static READY: About = About {
    id: "proof-ready",
    what: "The proof queue gets the tests that the topics of this account deliver.",
    kind: "AWS::SQS::Queue",
};

/// How a topic reaches the proof queue.
pub(super) enum Leg<'a> {
    /// By this subscription.
    Subscribed(&'a str),
    /// Not at all: it is another account's.
    Elsewhere,
    /// Not at all: the stack has no subscription.
    Missing,
}

impl Stack {
    /// How the topic for people, or for machines, reaches the proof queue.
    pub(super) fn leg(&self, which: &str) -> Leg<'_> {
        let (subscription, topic) = match which {
            "alerts" => (self.id("ProofAlertsSubscription"), self.alerts_topic()),
            _ => {
                // One topic for both takes one subscription.
                let both = self.findings_topic().filter(|topic| self.alerts_topic() == Some(*topic));
                let shared = both.and_then(|_| self.id("ProofAlertsSubscription"));
                (self.id("ProofFindingsSubscription").or(shared), self.findings_topic())
            }
        };
        match (subscription, topic.and_then(|topic| topic.split(':').nth(4))) {
            (Some(subscription), _) => Leg::Subscribed(subscription),
            (None, Some(account)) if account != self.account => Leg::Elsewhere,
            (None, _) => Leg::Missing,
        }
    }

    /// Whether a subscription is one of the proof queue's, by which nobody hears anything.
    pub(super) fn is_proof(&self, subscription: &str) -> bool {
        self.resources.iter().any(|(logical, part)| {
            part.kind == "AWS::SNS::Subscription" && logical.starts_with("Proof") && part.id == subscription
        })
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
    let topics = [("alerts", guard.alerts_topic()), ("findings", guard.findings_topic())];
    let looks = topics.into_iter().filter_map(|(which, topic)| Some(heard(&sns, guard, &policy, url, which, topic?)));
    Check::of(&READY, join_all(looks).await)
}

async fn heard(sns: &Sns, guard: &Stack, policy: &str, url: &str, which: &str, topic: &str) -> Observation {
    let subscription = match guard.leg(which) {
        Leg::Subscribed(subscription) => subscription,
        Leg::Elsewhere => {
            return Observation::pass(format!(
                "The {which} topic is in another account, so what it delivers keyguard doctor --prove can't see."
            ));
        }
        Leg::Missing => {
            let none = format!("The proof queue isn't subscribed to the {which} topic.");
            return Observation::warn(none).advise("Deploy again (make deploy).");
        }
    };
    let queue = guard.queue_arn(url);
    let keys = [("aws:sourcearn", topic), ("aws:securetransport", "true")];
    let request =
        AccessRequest { principal: "sns.amazonaws.com", action: "sqs:SendMessage", resource: &queue, keys: &keys };
    if matches!(request.under(policy), Answer::Forbidden | Answer::Silent) {
        let shut = format!("The policy of ProofQueue doesn't let the {which} topic deliver to it.");
        return restore(Observation::warn(shut), guard);
    }
    match sns.get_subscription_attributes().subscription_arn(subscription).send().await {
        Ok(answer) => {
            let filter = Filter::of(&answer.attributes.unwrap_or_default());
            if filter.is_none_or(|filter| filter.lets_tests_through(guard)) {
                Observation::pass(format!("It hears the {which} topic."))
            } else {
                let say = format!("The proof queue's subscription to the {which} topic keeps tests out.");
                restore(Observation::warn(say), guard)
            }
        }
        Err(error) if is_missing(&error) => {
            let gone =
                format!("The proof queue's subscription to the {which} topic ({}) is gone.", name(subscription, 300));
            restore(Observation::warn(gone), guard)
        }
        Err(error) => Observation::unknown(
            &format!("Whether the proof queue hears the {which} topic"),
            &why("sns:GetSubscriptionAttributes", &error),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::StackResource;

    #[test]
    fn leg_is_a_subscription_or_says_why_there_is_none() {
        let legs = |guard: &Stack| {
            ["alerts", "findings"].map(|which| match guard.leg(which) {
                Leg::Subscribed(arn) => arn.to_owned(),
                Leg::Elsewhere => "elsewhere".into(),
                Leg::Missing => "missing".into(),
            })
        };
        let mut guard = Stack::example(&[("ExistingFindingsTopicArn", "arn:aws:sns:eu-west-1:444455556666:own")]);
        assert_eq!(legs(&guard), ["missing", "elsewhere"]);
        let subscription = StackResource { kind: "AWS::SNS::Subscription".into(), id: "arn:1".into() };
        guard.resources.insert("ProofAlertsSubscription".into(), subscription);
        assert_eq!(legs(&guard), ["arn:1", "elsewhere"]);
        assert!(guard.is_proof("arn:1") && !guard.is_proof("arn:2"));
        let both = guard.alerts_topic().map(str::to_owned);
        guard.parameters.insert("ExistingFindingsTopicArn".into(), both.unwrap());
        assert_eq!(legs(&guard), ["arn:1", "arn:1"]);
    }
}
