//! Every sample event gets the verdict that `events/verdicts.tsv` states, and its repeat the same identity.

use kms_key_guard::catalogue::CATALOGUE;
use kms_key_guard::detect::{OptIns, detect};
use kms_key_guard::event::Event;
use kms_key_guard::finding::Finding;
use serde_json::Value;
use time::macros::datetime;

const ALL: OptIns = OptIns { denied_attempts: true, lost_key_use: true };

struct Sample {
    file: String,
    default: String,
    opt_in: String,
    text: String,
}

fn samples() -> Vec<Sample> {
    let folder = format!("{}/events", env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(format!("{folder}/verdicts.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| Sample {
        text: std::fs::read_to_string(format!("{folder}/{}", row[0])).unwrap(),
        file: row[0].clone(),
        default: row[1].clone(),
        opt_in: row[2].clone(),
    })
    .collect()
}

fn found(sample: &Sample, opt_ins: OptIns) -> Option<Finding> {
    detect(&Event::read(&sample.text), opt_ins, datetime!(2026-11-21 03:12:44 UTC))
}

#[test]
fn every_sample_gets_its_verdict() {
    let mut wrong = Vec::new();
    for sample in samples() {
        for (opt_ins, expected) in [(OptIns::default(), &sample.default), (ALL, &sample.opt_in)] {
            let verdict = found(&sample, opt_ins).map_or("-", |finding| finding.detection.id);
            if verdict != expected {
                wrong.push(format!("{}: {verdict}, should be {expected} with {opt_ins:?}", sample.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_detection_has_a_sample_and_every_file_a_row() {
    let samples = samples();
    for detection in CATALOGUE.iter().filter(|detection| detection.is_signalled()) {
        assert!(samples.iter().any(|sample| sample.opt_in == detection.id), "{} has no sample", detection.id);
    }
    let folder = format!("{}/events", env!("CARGO_MANIFEST_DIR"));
    for sub in ["", "records/"] {
        for entry in std::fs::read_dir(format!("{folder}/{sub}")).unwrap() {
            let name = format!("{sub}{}", entry.unwrap().file_name().into_string().unwrap());
            assert!(!name.ends_with(".json") || samples.iter().any(|sample| sample.file == name), "{name} has no row");
        }
    }
}

#[test]
fn record_and_envelope_around_it_get_the_same_finding() {
    let samples = samples();
    let mut pairs = 0;
    for bare in samples.iter().filter(|sample| sample.file.starts_with("records/")) {
        let Some(wrapped) = samples.iter().find(|sample| format!("records/{}", sample.file) == bare.file) else {
            continue;
        };
        let (bare, wrapped) = (found(bare, ALL), found(wrapped, ALL));
        assert_eq!(bare.as_ref().map(|f| f.origin.uid), wrapped.as_ref().map(|f| f.origin.uid));
        assert_eq!(bare.map(|f| f.story()), wrapped.map(|f| f.story()));
        pairs += 1;
    }
    assert!(pairs >= 5, "only {pairs} samples come in both forms");
}

#[test]
fn story_of_a_key_is_one_from_scheduling_to_enabling() {
    let samples = samples();
    let story = |file: &str| found(samples.iter().find(|sample| sample.file == file).unwrap(), ALL).unwrap().story();
    let scheduled = story("deletion-scheduled.json");
    assert_eq!(story("deletion-cancelled.json"), scheduled);
    assert_eq!(story("key-enabled.json"), scheduled);
    assert_eq!(story("key-deleted.json"), story("key-deleted-native.json"));
    assert_eq!(story("material-expired.json"), story("material-expired-native.json"));
}

/// Panther's `AWS.KMS.CustomerManagedKeyLoss`: the call succeeded, and its name is one of two.
fn panther_says_loss(record: &Value) -> bool {
    let named = matches!(record["eventName"].as_str(), Some("DisableKey" | "ScheduleKeyDeletion"));
    named && record["errorCode"].is_null() && record["errorMessage"].is_null()
}

#[test]
fn verdicts_differ_from_panthers_only_where_the_documents_say() {
    let mut compared = 0;
    for sample in samples() {
        let Ok(value) = serde_json::from_str::<Value>(&sample.text) else { continue };
        let record = if value["detail"].is_object() { &value["detail"] } else { &value };
        let Some(source) = record["eventSource"].as_str() else { continue };
        let from_kms = source == "kms.amazonaws.com" && value.get("source").is_none_or(|s| s == "aws.kms");
        let ours = matches!(sample.default.as_str(), "key-disabled" | "key-deletion-scheduled");
        // Another service's call of the same name, and what EventBridge says is another service's, isn't KMS's.
        assert_eq!(ours, panther_says_loss(record) && from_kms, "{}", sample.file);
        compared += 1;
    }
    assert!(compared > 200, "{compared}");
}
