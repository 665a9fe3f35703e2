//! What a value is: an event, a wrapper around some, something that holds none, or something that isn't understood.
//!
//! Only the fields named here are opened, and nothing inside an event is: what a caller wrote into a request can't become
//! an event of its own. Values are looked at as they stand in the JSON, a few fields of each, so that a large one takes
//! no more memory than its text.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use aws_smithy_types::base64;
use flate2::read::MultiGzDecoder;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::report::{Enough, Reading};
use crate::escape::name;
use crate::json::parse;

/// How deep wrappers are opened: an SNS message in an SQS message in a Lambda event in a log takes some.
const DEEPEST: usize = 32;
/// The longest event that is read; EventBridge's are at most 1 MiB, and CloudTrail's records shorter.
const LONGEST_EVENT: usize = 1024 * 1024;
/// How much base64 may unpack to: this, and so many times its own length, which is gzip's best.
const UNPACKED: (usize, usize) = (64 * 1024, 1100);
/// How many times data is unpacked: Firehose packs what CloudWatch Logs has packed already.
pub(super) const LAYERS: usize = 2;

/// A field that holds events.
struct Wrapper {
    /// Its name, below those of the objects it is in.
    path: &'static [&'static str],
    /// One of these stands beside it; none if it is enough by itself.
    beside: &'static [&'static str],
    /// Whether its text is base64, of JSON or of gzip.
    packed: bool,
}

const fn alone(path: &'static [&'static str]) -> Wrapper {
    Wrapper { path, beside: &[], packed: false }
}

const fn beside(path: &'static [&'static str], beside: &'static [&'static str]) -> Wrapper {
    Wrapper { path, beside, packed: false }
}

const fn packed(path: &'static [&'static str], beside: &'static [&'static str]) -> Wrapper {
    Wrapper { path, beside, packed: true }
}

/// The lists that a file may begin with, and that are read one part at a time.
pub(super) static LISTS: [&str; 7] = ["Records", "Events", "events", "Messages", "logEvents", "records", "data"];

/// The first that fits counts.
static WRAPPERS: [Wrapper; 29] = [
    // `aws cloudtrail lookup-events`, and CloudTrail Lake.
    alone(&["CloudTrailEvent"]),
    alone(&["eventJson"]),
    // Lambda's events, CloudTrail's files, what the AWS CLI prints.
    alone(&["Records"]),
    alone(&["Events"]),
    alone(&["events"]),
    alone(&["Messages"]),
    alone(&["logEvents"]),
    alone(&["records"]),
    // SQS, SNS, and what Lambda sends on when a function failed.
    beside(&["Body"], &["MessageId", "ReceiptHandle"]),
    beside(&["body"], &["messageId", "receiptHandle"]),
    beside(&["Message"], &["TopicArn", "MessageId", "Type"]),
    alone(&["Sns"]),
    beside(&["requestPayload"], &["requestContext"]),
    // Kinesis, Firehose, subscriptions of CloudWatch Logs.
    packed(&["kinesis", "data"], &[]),
    packed(&["awslogs", "data"], &[]),
    packed(&["data"], &["recordId", "sequenceNumber", "partitionKey"]),
    packed(&["Data"], &["SequenceNumber", "PartitionKey"]),
    packed(&["rawData"], &["errorCode", "attemptsMade"]),
    // Elastic.
    alone(&["_source"]),
    alone(&["hits"]),
    alone(&["event.original"]),
    alone(&["event", "original"]),
    alone(&["fields", "event.original"]),
    // Datadog, Splunk, CloudWatch Logs Insights.
    beside(&["attributes"], &["_id", "date", "tags", "service", "timestamp", "type"]),
    alone(&["_raw"]),
    alone(&["result", "_raw"]),
    beside(&["event"], &["sourcetype"]),
    beside(&["results"], &["statistics"]),
    // CloudWatch Logs; after the others, since many documents have a message as well.
    beside(&["message"], &["id", "eventId", "ingestionTime", "timestamp", "@timestamp"]),
];

/// A field that tells something that is known and holds no events, and what it is.
static PASSED_OVER: [(&str, Option<&str>, &str); 8] = [
    ("eventCategory", Some("Insight"), "CloudTrail Insights"),
    ("eventType", Some("AwsCloudTrailInsight"), "CloudTrail Insights"),
    ("eventCategory", Some("Aggregated"), "CloudTrail aggregated events"),
    ("digestS3Object", None, "CloudTrail digest"),
    ("digestStartTime", None, "CloudTrail digest"),
    ("messageType", Some("CONTROL_MESSAGE"), "CloudWatch Logs control message"),
    ("Type", Some("SubscriptionConfirmation"), "SNS confirmation"),
    ("Type", Some("UnsubscribeConfirmation"), "SNS confirmation"),
];

/// What isn't understood, and what to export instead.
const OCSF: &str = "OCSF, as Security Lake writes it, isn't read: take CloudTrail's own files, from the trail's bucket";
pub(super) const FLATTENED: &str = "an event flattened into columns isn't read: export whole records, such as CloudTrail's own \
     files from the trail's bucket or `aws cloudtrail lookup-events --output json`";
const ELASTIC: &str = "an Elastic document without event.original isn't read: keep the original event, or take CloudTrail's own \
     files, from the trail's bucket";
const NOTICE: &str = "a notice that a file was written holds no event: read the file it names";
const QUERY_RESULT: &str = "Athena's query results aren't read: take CloudTrail's own files, from the trail's bucket";
const AGGREGATE: &str = "an aggregate of the Kinesis Producer Library isn't read: take its records apart first";
const NEITHER: &str = "neither a CloudTrail record (eventSource and eventName) nor an EventBridge event (detail), nor a wrapper around some";

/// The fields that tell what an object is, besides those of the wrappers.
static TELLING: [&str; 35] = [
    "eventSource",
    "eventName",
    "eventCategory",
    "eventType",
    "detail",
    "detail-type",
    "source",
    "digestS3Object",
    "digestStartTime",
    "messageType",
    "Type",
    "class_uid",
    "s3",
    "s3ObjectKey",
    "ResultSet",
    "ecs",
    "event",
    "fields",
    "kinesis",
    "awslogs",
    "result",
    "agent",
    "index",
    "create",
    "field",
    "value",
    "eventname",
    "eventsource",
    "event_name",
    "event_source",
    "EventName",
    "EventSource",
    "_index",
    "host",
    "sourcetype",
];

/// The place of a name among all that are looked for.
fn place_of(name: &str) -> Option<usize> {
    let of_wrappers = WRAPPERS.iter().flat_map(|wrapper| wrapper.path.iter().chain(wrapper.beside));
    TELLING.iter().chain(of_wrappers).position(|known| *known == name)
}

/// An object's fields of these names, as they stand in the JSON, and how many it has in all.
struct Fields<'a> {
    found: Vec<(usize, &'a str)>,
    count: usize,
}

impl<'a> Fields<'a> {
    fn of(object: &'a str) -> Option<Self> {
        serde_json::from_str(object).ok()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let place = place_of(name)?;
        // A field given twice counts as given last.
        let (_, value) = self.found.iter().rev().find(|(found, _)| *found == place)?;
        Some(value)
    }

    fn at(&self, path: &[&str]) -> Option<&'a str> {
        match path {
            [] => None,
            [name] => self.get(name),
            [name, rest @ ..] => Fields::of(self.get(name)?)?.at(rest),
        }
    }

    /// The text in a field; empty text is absent.
    fn text(&self, name: &str) -> Option<String> {
        text(self.get(name)?).filter(|text| !text.is_empty())
    }

    /// Whether it is a CloudTrail record. Lambda's events name their source as `aws:sqs`.
    fn is_record(&self) -> bool {
        self.text("eventSource").is_some_and(|source| !source.starts_with("aws:")) && self.text("eventName").is_some()
    }

    /// Whether it is an EventBridge event. Whoever stored it may have dropped parts of the envelope.
    fn is_envelope(&self) -> bool {
        let Some(detail) = self.get("detail") else { return false };
        self.text("detail-type").is_some()
            || self.text("source").is_some_and(|source| source.starts_with("aws."))
            || Fields::of(detail).is_some_and(|detail| detail.is_record())
    }

    fn passed_over(&self) -> Option<&'static str> {
        let is = |field: &str, value: &Option<&str>| match value {
            Some(value) => self.text(field).as_deref() == Some(*value),
            None => self.get(field).is_some(),
        };
        let known = PASSED_OVER.iter().find(|(field, value, _)| is(field, value)).map(|(.., what)| *what);
        let is_bulk = self.count == 1 && (self.get("index").is_some() || self.get("create").is_some());
        known.or(is_bulk.then_some("Elasticsearch bulk action"))
    }

    fn is_flattened(&self) -> bool {
        [("eventname", "eventsource"), ("event_name", "event_source"), ("EventName", "EventSource")]
            .iter()
            .any(|(name, source)| self.get(name).is_some() && self.get(source).is_some())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { found: Vec::new(), count: 0 };
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    fields.count += 1;
                    match place_of(&key) {
                        Some(place) => {
                            let value = map.next_value::<&RawValue>()?.get();
                            fields.found.retain(|(known, _)| *known != place);
                            fields.found.push((place, value));
                        }
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The text of a JSON string.
fn text(json: &str) -> Option<String> {
    if !json.starts_with('"') {
        return None;
    }
    match parse(json) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether a text looks like JSON that can hold an event.
fn may_be_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// What is opened on the way to a value, and how much may still be unpacked.
pub(super) struct Opening<'a, 'b> {
    report: &'a mut Reading<'b>,
    /// The fields, from the outside.
    way: Vec<&'static str>,
    room: usize,
    depth: usize,
}

impl<'a, 'b> Opening<'a, 'b> {
    /// Of a value that is so long.
    pub(super) fn new(report: &'a mut Reading<'b>, length: usize) -> Self {
        let (least, times) = UNPACKED;
        Self { report, way: Vec::new(), room: least + times.saturating_mul(length), depth: 0 }
    }

    /// Finds the events in a value.
    pub(super) fn value(&mut self, json: &str) -> Result<(), Enough> {
        let json = json.trim();
        if self.depth >= DEEPEST {
            return self.problem(&format!("wrapped more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let done = match json.bytes().next() {
            Some(b'{') => self.object(json),
            Some(b'[') => self.list(json),
            // What `--query 'Events[].CloudTrailEvent'` prints.
            Some(b'"') => match text(json).filter(|text| may_be_json(text)) {
                Some(text) => self.text(&text),
                None => self.problem("text that isn't JSON is no event"),
            },
            Some(b'n') => self.problem("null is no event"),
            Some(b't' | b'f') => self.problem("true or false is no event"),
            _ => self.problem("a number is no event"),
        };
        self.depth -= 1;
        done
    }

    fn object(&mut self, json: &str) -> Result<(), Enough> {
        // Halves of characters in a name are what it takes to fail here.
        let Some(fields) = Fields::of(json) else { return self.mended(json) };
        if fields.is_record() || fields.is_envelope() {
            if json.len() > LONGEST_EVENT {
                return self.problem(&format!("an event longer than {} MiB", LONGEST_EVENT >> 20));
            }
            return match self.report.event(json, fields.is_record())? {
                Some(problem) => self.problem(&problem),
                None => Ok(()),
            };
        }
        if let Some(what) = fields.passed_over() {
            self.report.passed_over(what);
            return Ok(());
        }
        if fields.get("class_uid").is_some() {
            return self.refused(OCSF);
        }
        if fields.get("s3").or(fields.get("s3ObjectKey")).is_some() {
            return self.refused(NOTICE);
        }
        let mut unread = None;
        for wrapper in &WRAPPERS {
            let is_there =
                wrapper.beside.is_empty() || wrapper.beside.iter().any(|beside| fields.get(beside).is_some());
            let Some(held) = fields.at(wrapper.path).filter(|_| is_there) else { continue };
            let field = wrapper.path.last().copied().unwrap_or_default();
            let held_text = text(held);
            match &held_text {
                None if !may_be_json(held) => continue,
                Some(text) if wrapper.packed && !may_be_json(text) => {
                    return self.below(field, |opening| opening.packed(text));
                }
                Some(text) if !may_be_json(text) => unread = unread.or(Some(field)),
                _ => {
                    return self.below(field, |opening| match &held_text {
                        Some(text) => opening.text(text),
                        None => opening.value(held),
                    });
                }
            }
        }
        match unread {
            _ if fields.is_flattened() => self.refused(FLATTENED),
            _ if fields.get("ResultSet").is_some() => self.refused(QUERY_RESULT),
            _ if fields.get("ecs").or(fields.get("agent")).is_some() => self.refused(ELASTIC),
            Some(field) => self.problem(&format!("its {field} isn't JSON")),
            None => self.problem(NEITHER),
        }
    }

    fn below(&mut self, field: &'static str, read: impl FnOnce(&mut Self) -> Result<(), Enough>) -> Result<(), Enough> {
        self.way.push(field);
        let done = read(self);
        self.way.pop();
        done
    }

    /// An object that takes forgiving to be read.
    fn mended(&mut self, json: &str) -> Result<(), Enough> {
        if json.len() > LONGEST_EVENT {
            return self.problem("not JSON that can be read");
        }
        match parse(json) {
            Ok(value) => {
                let json = value.to_string();
                if Fields::of(&json).is_some() { self.object(&json) } else { self.problem("not JSON that can be read") }
            }
            Err(error) => self.problem(&format!("not JSON that can be read ({error})")),
        }
    }

    /// Each part of a list; or, of a row of CloudWatch Logs Insights, the message in it.
    fn list(&mut self, json: &str) -> Result<(), Enough> {
        let mut stopped = Ok(());
        let mut first = true;
        let each = |part: &str| {
            if std::mem::take(&mut first)
                && let Some(message) = message_of_row(json)
            {
                stopped = self.text(&message);
                return false;
            }
            stopped = self.value(part);
            stopped.is_ok()
        };
        let read = EachElement(each).deserialize(&mut serde_json::Deserializer::from_str(json));
        stopped?;
        // Ended by ourselves, or broken.
        match read {
            Err(error) if !error.is_data() => self.problem(&format!("not JSON ({error})")),
            _ => {
                if first {
                    self.report.nothing();
                }
                Ok(())
            }
        }
    }

    /// The values in a text, one after the other.
    fn text(&mut self, text: &str) -> Result<(), Enough> {
        if self.depth >= DEEPEST {
            return self.problem(&format!("wrapped more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let mut done = Ok(());
        for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            done = match value {
                Ok(value) => self.value(value.get()),
                Err(error) => {
                    done = self.problem(&format!("not JSON ({error})"));
                    break;
                }
            };
            if done.is_err() {
                break;
            }
        }
        self.depth -= 1;
        done
    }

    /// The values in base64, of JSON or of gzip.
    fn packed(&mut self, text: &str) -> Result<(), Enough> {
        /// How an aggregate of the Kinesis Producer Library begins.
        const AGGREGATED: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
        let Ok(mut bytes) = base64::decode(text.trim()) else { return self.problem("not base64") };
        for _ in 0..LAYERS {
            if !bytes.starts_with(&[0x1f, 0x8b]) {
                break;
            }
            let mut unpacked = Vec::new();
            let most = self.room as u64;
            if let Err(error) = MultiGzDecoder::new(bytes.as_slice()).take(most + 1).read_to_end(&mut unpacked) {
                return self.problem(&format!("not gzip that can be read ({error})"));
            }
            let Some(left) = self.room.checked_sub(unpacked.len()) else {
                return self.problem("it unpacks to more than gzip can hold: not read");
            };
            (self.room, bytes) = (left, unpacked);
        }
        if bytes.starts_with(&AGGREGATED) {
            return self.refused(AGGREGATE);
        }
        let text = String::from_utf8_lossy(&bytes);
        if may_be_json(&text) { self.text(&text) } else { self.problem("not JSON") }
    }

    fn refused(&mut self, what: &'static str) -> Result<(), Enough> {
        self.report.refused(what)
    }

    fn problem(&mut self, what: &str) -> Result<(), Enough> {
        let way: String = self.way.iter().map(|field| format!("{}: ", name(field, 64))).collect();
        self.report.problem(&format!("{way}{what}"))
    }
}

/// The message in a row of CloudWatch Logs Insights: a list of fields, each with its name and value.
fn message_of_row(list: &str) -> Option<String> {
    let (mut message, mut is_row) = (None, true);
    let each = |part: &str| {
        let fields = Fields::of(part).filter(|fields| fields.count == 2);
        let cell = fields.and_then(|fields| Some((fields.text("field")?, fields.text("value")?)));
        match cell {
            Some((field, value)) if field == "@message" => message = Some(value),
            Some(_) => {}
            None => is_row = false,
        }
        is_row
    };
    let _ = EachElement(each).deserialize(&mut serde_json::Deserializer::from_str(list));
    message.filter(|_| is_row)
}

/// Gives each part of a list away, as it stands in the JSON, as long as more are wanted.
struct EachElement<F>(F);

impl<'de, F: FnMut(&'de str) -> bool> DeserializeSeed<'de> for EachElement<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de str) -> bool> Visitor<'de> for EachElement<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut parts: A) -> Result<(), A::Error> {
        while let Some(part) = parts.next_element::<&RawValue>()? {
            if !(self.0)(part.get()) {
                return Err(A::Error::custom("no more are wanted"));
            }
        }
        Ok(())
    }
}
