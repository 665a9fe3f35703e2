//! What the guard of this account and Region consists of, as its CloudFormation stack says.

use std::collections::BTreeMap;

use aws_sdk_sns::error::ProvideErrorMetadata;
use aws_types::SdkConfig;
use time::OffsetDateTime;

use super::expected::Parts;
use super::{About, Check, Observation, Verdict, in_region, plain, why};
use crate::escape::inert;
use crate::key::{Region, is_account_id};

pub(super) static DEPLOYED: About = About {
    id: "guard-deployed",
    what: "The guard's stack is there, complete, and what this version deploys.",
    kind: "AWS::CloudFormation::Stack",
};

/// The name that the stack gets unless told otherwise.
pub const DEFAULT_NAME: &str = "kms-key-guard";

/// What the names of an organization's spokes begin with.
#[cfg(feature = "cli")]
const SPOKE: &str = "kms-key-guard-spoke";

/// The stack's parts.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The stack's name.
    pub stack: String,
    /// Its id, an ARN.
    pub stack_id: String,
    /// Such as `UPDATE_COMPLETE`.
    pub status: String,
    /// The account it is in.
    pub account: String,
    /// The Region it is in.
    pub region: Region,
    /// Logical id of the template, and what became of it.
    pub resources: BTreeMap<String, StackResource>,
    /// The stack's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
    /// When it was read.
    pub read: OffsetDateTime,
}

/// A resource of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackResource {
    /// Such as `AWS::Events::Rule`.
    pub kind: String,
    /// Its physical id: the name, ARN or URL that CloudFormation keeps; empty if it has none (yet).
    pub id: String,
}

/// Why the guard's parts can't be told.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no such stack.
    #[error("there is no stack {stack} in {region}: KMS Key Guard isn't deployed there, or under another name")]
    Missing {
        /// Its name.
        stack: String,
        /// The Region that was asked.
        region: String,
    },
    /// It couldn't be asked.
    #[error("the stack {stack} can't be read: {why}")]
    Unreadable {
        /// Its name.
        stack: String,
        /// The reason.
        why: String,
    },
}

impl Stack {
    /// Asks CloudFormation, in the Region of `sdk`.
    pub async fn find(sdk: &SdkConfig, stack: &str) -> Result<Self, StackError> {
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let client = aws_sdk_cloudformation::Client::new(&in_region(sdk, &region));
        let unreadable = |why: String| StackError::Unreadable { stack: inert(stack, 128), why };
        let stacks = client.describe_stacks().stack_name(stack).send().await.map_err(|error| {
            let missing = error.message().is_some_and(|message| message.contains("does not exist"));
            if missing {
                return StackError::Missing { stack: inert(stack, 128), region: region.clone() };
            }
            unreadable(why("cloudformation:DescribeStacks", &error))
        })?;
        let Some(found) = stacks.stacks().first() else {
            return Err(StackError::Missing { stack: inert(stack, 128), region });
        };
        // arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID
        let mut id = found.stack_id().unwrap_or_default().split(':').skip(3);
        let (place, account) = (id.next().unwrap_or_default(), id.next().unwrap_or_default());
        let region = place.parse().map_err(|_| unreadable(format!("its id names no Region: {}", inert(place, 64))))?;
        if !is_account_id(account) {
            return Err(unreadable(format!("its id names no account: {}", inert(account, 64))));
        }
        let mut resources = BTreeMap::new();
        let mut pages = client.list_stack_resources().stack_name(stack).into_paginator().items().send();
        while let Some(resource) = pages.next().await {
            let resource = resource.map_err(|error| unreadable(why("cloudformation:ListStackResources", &error)))?;
            let deleted = resource.resource_status().is_some_and(|status| status.as_str() == "DELETE_COMPLETE");
            if let Some(name) = resource.logical_resource_id().filter(|_| !deleted) {
                let kind = resource.resource_type().unwrap_or_default().to_owned();
                let id = resource.physical_resource_id().unwrap_or_default().to_owned();
                resources.insert(name.to_owned(), StackResource { kind, id });
            }
        }
        let pairs = |key: Option<&str>, value: Option<&str>| Some((key?.to_owned(), value?.to_owned()));
        Ok(Self {
            stack: stack.to_owned(),
            stack_id: found.stack_id().unwrap_or_default().to_owned(),
            status: found.stack_status().map_or_else(|| "unknown".into(), |status| status.as_str().to_owned()),
            account: account.to_owned(),
            region,
            resources,
            parameters: found
                .parameters()
                .iter()
                .filter_map(|p| pairs(p.parameter_key(), p.resolved_value().or(p.parameter_value())))
                .collect(),
            outputs: found.outputs().iter().filter_map(|o| pairs(o.output_key(), o.output_value())).collect(),
            read: OffsetDateTime::now_utc(),
        })
    }

    /// The spoke of an organization in the Region of `sdk`, if there is one.
    #[cfg(feature = "cli")]
    pub(super) async fn spoke(sdk: &SdkConfig) -> Result<Option<Self>, String> {
        let client = aws_sdk_cloudformation::Client::new(sdk);
        let mut stacks = client.list_stacks().into_paginator().items().send();
        while let Some(summary) = stacks.next().await {
            let summary = summary.map_err(|error| why("cloudformation:ListStacks", &error))?;
            let name = summary.stack_name().unwrap_or_default();
            // As a StackSet names its stacks, or as the management account has it.
            let is_spoke = name.strip_prefix("StackSet-").unwrap_or(name).starts_with(SPOKE);
            if is_spoke && summary.stack_status().is_some_and(|status| status.as_str() != "DELETE_COMPLETE") {
                return Self::find(sdk, name).await.map(Some).map_err(|error| error.to_string());
            }
        }
        Ok(None)
    }

    /// The physical id of the resource that the template calls so; None if the stack has none.
    pub fn id(&self, logical: &str) -> Option<&str> {
        self.resources.get(logical).map(|part| part.id.as_str()).filter(|id| !id.is_empty())
    }

    /// All resources of this type: logical and physical id.
    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of_kind = self.resources.iter().filter(move |(_, part)| part.kind == kind && !part.id.is_empty());
        of_kind.map(|(logical, part)| (logical.as_str(), part.id.as_str()))
    }

    /// A parameter of the stack, unless it is empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter that takes `true` or `false` is set.
    pub(super) fn is_on(&self, parameter: &str) -> bool {
        self.parameter(parameter) == Some("true")
    }

    /// Whether it is a spoke of an organization's hub, and no guard of its own.
    pub fn is_spoke(&self) -> bool {
        self.resources.contains_key("HeartbeatRule")
    }

    /// Whether an update, a rollback or an import of it is under way.
    pub fn is_changing(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && !self.status.starts_with("DELETE")
    }

    /// The queues that keep what failed: logical and physical id.
    pub(super) fn failure_queues(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all("AWS::SQS::Queue").filter(|(logical, _)| !matches!(*logical, "ProofQueue" | "SelfCheckQueue"))
    }

    /// The ARN of a queue of the stack, by its URL.
    pub(super) fn queue_arn(&self, url: &str) -> String {
        self.arn("sqs", url.rsplit('/').next().unwrap_or(url))
    }

    /// The topic for people.
    pub fn alerts_topic(&self) -> Option<&str> {
        self.parameter("ExistingAlertsTopicArn").or_else(|| self.id("AlertsTopic"))
    }

    /// The topic for machines.
    pub fn findings_topic(&self) -> Option<&str> {
        self.parameter("ExistingFindingsTopicArn").or_else(|| self.id("FindingsTopic"))
    }

    /// The topic for chat channels; None without one.
    pub fn chat_topic(&self) -> Option<&str> {
        self.id("ChatTopicNotifications")
    }

    /// The topic that a check calls so: `alerts`, `findings` or `chat`.
    pub(super) fn topic(&self, which: &str) -> Option<&str> {
        match which {
            "alerts" => self.alerts_topic(),
            "findings" => self.findings_topic(),
            _ => self.chat_topic(),
        }
    }

    /// The e-mail address to subscribe, in a command: the one the stack was deployed with.
    pub(super) fn address(&self) -> String {
        plain(self.parameter("AlertEmail").unwrap_or_default(), "name@example.com")
    }

    /// The ARN of something in the guard's account and Region.
    pub(crate) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.region.partition().name, self.region, self.account)
    }
}

/// A stack that failed halfway may lack anything, and one of another version lacks what this one adds.
pub(super) fn look(guard: &Stack, parts: &Parts) -> Check {
    let Stack { stack, status, region, .. } = guard;
    let complete = matches!(
        status.as_str(),
        "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE"
    );
    let look = if complete {
        Observation::pass(format!("The stack {stack} is {status}."))
    } else if guard.is_changing() {
        Observation::warn(format!("The stack {stack} is being changed ({status}); check again when it is done."))
    } else {
        Observation::fail(format!("The stack {stack} is {status}.")).mend(
            "See what went wrong, and deploy again:",
            format!("aws cloudformation describe-stack-events --region {region} --stack-name {stack}"),
        )
    };
    Check::of(&DEPLOYED, [vec![look], parts.look(guard)].concat())
}

/// Why there are no parts, as checks; asks whether the Region is enabled at all, and an operator's doctor whether it holds
/// keys.
pub(super) async fn none(sdk: &SdkConfig, region: &Region, none: &StackError) -> Vec<Check> {
    let account = aws_sdk_account::Client::new(sdk);
    let status = account.get_region_opt_status().region_name(region.as_str()).send().await;
    let status = status.ok().and_then(|answer| answer.region_opt_status().map(|status| status.as_str().to_owned()));
    if let Some(status @ ("DISABLED" | "DISABLING")) = status.as_deref() {
        let say =
            format!("The Region {region} is not enabled for this account ({status}), so there is nothing to guard.");
        let look = Observation::fail(say)
            .mend("Leave it out, or enable it:", format!("aws account enable-region --region-name {region}"));
        return vec![Check::of(&DEPLOYED, vec![look])];
    }
    let said = none.to_string();
    let mut letters = said.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let sentence: String = first.into_iter().chain(letters).chain(['.']).collect();
    let look = match none {
        StackError::Missing { .. } => Observation::fail(sentence)
            .mend("Deploy it there, or name its stack with --stack-name:", format!("make deploy REGION={region}")),
        StackError::Unreadable { .. } => Observation::new(Verdict::Unknown(sentence)),
    };
    #[cfg(feature = "cli")]
    if let StackError::Missing { .. } = none {
        return vec![Check::of(&DEPLOYED, vec![look]), super::keys::look(sdk, region).await];
    }
    vec![Check::of(&DEPLOYED, vec![look])]
}

pub(super) async fn enabled_regions(sdk: &SdkConfig) -> Result<Vec<Region>, String> {
    use aws_sdk_account::types::RegionOptStatus::{Enabled, EnabledByDefault};
    let asked = sdk.region().map(ToString::to_string).unwrap_or_else(|| "us-east-1".to_owned());
    let account = aws_sdk_account::Client::new(&in_region(sdk, &asked));
    let statuses = vec![Enabled, EnabledByDefault];
    let mut pages =
        account.list_regions().set_region_opt_status_contains(Some(statuses)).into_paginator().items().send();
    let mut regions = Vec::new();
    while let Some(region) = pages.next().await {
        let region = region.map_err(|error| why("account:ListRegions", &error))?;
        let given = region.region_name().unwrap_or_default();
        regions.push(given.parse().map_err(|_| format!("account:ListRegions named no Region: {}", inert(given, 64)))?);
    }
    regions.sort();
    Ok(regions)
}

#[cfg(test)]
impl Stack {
    /// A guard with its topics, and these parameters.
    pub(super) fn example(parameters: &[(&str, &str)]) -> Self {
        let part = |logical: &str, kind: &str, id: &str| {
            (logical.to_owned(), StackResource { kind: kind.to_owned(), id: id.to_owned() })
        };
        let topic = |name: &str| format!("arn:aws:sns:eu-west-1:111122223333:{name}");
        Self {
            stack: "kms-key-guard".into(),
            stack_id: "arn:aws:cloudformation:eu-west-1:111122223333:stack/kms-key-guard/1".into(),
            status: "CREATE_COMPLETE".into(),
            account: "111122223333".into(),
            region: "eu-west-1".parse().unwrap(),
            resources: [
                part("AlertsTopic", "AWS::SNS::Topic", &topic("alerts")),
                part("FindingsTopic", "AWS::SNS::Topic", &topic("findings")),
            ]
            .into(),
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            outputs: BTreeMap::new(),
            read: OffsetDateTime::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_topics_are_the_parameters() {
        let guard = Stack::example(&[
            ("ExistingAlertsTopicArn", "arn:aws:sns:eu-west-1:111122223333:own"),
            ("ExistingFindingsTopicArn", ""),
        ]);
        assert_eq!(guard.alerts_topic(), Some("arn:aws:sns:eu-west-1:111122223333:own"));
        assert_eq!(guard.findings_topic(), Some("arn:aws:sns:eu-west-1:111122223333:findings"));
    }

    #[test]
    fn half_made_stack_is_no_guard() {
        let judged =
            |status: &str| look(&Stack { status: status.into(), ..Stack::example(&[]) }, &Parts::default()).verdict;
        assert_eq!(judged("UPDATE_COMPLETE").name(), "pass");
        assert_eq!(judged("UPDATE_IN_PROGRESS").name(), "warn");
        for status in ["ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED", "CREATE_FAILED"] {
            assert_eq!(judged(status).name(), "fail", "{status}");
        }
    }
}
