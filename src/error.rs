//! What can go wrong for good. Look-ups are not in here: they only leave facts unknown.

use std::error::Error as _;

use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sns::operation::publish::PublishError;

/// Why the function fails: at start for a wrong variable, later because an alert couldn't be published, so that Lambda
/// repeats the invocation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable of the environment is missing or wrong.
    #[error("{name} {problem}; it takes {takes}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What it held.
        problem: String,
        /// What would be right.
        takes: &'static str,
    },
    /// Counting couldn't be started.
    #[error("the metrics can't be counted: {0}")]
    Metrics(String),
    /// SNS didn't take the alert.
    #[error("the {topic} topic didn't take the alert: {cause}")]
    Publish {
        /// Which topic: `alerts`, `findings` or `chat`.
        topic: &'static str,
        /// What SNS or the connection said.
        cause: String,
    },
    /// Several topics didn't take the alert.
    #[error("{0}; and {1}")]
    Both(Box<Error>, Box<Error>),
    /// The watch function was asked for something it doesn't do.
    #[cfg(feature = "watch")]
    #[error(
        "the input {problem}; it takes {{\"look\": \"sweep\" or \"coverage\", \"time\": \"2026-11-22T06:00:00Z\"}}, the time being the schedule's, or a batch of the self-check queue"
    )]
    Input {
        /// What is wrong with it.
        problem: String,
    },
    /// The sweep couldn't begin.
    #[cfg(feature = "watch")]
    #[error("KMS doesn't list the keys: {0}")]
    Sweep(String),
    /// Some of what was to be published wasn't.
    #[cfg(feature = "watch")]
    #[error("{failed} of {all} messages weren't taken, the first because: {cause}")]
    Unpublished {
        /// How many weren't.
        failed: usize,
        /// How many there were.
        all: usize,
        /// Why the first wasn't.
        cause: Box<Error>,
    },
    /// The time of the invocation ran out before SNS answered.
    #[error("SNS took longer than the {0} ms that were left of the invocation")]
    OutOfTime(u128),
}

impl Error {
    /// A topic's refusal: what SNS said, or what became of the connection.
    pub(crate) fn publish(topic: &'static str, error: &SdkError<PublishError>) -> Self {
        let cause = match error.as_service_error() {
            Some(said) => {
                // Below its first line a signature that was refused is answered with the request itself, session token and all.
                let message = said.message().unwrap_or("no message").trim_start().lines().next().unwrap_or_default();
                let message = message.split("Canonical").next().unwrap_or_default();
                format!("{}: {message}", said.code().unwrap_or("no code"))
            }
            None => {
                // The SDK's own words say what it did; the last of the causes says what went wrong.
                let causes = std::iter::successors(error.source(), |cause: &&(dyn std::error::Error + 'static)| {
                    (*cause).source()
                });
                causes.last().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        };
        Self::Publish { topic, cause: crate::escape::inert(&cause, 500) }
    }

    /// The kind, as it stands in the logs and in Lambda's error report.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Environment { .. } => "WrongEnvironment",
            Self::Metrics(_) => "NoMetrics",
            Self::Publish { .. } | Self::Both(..) => "PublishFailed",
            Self::OutOfTime(_) => "OutOfTime",
            #[cfg(feature = "watch")]
            Self::Input { .. } => "WrongInput",
            #[cfg(feature = "watch")]
            Self::Sweep(_) => "SweepFailed",
            #[cfg(feature = "watch")]
            Self::Unpublished { .. } => "PublishFailed",
        }
    }
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: error.kind().into(), error_message: error.to_string() }
    }
}
