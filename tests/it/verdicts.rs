//! Every sample event gets the verdict that `events/verdicts.tsv` states, and its repeat the same identity.

use std::collections::BTreeMap;

use kms_key_guard::assess::assess;
use kms_key_guard::catalogue::CATALOGUE;
use kms_key_guard::config::Rules;
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
    detect(&Event::read(&sample.text), &opt_ins.into(), datetime!(2026-11-21 03:12:44 UTC))
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

/// Detection and severity of every sample, as `tests/golden/verdicts.tsv` keeps them from the last release: all opted in to,
/// nothing known of the key.
fn verdicts() -> BTreeMap<String, (String, String)> {
    let verdict = |sample: &Sample| {
        found(sample, ALL).map_or(("-".into(), "-".into()), |finding| {
            let severity = assess(&finding, &Rules::default()).severity;
            (finding.detection.id.to_owned(), severity.name().to_owned())
        })
    };
    samples().into_iter().map(|sample| (sample.file.clone(), verdict(&sample))).collect()
}

/// What differs between two sets of verdicts without a line that names the sample among the unreleased changes.
fn unexplained(
    released: &BTreeMap<String, (String, String)>,
    now: &BTreeMap<String, (String, String)>,
    changelog: &str,
) -> Vec<String> {
    let unreleased = changelog.split("\n## [").nth(1).unwrap_or_default();
    let explained = |sample: &str| unreleased.contains(&format!("`{}`", sample.trim_end_matches(".json")));
    released
        .iter()
        .filter(|(sample, verdict)| now.get(*sample) != Some(verdict) && !explained(sample))
        .map(|(sample, verdict)| format!("{sample} was {verdict:?} and is {:?}", now.get(sample)))
        .collect()
}

#[test]
fn no_verdict_changes_without_a_line_in_the_changelog() {
    let file = format!("{}/tests/golden/verdicts.tsv", env!("CARGO_MANIFEST_DIR"));
    let now = verdicts();
    if std::env::var_os("UPDATE_VERDICTS").is_some() {
        let rows = now.iter().map(|(sample, (detection, severity))| format!("{sample}\t{detection}\t{severity}\n"));
        std::fs::write(&file, rows.collect::<String>()).unwrap();
    }
    let released = std::fs::read_to_string(&file).unwrap();
    let released = released.lines().map(|row| {
        let mut cells = row.split('\t').map(str::to_owned);
        let mut cell = || cells.next().unwrap();
        (cell(), (cell(), cell()))
    });
    let changelog = std::fs::read_to_string(format!("{}/CHANGELOG.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let wrong = unexplained(&released.collect(), &now, &changelog);
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nname each sample (`key-disabled`) among the unreleased changes of CHANGELOG.md, with the reason"
    );
}

#[test]
fn verdict_that_changed_is_found_unless_it_is_explained() {
    let of = |severity: &str| [("a.json".to_owned(), ("key-disabled".to_owned(), severity.to_owned()))].into();
    let unreleased = "# Changelog\n\n## [Unreleased]\n\n- `a`: milder.\n\n## [0.1.0]\n\n- `b`\n";
    assert!(unexplained(&of("High"), &of("High"), "").is_empty());
    assert_eq!(
        unexplained(&of("High"), &of("Low"), "# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n- `a`\n").len(),
        1
    );
    assert!(unexplained(&of("High"), &of("Low"), unreleased).is_empty());
    assert_eq!(unexplained(&of("High"), &BTreeMap::new(), "").len(), 1, "a sample that is gone");
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

#[test]
fn each_danger_to_a_key_is_a_story_of_its_own() {
    let samples = samples();
    let story = |file: &str| {
        let finding = found(samples.iter().find(|sample| sample.file == file).unwrap(), ALL).unwrap();
        let arn = finding.key().unwrap().to_string();
        finding.story().strip_prefix(&arn).unwrap().to_owned()
    };
    for (danger, files) in [
        ("", ["deletion-scheduled.json", "key-disabled.json", "key-deleted.json", "key-enabled.json"].as_slice()),
        (
            "#material",
            &["material-deleted.json", "material-expired.json", "material-expiring.json", "material-restored.json"],
        ),
        ("#policy", &["policy-account-dropped.json", "policy-use-denied-to-all-but-the-root-user.json"]),
        ("#attempt", &["denied-deletion.json", "denied-policy-lockout.json"]),
    ] {
        for file in files {
            assert_eq!(story(file), danger, "{file}");
        }
    }
}

#[test]
fn replica_of_a_policy_without_the_account_is_the_new_key_in_its_own_region() {
    let samples = samples();
    for file in ["key-replicated-without-the-account.json", "key-replicated-response-null.json"] {
        let finding = found(samples.iter().find(|sample| sample.file == file).unwrap(), ALL).unwrap();
        let key = finding.key().unwrap();
        assert_eq!((key.region().as_str(), key.id()), ("eu-west-1", "mrk-f7d4ca4b0b868fc264f2b1e8881daa01"), "{file}");
    }
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
        // Panther takes an empty error code for an error.
        let is_empty = |value: &Value| value == "" || value.as_array().is_some_and(Vec::is_empty);
        let theirs = (panther_says_loss(record) || is_empty(&record["errorCode"]))
            && record["eventCategory"] != "NetworkActivity";
        assert_eq!(ours, theirs && from_kms, "{}", sample.file);
        compared += 1;
    }
    assert!(compared > 200, "{compared}");
}
