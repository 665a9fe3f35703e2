//! A policy's text as statements, read as strictly as IAM's grammar asks: what the grammar doesn't know is a fault with a
//! name, never a statement that says nothing.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::condition::{Clause, Context, any, clauses, not};
use super::glob;

/// How many bytes a key policy has at most, and with it any that is read here.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html>
const LONGEST: usize = 32_768;

/// A policy.
pub(super) struct Document {
    /// Whether its version knows variables; in the older one `${aws:username}` is plain text.
    pub variables: bool,
    /// Each statement, or what is wrong with it.
    pub statements: Vec<Result<Statement, &'static str>>,
}

/// One statement.
pub(super) struct Statement {
    pub denies: bool,
    pub principals: Principals,
    actions: Names,
    /// None in a trust policy, which has no resources.
    resources: Option<Names>,
    pub conditions: Vec<Clause>,
}

/// `Principal` or `NotPrincipal`.
pub(super) struct Principals {
    /// Whether it is `NotPrincipal`.
    pub negated: bool,
    /// Whether it is `"*"` or holds `{"AWS": "*"}`.
    pub everybody: bool,
    /// ARNs and account ids.
    pub aws: Vec<String>,
    /// Services and identity providers.
    pub others: Vec<String>,
}

/// `Action`, `Resource`, or the opposite of one.
struct Names {
    negated: bool,
    patterns: Vec<String>,
}

impl Document {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with the text as a whole.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it is longer than KMS takes");
        }
        let Unique(policy) = serde_json::from_str(text).map_err(|error| {
            if error.to_string().starts_with(REPEATED) { REPEATED } else { "it is no JSON that can be read (cut off?)" }
        })?;
        let policy = policy.as_object().ok_or("it is no object")?;
        if policy.keys().any(|name| !["Version", "Id", "Statement"].contains(&name.as_str())) {
            return Err("it has an element that IAM doesn't know");
        }
        let variables = match policy.get("Version").map(Value::as_str) {
            None | Some(Some("2008-10-17")) => false,
            Some(Some("2012-10-17")) => true,
            Some(_) => return Err("its Version is none that IAM knows"),
        };
        let statements = match policy.get("Statement") {
            Some(Value::Array(many)) => many.iter().map(Statement::read).collect(),
            Some(one @ Value::Object(_)) => vec![Statement::read(one)],
            _ => return Err("it has no statements"),
        };
        Ok(Self { variables, statements })
    }
}

impl Statement {
    fn read(value: &Value) -> Result<Self, &'static str> {
        let fields =
            value.as_object().filter(|fields| !fields.is_empty()).ok_or("a statement is empty or no object")?;
        const KNOWN: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        if fields.keys().any(|name| !KNOWN.contains(&name.as_str())) {
            return Err("a statement has an element that IAM doesn't know");
        }
        let (negated, principals) = one_of(fields, "Principal")?.ok_or("a statement has no Principal")?;
        let actions = Names::read(fields, "Action")?.ok_or("a statement has no Action")?;
        if !actions.patterns.iter().all(|action| action == "*" || action.contains(':')) {
            return Err("a statement's Action is none");
        }
        Ok(Self {
            denies: match fields.get("Effect").and_then(Value::as_str) {
                Some("Allow") => false,
                Some("Deny") => true,
                _ => return Err("a statement's Effect is neither Allow nor Deny"),
            },
            principals: Principals::read(negated, principals)?,
            actions: Names {
                patterns: actions.patterns.iter().map(|action| action.to_ascii_lowercase()).collect(),
                ..actions
            },
            resources: Names::read(fields, "Resource")?,
            conditions: match fields.get("Condition") {
                None => Vec::new(),
                Some(condition) => clauses(condition).ok_or("a statement's Condition is none")?,
            },
        })
    }

    /// Whether the statement is about this action, given in lower case.
    pub fn has_action(&self, action: &str) -> bool {
        self.actions.patterns.iter().any(|pattern| glob(pattern, action)) != self.actions.negated
    }

    /// Whether the statement is for this resource; None if its ARN, or a variable in the pattern, isn't known.
    pub fn is_for(&self, context: &impl Context, arn: Option<&str>) -> Option<bool> {
        let Some(resources) = &self.resources else { return Some(true) };
        let matches = |pattern: &String| match pattern.as_str() {
            "*" => Some(true),
            pattern => Some(glob(&context.expand(pattern)?, arn?)),
        };
        let covered = any(resources.patterns.iter().map(matches));
        if resources.negated { not(covered) } else { covered }
    }
}

impl Principals {
    fn read(negated: bool, value: &Value) -> Result<Self, &'static str> {
        let mut read = Self { negated, everybody: false, aws: Vec::new(), others: Vec::new() };
        match value {
            Value::String(text) if text == "*" => read.everybody = true,
            Value::Object(kinds) if !kinds.is_empty() => {
                for (kind, names) in kinds {
                    let names = texts(names).ok_or("a statement's Principal is none")?;
                    match kind.as_str() {
                        "AWS" => read.aws.extend(names),
                        "Service" | "Federated" | "CanonicalUser" => read.others.extend(names),
                        _ => return Err("a statement's Principal is of a kind that IAM doesn't know"),
                    }
                }
                read.everybody = read.aws.iter().any(|name| name == "*");
            }
            _ => return Err("a statement's Principal is none"),
        }
        Ok(read)
    }
}

impl Names {
    fn read(fields: &Map<String, Value>, field: &str) -> Result<Option<Self>, &'static str> {
        let Some((negated, value)) = one_of(fields, field)? else { return Ok(None) };
        let patterns = texts(value).ok_or("a statement's Action or Resource is none")?;
        Ok(Some(Self { negated, patterns }))
    }
}

/// The value of a field or of its `Not` twin, and whether it is the twin's.
fn one_of<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<Option<(bool, &'a Value)>, &'static str> {
    match (fields.get(field), fields.get(&format!("Not{field}"))) {
        (Some(_), Some(_)) => Err("a statement has an element and its opposite"),
        (Some(value), None) => Ok(Some((false, value))),
        (None, Some(value)) => Ok(Some((true, value))),
        (None, None) => Ok(None),
    }
}

/// One text or a list of texts that isn't empty.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(many) if !many.is_empty() => many.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

const REPEATED: &str = "it has a key twice";

/// JSON in which no object has a key twice: which of the two counts differs from reader to reader.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unique, A::Error> {
                let mut list = Vec::new();
                while let Some(Unique(value)) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Unique(list.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut fields = Map::new();
                while let Some((name, Unique(value))) = map.next_entry::<String, Unique>()? {
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom(REPEATED));
                    }
                }
                Ok(Unique(fields.into()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fault(statement: &str) -> &'static str {
        let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#);
        let document = Document::read(&text).map(|document| document.statements.into_iter().next());
        match document {
            Err(fault) | Ok(Some(Err(fault))) => fault,
            Ok(_) => "",
        }
    }

    #[test]
    fn statement_of_the_grammar_is_read() {
        assert_eq!(fault(r#"{"Effect": "Deny", "NotPrincipal": {"AWS": ["a"]}, "NotAction": "kms:*"}"#), "");
    }

    #[test]
    fn what_the_grammar_does_not_know_is_named() {
        let good = json!({"Sid": "x", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"});
        let with = |field: &str, value: Value| {
            let mut statement = good.clone();
            statement[field] = value;
            fault(&statement.to_string())
        };
        assert_eq!(with("Sid", json!("y")), "");
        assert!(with("Effect", json!("allow")).contains("Effect"));
        assert!(with("Principal", json!({"*": "*"})).contains("Principal"));
        assert!(with("Principal", json!({})).contains("Principal"));
        assert!(with("NotPrincipal", json!("*")).contains("opposite"));
        assert!(with("Action", json!([])).contains("Action"));
        assert!(with("Action", json!("everything")).contains("Action"));
        assert!(with("Resource", json!([7])).contains("Resource"));
        assert!(with("Condition", json!("x")).contains("Condition"));
        assert!(with("Condition", json!({"StringAlmostEquals": {"aws:PrincipalArn": "x"}})).contains("Condition"));
        assert!(with("effect", json!("Allow")).contains("element"));
        assert!(fault("{}").contains("empty"));
        assert!(fault("[]").contains("empty"));
    }

    #[test]
    fn key_that_comes_twice_is_a_fault_wherever_it_is() {
        let twice = r#"{"Effect": "Allow", "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}"#;
        assert_eq!(fault(twice), REPEATED);
        let deep = r#"{"Effect": "Allow", "Principal": {"AWS": "x", "AWS": "*"}, "Action": "kms:*"}"#;
        assert_eq!(fault(deep), REPEATED);
    }

    #[test]
    fn text_that_is_no_policy_is_refused_in_bounded_time() {
        let refused = |text: &str| Document::read(text).err().unwrap();
        assert!(refused(&"[".repeat(LONGEST)).contains("no JSON"));
        assert!(refused(&" ".repeat(LONGEST + 1)).contains("longer"));
        assert!(refused("\u{feff}{}").contains("no JSON"), "a byte order mark");
        assert!(refused("7").contains("no object"));
        assert!(refused(r#"{"Version": "2012-10-18", "Statement": []}"#).contains("Version"));
        assert!(refused(r#"{"Version": "2012-10-17"}"#).contains("statements"));
    }
}
