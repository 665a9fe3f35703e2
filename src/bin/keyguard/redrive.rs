//! `keyguard redrive`.

use std::io;
use std::process::ExitCode;

use aws_config::SdkConfig;
use kms_key_guard::aws;
use kms_key_guard::coverage::{DEFAULT_NAME, Stack};
use kms_key_guard::escape::name;
use kms_key_guard::redrive::{Fate, Function, Queue, Redrive};

use crate::credentials::{account, configured, stack};
use crate::terminal::complain;

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard redrive --queue-url https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-failed
  keyguard redrive --queue-url https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-failed --yes

Only one function is ever invoked: the one that the stack's outputs name for this queue, or --function. Whoever may write to
the queue can put any name into a message; one that names another function stays in the queue and is reported.

It may be interrupted and run again: a message is deleted only once the function has handled its event, and the
repeat of an alert carries the same uid.

Exit status: 0 done, 2 when a message had to be left or the queue can't be read.";

/// The options of `redrive`.
#[derive(clap::Args)]
pub struct RedriveOptions {
    /// The queue, as the stack's outputs have it: AlertFailureQueueUrl, RuleDeadLetterQueueUrl, WatchFailureQueueUrl or
    /// ScheduleDeadLetterQueueUrl
    #[arg(long, value_name = "URL", value_parser = Queue::parse)]
    queue_url: Queue,
    /// Send them, and delete each one that the function handled
    #[arg(long)]
    yes: bool,
    /// The guard's CloudFormation stack
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, value_parser = stack)]
    stack_name: String,
    /// The function of this account and Region to send to, by name or ARN, without asking the stack
    #[arg(long, value_name = "NAME", conflicts_with = "stack_name")]
    function: Option<String>,
    /// The profile of your AWS configuration; it wins over credentials in the environment
    #[arg(long)]
    profile: Option<String>,
    /// The Region of queue and function
    #[arg(long)]
    region: Option<String>,
}

/// Goes through the queue once.
pub fn run(options: &RedriveOptions) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let loaded = aws::operator_config(options.profile.as_deref(), options.region.as_deref()).await;
        let config = loaded.map_err(io::Error::other)?;
        let function = function(options, &config).await.map_err(io::Error::other)?;
        complain(&format!("the function is {function}"));
        let (sqs, lambda) = (aws_sdk_sqs::Client::new(&config), aws_sdk_lambda::Client::new(&config));
        let redrive = Redrive::new(sqs, lambda, options.queue_url.clone(), function);
        let (mut done, mut left) = (0, 0);
        let tell = |id: &str, fate: &Fate| {
            let id = name(id, 100);
            match fate {
                Fate::Listed(stored) => {
                    done += 1;
                    println!("{id}: {}; {}", stored.what(), stored.why);
                }
                Fate::Sent(stored, outcome) => {
                    done += 1;
                    println!("{id}: {} sent, {outcome}; deleted", stored.what());
                }
                Fate::Left(why) => {
                    left += 1;
                    complain(&format!("{id} stays in the queue: {why}"));
                }
            }
        };
        let ended = tokio::select! {
            ended = redrive.run(options.yes, tell) => ended,
            _ = tokio::signal::ctrl_c() => {
                complain("interrupted; what isn't shown as deleted is still in the queue");
                return Ok(ExitCode::from(130));
            }
        };
        if let Err(error) = ended {
            complain(&error.to_string());
            left += 1;
        }
        let verb = if options.yes { "sent again" } else { "would be sent again with --yes" };
        eprintln!("{done} {verb}, {left} left or failed");
        Ok(ExitCode::from(if left > 0 { 2 } else { 0 }))
    })
}

/// The outputs of the stack with a failure queue, and with the function behind it.
const BEHIND: [(&str, &str); 4] = [
    ("AlertFailureQueueUrl", "AlertFunctionName"),
    ("RuleDeadLetterQueueUrl", "AlertFunctionName"),
    ("WatchFailureQueueUrl", "WatchFunctionName"),
    ("ScheduleDeadLetterQueueUrl", "WatchFunctionName"),
];

/// The one function to invoke: of the account of queue and credentials, and of the Region.
async fn function(options: &RedriveOptions, sdk: &SdkConfig) -> Result<Function, String> {
    let region = configured(sdk)?;
    let (queue, account) = (&options.queue_url, account(sdk).await?);
    if account != queue.account {
        return Err(format!(
            "the queue belongs to account {}, and your credentials to {account}: name the queue's own with --profile",
            queue.account
        ));
    }
    if let Some(given) = &options.function {
        return Function::parse(given, &account, &region);
    }
    let stack = &options.stack_name;
    let guard = Stack::find(sdk, stack)
        .await
        .map_err(|none| format!("{none}; name the stack with --stack-name, or the function with --function"))?;
    let output = |name: &str| guard.outputs.get(name).ok_or(format!("the stack {stack} has no output {name}"));
    for (its_queue, its_function) in BEHIND {
        if Queue::parse(output(its_queue)?).is_ok_and(|its| its.is(queue)) {
            return Function::parse(output(its_function)?, &account, &region);
        }
    }
    let queues = BEHIND.map(|(queue, _)| queue).join(", ");
    Err(format!(
        "{} is none of the queues of the stack {stack} in {region} (its outputs {queues}); name its stack with \
         --stack-name, or the function behind it with --function",
        queue.url
    ))
}
