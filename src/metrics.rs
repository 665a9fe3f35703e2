//! The guard's own metrics, written to the log in CloudWatch's embedded metric format: no call stands on an alert's way.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

#[cfg(feature = "watch")]
use std::collections::BTreeMap;

use metrics::counter;
#[cfg(feature = "watch")]
use metrics::histogram;
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::catalogue::Activity;
use crate::error::Error;
use crate::finding::Finding;

/// The namespace in CloudWatch.
pub const NAMESPACE: &str = "KmsKeyGuard";
/// The dimension: the function's name.
pub const DIMENSION: &str = "Function";
/// How many findings say that a key or key store was put at risk, whether `MINIMUM_SEVERITY` held them back or not. A
/// repeated delivery counts again. The mass-event alarm watches it.
pub const KEYS_AT_RISK: &str = "KeysAtRisk";
/// How many findings were held back, by `MINIMUM_SEVERITY` or because the same was published a while before.
pub const HELD_BACK: &str = "HeldBack";

/// That the watch function did what it was started for. The alarm on it goes off when it is missing.
pub const HEARTBEAT: &str = "Heartbeat";
/// How many keys the sweep found in danger.
pub const KEYS_IN_DANGER: &str = "KeysInDanger";
/// How many keys it couldn't look at.
pub const KEYS_NOT_LOOKED_AT: &str = "KeysNotLookedAt";
/// How many days of the calendar the first of them has left; missing while none has a date.
pub const DAYS_LEFT: &str = "DaysLeft";
/// How many checks of the guard itself failed.
pub const CHECKS_FAILED: &str = "ChecksFailed";
/// All of them, as the dashboard shows and the cost counts them.
pub const ALL: [&str; 7] =
    [KEYS_AT_RISK, HELD_BACK, HEARTBEAT, KEYS_IN_DANGER, KEYS_NOT_LOOKED_AT, DAYS_LEFT, CHECKS_FAILED];

/// A run of the watch function, as it is counted and remembered.
#[cfg(feature = "watch")]
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// `sweep` or `coverage`.
    pub look: &'static str,
    /// The schedule's time.
    pub time: String,
    /// The checks that failed, or failed before and couldn't be looked at now: their ids.
    pub failed: Vec<String>,
    /// What a sweep's digest held, if the next one can remember as much.
    pub digest: Option<BTreeMap<String, String>>,
    /// The settings that hold something back, if they are known.
    pub settings: Option<Vec<String>>,
    /// How many findings `MINIMUM_SEVERITY` held back.
    pub held_back: u64,
    /// Metrics by name.
    pub values: Vec<(&'static str, f64)>,
}

/// Where the counts go until they are written; without one they go nowhere.
#[derive(Clone, Copy, Default)]
pub struct Metrics(Option<&'static Collector>);

impl Metrics {
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

    /// Counts a run of the watch function that came to its end, and leaves what the next one has to know: one line.
    #[cfg(feature = "watch")]
    pub fn run(self, run: &Run) {
        let Self(Some(collector)) = self else { return };
        collector.set_property("Look", run.look).set_property("ScheduledTime", run.time.clone());
        collector.set_property("Failed", run.failed.clone());
        // What was set for one line stays for the next.
        collector.remove_property("Digest");
        if let Some(held) = &run.digest {
            let held = held.iter().map(|(thing, state)| (thing.clone(), state.clone().into()));
            collector.set_property("Digest", serde_json::Map::from_iter(held));
        }
        match &run.settings {
            Some(settings) => collector.set_property("Settings", settings.clone()),
            None => collector.remove_property("Settings"),
        };
        counter!(HEARTBEAT).increment(1);
        counter!(HELD_BACK).increment(run.held_back);
        for (name, value) in &run.values {
            // Unlike a gauge, it isn't written again with the next run.
            histogram!(*name).record(*value);
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
