//! Lenient reading of JSON that others write: a field that is missing, empty or of an unexpected type is absent.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// Reads JSON, and forgives halves of characters: a producer that cuts text between the two leaves one behind.
///
/// # Errors
/// Why it isn't JSON.
pub fn parse(payload: &str) -> Result<Value, serde_json::Error> {
    let mended =
        |error| without_lone_surrogates(payload).and_then(|json| serde_json::from_str(&json).ok()).ok_or(error);
    serde_json::from_str(payload).or_else(mended)
}

/// The JSON with every escaped half of a character replaced that its other half doesn't follow; None if there is none.
fn without_lone_surrogates(json: &str) -> Option<String> {
    let unit = |at: usize| u16::from_str_radix(json.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
    let (mut mended, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = json.get(at..)?.find('\\') {
        at += found;
        match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                mended.push_str(json.get(copied..at)?);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            // The escaped character may be a backslash itself.
            _ => at += 1 + json.get(at + 1..)?.chars().next().map_or(0, char::len_utf8),
        }
    }
    mended.push_str(json.get(copied..)?);
    (copied > 0).then_some(mended)
}

/// Reads a time as CloudTrail writes it: RFC 3339 in UTC.
pub fn timestamp(text: &str) -> Option<OffsetDateTime> {
    in_calendar(OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?)
}

/// Reads a time as databases write it: `2021-03-23 18:58:30.250 UTC` and the like, in UTC unless it has a zone.
fn database_time(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim().trim_end_matches("UTC").trim_end().replacen(' ', "T", 1);
    timestamp(&text).or_else(|| timestamp(&format!("{text}Z"))).or_else(|| timestamp(&format!("{text}:00")))
}

/// Years outside the calendar that every consumer can hold would only make the arithmetic on them fail later.
fn in_calendar(time: OffsetDateTime) -> Option<OffsetDateTime> {
    (1970..=9000).contains(&time.year()).then_some(time)
}

/// A time in seconds since 1970, or in milliseconds: 100,000,000,000 seconds are in the year 5138, so many milliseconds in 1973.
fn since_1970(number: f64) -> Option<OffsetDateTime> {
    let seconds = if number.abs() < 1e11 { number } else { number / 1e3 };
    let seconds = seconds.is_finite().then_some(seconds)?;
    in_calendar(OffsetDateTime::from_unix_timestamp(seconds as i64).ok()?)
}

/// Reads the dates in `responseElements`: `Jan 1, 2019 12:00:00 AM`, `Apr 12, 2021 18:58:30 PM`,
/// `Nov 2, 2021, 11:25:25 PM`, all in UTC. An hour past 12 is on the 24-hour clock whatever follows it.
fn written_date(text: &str) -> Option<OffsetDateTime> {
    let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let month = match words.next()?.get(..3)?.to_ascii_lowercase().as_str() {
        "jan" => Month::January,
        "feb" => Month::February,
        "mar" => Month::March,
        "apr" => Month::April,
        "may" => Month::May,
        "jun" => Month::June,
        "jul" => Month::July,
        "aug" => Month::August,
        "sep" => Month::September,
        "oct" => Month::October,
        "nov" => Month::November,
        "dec" => Month::December,
        _ => return None,
    };
    let day = words.next()?.parse().ok()?;
    let year = words.next()?.parse().ok().filter(|year| (1970..=9000).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let hour = match (words.next(), hour) {
        (Some("AM" | "am"), 12) => 0,
        (Some("PM" | "pm"), 1..=11) => hour + 12,
        (Some("AM" | "am" | "PM" | "pm") | None, _) => hour,
        _ => return None,
    };
    let date = Date::from_calendar_date(year, month, day).ok()?;
    Some(date.with_time(Time::from_hms(hour, minute, second).ok()?).assume_utc())
}

/// A time in any of the forms that records and their copies write one: text, or seconds or milliseconds since 1970.
pub(crate) fn instant(value: &Value, field: &str) -> Option<OffsetDateTime> {
    match value.get(field)? {
        Value::String(text) => {
            let number = || since_1970(text.trim().parse().ok()?);
            timestamp(text).or_else(|| database_time(text)).or_else(|| written_date(text)).or_else(number)
        }
        Value::Number(number) => since_1970(number.as_f64()?),
        _ => None,
    }
}

/// The text in a field; empty text is absent.
pub(crate) fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The whole number in a field, written as a number or as text.
pub(crate) fn number(value: &Value, field: &str) -> Option<i64> {
    match value.get(field)? {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64().or_else(|| other.as_f64().filter(|days| days.fract() == 0.0).map(|days| days as i64)),
    }
}

/// The truth value in a field, written as such or as text.
pub(crate) fn truth(value: &Value, field: &str) -> Option<bool> {
    match value.get(field)? {
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        other => other.as_bool(),
    }
}

/// The values of a list; nothing if it is none.
pub(crate) fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_three_written_forms_of_a_date_are_read() {
        assert_eq!(written_date("Jan 1, 2019 12:00:00 AM"), Some(datetime!(2019-01-01 00:00:00 UTC)));
        assert_eq!(written_date("Apr 12, 2021 18:58:30 PM"), Some(datetime!(2021-04-12 18:58:30 UTC)));
        assert_eq!(written_date("Nov 2, 2021, 11:25:25 PM"), Some(datetime!(2021-11-02 23:25:25 UTC)));
    }

    #[test]
    fn narrow_space_before_pm_is_read_too() {
        assert_eq!(written_date("Nov 2, 2021, 11:25:25\u{202f}PM"), Some(datetime!(2021-11-02 23:25:25 UTC)));
    }

    #[test]
    fn a_date_that_cannot_be_is_absent() {
        for text in [
            "",
            "soon",
            "Feb 30, 2021 1:00:00 AM",
            "Jan 1, 2019 25:00:00",
            "Jan 1, 99999 1:00:00 AM",
            "é1 1, 2019 1:1:1",
        ] {
            assert_eq!(written_date(text), None, "{text:?}");
        }
    }

    #[test]
    fn copies_of_a_time_are_read_in_every_form() {
        let at = |value: Value| instant(&serde_json::json!({"eventTime": value}), "eventTime");
        let right = at("2021-03-23T18:58:30Z".into());
        assert!(right.is_some());
        for text in [
            "2021-03-23 18:58:30",
            "2021-03-23 18:58:30.000 UTC",
            "2021-03-23 18:58:30Z",
            "2021-03-23 18:58:30+00",
            "2021-03-23 20:58:30+02:00",
            "2021-03-23T18:58:30",
            "1616525910",
            "1616525910000",
        ] {
            assert_eq!(at(text.into()), right, "{text}");
        }
        assert_eq!((at(1_616_525_910.into()), at(1_616_525_910_000_i64.into())), (right, right));
        for none in ["2021-03-23", "yesterday", "", "-1", "1e300", "NaN", "2021-13-23 18:58:30"] {
            assert_eq!(at(none.into()), None, "{none}");
        }
    }

    #[test]
    fn time_outside_the_calendar_is_absent() {
        assert_eq!(timestamp("9999-12-31T23:59:59-23:59"), None);
        assert_eq!(timestamp("0000-01-01T00:00:00+23:59"), None);
        assert_eq!(timestamp("yesterday"), None);
    }
}
