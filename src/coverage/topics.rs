//! Do the guard's topics exist, do they take what is published, and is anybody subscribed?

use std::collections::HashMap;

use aws_sdk_kms::Client as Kms;
use aws_sdk_sns::Client as Sns;
use aws_types::SdkConfig;

use super::filters::Filter;
use super::{About, Check, Observation, Stack, is_missing, plain, why};
use crate::escape::name;
use crate::policy::{AccessRequest, Answer};

pub(super) static ALERTS: About = About {
    id: "alerts-heard",
    what: "The alerts topic exists, takes what the guard and its alarms publish, and somebody has confirmed a subscription that lets severe alerts through.",
    kind: "AWS::SNS::Topic",
};
pub(super) static FINDINGS: About = About {
    id: "findings-heard",
    what: "The findings topic exists, takes what the guard publishes, and something is subscribed.",
    kind: "AWS::SNS::Topic",
};
pub(super) static CHAT: About = About {
    id: "chat-heard",
    what: "The chat topic, if there is one, exists, takes what the guard and its alarms publish, and a channel is subscribed that severe alerts reach.",
    kind: "AWS::SNS::Topic",
};
pub(super) static ENCRYPTION: About =
    About { id: "topics-readable", what: "No topic is encrypted under a key that can be lost.", kind: "AWS::KMS::Key" };

/// Looks at the topics of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack) -> Vec<Check> {
    checks(&Sns::new(sdk), &Kms::new(sdk), guard).await
}

pub(super) async fn checks(sns: &Sns, kms: &Kms, guard: &Stack) -> Vec<Check> {
    let topics = [(&ALERTS, "alerts"), (&FINDINGS, "findings"), (&CHAT, "chat")];
    let there = topics.into_iter().filter(|(_, which)| *which != "chat" || guard.is_on("ChatTopic"));
    let seen = there.map(|(about, which)| async move { (about, which, topic(sns, guard, which).await) });
    let (mut checks, mut encryption) = (Vec::new(), Vec::new());
    for (about, which, topic) in futures_util::future::join_all(seen).await {
        encryption.push(match &topic.key {
            Ok(key) => encrypted(kms, which, guard, key.as_deref()).await,
            Err(reason) => Observation::unknown(&format!("How the {which} topic is encrypted"), reason),
        });
        checks.push(Check::of(about, topic.looks));
    }
    checks.push(Check::of(&ENCRYPTION, encryption));
    checks
}

/// What was seen of a topic.
struct Seen {
    looks: Vec<Observation>,
    /// `KmsMasterKeyId`, or why it isn't known.
    key: Result<Option<String>, String>,
}

async fn topic(sns: &Sns, guard: &Stack, which: &str) -> Seen {
    let Some(arn) = guard.topic(which) else {
        let look =
            Observation::fail(format!("The stack {} names no {which} topic.", guard.stack)).advise("Deploy again.");
        return Seen { looks: vec![look], key: Err("there is no topic".into()) };
    };
    let severe = |filter: &Filter| filter.lets_severe_alerts_through(guard, which == "alerts");
    let (attributes, audience) =
        tokio::join!(sns.get_topic_attributes().topic_arn(arn).send(), audience(sns, guard, arn, severe));
    let attributes = match attributes {
        Ok(answer) => answer.attributes.unwrap_or_default(),
        Err(error) if is_missing(&error) => {
            let gone =
                format!("The {which} topic {} is gone, so nothing that the guard publishes arrives.", name(arn, 256));
            let look = Observation::fail(gone).mend(
                "Create it again under the same name, subscribe to it, and deploy again for its policy:",
                format!(
                    "aws sns create-topic --region {} --name {}",
                    guard.region,
                    plain(arn.rsplit(':').next().unwrap_or_default(), "NAME")
                ),
            );
            return Seen { looks: vec![look], key: Err("there is no such topic".into()) };
        }
        Err(error) => {
            let reason = why("sns:GetTopicAttributes", &error);
            let look = Observation::unknown(&format!("The {which} topic"), &reason);
            return Seen { looks: vec![look, heard(guard, which, arn, audience)], key: Err(reason) };
        }
    };
    let mut looks = vec![heard(guard, which, arn, audience)];
    looks.extend(may_publish(guard, which, arn, &attributes));
    Seen { looks, key: Ok(attributes.get("KmsMasterKeyId").filter(|key| !key.is_empty()).cloned()) }
}

/// Who listens to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    /// The confirmed subscriptions, and who hasn't answered the confirmation message.
    Confirmed(Vec<String>, Vec<String>),
    /// So many confirmed subscriptions, and the filter policies of all of them keep out what matters.
    Filtered(usize),
    /// Nobody, but these haven't answered the confirmation message.
    Pending(Vec<String>),
    /// Nobody at all.
    Nobody,
    /// The topic doesn't exist.
    NoTopic,
    /// It can't be told, for this reason.
    Unknown(String),
}

/// Asks SNS who is subscribed. A subscription counts once it is confirmed, and `lets` through what matters; filters are
/// asked for until one does. The proof queue's don't count: only tests pass them.
pub(super) async fn audience(sns: &Sns, guard: &Stack, topic: &str, lets: impl Fn(&Filter) -> bool) -> Audience {
    let mut pages = sns.list_subscriptions_by_topic().topic_arn(topic).into_paginator().items().send();
    let (mut confirmed, mut pending) = (Vec::new(), Vec::new());
    while let Some(subscription) = pages.next().await {
        match subscription {
            // Instead of an ARN there is PendingConfirmation, or Deleted.
            Ok(subscription) => {
                let (protocol, endpoint) = (subscription.protocol(), subscription.endpoint());
                let (protocol, endpoint) = (protocol.unwrap_or_default(), endpoint.unwrap_or_default());
                let address = format!("{} {}", name(protocol, 64), name(endpoint, 256));
                match subscription.subscription_arn() {
                    Some(_) if guard.is_proof(endpoint) => {}
                    Some(arn) if arn.starts_with("arn:") => confirmed.push((arn.to_owned(), address)),
                    Some("PendingConfirmation") => pending.push(address),
                    _ => {}
                }
            }
            Err(error) if is_missing(&error) => return Audience::NoTopic,
            Err(error) => return Audience::Unknown(why("sns:ListSubscriptionsByTopic", &error)),
        }
    }
    for (subscription, _) in &confirmed {
        match sns.get_subscription_attributes().subscription_arn(subscription).send().await {
            Ok(answer) => {
                let filter = Filter::of(&answer.attributes.unwrap_or_default());
                if filter.is_none_or(|filter| lets(&filter)) {
                    return Audience::Confirmed(confirmed.into_iter().map(|(_, address)| address).collect(), pending);
                }
            }
            // Removed meanwhile.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Audience::Unknown(why("sns:GetSubscriptionAttributes", &error)),
        }
    }
    match (confirmed.len(), pending.is_empty()) {
        (0, true) => Audience::Nobody,
        (0, false) => Audience::Pending(pending),
        (count, _) => Audience::Filtered(count),
    }
}

/// Who receives the alarms that notify each of these topics.
pub(super) async fn audiences(
    sns: &Sns,
    guard: &Stack,
    topics: impl Iterator<Item = String>,
) -> HashMap<String, Audience> {
    let asked = topics.map(|topic| async move {
        let audience = audience(sns, guard, &topic, Filter::lets_alarms_through).await;
        (topic, audience)
    });
    futures_util::future::join_all(asked).await.into_iter().collect()
}

fn heard(guard: &Stack, which: &str, arn: &str, audience: Audience) -> Observation {
    let region = &guard.region;
    // Many read their mail and nothing else, so a findings topic that nobody hears is no failure.
    let bad = |text: String| if which == "findings" { Observation::warn(text) } else { Observation::fail(text) };
    let subscribe = |look: Observation| {
        if which == "chat" {
            return look.advise(
                "Add the topic to the configuration of a channel in Amazon Q Developer in chat applications (docs/chat.md).",
            );
        }
        let (what, endpoint) = if which == "alerts" {
            (
                "Subscribe, and answer the message that comes:",
                format!("--protocol email --notification-endpoint {}", guard.address()),
            )
        } else {
            (
                "Subscribe a queue, if machines are to read it:",
                "--protocol sqs --notification-endpoint QUEUE-ARN".to_owned(),
            )
        };
        let command = format!("aws sns subscribe --region {region} --topic-arn {} {endpoint}", plain(arn, "TOPIC-ARN"));
        look.mend(what, command)
    };
    match audience {
        Audience::Confirmed(confirmed, pending) => {
            let subscriptions = if confirmed.len() == 1 { "subscription" } else { "subscriptions" };
            let addresses = some(&confirmed);
            let say = format!("The {which} topic has {} confirmed {subscriptions} ({addresses})", confirmed.len());
            if pending.is_empty() {
                Observation::pass(format!("{say}."))
            } else {
                Observation::warn(format!("{say}; pending confirmation: {}.", some(&pending)))
                    .advise("Answer the message that SNS sent there, or remove the subscription.")
            }
        }
        Audience::Filtered(count) => subscribe(bad(format!(
            "No severe alert gets through the {which} topic: the filter policies of all {count} confirmed subscriptions keep out everything that is High or Critical."
        ))),
        Audience::Pending(pending) => subscribe(bad(format!(
            "Nobody has confirmed a subscription to the {which} topic: pending confirmation is {}.",
            some(&pending)
        ))),
        Audience::Nobody => subscribe(bad(format!("Nobody is subscribed to the {which} topic."))),
        Audience::NoTopic => bad(format!("The {which} topic is gone.")),
        Audience::Unknown(reason) => Observation::unknown(&format!("Who is subscribed to the {which} topic"), &reason),
    }
}

/// The first few of a list.
fn some(all: &[String]) -> String {
    let first = all.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > 3 { format!("{first} and {} more", all.len() - 3) } else { first }
}

/// The function's own role allows it to publish to topics of its account, so there only a refusal counts; a topic of
/// another account, and a service such as CloudWatch, needs the topic's policy to allow it.
fn may_publish(guard: &Stack, which: &str, arn: &str, attributes: &HashMap<String, String>) -> Vec<Observation> {
    let Some(policy) = attributes.get("Policy") else { return Vec::new() };
    let partition = guard.region.partition().name;
    let role = match guard.outputs.get("AlertFunctionRoleArn") {
        Some(role) => role.clone(),
        None => {
            let id = guard.id("AlertFunctionRole").unwrap_or("*");
            format!("arn:{partition}:iam::{}:role/{id}", guard.account)
        }
    };
    let own = arn.split(':').nth(4) == Some(guard.account.as_str());
    let alarm = guard.all("AWS::CloudWatch::Alarm").next().map_or("*", |(_, id)| id);
    let alarm = guard.arn("cloudwatch", &format!("alarm:{alarm}"));
    let common = [
        ("aws:securetransport", "true"),
        ("aws:sourceaccount", guard.account.as_str()),
        ("aws:sourceowner", guard.account.as_str()),
        ("aws:principalaccount", guard.account.as_str()),
    ];
    let of_alarm = [common.as_slice(), &[("aws:sourcearn", alarm.as_str())]].concat();
    let of_role = [common.as_slice(), &[("aws:principalarn", role.as_str())]].concat();
    let ask = |principal: &str, keys: &[(&str, &str)]| {
        AccessRequest { principal, action: "sns:Publish", resource: arn, keys }.under(policy)
    };
    let mut looks = Vec::new();
    let mut judge = |who: &str, answer: Answer, silence_is_enough: bool| {
        match answer {
        Answer::Allowed => {}
        Answer::Silent if silence_is_enough => {}
        Answer::Unclear => looks.push(Observation::warn(format!(
            "Whether the {which} topic's policy lets {who} publish can't be judged from its conditions; keyguard doctor --prove shows it."
        ))),
        Answer::Forbidden | Answer::Silent => looks.push(
            Observation::fail(format!("The {which} topic's policy doesn't let {who} publish."))
                .mend(
                    "See the policy:",
                    format!(
                        "aws sns get-topic-attributes --region {} --topic-arn {} --query Attributes.Policy --output text",
                        guard.region,
                        plain(arn, "TOPIC-ARN")
                    ),
                )
                .advise("Allow it there (set-topic-attributes), or deploy again if the topic is the stack's."),
        ),
    }
    };
    judge("the alert function", ask(&role, &of_role), own);
    if which != "findings" {
        judge("the guard's alarms", ask("cloudwatch.amazonaws.com", &of_alarm), false);
    }
    looks
}

async fn encrypted(kms: &Kms, which: &str, guard: &Stack, key: Option<&str>) -> Observation {
    let Some(key) = key else {
        return Observation::pass(format!("The {which} topic isn't encrypted under a KMS key."))
            .of_several(which, "Neither topic is encrypted under a KMS key ({names}).");
    };
    let shown = name(key, 256);
    if key.ends_with("alias/aws/sns") {
        let managed = format!("The {which} topic is encrypted under alias/aws/sns");
        return if which != "findings" {
            Observation::warn(format!(
                "{managed}, which CloudWatch alarms can't use, so the guard's alarms don't arrive there."
            ))
            .mend("Take the encryption off:", take_off(guard, which))
        } else {
            Observation::pass(format!("{managed}, which nobody can disable."))
        };
    }
    let answer = match kms.describe_key().key_id(key).send().await {
        Ok(answer) => answer,
        Err(error) if is_missing(&error) => {
            return Observation::fail(format!(
                "The {which} topic is encrypted under {shown}, and there is no such key."
            ))
            .mend("Take the encryption off:", take_off(guard, which));
        }
        Err(error) => {
            let reason = why("kms:DescribeKey", &error);
            return Observation::unknown(&format!("The state of the key {shown} of the {which} topic"), &reason);
        }
    };
    let metadata = answer.key_metadata();
    let state = metadata.and_then(|key| key.key_state()).map_or("unknown", |state| state.as_str());
    if state == "Enabled" {
        return Observation::warn(format!(
            "The {which} topic is encrypted under the customer key {shown}: whoever disables that key silences the guard."
        ))
        .mend("Take the encryption off:", take_off(guard, which));
    }
    let id = metadata.and_then(|key| key.arn()).unwrap_or(key);
    let say = format!("The {which} topic is encrypted under {shown}, which is {}: nothing arrives.", name(state, 64));
    let look = Observation::fail(say).mend("Take the encryption off:", take_off(guard, which));
    let (region, id) = (&guard.region, plain(id, "KEY-ARN"));
    match state {
        "PendingDeletion" | "PendingReplicaDeletion" => look
            .mend("Or keep the key:", format!("aws kms cancel-key-deletion --region {region} --key-id {id}"))
            .mend("and enable it:", format!("aws kms enable-key --region {region} --key-id {id}")),
        "Disabled" => look.mend("Or enable the key:", format!("aws kms enable-key --region {region} --key-id {id}")),
        _ => look,
    }
}

fn take_off(guard: &Stack, which: &str) -> String {
    format!(
        "aws sns set-topic-attributes --region {} --topic-arn {} --attribute-name KmsMasterKeyId --attribute-value ''",
        guard.region,
        plain(guard.topic(which).unwrap_or_default(), "TOPIC-ARN")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::stack::StackResource;
    use aws_sdk_sns::operation::get_subscription_attributes::GetSubscriptionAttributesOutput;
    use aws_sdk_sns::operation::get_topic_attributes::{GetTopicAttributesError, GetTopicAttributesOutput};
    use aws_sdk_sns::operation::list_subscriptions_by_topic::ListSubscriptionsByTopicOutput;
    use aws_sdk_sns::types::Subscription;
    use aws_sdk_sns::types::error::NotFoundException;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    const CHAT_TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:chat";

    fn guard(on: &str) -> Stack {
        let mut guard = Stack::example(&[("ChatTopic", on)]);
        let part = StackResource { kind: "AWS::SNS::Topic".into(), id: CHAT_TOPIC.into() };
        guard.resources.insert("ChatTopicNotifications".into(), part);
        guard
    }

    fn is_chat(arn: Option<&str>) -> bool {
        arn == Some(CHAT_TOPIC)
    }

    /// Topics that are there and heard, but for the one that is for channels.
    async fn looked(guard: &Stack, of_chat: Vec<Rule>) -> Vec<Check> {
        let heard = |id: &str| {
            let subscription = Subscription::builder().subscription_arn(format!("{CHAT_TOPIC}:{id}"));
            subscription.protocol("https").endpoint("channel").build()
        };
        let all = vec![
            mock!(Sns::get_topic_attributes).then_output(|| GetTopicAttributesOutput::builder().build()),
            mock!(Sns::list_subscriptions_by_topic)
                .then_output(move || ListSubscriptionsByTopicOutput::builder().subscriptions(heard("1")).build()),
            mock!(Sns::get_subscription_attributes).then_output(|| GetSubscriptionAttributesOutput::builder().build()),
        ];
        let rules: Vec<_> = of_chat.iter().chain(&all).collect();
        let sns = mock_client!(aws_sdk_sns, RuleMode::MatchAny, &rules);
        checks(&sns, &mock_client!(aws_sdk_kms, []), guard).await
    }

    fn of_chat(checks: &[Check]) -> (&'static str, &str) {
        let check = checks.iter().find(|check| check.about.id == CHAT.id).unwrap();
        (check.verdict.name(), check.verdict.text())
    }

    #[tokio::test]
    async fn chat_topic_is_looked_at_as_the_others_are_if_there_is_one() {
        assert!(looked(&guard("false"), vec![]).await.iter().all(|check| check.about.id != CHAT.id));
        let well = looked(&guard("true"), vec![]).await;
        assert_eq!(of_chat(&well), ("pass", "The chat topic has 1 confirmed subscription (https channel)."));

        let nobody = mock!(Sns::list_subscriptions_by_topic)
            .match_requests(|asked| is_chat(asked.topic_arn()))
            .then_output(|| ListSubscriptionsByTopicOutput::builder().build());
        let unheard = looked(&guard("true"), vec![nobody]).await;
        assert_eq!(of_chat(&unheard), ("fail", "Nobody is subscribed to the chat topic."));

        let gone =
            mock!(Sns::get_topic_attributes).match_requests(|asked| is_chat(asked.topic_arn())).then_error(|| {
                GetTopicAttributesError::NotFoundException(
                    NotFoundException::builder()
                        .meta(aws_sdk_sns::error::ErrorMetadata::builder().code("NotFound").build())
                        .build(),
                )
            });
        let missing = looked(&guard("true"), vec![gone]).await;
        let (verdict, text) = of_chat(&missing);
        assert_eq!(verdict, "fail");
        assert!(text.contains(&format!("The chat topic {CHAT_TOPIC} is gone")), "{text}");

        let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sns:Publish","Resource":"*"}]}"#;
        let denies = mock!(Sns::get_topic_attributes)
            .match_requests(|asked| is_chat(asked.topic_arn()))
            .then_output(move || GetTopicAttributesOutput::builder().attributes("Policy", deny).build());
        let denied = looked(&guard("true"), vec![denies]).await;
        let (verdict, text) = of_chat(&denied);
        assert_eq!(verdict, "fail");
        assert!(text.contains("The chat topic's policy doesn't let the alert function publish"), "{text}");
        assert!(text.contains("doesn't let the guard's alarms publish"), "{text}");
    }
}
