//! The guard's own metrics, written to the log in CloudWatch's embedded metric format: no call stands on an alert's way.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use metrics::counter;
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::error::Error;
use crate::finding::{Activity, Finding};

/// The namespace in CloudWatch.
pub const NAMESPACE: &str = "KmsKeyGuard";
/// The dimension: the function's name.
pub const DIMENSION: &str = "Function";
/// How many findings say that a key or key store was put at risk, whether `MINIMUM_SEVERITY` held them back or not. A
/// repeated delivery counts again. The mass-event alarm watches it.
pub const KEYS_AT_RISK: &str = "KeysAtRisk";
/// How many findings `MINIMUM_SEVERITY` held back.
pub const HELD_BACK: &str = "HeldBack";

/// Where the counts go until they are written; without one they go nowhere.
#[derive(Clone, Copy, Default)]
pub struct Counts(Option<&'static Collector>);

impl Counts {
    /// Starts counting for the function of this name.
    ///
    /// # Errors
    /// Something else in this process counts already.
    pub fn start(function: String) -> Result<Self, Error> {
        let collector = Builder::new().cloudwatch_namespace(NAMESPACE).with_dimension(DIMENSION, function).init();
        collector.map(|collector| Self(Some(collector))).map_err(|error| Error::Metrics(error.to_string()))
    }

    /// Counts a finding.
    pub fn finding(self, finding: &Finding, held_back: bool) {
        if finding.detection.is_loss() && finding.detection.activity == Activity::Create {
            counter!(KEYS_AT_RISK).increment(1);
        }
        if held_back {
            counter!(HELD_BACK).increment(1);
        }
        self.write();
    }

    /// A count that can't be written is no reason to fail an alert.
    fn write(self) {
        if let Some(Err(error)) = self.0.map(|collector| collector.flush(std::io::stdout())) {
            tracing::warn!(%error, "the counts couldn't be written");
        }
    }
}
