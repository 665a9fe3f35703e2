//! JSON written field by field, in order. What is empty leaves no trace: null, an empty text, list or object.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::to_writer;

use crate::escape::acts;

/// How much an ordinary document takes, in bytes.
const USUAL: usize = 16 * 1024;

/// An object as one line of JSON. Characters that act are escaped, so that nothing that splits at Unicode's line
/// separators or shows the line on a terminal is led astray.
pub(super) fn line(fields: impl FnOnce(&mut Object)) -> String {
    let mut json = Vec::with_capacity(USUAL);
    braces(&mut json, fields);
    let json = String::from_utf8(json).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json;
    }
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside strings JSON is ASCII, and inside them serde_json has escaped what JSON wants escaped.
        if !c.is_ascii_graphic() && c != ' ' && acts(c) {
            // Writing to a String doesn't fail.
            let _ = c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(line, "\\u{unit:04x}"));
        } else {
            line.push(c);
        }
    }
    line
}

/// An object that is being written.
pub(super) struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    /// A field with whatever value.
    pub(super) fn put(&mut self, name: &str, value: impl Serialize) {
        unless_empty(self.0, Some(name), |json| write(json, &value));
    }

    /// A field with an object.
    pub(super) fn object(&mut self, name: &str, fields: impl FnOnce(&mut Object)) {
        unless_empty(self.0, Some(name), |json| braces(json, fields));
    }

    /// A field with a list of objects, one for each of these.
    pub(super) fn objects<T>(&mut self, name: &str, of: impl IntoIterator<Item = T>, fields: impl Fn(&mut Object, T)) {
        self.list(name, of, |json, one| braces(json, |object| fields(object, one)));
    }

    /// A field with a list of texts.
    pub(super) fn texts(&mut self, name: &str, of: impl IntoIterator<Item: AsRef<str>>) {
        self.list(name, of, |json, text| write(json, text.as_ref()));
    }

    fn list<T>(&mut self, name: &str, of: impl IntoIterator<Item = T>, value: impl Fn(&mut Vec<u8>, T)) {
        unless_empty(self.0, Some(name), |json| {
            json.push(b'[');
            for one in of {
                unless_empty(json, None, |json| value(json, one));
            }
            json.push(b']');
        });
    }
}

fn braces(json: &mut Vec<u8>, fields: impl FnOnce(&mut Object)) {
    json.push(b'{');
    fields(&mut Object(json));
    json.push(b'}');
}

fn write(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to memory fails for nothing but a map whose keys aren't texts.
    let _ = to_writer(json, value);
}

/// Writes what stands before a value (a comma, a name) and the value; takes it all back if the value is empty.
fn unless_empty(json: &mut Vec<u8>, name: Option<&str>, value: impl FnOnce(&mut Vec<u8>)) {
    let before = json.len();
    if !matches!(json.last(), Some(b'{' | b'[')) {
        json.push(b',');
    }
    if let Some(name) = name {
        write(json, name);
        json.push(b':');
    }
    let start = json.len();
    value(json);
    if matches!(json.get(start..), Some(b"null" | b"\"\"" | b"[]" | b"{}")) {
        json.truncate(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_leaves_no_trace_at_any_depth() {
        let json = line(|o| {
            o.put("nothing", None::<&str>);
            o.put("a", 1);
            o.put("text", "");
            o.object("b", |o| {
                o.object("c", |o| o.put("d", None::<i64>));
                o.texts("e", ["", "x", ""]);
                o.objects("f", [None, Some(2)], |o, g| o.put("g", g));
                o.objects("h", [None::<u8>], |o, i| o.put("i", i));
            });
            o.texts("j", Vec::<String>::new());
            o.put("k", false);
        });
        assert_eq!(json, r#"{"a":1,"b":{"e":["x"],"f":[{"g":2}]},"k":false}"#);
        assert_eq!(line(|_| {}), "{}");
    }

    #[test]
    fn texts_that_look_like_json_are_texts() {
        let json = line(|o| {
            o.put("a{", "{");
            o.texts("b", ["[", "null", "{}"]);
            o.put("c", "\u{2028}\u{1f511}\n");
        });
        assert_eq!(json, "{\"a{\":\"{\",\"b\":[\"[\",\"null\",\"{}\"],\"c\":\"\\u2028\u{1f511}\\n\"}");
    }
}
