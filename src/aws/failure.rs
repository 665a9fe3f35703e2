//! Why a call to AWS failed, in words that say what to do about it.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;

use crate::escape::inert;

/// How much of what AWS or the system says is shown, in characters.
const SHOWN: usize = 300;

/// Why this action of a service, such as `sns:Publish`, failed.
pub(crate) fn why<E, R>(action: &str, error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error.code() {
        Some(code) => answered(action, code, error.message().unwrap_or_default()),
        None => unanswered(action, error),
    }
}

/// Whether the answer is that the caller may not do this; AWS's services spell it in several ways.
fn is_denied(code: &str) -> bool {
    code.starts_with("AccessDenied")
        || matches!(
            code,
            "AuthorizationError" | "UnauthorizedOperation" | "InsufficientDependencyServiceAccessPermissionException"
        )
}

fn answered(action: &str, code: &str, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if is_denied(code) {
        // "… is not authorized to perform: … because no identity-based policy allows the … action", or names an explicit deny.
        let because = message
            .split_once(" because ")
            .map_or(String::new(), |(_, because)| format!(" ({})", inert(because.trim_end_matches('.'), SHOWN)));
        let deny = message.split_once(" with an explicit deny in ").map_or(String::new(), |(_, place)| {
            format!(" (explicit deny in {})", inert(place.trim_end_matches('.'), SHOWN))
        });
        return format!("no permission for {action}{because}{deny}");
    }
    let meaning = match code {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
            "the session of the credentials has expired: sign in again, or get new ones"
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidToken" | "AuthFailure" | "OptInRequired" => {
            "AWS doesn't know the credentials there: they are wrong or were deleted, or the Region isn't enabled for the account"
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature" => {
            "the secret access key is wrong, or the clock of this machine is"
        }
        "RequestTimeTooSkewed" | "RequestExpired" => "the clock of this machine is wrong",
        "Throttling" | "ThrottlingException" | "Throttled" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            "the account makes too many requests: try again in a minute"
        }
        _ if message.is_empty() => return format!("{action} answered {}", inert(code, 64)),
        _ => return format!("{action} answered {}: {}", inert(code, 64), inert(message, SHOWN)),
    };
    // A refused signature is explained with the request itself, session token and all.
    format!("{meaning} ({action} answered {code})")
}

/// The error, and what caused it, down to the first cause.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// The last of the causes, in one line: the one that libraries wrapped.
pub(crate) fn first_cause(error: &(dyn Error + 'static)) -> String {
    let said = causes(error).last().map(ToString::to_string).unwrap_or_default();
    inert(said.lines().next().unwrap_or_default().trim_end_matches([':', ' ', '.']), SHOWN)
}

fn unanswered<E, R>(action: &str, error: &SdkError<E, R>) -> String
where
    E: Error + 'static,
    R: std::fmt::Debug + 'static,
{
    // The last, where the credentials that assume a role are missing themselves.
    if let Some(credentials) = causes(error).filter_map(|cause| cause.downcast_ref::<CredentialsError>()).last() {
        return without_credentials(credentials);
    }
    match error {
        SdkError::TimeoutError(_) => format!("{action} got no answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => format!("{action} got no answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_io() => unreachable(action, error),
        SdkError::ResponseError(_) => {
            format!("{action} got an answer that isn't AWS's ({}): is a proxy in between?", first_cause(error))
        }
        _ => format!("{action} couldn't be asked: {}", first_cause(error)),
    }
}

fn without_credentials(error: &CredentialsError) -> String {
    let all = || causes(error).map(ToString::to_string);
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<AssumeRoleError>()) {
        let said = refused.message().unwrap_or("STS gives no reason").lines().next().unwrap_or_default();
        return format!(
            "the role can't be assumed: {}. Its trust policy has to name you (docs/policies/role-trust.json), and you need \
             sts:AssumeRole on it (docs/policies/assume-role.json)",
            inert(said.trim_end_matches('.'), SHOWN)
        );
    }
    if all().any(|said| said.contains("SSO token")) {
        return "the sign-in to IAM Identity Center is missing or has expired: run aws sso login, with the same --profile"
            .to_owned();
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            // Of a whole chain of places, each says only that it isn't used.
            let chain = all().any(|said| said.starts_with("no credentials found in chain"));
            let reason = match error.source() {
                Some(_) if !chain => format!(" ({})", first_cause(error)),
                _ => String::new(),
            };
            format!(
                "there are no AWS credentials{reason}: name a profile that has some with --profile, sign in with aws sso login, \
                 or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        }
        CredentialsError::ProviderTimedOut(_) => "the AWS credentials couldn't be fetched in time".to_owned(),
        CredentialsError::InvalidConfiguration(_) => format!("the AWS configuration is wrong: {}", first_cause(error)),
        _ => format!("the AWS credentials couldn't be fetched: {}", first_cause(error)),
    }
}

fn unreachable(action: &str, error: &(dyn Error + 'static)) -> String {
    let service = action.split(':').next().unwrap_or(action);
    let any = |beginning: &str| causes(error).any(|cause| cause.to_string().starts_with(beginning));
    let refused = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    // Hyper's own error of a look-up, which it doesn't make public.
    if any("dns error") {
        return format!(
            "the address of the service {service} can't be found: check the name of the Region, the network, and AWS_ENDPOINT_URL \
             if it is set"
        );
    }
    let by = if any("tunnel error") { "the proxy (HTTPS_PROXY)" } else { "the other side" };
    if refused {
        return format!("the service {service} can't be reached: {by} refused the connection");
    }
    format!("the service {service} can't be reached: {}", first_cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sns::error::ErrorMetadata;
    use aws_sdk_sns::operation::publish::PublishError;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    fn refused(code: &str, message: &str) -> String {
        let error = PublishError::generic(ErrorMetadata::builder().code(code).message(message).build());
        why("sns:Publish", &SdkError::service_error(error, ()))
    }

    fn unsent(error: impl Into<Box<dyn Error + Send + Sync>>) -> String {
        let failure = ConnectorError::other(error.into(), None);
        why("sns:Publish", &SdkError::<PublishError, ()>::dispatch_failure(failure))
    }

    /// An error with a sentence and a cause, as libraries nest them.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Nested(&'static str, #[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn refusal_names_the_permission_and_what_refuses_it() {
        for code in ["AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"] {
            assert_eq!(refused(code, "x"), "no permission for sns:Publish");
        }
        let who = "User: arn:aws:iam::111122223333:user/a is not authorized to perform: sns:Publish";
        assert_eq!(
            refused("AccessDenied", &format!("{who} because no identity-based policy allows the sns:Publish action")),
            "no permission for sns:Publish (no identity-based policy allows the sns:Publish action)"
        );
        assert_eq!(
            refused("AccessDenied", &format!("{who} with an explicit deny in a service control policy")),
            "no permission for sns:Publish (explicit deny in a service control policy)"
        );
    }

    #[test]
    fn answer_says_what_it_means_and_another_one_its_code() {
        assert_eq!(refused("InternalError", "a\u{202e}b\nc"), r"sns:Publish answered InternalError: a\u{202e}b");
        assert_eq!(refused("InternalError", ""), "sns:Publish answered InternalError");
        for (code, says) in [
            ("ExpiredToken", "has expired: sign in again"),
            ("InvalidClientTokenId", "wrong or were deleted, or the Region isn't enabled"),
            ("UnrecognizedClientException", "the Region isn't enabled"),
            ("RequestExpired", "the clock of this machine"),
            ("ThrottlingException", "try again in a minute"),
        ] {
            let said = refused(code, "x");
            assert!(said.contains(says) && said.ends_with(&format!("(sns:Publish answered {code})")), "{said}");
        }
        let signature =
            refused("SignatureDoesNotMatch", "no match. The Canonical String was x-amz-security-token:SECRET");
        assert!(signature.contains("secret access key is wrong") && !signature.contains("SECRET"), "{signature}");
    }

    #[test]
    fn credentials_that_are_missing_or_cannot_be_fetched_are_told_apart() {
        let nested = |outer, inner: &'static str| Nested(outer, inner.into());
        for (error, says) in [
            (CredentialsError::not_loaded_no_source(), "there are no AWS credentials: name a profile"),
            (
                CredentialsError::not_loaded("no credentials found in chain. Attempted:\n  Environment: …"),
                "there are no AWS credentials: name a profile",
            ),
            (
                CredentialsError::not_loaded("could not find source profile base"),
                "there are no AWS credentials (could not find source profile base): name a profile",
            ),
            (
                CredentialsError::provider_error(nested("an access token", "the SSO token has expired and can't be")),
                "is missing or has expired: run aws sso login",
            ),
            (
                CredentialsError::provider_error(nested("x", "external process exited with code exit status: 1")),
                "couldn't be fetched: external process exited with code exit status: 1",
            ),
            (
                CredentialsError::provider_error(nested("x", "line one\nSdkError { field: 1 }")),
                "couldn't be fetched: line one",
            ),
            (
                CredentialsError::provider_error(CredentialsError::not_loaded(
                    "no credentials found in chain. Attempted:",
                )),
                "there are no AWS credentials: name a profile",
            ),
            (CredentialsError::provider_timed_out(std::time::Duration::from_secs(5)), "couldn't be fetched in time"),
            (
                CredentialsError::invalid_configuration("a loop of profiles"),
                "configuration is wrong: a loop of profiles",
            ),
        ] {
            let said = unsent(error);
            assert!(said.contains(says), "{said}");
            assert!(!said.contains(['{', '\n']) && !said.contains("DispatchFailure"), "{said}");
        }
        let denied = "User: arn:aws:iam::444455556666:root is not authorized to perform: sts:AssumeRole";
        let denied = AssumeRoleError::generic(ErrorMetadata::builder().code("AccessDenied").message(denied).build());
        let said = unsent(CredentialsError::provider_error(Nested("service error", denied.into())));
        assert!(said.starts_with("the role can't be assumed: User: arn:aws:iam::444455556666:root is not"), "{said}");
        assert!(said.contains("docs/policies/role-trust.json"), "{said}");
    }

    #[test]
    fn network_that_fails_is_said_in_words() {
        let io = |kind: io::ErrorKind| io::Error::new(kind, "x (os error 1)");
        let refused = || Box::new(io(io::ErrorKind::ConnectionRefused)) as Box<dyn Error + Send + Sync>;
        for (error, says) in [
            (
                Nested("dns error", "failed to lookup".into()),
                "the address of the service sns can't be found: check the name",
            ),
            (Nested("tcp connect error", refused()), "sns can't be reached: the other side refused the connection"),
            (
                Nested("tunnel error: x", Nested("tcp connect error", refused()).into()),
                "sns can't be reached: the proxy (HTTPS_PROXY) refused the connection",
            ),
            (
                Nested("connect", "invalid peer certificate: Expired".into()),
                "sns can't be reached: invalid peer certificate: Expired",
            ),
        ] {
            let failure = ConnectorError::io(error.into());
            let said = why("sns:Publish", &SdkError::<PublishError, ()>::dispatch_failure(failure));
            assert!(said.contains(says), "{said}");
        }
        let late: SdkError<PublishError, ()> = SdkError::timeout_error("20 s");
        assert_eq!(why("sns:Publish", &late), "sns:Publish got no answer in time");
        let html: SdkError<PublishError, ()> = SdkError::response_error("expected value at line 1", ());
        assert!(why("sns:Publish", &html).contains("isn't AWS's (expected value at line 1): is a proxy in between?"));
    }
}
