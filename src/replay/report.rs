//! What is said of one input: its events, its problems, and how much there was of what isn't shown.

use std::fmt;

use crate::event::{Event, KMS_EVENT_SOURCE, Signal};
use crate::json::parse;

/// How many problems of one input are shown; the others are counted.
const MOST_PROBLEMS: u64 = 10;

/// Where a value stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) record: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        self.record.map_or(Ok(()), |number| write!(f, ", record {number}"))
    }
}

/// Whoever takes what is found wants no more.
pub(super) struct Enough;

/// Something that is found.
pub(super) enum Found {
    Event(Event),
    Problem(String),
}

/// Takes what is found; says whether it is silence.
type Tell<'a> = dyn FnMut(Found) -> Result<bool, Enough> + 'a;

/// What is said of one input.
pub(super) struct Reading<'a> {
    tell: &'a mut Tell<'a>,
    /// Where what comes next stands.
    pub(super) place: Place,
    /// Events that are silence.
    pub(super) silent: u64,
    /// Whether anything was understood.
    pub(super) read: bool,
    /// Problems that weren't shown.
    pub(super) more_problems: u64,
    /// What was understood and holds no events.
    pub(super) passed_over: Vec<&'static str>,
    problems: u64,
    refused: Vec<&'static str>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(tell: &'a mut Tell<'a>) -> Self {
        Self {
            tell,
            place: Place::default(),
            silent: 0,
            read: false,
            more_problems: 0,
            passed_over: Vec::new(),
            problems: 0,
            refused: Vec::new(),
        }
    }

    /// An event that surely is silence.
    pub(super) fn silence(&mut self) {
        self.read = true;
        self.silent += 1;
    }

    /// A list of events that is empty.
    pub(super) fn nothing(&mut self) {
        self.read = true;
    }

    /// Something without events.
    pub(super) fn passed_over(&mut self, what: &'static str) {
        if !self.passed_over.contains(&what) {
            self.passed_over.push(what);
        }
    }

    /// A CloudTrail record, or an EventBridge event; gives back why it can't be read.
    pub(super) fn event(&mut self, json: &str, is_record: bool) -> Result<Option<String>, Enough> {
        let mut value = match parse(json) {
            Ok(value) => value,
            Err(error) => return Ok(Some(format!("not JSON that can be read ({error})"))),
        };
        if let Some(record) = value.as_object_mut().filter(|_| is_record) {
            // What a record calls its detail makes no envelope of it.
            record.shift_remove("detail");
        }
        self.read = true;
        if (self.tell)(Found::Event(event(value)))? {
            self.silent += 1;
        }
        Ok(None)
    }

    /// Something that can't be read.
    pub(super) fn problem(&mut self, what: &str) -> Result<(), Enough> {
        self.problems += 1;
        if self.problems > MOST_PROBLEMS {
            self.more_problems += 1;
            return Ok(());
        }
        (self.tell)(Found::Problem(format!("{}: {what}", self.place))).map(drop)
    }

    /// Something that isn't understood, by its name: once.
    pub(super) fn refused(&mut self, what: &'static str) -> Result<(), Enough> {
        if self.refused.contains(&what) {
            return Ok(());
        }
        self.refused.push(what);
        (self.tell)(Found::Problem(format!("{}: {what}", self.place))).map(drop)
    }
}

/// An event out of an archive, where a record of another service stands without the envelope that EventBridge gives it.
fn event(value: serde_json::Value) -> Event {
    let mut event = Event::from_value(value);
    event.signal = match event.signal {
        Signal::ApiCall(record) if record.event_source != KMS_EVENT_SOURCE => Signal::OtherService(record),
        other => other,
    };
    event
}
