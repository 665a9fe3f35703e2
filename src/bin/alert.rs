//! The alert function: turns each signal into an alert.

// The nested futures of the SDK clients are deeper than the compiler looks by default.
#![recursion_limit = "256"]

use kms_key_guard::config::Config;
use kms_key_guard::count::Counts;
use kms_key_guard::handler::Guard;
use kms_key_guard::{aws, log};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log::init();
    let config = Config::read(|name| std::env::var(name).ok()).inspect_err(log::start_failed)?;
    let counts = Counts::start(config.function_name.clone()).inspect_err(log::start_failed)?;
    let sdk = aws::config().await;
    let guard = &Guard::new(config, aws::kms(&sdk), aws::sns(&sdk), counts);
    run(service_fn(move |event: LambdaEvent<_>| async move { guard.handle(event).await })).await
}
