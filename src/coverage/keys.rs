//! Does a Region without the guard hold keys that somebody could lose?

use aws_sdk_kms::Client as Kms;
use aws_sdk_kms::types::KeyManagerType;
use aws_types::SdkConfig;

use super::{About, Check, Observation, why};
use crate::escape::name;
use crate::key::Region;

/// The check of a Region without the guard.
pub static GUARDED: About =
    About { id: "keys-guarded", what: "No customer key is in a Region without the guard.", kind: "AWS::KMS::Key" };

/// So many customer keys are enough to know; a Region may hold 100,000.
const ENOUGH: usize = 10;

/// Looks at the keys of the Region of `sdk`, which has no guard.
pub(super) async fn look(sdk: &SdkConfig, region: &Region) -> Check {
    check(&Kms::new(sdk), region).await
}

async fn check(kms: &Kms, region: &Region) -> Check {
    let unknown = |reason: String| {
        let what = format!("Whether {region} holds customer keys");
        Check::of(&GUARDED, vec![Observation::unknown(&what, &reason)])
    };
    let (mut keys, mut refused) = (Vec::new(), None);
    let mut pages = kms.list_keys().into_paginator().items().send();
    while let Some(key) = pages.next().await {
        let id = match key {
            Ok(key) => key.key_id.unwrap_or_default(),
            Err(error) => return unknown(why("kms:ListKeys", &error)),
        };
        // AWS's own keys are listed as well, and only this tells them apart.
        match kms.describe_key().key_id(&id).send().await {
            Ok(answer) => {
                let customers =
                    |key: &_| aws_sdk_kms::types::KeyMetadata::key_manager(key) != Some(&KeyManagerType::Aws);
                if answer.key_metadata().is_some_and(customers) {
                    keys.push(name(&id, 64));
                }
            }
            Err(error) => refused = Some(why("kms:DescribeKey", &error)),
        }
        if keys.len() == ENOUGH {
            break;
        }
    }
    let some = keys.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    let look = match (keys.len(), refused) {
        (0, Some(reason)) => return unknown(reason),
        (0, None) => Observation::pass(format!("{region} holds no customer key.")),
        (1, _) => Observation::fail(format!("The customer key {some} in {region} is unguarded.")),
        (ENOUGH, _) => {
            Observation::fail(format!("{ENOUGH} or more customer keys in {region} are unguarded, such as {some}."))
        }
        (count @ (2 | 3), _) => Observation::fail(format!("{count} customer keys in {region} are unguarded: {some}.")),
        (count, _) => Observation::fail(format!("{count} customer keys in {region} are unguarded, such as {some}.")),
    };
    Check::of(&GUARDED, vec![look])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kms::error::ErrorMetadata;
    use aws_sdk_kms::operation::describe_key::{DescribeKeyError, DescribeKeyOutput};
    use aws_sdk_kms::operation::list_keys::{ListKeysError, ListKeysOutput};
    use aws_sdk_kms::types::{KeyListEntry, KeyMetadata};
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    async fn found(rules: &[&Rule]) -> (&'static str, String) {
        let kms = mock_client!(aws_sdk_kms, RuleMode::MatchAny, rules);
        let verdict = check(&kms, &"us-east-1".parse().unwrap()).await.verdict;
        (verdict.name(), verdict.text().to_owned())
    }

    fn listed(keys: usize) -> Rule {
        let keys: Vec<_> =
            (0..keys).map(|number| KeyListEntry::builder().key_id(format!("key-{number}")).build()).collect();
        mock!(Kms::list_keys).then_output(move || ListKeysOutput::builder().set_keys(Some(keys.clone())).build())
    }

    /// The first ones are customers', the others AWS's own.
    fn described(customers: usize) -> Rule {
        mock!(Kms::describe_key).then_compute_output(move |asked| {
            let id = asked.key_id().unwrap_or_default();
            let number: usize = id.trim_start_matches("key-").parse().unwrap_or_default();
            let manager = if number < customers { KeyManagerType::Customer } else { KeyManagerType::Aws };
            let key = KeyMetadata::builder().key_id(id).key_manager(manager).build().unwrap();
            DescribeKeyOutput::builder().key_metadata(key).build()
        })
    }

    #[tokio::test]
    async fn customers_keys_are_named_and_aws_managed_ones_do_not_count() {
        assert_eq!(found(&[&listed(5), &described(0)]).await, ("pass", "us-east-1 holds no customer key.".into()));
        for (customers, says) in [
            (1, "The customer key key-0 in us-east-1 is unguarded."),
            (3, "3 customer keys in us-east-1 are unguarded: key-0, key-1, key-2."),
            (4, "4 customer keys in us-east-1 are unguarded, such as key-0, key-1, key-2."),
            (40, "10 or more customer keys in us-east-1 are unguarded, such as key-0, key-1, key-2."),
        ] {
            assert_eq!(found(&[&listed(50), &described(customers)]).await, ("fail", says.into()));
        }
    }

    #[tokio::test]
    async fn refusal_is_unknown_and_never_no_key() {
        let denied = || ErrorMetadata::builder().code("AccessDeniedException").build();
        let list = mock!(Kms::list_keys).then_error(move || ListKeysError::generic(denied()));
        let unknown = |action: &str| {
            ("unknown", format!("Whether us-east-1 holds customer keys isn't known: no permission for kms:{action}."))
        };
        assert_eq!(found(&[&list, &described(0)]).await, unknown("ListKeys"));
        let describe = mock!(Kms::describe_key).then_error(move || DescribeKeyError::generic(denied()));
        assert_eq!(found(&[&listed(2), &describe]).await, unknown("DescribeKey"));
        assert_eq!(found(&[&listed(0), &describe]).await.0, "pass");
    }
}
