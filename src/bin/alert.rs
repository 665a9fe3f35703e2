//! The alert function: turns each signal into an alert.

// The nested futures of the SDK clients are deeper than the compiler looks by default.
#![recursion_limit = "256"]

use std::process::ExitCode;

use kms_key_guard::config::Config;
use kms_key_guard::enrich::LOOK_UPS;
use kms_key_guard::error::Error;
use kms_key_guard::handler::Guard;
use kms_key_guard::metrics::Metrics;
use kms_key_guard::publish::TOPICS;
use kms_key_guard::{aws, log};
use lambda_runtime::{LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    log::init();
    match guard().await {
        Ok(guard) => {
            let guard = &guard;
            let ended = run(service_fn(move |event: LambdaEvent<_>| async move { guard.handle(event).await })).await;
            ended.inspect_err(log::ended).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            log::start_failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn guard() -> Result<Guard, Error> {
    let variable = |name: &str| std::env::var(name).ok();
    let config = Config::read(variable)?;
    let metrics = Metrics::start(config.function_name.clone())?;
    let connector = aws::http::connector();
    let sdk = aws::config(variable, &connector).await?;
    // The hub of an organization asks KMS in other accounts and Regions, which it can't know yet.
    let look_ups = if config.organization.is_some() || config.enrich_timeout.is_zero() { 0 } else { LOOK_UPS };
    let topics = TOPICS + usize::from(config.chat_topic.is_some());
    aws::open_ahead(&connector, &sdk, topics, look_ups).await;
    Ok(Guard::new(config, aws::kms(&sdk), aws::sns(&sdk), || aws::sts(&sdk), metrics))
}
