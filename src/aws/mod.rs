//! The AWS clients: one HTTP client and one set of credentials for all, and the deadlines of every call.

#[cfg(feature = "watch")]
pub(crate) mod failure;
pub mod http;

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion;
use aws_sdk_sns::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::config::{BehaviorVersion, Region, SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_types::SdkConfig;
#[cfg(feature = "cli")]
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::error::Error;

/// How long one attempt at a publish may take.
pub const PUBLISH_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How many attempts a publish has.
pub const PUBLISH_ATTEMPTS: u32 = 3;
/// The longest wait between two attempts.
pub const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// How many attempts a look-up has; the budget for look-ups ends them anyway.
pub const LOOK_UP_ATTEMPTS: u32 = 2;

/// What Lambda always sets: a function's credentials and its Region.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
pub const ALWAYS_SET: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "the id of an access key; Lambda sets it"),
    ("AWS_SECRET_ACCESS_KEY", "the secret of an access key; Lambda sets it"),
    ("AWS_REGION", "a Region; Lambda sets it"),
];
/// Addresses in place of AWS's own, such as a local AWS's: for all services, or with `_SNS` and the like for one.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
pub const ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";
/// `true` for AWS's FIPS endpoints.
pub const USE_FIPS_ENDPOINT: &str = "AWS_USE_FIPS_ENDPOINT";
/// `true` for AWS's dual-stack endpoints.
pub const USE_DUALSTACK_ENDPOINT: &str = "AWS_USE_DUALSTACK_ENDPOINT";

/// A function's credentials, Region and endpoints, from its environment alone: the SDK's chain of other places (files,
/// other machines' metadata) would be linked and gone through for nothing. Every client of a function is made of this, and
/// all of them share the connector's connections.
///
/// `read` gives the value of a variable, if it is set.
///
/// # Errors
/// A variable that Lambda always sets is missing.
pub async fn config(read: fn(&str) -> Option<String>, connector: &SharedHttpConnector) -> Result<SdkConfig, Error> {
    let variable = |name: &str| read(name).filter(|value| !value.is_empty());
    // The providers would say so only with the first request, and not which it is.
    if let Some((name, takes)) = ALWAYS_SET.into_iter().find(|(name, _)| variable(name).is_none()) {
        return Err(Error::Environment { name, problem: "is not set".into(), takes });
    }
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http::client(connector))
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        // Every call of a function has a deadline, so the SDK needn't watch how fast each answer comes.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .service_config(Environment(read));
    config.set_endpoint_url(variable(ENDPOINT_URL));
    config.set_use_fips(variable(USE_FIPS_ENDPOINT).map(|value| value.eq_ignore_ascii_case("true")));
    config.set_use_dual_stack(variable(USE_DUALSTACK_ENDPOINT).map(|value| value.eq_ignore_ascii_case("true")));
    Ok(config.build())
}

/// Where a client asks for what concerns its service alone, such as `AWS_ENDPOINT_URL_SNS`.
#[derive(Debug)]
struct Environment(fn(&str) -> Option<String>);

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        (self.0)(&format!("{}_{service}", key.env())).filter(|value| !value.is_empty())
    }
}

/// Credentials, Region and endpoints as every AWS SDK finds them, for an operator's command line: with a profile and a
/// Region, if they are named. A profile that is named wins over credentials in the environment, as in every AWS tool.
///
/// # Errors
/// There is no such profile.
#[cfg(feature = "cli")]
pub async fn operator_config(profile: Option<&str>, region: Option<&str>) -> Result<SdkConfig, String> {
    use aws_config::profile::ProfileFileCredentialsProvider;
    use aws_config::provider_config::ProviderConfig;

    let client = http::client(&http::connector());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(client.clone());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let Some(profile) = profile else { return Ok(loader.load().await) };
    is_defined(profile, &Fs::real(), &Env::real()).await?;
    let config = loader.profile_name(profile).no_credentials().load().await;
    // The SDK's chain asks the environment first even if a profile is named, so the profile's provider stands alone.
    let of_profile = ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_http_client(client)
        .with_region(config.region().cloned())
        .with_use_fips(config.use_fips())
        .with_use_dual_stack(config.use_dual_stack());
    let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&of_profile).build();
    Ok(config.to_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build())
}

/// That the AWS configuration has such a profile, or else which it has.
#[cfg(feature = "cli")]
async fn is_defined(profile: &str, files: &Fs, environment: &Env) -> Result<(), String> {
    use crate::escape::name;

    let wanted = Some(profile.to_owned().into());
    let profiles = aws_config::profile::load(files, environment, &Default::default(), wanted).await;
    let profiles =
        profiles.map_err(|error| format!("the AWS configuration can't be read: {}", failure::first_cause(&error)))?;
    if profiles.get_profile(profile).is_some() {
        return Ok(());
    }
    let mut known: Vec<_> = profiles.profiles().map(|profile| name(profile, 64)).collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(format!("the AWS configuration has no profile {}; it has {known}", name(profile, 64)))
}

/// The same acting as a role, which STS is asked for when it is needed.
#[cfg(feature = "cli")]
pub async fn as_role(config: &SdkConfig, role_arn: &str, session: &str) -> SdkConfig {
    let role = aws_config::sts::AssumeRoleProvider::builder(role_arn).session_name(session).configure(config);
    let provider = role.build().await;
    let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(provider);
    config.to_builder().credentials_provider(provider).build()
}

/// The client that looks keys up in this Region, or in the configured one.
#[cfg(feature = "cli")]
pub fn kms_in(config: &SdkConfig, region: Option<&crate::key::Region>) -> aws_sdk_kms::Client {
    let config =
        config.to_builder().region(region.map(|region| Region::new(region.to_string())).or(config.region().cloned()));
    kms(&config.build())
}

/// The client that publishes.
pub fn sns(config: &SdkConfig) -> aws_sdk_sns::Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(PUBLISH_ATTEMPT_TIMEOUT);
    let config = aws_sdk_sns::config::Builder::from(config)
        .timeout_config(timeouts.build())
        .retry_config(retries(PUBLISH_ATTEMPTS))
        .retry_classifier(TooManyRequests);
    aws_sdk_sns::Client::from_conf(config.build())
}

/// The client that looks keys up.
pub fn kms(config: &SdkConfig) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::config::Builder::from(config).retry_config(retries(LOOK_UP_ATTEMPTS));
    aws_sdk_kms::Client::from_conf(config.build())
}

/// The client that takes on the reader role of an organization's accounts.
pub fn sts(config: &SdkConfig) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::config::Builder::from(config).retry_config(retries(LOOK_UP_ATTEMPTS));
    aws_sdk_sts::Client::from_conf(config.build())
}

/// Opens the connections that an alert needs, to SNS and to KMS, as many as there are requests at the same time.
pub async fn open_ahead(connector: &SharedHttpConnector, config: &SdkConfig, publishes: usize, look_ups: usize) {
    // The two types of the same name have nothing in common.
    macro_rules! address {
        ($sdk:ident, $service:literal) => {{
            use $sdk::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
            let params = Params::builder()
                .set_region(config.region().map(Region::to_string))
                .set_use_fips(config.use_fips())
                .set_use_dual_stack(config.use_dual_stack())
                .set_endpoint(endpoint(config, $service));
            async {
                let endpoint = DefaultResolver::new().resolve_endpoint(&params.build().ok()?).await.ok()?;
                Some(endpoint.url().to_owned())
            }
            .await
        }};
    }
    let addresses = [(address!(aws_sdk_sns, "SNS"), publishes), (address!(aws_sdk_kms, "KMS"), look_ups)];
    http::open_ahead(connector, addresses.into_iter().filter_map(|(address, count)| Some((address?, count)))).await;
}

/// The address that is set in place of AWS's own for a service.
fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env(ENDPOINT_URL).profile("endpoint_url").build().ok()?;
    let own = config.service_config().and_then(|of| of.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// The SDK's standard mode (jittered, exponential), starting and ending sooner than its default of up to 20 s.
fn retries(attempts: u32) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(LONGEST_BACKOFF)
}

/// Counts an answer of 429 as throttling. SNS says `Throttled` then, which isn't among the codes that the SDK knows.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors>
#[derive(Debug)]
struct TooManyRequests;

impl ClassifyRetry for TooManyRequests {
    fn classify_retry(&self, answered: &InterceptorContext) -> RetryAction {
        match answered.response().map(|response| response.status().as_u16()) {
            Some(429) => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "429 is throttling"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lambda(name: &str) -> Option<String> {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "ASIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY" => "secret",
            "AWS_SESSION_TOKEN" => "token",
            "AWS_REGION" => "eu-west-1",
            "AWS_ENDPOINT_URL" => "http://127.0.0.1:4566",
            "AWS_ENDPOINT_URL_SNS" => "http://127.0.0.1:1",
            "AWS_USE_FIPS_ENDPOINT" => "true",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[tokio::test]
    async fn what_lambda_sets_is_enough() {
        let config = config(lambda, &http::connector()).await.unwrap();
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:4566"));
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(true), None));
        let of = |service| {
            let key = ServiceConfigKey::builder().service_id(service).env(ENDPOINT_URL).profile("endpoint_url");
            config.service_config().unwrap().load_config(key.build().unwrap())
        };
        assert_eq!(of("SNS").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(of("KMS"), None);
    }

    #[tokio::test]
    async fn missing_variable_is_named() {
        let connector = http::connector();
        for (missing, _) in ALWAYS_SET {
            let without: fn(&str) -> Option<String> = match missing {
                "AWS_ACCESS_KEY_ID" => |name| lambda(name).filter(|_| name != "AWS_ACCESS_KEY_ID"),
                "AWS_SECRET_ACCESS_KEY" => |name| lambda(name).filter(|_| name != "AWS_SECRET_ACCESS_KEY"),
                _ => |name| lambda(name).filter(|_| name != "AWS_REGION"),
            };
            let error = config(without, &connector).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{missing} is not set")), "{error}");
        }
    }
    #[cfg(feature = "cli")]
    #[tokio::test]
    async fn unknown_profile_is_an_error_that_names_it_and_those_there_are() {
        let environment =
            Env::from_slice(&[("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]);
        let files = Fs::from_slice(&[
            ("config", "[profile prod]\nregion = eu-west-1\n[sso-session corp]\nsso_region = eu-west-1\n"),
            ("credentials", "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n"),
        ]);
        for profile in ["prod", "default"] {
            assert_eq!(is_defined(profile, &files, &environment).await, Ok(()));
        }
        for (profile, files, sentence) in [
            ("Prod", &files, "has no profile Prod; it has default, prod"),
            ("corp", &files, "has no profile corp; it has default, prod"),
            ("prod", &Fs::from_slice(&[]), "has no profile prod; it has none"),
            ("a\nb", &files, r#"has no profile "a\u{a}b"; it has default, prod"#),
        ] {
            let error = is_defined(profile, files, &environment).await.unwrap_err();
            assert_eq!(error, format!("the AWS configuration {sentence}"));
        }
        let broken = Fs::from_slice(&[("config", "[profile prod\n")]);
        assert!(is_defined("prod", &broken, &environment).await.unwrap_err().contains("can't be read"));
    }
}
