//! The AWS clients: one HTTP client and one set of credentials for all, and the deadlines of every call.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sns::config::SharedHttpClient;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long one attempt at a publish may take.
pub const PUBLISH_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How many attempts a publish has.
pub const PUBLISH_ATTEMPTS: u32 = 3;
/// The longest wait between two attempts.
pub const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// How many attempts a look-up has; the budget for look-ups ends them anyway.
pub const LOOK_UP_ATTEMPTS: u32 = 2;

/// Reads credentials, Region and endpoints as every AWS SDK does.
pub async fn config() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest()).http_client(http_client()).load().await
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The same for an operator's command line: with a profile and a Region, if they are named.
#[cfg(feature = "cli")]
pub async fn operator_config(profile: Option<&str>, region: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client());
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(aws_config::Region::new(region.to_owned()));
    }
    loader.load().await
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
    let config = config
        .to_builder()
        .region(region.map(|region| aws_config::Region::new(region.to_string())).or(config.region().cloned()));
    kms(&config.build())
}

/// The client that publishes.
pub fn sns(config: &SdkConfig) -> aws_sdk_sns::Client {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(PUBLISH_ATTEMPT_TIMEOUT);
    let config = aws_sdk_sns::config::Builder::from(config)
        .timeout_config(timeouts.build())
        .retry_config(retries(PUBLISH_ATTEMPTS));
    aws_sdk_sns::Client::from_conf(config.build())
}

/// The client that looks keys up.
pub fn kms(config: &SdkConfig) -> aws_sdk_kms::Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    let config = aws_sdk_kms::config::Builder::from(config)
        .timeout_config(timeouts.build())
        .retry_config(retries(LOOK_UP_ATTEMPTS));
    aws_sdk_kms::Client::from_conf(config.build())
}

/// The SDK's standard mode (jittered, exponential), starting and ending sooner than its default of up to 20 s.
fn retries(attempts: u32) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(LONGEST_BACKOFF)
}
