//! `keyguard redrive`.

use std::io;
use std::process::ExitCode;

use kms_key_guard::aws;
use kms_key_guard::escape::name;
use kms_key_guard::redrive::{Fate, Queue, Redrive};

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard redrive --queue-url https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-failed
  keyguard redrive --queue-url https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-failed --yes

It may be interrupted and run again: a message is deleted only once the function has handled its event, and the
repeat of an alert carries the same uid.

Exit status: 0 done, 2 when a message had to be left or the queue can't be read.";

/// The options of `redrive`.
#[derive(clap::Args)]
pub struct RedriveOptions {
    /// The queue: AlertFailureQueueUrl or RuleDeadLetterQueueUrl of the stack's outputs
    #[arg(long, value_name = "URL", value_parser = Queue::parse)]
    queue_url: Queue,
    /// Really send and delete
    #[arg(long)]
    yes: bool,
    /// The function to send to, instead of the one that the messages name
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// The profile of your AWS configuration
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
        let config = aws::operator_config(options.profile.as_deref(), options.region.as_deref()).await;
        let (sqs, lambda) = (aws_sdk_sqs::Client::new(&config), aws_sdk_lambda::Client::new(&config));
        let redrive = Redrive::new(sqs, lambda, options.queue_url.clone(), options.function.clone());
        let (mut done, mut left) = (0, 0);
        let tell = |id: &str, fate: &Fate| {
            let id = name(id, 100);
            match fate {
                Fate::Listed(stored) => {
                    done += 1;
                    println!("{id}: {} waits for {}; {}", stored.what(), name(&stored.function, 200), stored.why);
                }
                Fate::Sent(stored, outcome) => {
                    done += 1;
                    println!("{id}: {} sent, {outcome}; deleted", stored.what());
                }
                Fate::Left(why) => {
                    left += 1;
                    eprintln!("keyguard: {id} stays in the queue: {why}");
                }
            }
        };
        let ended = tokio::select! {
            ended = redrive.run(options.yes, tell) => ended,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("keyguard: interrupted; what isn't shown as deleted is still in the queue");
                return Ok(ExitCode::from(130));
            }
        };
        if let Err(error) = ended {
            eprintln!("keyguard: {error}");
            left += 1;
        }
        let verb = if options.yes { "sent again" } else { "would be sent again with --yes" };
        eprintln!("{done} {verb}, {left} left or failed");
        Ok(ExitCode::from(if left > 0 { 2 } else { 0 }))
    })
}
