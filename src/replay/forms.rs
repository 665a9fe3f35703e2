//! What isn't JSON and holds it: what the AWS CLI prints as text, as a table or as YAML, and CSV.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use saphyr_parser::{Event as Yaml, Parser};
use serde_json::Value;

use super::LONGEST;
use super::report::{Enough, Place, Reading};
use super::text::Text;
use super::unwrap::{FLATTENED, Opening};
use crate::escape::name;

/// How a text holds its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON values, or what can be told from them by the line.
    Json,
    /// `--output text`: rows of fields between tabs, each with its name first.
    Rows,
    /// `--output table`.
    Table,
    /// `--output yaml`.
    Yaml,
    /// Values between commas, semicolons or tabs, with their names in the first line.
    Csv,
    /// None of them.
    Unknown,
}

/// The rows of `--output text` that hold a record: of CloudTrail, CloudWatch Logs, SQS.
const ROWS: [&str; 2] = ["EVENTS", "MESSAGES"];
/// The columns and fields of the AWS CLI that hold one.
const COLUMNS: [&str; 3] = ["CloudTrailEvent", "message", "Body"];
/// What a YAML file of the AWS CLI begins with.
const YAML_KEYS: [&str; 12] = [
    "Events:",
    "events:",
    "Messages:",
    "NextToken:",
    "AccessKeyId:",
    "CloudTrailEvent:",
    "EventId:",
    "eventId:",
    "ingestionTime:",
    "logStreamName:",
    "Body:",
    "searchedLogStreams:",
];
/// The columns of a CSV file that hold whole records, as small letters and digits: of CloudTrail, CloudWatch Logs
/// Insights, Splunk, Elastic, CloudTrail Lake.
const RECORD_COLUMNS: [&str; 5] = ["cloudtrailevent", "message", "raw", "eventoriginal", "eventjson"];
/// CloudTrail's own fields that hold JSON: callers write into these.
const PARTS: [&str; 9] = [
    "requestparameters",
    "responseelements",
    "additionaleventdata",
    "serviceeventdetails",
    "useridentity",
    "resources",
    "tlsdetails",
    "resource",
    "edgedevicedetails",
];

/// How a text that begins so, in a file of this name, holds its events.
pub(super) fn form(text: &str, file: &str) -> Form {
    let text = text.trim_start();
    let line = text.lines().next().unwrap_or_default();
    let after = |start: char| text.strip_prefix(start).map(str::trim_start);
    let is_csv_name = [".csv", ".tsv"].iter().any(|ending| file.ends_with(ending));
    // JSON in quotes, as CSV doubles them.
    let holds_json = || text.lines().nth(1).is_some_and(|row| row.contains("\"{\"\"")) && !line.contains(['{', '[']);
    if is_csv_name || is_header(line) || holds_json() {
        return Form::Csv;
    }
    let is_json = after('{').is_some_and(|rest| rest.starts_with(['"', '}']))
        || after('[').is_some_and(|rest| rest.starts_with(['{', '[', '"', ']']))
        || after('"').is_some_and(|rest| rest.starts_with(['{', '[']));
    let is_log = line.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && line.contains(':')
        && line.split_once('{').is_some_and(|(before, _)| before.contains('-') && before.ends_with([' ', '\t']));
    if is_json || is_log {
        return Form::Json;
    }
    if line.split_once('\t').is_some_and(|(row, _)| row.len() > 4 && row.bytes().all(|byte| byte.is_ascii_uppercase()))
    {
        return Form::Rows;
    }
    if line.starts_with("---") && line.bytes().all(|byte| byte == b'-' || byte == b'\r') && line.len() > 10
        || line.starts_with("+--")
    {
        return Form::Table;
    }
    let item = line.trim_start_matches("- ").trim_start();
    let is_item = line.starts_with("- ") && item.starts_with(['\'', '"']) && item.contains('{');
    if is_item || line.trim_end() == "---" || YAML_KEYS.iter().any(|key| item.starts_with(key)) {
        return Form::Yaml;
    }
    Form::Unknown
}

/// The rows of `--output text`.
pub(super) fn rows(text: &mut Text, report: &mut Reading<'_>) -> Result<(), Enough> {
    lines(text, report, |line, report| {
        let mut fields = line.split('\t');
        let row = fields.next().unwrap_or_default();
        // Fields before the record are ids; what callers choose comes after it, or in rows of its own.
        match fields.find(|field| field.starts_with('{')) {
            _ if !ROWS.contains(&row) => match row.bytes().all(|byte| byte.is_ascii_uppercase()) {
                true => Ok(()),
                false => report.problem(&format!("a row of {} isn't known", name(row, 40))),
            },
            Some(record) => Opening::new(report, record.len()).value(record),
            None => report.problem(&format!("a row of {row} without a record")),
        }
    })
}

/// The rows of `--output table`.
pub(super) fn table(text: &mut Text, report: &mut Reading<'_>) -> Result<(), Enough> {
    // How deep the table with the records is in the others, and their column. Deeper ones hold what callers chose.
    let mut found: Option<(usize, Option<usize>)> = None;
    lines(text, report, |line, report| {
        let depth = line.len() - line.trim_start_matches('|').len();
        if depth == 0 || found.is_some_and(|(of_records, _)| of_records != depth) {
            return Ok(());
        }
        let cells = cells(line.get(depth..).unwrap_or_default());
        let named = cells.iter().position(|cell| COLUMNS.contains(cell));
        let record = match (named, cells.as_slice(), found) {
            (Some(0), [_, record], _) if record.starts_with('{') => {
                found = Some((depth, None));
                Some(*record)
            }
            // Of `--query 'Events[].CloudTrailEvent'`: nothing but records.
            (None, [record], None | Some((1, None))) if depth == 1 && record.starts_with('{') => {
                found = Some((depth, None));
                Some(*record)
            }
            (Some(column), ..) => {
                found = Some((depth, Some(column)));
                None
            }
            (None, cells, Some((_, Some(column)))) => cells.get(column).copied(),
            _ => None,
        };
        match record {
            Some(record) if record.starts_with('{') => Opening::new(report, record.len()).value(record),
            Some(_) => report.problem("a row without a record"),
            None => Ok(()),
        }
    })?;
    if found.is_none() {
        return report.problem("a table without a column CloudTrailEvent: print it with --output json");
    }
    Ok(())
}

/// The cells of a row. A bar in JSON ends none.
fn cells(row: &str) -> Vec<&str> {
    let (mut cells, mut rest) = (Vec::new(), row.trim_end());
    while !rest.is_empty() {
        let cell = rest.trim_start();
        let mut json = serde_json::Deserializer::from_str(cell).into_iter::<&serde_json::value::RawValue>();
        let is_json = cell.starts_with('{') && json.next().is_some_and(|value| value.is_ok());
        let from = if is_json { json.byte_offset() } else { 0 };
        let end = cell.get(from..).and_then(|rest| rest.find('|')).map_or(cell.len(), |end| from + end);
        cells.push(cell.get(..end).unwrap_or_default().trim());
        rest = cell.get(end + 1..).unwrap_or_default().trim_start_matches('|');
    }
    cells
}

fn lines(
    text: &mut Text,
    report: &mut Reading<'_>,
    mut each: impl FnMut(&str, &mut Reading<'_>) -> Result<(), Enough>,
) -> Result<(), Enough> {
    while text.next().is_some() {
        report.place = Place { line: text.line(), record: None };
        match text.whole_line(LONGEST) {
            Some(length) => {
                each(text.rest().get(..length).unwrap_or_default().trim_end(), report)?;
                text.skip(length);
            }
            None => {
                report.problem(&format!("longer than {} MiB", LONGEST >> 20))?;
                text.skip_line();
            }
        }
    }
    Ok(())
}

/// YAML, as JSON. It is read as a whole.
pub(super) fn yaml(text: &mut Text, report: &mut Reading<'_>) -> Result<(), Enough> {
    text.at_least(LONGEST + 1);
    report.place = Place { line: text.line(), record: None };
    if text.rest().len() > LONGEST {
        return report.problem(&format!("YAML longer than {} MiB: print it with --output json", LONGEST >> 20));
    }
    let done = match json_of(text.rest()) {
        Ok(json) => Opening::new(report, json.len()).value(&json),
        Err(reason) => report.problem(&format!("not YAML that can be read ({reason})")),
    };
    text.skip(text.rest().len());
    done
}

/// The documents of a YAML file as a list in JSON, in which every scalar is text.
fn json_of(yaml: &str) -> Result<String, String> {
    /// How deep it may nest: the AWS CLI's answers nest a few levels.
    const DEEPEST: usize = 64;
    let mut json = String::from("[");
    // For each list or mapping that is open: what ends it, and how many parts it has.
    let mut open: Vec<(char, usize)> = vec![(']', 0)];
    for event in Parser::new_from_str(yaml) {
        let (event, at) = event.map_err(|error| format!("line {}", error.marker().line()))?;
        let (part, inside) = match event {
            Yaml::Scalar(text, ..) => (Value::from(text.as_ref()).to_string(), None),
            Yaml::SequenceStart(..) => ("[".to_owned(), Some(']')),
            Yaml::MappingStart(..) => ("{".to_owned(), Some('}')),
            Yaml::SequenceEnd | Yaml::MappingEnd => {
                json.extend(open.pop().map(|(end, _)| end));
                continue;
            }
            Yaml::Alias(_) => return Err(format!("line {}: an alias", at.start.line())),
            _ => continue,
        };
        let Some((end, parts)) = open.last_mut() else { return Err("an end without a beginning".into()) };
        let is_key = *end == '}' && *parts % 2 == 0;
        if is_key && inside.is_some() {
            return Err(format!("line {}: a key that isn't text", at.start.line()));
        }
        if *parts > 0 {
            json.push(if *end == '}' && !is_key { ':' } else { ',' });
        }
        *parts += 1;
        json.push_str(&part);
        open.extend(inside.map(|end| (end, 0)));
        if open.len() > DEEPEST {
            return Err(format!("nested more than {DEEPEST} deep"));
        }
        if json.len() > 4 * LONGEST {
            return Err("too long".into());
        }
    }
    json.push(']');
    Ok(json)
}

/// A column's name in small letters and digits.
fn plain(column: &str) -> String {
    column.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_flattened(columns: &[String]) -> bool {
    ["eventname", "eventsource"].iter().all(|field| columns.iter().any(|column| column == field))
}

/// The separator that there is most of.
fn separator(line: &str) -> u8 {
    let count = |separator: u8| line.bytes().filter(|byte| *byte == separator).count();
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

/// Whether a line can only be the first of a CSV file that holds events.
fn is_header(line: &str) -> bool {
    if line.contains(['{', '[']) || !line.starts_with(|c: char| c.is_ascii_alphanumeric() || "\"@_".contains(c)) {
        return false;
    }
    let columns: Vec<_> = line.split(char::from(separator(line))).map(plain).collect();
    is_flattened(&columns) || columns.iter().any(|column| RECORD_COLUMNS.contains(&column.as_str()))
}

/// CSV with a column of records.
pub(super) fn csv(text: &mut Text, report: &mut Reading<'_>) -> Result<(), Enough> {
    text.next();
    let first = text.line();
    report.place = Place { line: first, record: None };
    let line = |position: &csv::Position| first - 1 + position.line() as usize;
    let Some(length) = text.whole_line(LONGEST) else { return report.problem("a first line that is too long for CSV") };
    let header = text.rest().get(..length).unwrap_or_default();
    let delimiter = separator(header);
    // Of the rows since the last that was taken.
    let read = Rc::new(Cell::new(0));
    let source = OneRow { text, read: Rc::clone(&read) };
    let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(source);
    let (mut columns, mut column) = (Vec::new(), None);
    let mut row = csv::StringRecord::new();
    loop {
        read.set(0);
        match rows.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                report.place.line = line(rows.position());
                let reason = match error.into_kind() {
                    csv::ErrorKind::Io(error) => error.to_string(),
                    _ => "not CSV".to_owned(),
                };
                return report.problem(&reason);
            }
        }
        report.place.line = row.position().map_or(0, line);
        if columns.is_empty() {
            columns = row.iter().map(plain).collect();
            continue;
        }
        if column.is_none() {
            column = record_column(&columns, &row);
        }
        match column.and_then(|column| row.get(column)) {
            Some(record) if record.trim_start().starts_with('{') => {
                Opening::new(report, record.len()).value(record)?;
            }
            Some(_) => report.problem("a row without a record")?,
            None if column.is_some() => report.problem("a row without a record")?,
            None if is_flattened(&columns) => return report.refused(FLATTENED),
            None => return report.problem(&without_records(&columns)),
        }
    }
    match column {
        Some(_) => {}
        None if columns.iter().any(|column| RECORD_COLUMNS.contains(&column.as_str())) => report.nothing(),
        None if is_flattened(&columns) => report.refused(FLATTENED)?,
        None => report.problem(&without_records(&columns))?,
    }
    Ok(())
}

/// The column that holds records, by its name or by its first row. CloudTrail's own fields hold what callers wrote, and
/// where they are columns no other is taken for a record.
fn record_column(columns: &[String], row: &csv::StringRecord) -> Option<usize> {
    let is_record = |at: usize| row.get(at).is_some_and(|cell| cell.trim_start().starts_with('{'));
    let by_name = RECORD_COLUMNS.iter().filter_map(|known| columns.iter().position(|column| column == known));
    let others = (0..columns.len()).filter(|at| {
        !is_flattened(columns) && columns.get(*at).is_some_and(|column| !PARTS.contains(&column.as_str()))
    });
    by_name.chain(others).find(|at| is_record(*at))
}

fn without_records(columns: &[String]) -> String {
    let shown: Vec<_> = columns.iter().take(6).map(|column| name(column, 40)).collect();
    format!(
        "none of the columns holds records ({}): export whole records, in a column CloudTrailEvent or @message",
        shown.join(", ")
    )
}

/// A text of which one row has an end.
struct OneRow<'a> {
    text: &'a mut Text,
    read: Rc<Cell<usize>>,
}

impl Read for OneRow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read.get() > LONGEST {
            return Err(io::Error::other(format!("a row longer than {} MiB", LONGEST >> 20)));
        }
        let read = self.text.read(into)?;
        self.read.set(self.read.get() + read);
        Ok(read)
    }
}
