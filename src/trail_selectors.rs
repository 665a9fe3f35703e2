//! Whether a trail's event selectors let through what the guard lives on.
//!
//! Pure, over plain data, so that the record of a PutEventSelectors call and the answer of GetEventSelectors are judged by
//! the same code. <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-management-events-with-cloudtrail.html>

use serde_json::Value;

use crate::event::KMS_EVENT_SOURCE;
use crate::json::{array, text, truth};

/// The selectors of a trail; it has either kind, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selectors {
    /// `EventSelectors`.
    Basic(Vec<Basic>),
    /// `AdvancedEventSelectors`: each a list of conditions that all have to hold.
    Advanced(Vec<Vec<Condition>>),
}

/// An event selector, as far as it is about management events.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_EventSelector.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// `IncludeManagementEvents`; true if unset.
    pub management: bool,
    /// Whether `ReadWriteType` lets calls through that only read.
    pub reads: bool,
    /// Whether it lets calls through that change something.
    pub writes: bool,
    /// `ExcludeManagementEventSources`, such as `kms.amazonaws.com`.
    pub excluded: Vec<String>,
}

/// A condition on a field of the event.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_AdvancedFieldSelector.html>
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Such as `eventSource`.
    pub field: String,
    /// One of these, if there is any.
    pub equals: Vec<String>,
    /// None of these.
    pub not_equals: Vec<String>,
    /// Begins with one of these, if there is any.
    pub starts_with: Vec<String>,
    /// Begins with none of these.
    pub not_starts_with: Vec<String>,
    /// Ends with one of these, if there is any.
    pub ends_with: Vec<String>,
    /// Ends with none of these.
    pub not_ends_with: Vec<String>,
}

/// A management event, by what selectors look at.
#[derive(Debug, Clone, Copy)]
pub struct Management<'a> {
    /// Such as `kms.amazonaws.com`.
    pub event_source: &'a str,
    /// Such as `ScheduleKeyDeletion`.
    pub event_name: &'a str,
    /// Whether the call only reads.
    pub read_only: bool,
}

impl Management<'static> {
    /// The call that every trail has to log for the guard to be of use.
    pub const KEY_DELETION: Self =
        Self { event_source: KMS_EVENT_SOURCE, event_name: "ScheduleKeyDeletion", read_only: false };
    /// A use of a key, which the opt-in for lost keys in use lives on.
    pub const KEY_USE: Self = Self { event_source: KMS_EVENT_SOURCE, event_name: "Decrypt", read_only: true };
    /// A call that switches a rule of the guard off.
    pub const TAMPERING: Self =
        Self { event_source: "events.amazonaws.com", event_name: "DisableRule", read_only: false };
}

impl Selectors {
    /// The selectors in the request of a PutEventSelectors record; None if it holds none that can be read.
    pub fn of_request(request: &Value) -> Option<Self> {
        let list = |field: &str| request.get(field).and_then(Value::as_array).filter(|list| !list.is_empty());
        if let Some(advanced) = list("advancedEventSelectors") {
            let conditions = |selector: &Value| array(selector.get("fieldSelectors")).map(Condition::of).collect();
            return Some(Self::Advanced(advanced.iter().map(conditions).collect()));
        }
        Some(Self::Basic(list("eventSelectors")?.iter().map(Basic::of).collect()))
    }

    /// Whether the trail logs such an event: any selector that takes it is enough.
    pub fn log(&self, event: Management<'_>) -> bool {
        match self {
            Self::Basic(selectors) => selectors.iter().any(|selector| selector.takes(event)),
            Self::Advanced(selectors) => selectors.iter().any(|conditions| {
                // A selector without conditions can't be made; taken as one that selects nothing.
                !conditions.is_empty() && conditions.iter().all(|condition| condition.holds(event))
            }),
        }
    }
}

impl Basic {
    /// A selector with this `ReadWriteType` and nothing excluded; an unknown type lets nothing through.
    pub fn new(read_write_type: Option<&str>) -> Self {
        let (reads, writes) = match read_write_type {
            None | Some("All") => (true, true),
            Some("ReadOnly") => (true, false),
            Some("WriteOnly") => (false, true),
            Some(_) => (false, false),
        };
        Self { management: true, reads, writes, excluded: Vec::new() }
    }

    fn of(selector: &Value) -> Self {
        Self {
            management: truth(selector, "includeManagementEvents").unwrap_or(true),
            excluded: texts(selector, "excludeManagementEventSources"),
            ..Self::new(text(selector, "readWriteType").as_deref())
        }
    }

    fn takes(&self, event: Management<'_>) -> bool {
        self.management
            && (if event.read_only { self.reads } else { self.writes })
            && !self.excluded.iter().any(|source| source == event.event_source)
    }
}

impl Condition {
    fn of(condition: &Value) -> Self {
        Self {
            field: text(condition, "field").unwrap_or_default(),
            equals: texts(condition, "equals"),
            not_equals: texts(condition, "notEquals"),
            starts_with: texts(condition, "startsWith"),
            not_starts_with: texts(condition, "notStartsWith"),
            ends_with: texts(condition, "endsWith"),
            not_ends_with: texts(condition, "notEndsWith"),
        }
    }

    /// A condition on a field whose value isn't the same for all such events can't be counted on, so it doesn't hold.
    fn holds(&self, event: Management<'_>) -> bool {
        let value = match self.field.as_str() {
            "eventCategory" => "Management",
            "eventSource" => event.event_source,
            "eventName" => event.event_name,
            "eventType" => "AwsApiCall",
            "readOnly" if event.read_only => "true",
            "readOnly" => "false",
            _ => return false,
        };
        let is = |list: &[String]| list.iter().any(|text| value == text);
        let starts = |list: &[String]| list.iter().any(|text| value.starts_with(text));
        let ends = |list: &[String]| list.iter().any(|text| value.ends_with(text));
        (self.equals.is_empty() || is(&self.equals))
            && (self.starts_with.is_empty() || starts(&self.starts_with))
            && (self.ends_with.is_empty() || ends(&self.ends_with))
            && !is(&self.not_equals)
            && !starts(&self.not_starts_with)
            && !ends(&self.not_ends_with)
    }
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    array(value.get(field)).filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn logs(request: Value) -> bool {
        Selectors::of_request(&request).unwrap().log(Management::KEY_DELETION)
    }

    fn basic(fields: Value) -> bool {
        logs(json!({"trailName": "t", "eventSelectors": [fields]}))
    }

    fn advanced(conditions: Value) -> bool {
        logs(json!({"advancedEventSelectors": [{"name": "x", "fieldSelectors": conditions}]}))
    }

    #[test]
    fn basic_selector_logs_kms_unless_it_says_otherwise() {
        assert!(basic(json!({})));
        assert!(basic(
            json!({"readWriteType": "WriteOnly", "excludeManagementEventSources": ["rdsdata.amazonaws.com"]})
        ));
        assert!(!basic(json!({"readWriteType": "ReadOnly"})));
        assert!(!basic(json!({"readWriteType": "?"})));
        assert!(!basic(json!({"includeManagementEvents": false})));
        assert!(!basic(json!({"excludeManagementEventSources": ["kms.amazonaws.com"]})));
    }

    #[test]
    fn one_selector_that_takes_the_event_is_enough() {
        let without = json!({"excludeManagementEventSources": ["kms.amazonaws.com"]});
        assert!(logs(json!({"eventSelectors": [without, {"readWriteType": "All"}]})));
    }

    #[test]
    fn advanced_selectors_conditions_all_have_to_hold() {
        let management = json!({"field": "eventCategory", "equals": ["Management"]});
        assert!(advanced(json!([management])));
        assert!(advanced(json!([management, {"field": "readOnly", "equals": ["false"]}])));
        assert!(advanced(json!([management, {"field": "eventSource", "notEquals": ["rdsdata.amazonaws.com"]}])));
        assert!(!advanced(json!([management, {"field": "eventSource", "notEquals": ["kms.amazonaws.com"]}])));
        assert!(!advanced(json!([management, {"field": "eventSource", "notStartsWith": ["kms."]}])));
        assert!(!advanced(json!([management, {"field": "eventName", "notEndsWith": ["KeyDeletion"]}])));
        assert!(!advanced(json!([management, {"field": "readOnly", "equals": ["true"]}])));
        assert!(!advanced(json!([{"field": "eventCategory", "equals": ["Data"]}])));
    }

    #[test]
    fn what_cannot_be_told_of_every_event_does_not_count() {
        let management = json!({"field": "eventCategory", "equals": ["Management"]});
        assert!(!advanced(json!([management, {"field": "userIdentity.arn", "notEquals": ["x"]}])));
        assert!(!advanced(json!([])));
    }

    #[test]
    fn use_of_keys_is_a_read() {
        let writes = Selectors::Basic(vec![Basic::new(Some("WriteOnly"))]);
        assert!(writes.log(Management::KEY_DELETION) && !writes.log(Management::KEY_USE));
    }

    #[test]
    fn request_without_selectors_tells_nothing() {
        for request in [json!(null), json!({}), json!({"eventSelectors": []}), json!({"eventSelectors": "x"})] {
            assert_eq!(Selectors::of_request(&request), None);
        }
    }
}
