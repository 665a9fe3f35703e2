//! The watch function: looks on a schedule at every key, and at the guard itself.

// The nested futures of the SDK clients are deeper than the compiler looks by default.
#![recursion_limit = "256"]

use std::process::ExitCode;

use kms_key_guard::config::WatchConfig;
use kms_key_guard::error::Error;
use kms_key_guard::metrics::Metrics;
use kms_key_guard::watch::Watch;
use kms_key_guard::{aws, log};
use lambda_runtime::{LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    log::init();
    match watch().await {
        Ok(watch) => {
            let watch = &watch;
            let ended = run(service_fn(move |tick: LambdaEvent<_>| async move { watch.handle(tick).await })).await;
            ended.inspect_err(log::ended).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            log::start_failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn watch() -> Result<Watch, Error> {
    let variable = |name: &str| std::env::var(name).ok();
    let config = WatchConfig::read(variable)?;
    let metrics = Metrics::start(config.function_name.clone())?;
    let connector = aws::http::connector();
    let sdk = aws::config(variable, &connector).await?;
    let (kms, sns) = (aws::kms(&sdk), aws::sns(&sdk));
    Ok(Watch::new(config, sdk, kms, sns, metrics))
}
