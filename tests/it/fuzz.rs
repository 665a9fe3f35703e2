//! Input that no one would send: no panic, no hang, and every alert sound. `FUZZ_CASES` sets how many (`make fuzz`).

use std::sync::LazyLock;

use kms_key_guard::assess::assess;
use kms_key_guard::config::Rules;
use kms_key_guard::detect::{OptIns, detect};
use kms_key_guard::event::Event;
use kms_key_guard::render::Alert;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};
use time::macros::datetime;

use crate::sound::{assert_sound, samples};

const ALL: OptIns = OptIns { denied_attempts: true, lost_key_use: true };

static SAMPLES: LazyLock<Vec<Value>> =
    LazyLock::new(|| samples().into_iter().filter_map(|(_, text)| serde_json::from_str(&text).ok()).collect());

fn cases() -> u32 {
    std::env::var("FUZZ_CASES").map_or(3_000, |cases| cases.parse().expect("FUZZ_CASES takes a number"))
}

/// Goes the whole way with one input; says whether it ended in an alert.
fn goes_through(text: &str) -> bool {
    let now = datetime!(2026-11-21 03:12:44 UTC);
    let Some(mut finding) = detect(&Event::read(text), &ALL.into(), now) else { return false };
    finding.assessment = assess(&finding, &Rules::default());
    assert_sound("fuzzed", &Alert::with_chat(&finding, now));
    true
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "ScheduleKeyDeletion",
            "PutKeyPolicy",
            "kms.amazonaws.com",
            "Feb 31, 2026 25:61:61 PM",
            "9999-12-31T23:59:60Z",
            "-999999-01-01T00:00:00Z",
            "arn:aws:kms:eu-west-1:111122223333:key/0f1e",
            "{\"Statement\":[[[]]]}",
            "",
            "\u{0}",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z]{0,8}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The places of every value below this one.
fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let place = format!("{at}/{name}");
        pointers(child, place.clone(), into);
        into.push(place);
    }
}

/// A sample event with some of its values replaced.
fn mutated() -> impl Strategy<Value = Value> {
    (any::<Index>(), prop::collection::vec((any::<Index>(), any_json()), 0..4)).prop_map(|(sample, changes)| {
        let mut event = SAMPLES[sample.index(SAMPLES.len())].clone();
        for (place, value) in changes {
            let mut places = Vec::new();
            pointers(&event, String::new(), &mut places);
            if places.is_empty() {
                break;
            }
            *event.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        }
        event
    })
}

/// JSON in which every so many characters of a name or a text are written as escapes.
#[cfg(feature = "cli")]
fn escaped(value: &Value, every: usize, count: &mut usize) -> String {
    let text = |text: &str, count: &mut usize| {
        let characters = text.chars().map(|character| {
            *count += 1;
            if every > 0 && count.is_multiple_of(every) {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            } else {
                let quoted = json!(character.to_string()).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
        });
        format!("\"{}\"", characters.collect::<String>())
    };
    match value {
        Value::String(string) => text(string, count),
        Value::Array(list) => {
            let parts: Vec<_> = list.iter().map(|value| escaped(value, every, count)).collect();
            format!("[{}]", parts.join(","))
        }
        Value::Object(map) => {
            let parts: Vec<_> = map
                .iter()
                .map(|(name, value)| {
                    format!("{}: {}", escaped(&json!(name), every, count), escaped(value, every, count))
                })
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

/// A policy: statements made of what IAM knows, of what it doesn't, and of any JSON.
fn policies() -> impl Strategy<Value = Value> {
    let element = prop::sample::select(vec![
        "Version",
        "Statement",
        "Sid",
        "Effect",
        "effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ]);
    let text = prop::sample::select(vec![
        "Allow",
        "deny",
        "Deny",
        "*",
        "kms:*",
        "kms:PutKeyPolicy",
        "kms:D?crypt*",
        "arn:aws:iam::111122223333:root",
        "arn:aws:sts::111122223333:assumed-role/a/b",
        "arn:aws:iam::*:role/*a*b*c*d*",
        "${aws:PrincipalAccount}",
        "${aws:",
        "198.51.100.0/24",
        "::/0",
        "vpc-0a1b2c3d",
        "2026-13-45",
        "2027-03-01T00:00:00Z",
        "9223372036854775807",
        "\u{feff}",
    ]);
    let value = prop_oneof![
        text.clone().prop_map(Value::from),
        prop::collection::vec(text.prop_map(Value::from), 0..4).prop_map(Value::from),
        (prop::sample::select(vec!["AWS", "Service", "*"]), any_json())
            .prop_map(|(kind, names)| Value::Object([(kind.to_owned(), names)].into_iter().collect())),
        (
            prop::sample::select(vec![
                "StringNotLike",
                "NotIpAddress",
                "DateGreaterThan",
                "ForAllValues:ArnLike",
                "Null",
                "NumericLessThanIfExists",
                "x",
            ]),
            prop::sample::select(vec![
                "aws:PrincipalArn",
                "aws:SourceIp",
                "aws:CurrentTime",
                "aws:ResourceTag/x",
                "aws:EpochTime"
            ]),
            any_json(),
        )
            .prop_map(|(operator, key, values)| json!({operator: {key: values}})),
        any_json(),
    ];
    let statement = prop::collection::vec((element, value), 0..7)
        .prop_map(|fields| Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
    prop::collection::vec(statement, 0..6).prop_map(|all| json!({"Version": "2012-10-17", "Statement": all}))
}

/// A call that sets this policy text.
fn setting(policy: &str) -> Value {
    json!({
        "eventSource": "kms.amazonaws.com", "eventName": "PutKeyPolicy", "awsRegion": "eu-west-1",
        "recipientAccountId": "111122223333",
        "requestParameters": {"keyId": "0f1e2d3c", "policyName": "default", "policy": policy},
    })
}

#[test]
fn policies_of_any_size_depth_and_encoding_are_reported_in_bounded_time() {
    let statement =
        r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}"#;
    let list =
        |count: usize| format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, vec![statement; count].join(","));
    assert!(!goes_through(&setting(&list(300)).to_string()), "32 KB that keep the account in");
    for policy in [
        list(1_000),
        list(300)[..20_000].to_owned(),
        format!("\u{feff}{}", list(1)),
        "[".repeat(100_000),
        format!(r#"{{"Statement":{}{}}}"#, r#"{"Condition":"#.repeat(2_000), "1".repeat(2_000)),
        "e\u{0}y\u{0}".repeat(5_000),
    ] {
        assert!(goes_through(&setting(&policy).to_string()), "{}", policy.chars().take(60).collect::<String>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn policies_go_through(policy in policies(), cut in any::<Option<Index>>()) {
        let text = policy.to_string();
        let end = cut.map_or(text.len(), |cut| text.floor_char_boundary(cut.index(text.len())));
        let reported = goes_through(&setting(&text[..end]).to_string());
        prop_assert!(reported || end == text.len(), "a policy that is cut off is never silent");
    }

    #[test]
    fn mutated_samples_go_through(event in mutated()) {
        goes_through(&event.to_string());
    }

    #[test]
    fn truncated_samples_go_through(event in mutated(), at in any::<Index>()) {
        let text = event.to_string();
        let cut = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        goes_through(&text[..cut]);
    }

    #[test]
    fn any_json_goes_through(detail in any_json(), whole in any_json(), detail_type in prop::sample::select(vec![
        "AWS API Call via CloudTrail", "AWS Service Event via CloudTrail", "KMS CMK Deletion", "KMS Imported Key Material Expiration",
    ])) {
        goes_through(&whole.to_string());
        let reported = goes_through(&json!({"source": "aws.kms", "detail-type": detail_type, "detail": detail}).to_string());
        prop_assert!(reported || detail.is_object(), "a detail that isn't an object is never silence");
    }

    #[test]
    fn text_that_is_no_json_goes_through(text in any::<String>()) {
        prop_assert!(goes_through(&text) || serde_json::from_str::<Value>(&text).is_ok());
    }
}

#[test]
fn deep_nesting_is_reported_and_not_followed() {
    for depth in [100, 127, 128, 10_000, 1_000_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let reported = goes_through(&format!(
            r#"{{"source":"aws.kms","detail-type":"AWS API Call via CloudTrail","detail":{deep}}}"#
        ));
        assert!(reported, "{depth}");
    }
}

#[test]
fn field_given_twice_counts_as_given_last() {
    let record =
        |names: &str| format!(r#"{{"eventSource":"kms.amazonaws.com",{names},"requestParameters":{{"keyId":"a"}}}}"#);
    assert!(goes_through(&record(r#""eventName":"Decrypt","eventName":"DisableKey""#)));
    assert!(!goes_through(&record(r#""eventName":"DisableKey","eventName":"Decrypt""#)));
}

#[test]
fn huge_numbers_and_dates_do_no_harm() {
    for (field, value) in [
        ("eventTime", json!("9999-12-31T23:59:59.999999999-23:59")),
        ("eventTime", json!("9000-12-31T23:59:59Z")),
        ("requestParameters", json!({"keyId": "a", "pendingWindowInDays": i64::MAX})),
        ("requestParameters", json!({"keyId": "a", "pendingWindowInDays": -1})),
        ("responseElements", json!({"deletionDate": 1e300})),
        ("responseElements", json!({"deletionDate": -1e300})),
        ("responseElements", json!({"deletionDate": "Dec 31, 9000 11:59:59 PM"})),
    ] {
        let mut record = json!({"eventSource": "kms.amazonaws.com", "eventName": "ScheduleKeyDeletion", "eventTime": "2026-11-21T03:12:44Z"});
        record[field] = value;
        assert!(goes_through(&record.to_string()), "{record}");
    }
}

/// What replay says of a file, and what the same events give one by one.
#[cfg(feature = "cli")]
mod replay {
    use std::io::Write;

    use super::*;
    use aws_smithy_types::base64;
    use kms_key_guard::event::Signal;
    use kms_key_guard::replay::{Input, Replayed, read_all};

    fn judge(mut event: Event) -> Option<String> {
        let now = datetime!(2026-11-21 03:12:44 UTC);
        // A record of another service has no envelope in an archive.
        event.signal = match event.signal {
            Signal::ApiCall(record) if record.event_source != "kms.amazonaws.com" => Signal::OtherService(record),
            other => other,
        };
        Some(Alert::of(&detect(&event, &ALL.into(), now)?, now).ocsf)
    }

    fn replayed(text: &str) -> (Vec<String>, u64, Vec<String>) {
        let path = std::env::temp_dir().join(format!(
            "keyguard-fuzz-{}-{:?}.json",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, text).unwrap();
        let (mut findings, mut silent, mut problems) = (Vec::new(), 0, Vec::new());
        let Ok(()) = read_all(vec![Ok(Input::File(path.clone()))], true, judge, |found| {
            match found {
                Replayed::Event(finding) => findings.push(finding),
                Replayed::Problem(problem) => problems.push(problem.problem),
                Replayed::End(_, tally) => silent += tally.silent,
            }
            Ok::<_, std::convert::Infallible>(())
        });
        std::fs::remove_file(path).unwrap();
        (findings, silent, problems)
    }

    fn is_event(value: &Value) -> bool {
        let text = |field: &str| value[field].as_str().filter(|text| !text.is_empty());
        let is_record =
            text("eventSource").is_some_and(|source| !source.starts_with("aws:")) && text("eventName").is_some();
        let is_named = text("detail-type").is_some() || text("source").is_some_and(|source| source.starts_with("aws."));
        is_record
            || value.get("detail").is_some_and(|detail| is_named || is_event(detail) && detail.get("detail").is_none())
    }

    /// The ways in which one tool hands an event to another.
    const WRAPPERS: [fn(String) -> String; 9] = [
        |json| json!({"Events": [{"EventName": "x", "EventSource": "y", "CloudTrailEvent": json}]}).to_string(),
        |json| json!({"Records": [{"messageId": "1", "body": json, "eventSource": "aws:sqs"}]}).to_string(),
        |json| json!({"Type": "Notification", "MessageId": "1", "Message": json}).to_string(),
        |json| {
            json!({"Records": [{"eventSource": "aws:kinesis", "eventName": "aws:kinesis:record", "kinesis": {"data": base64::encode(json)}}]}).to_string()
        },
        |json| {
            let log =
                json!({"messageType": "DATA_MESSAGE", "logEvents": [{"id": "1", "timestamp": 1, "message": json}]});
            json!({"awslogs": {"data": base64::encode(gzip(&log.to_string()))}}).to_string()
        },
        |json| {
            json!({"events": [{"eventId": "1", "ingestionTime": 1, "message": json}], "searchedLogStreams": []})
                .to_string()
        },
        |json| {
            json!({"_index": "x", "_source": {"@timestamp": "x", "event": {"original": json}, "message": "x"}})
                .to_string()
        },
        // As text: a number that is read and written again needn't be the same.
        |json| format!(r#"{{"_id": "x", "date": "x", "message": "", "attributes": {json}}}"#),
        |json| json!([json]).to_string(),
    ];

    fn gzip(text: &str) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases() / 4, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_glance_hides_no_finding(
            events in prop::collection::vec(mutated(), 1..6),
            every in 0_usize..12,
            list in prop::sample::select(vec![["{\"Records\":[", ",", "]}"], [" [", " , ", "]\n"], ["", "\n", ""]]),
        ) {
            let written: Vec<_> = events.iter().map(|event| escaped(event, every, &mut 0)).collect();
            let [before, between, after] = list;
            let (findings, silent, problems) = replayed(&format!("{before}{}{after}", written.join(between)));
            // One by one, each is read in full.
            let (are, none): (Vec<_>, Vec<_>) = events.iter().zip(&written).partition(|(event, _)| is_event(event));
            let one_by_one: Vec<_> = are.iter().filter_map(|(_, text)| judge(Event::read(text))).collect();
            prop_assert!(problems.len() <= none.len(), "{:?}", problems);
            prop_assert_eq!(findings.len() + silent as usize, are.len());
            prop_assert_eq!(findings, one_by_one);
        }

        #[test]
        fn wrapped_event_gives_what_it_gives_by_itself(
            event in mutated(),
            wrappers in prop::collection::vec(any::<Index>(), 1..4),
            cut in prop::option::of(any::<Index>()),
        ) {
            let plain = event.to_string();
            let wrapped = wrappers.iter().fold(plain.clone(), |json, which| WRAPPERS[which.index(WRAPPERS.len())](json));
            match cut {
                None => prop_assert_eq!(replayed(&wrapped), {
                    let (findings, silent, problems) = replayed(&plain);
                    // The same problem is at the end of a longer way.
                    (findings, silent, replayed(&wrapped).2.into_iter().take(problems.len()).collect())
                }),
                Some(cut) => {
                    let end = (0..cut.index(wrapped.len())).rev().find(|end| wrapped.is_char_boundary(*end)).unwrap_or(0);
                    let (_, _, problems) = replayed(&wrapped[..end]);
                    prop_assert!(!problems.is_empty(), "cut off after {end}: {wrapped}");
                }
            }
        }
    }
}
