//! The documents say what the code does: the tables of the catalogue, of the severity rules and of the time-outs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use kms_key_guard::assess::RULES;
use kms_key_guard::aws::{
    CONNECT_TIMEOUT, LONGEST_BACKOFF, LOOK_UP_ATTEMPTS, PUBLISH_ATTEMPT_TIMEOUT, PUBLISH_ATTEMPTS,
};
use kms_key_guard::config::Config;
use kms_key_guard::detect::{CATALOGUE, Technique};
use kms_key_guard::handler::{PUBLISH_RESERVE, REPORT_RESERVE};

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The rows of the table that has this head, each as its trimmed cells.
fn table(document: &str, head: &str) -> Vec<Vec<String>> {
    let text = file(document);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "{document} has no table that begins with {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn catalogue_in_the_documents_is_the_codes() {
    let rows = table("docs/detections.md", "| id | default | base severity | activity | MITRE |");
    let expected: Vec<_> = CATALOGUE
        .iter()
        .map(|detection| {
            let technique = detection.technique.map_or("–", |technique| Technique::id_and_name(technique).0);
            let default = if detection.by_default { "on" } else { "opt-in" };
            [
                format!("`{}`", detection.id).as_str(),
                default,
                detection.severity.name(),
                detection.activity.name(),
                technique,
            ]
            .map(str::to_owned)
            .to_vec()
        })
        .collect();
    assert_eq!(rows.iter().map(|row| row[..5].to_vec()).collect::<Vec<_>>(), expected);
    for (row, detection) in rows.iter().zip(&CATALOGUE) {
        assert_eq!(row[6..], [detection.meaning, detection.way_back], "{}", detection.id);
    }
}

#[test]
fn severity_rules_in_the_documents_are_the_codes() {
    let rows = table("docs/detections.md", "| levels | when |");
    let expected: Vec<_> = RULES.iter().map(|rule| vec![format!("{:+}", rule.levels), rule.when.to_owned()]).collect();
    assert_eq!(rows, expected);
}

/// The value behind `Name:` in the template, the first one after `section`.
fn in_template(section: &str, name: &str) -> u64 {
    let template = file("template.yaml");
    let section = &template
        [template.find(&format!("\n  {section}:")).unwrap_or_else(|| panic!("no {section} in the template"))..];
    let value = section.split(&format!("{name}:")).nth(1).unwrap_or_else(|| panic!("no {name} in {section}"));
    value.split_whitespace().next().unwrap().parse().unwrap()
}

fn function_timeout() -> Duration {
    Duration::from_secs(in_template("AlertFunction", "Timeout"))
}

fn enrich_timeout() -> Duration {
    let variable = |name: &str| match name {
        "ALERTS_TOPIC_ARN" | "FINDINGS_TOPIC_ARN" => Some("arn:aws:sns:eu-west-1:111122223333:topic".to_owned()),
        "AWS_LAMBDA_FUNCTION_NAME" => Some("guard".to_owned()),
        _ => None,
    };
    Config::read(variable).unwrap().enrich_timeout
}

#[test]
fn time_outs_in_the_documents_are_the_codes_and_the_templates() {
    let rows = table("docs/architecture.md", "| what | value | where |");
    let documented = |place: &str| {
        let row = rows.iter().find(|row| row[2].contains(place)).unwrap_or_else(|| panic!("no row for {place}"));
        row[1].clone()
    };
    let seconds = |duration: Duration| format!("{} s", duration.as_secs_f64());
    assert_eq!(documented("AlertFunction.Timeout"), seconds(function_timeout()));
    assert_eq!(documented("ENRICH_TIMEOUT_MS"), seconds(enrich_timeout()));
    assert_eq!(
        documented("ENRICH_TIMEOUT_MS"),
        seconds(Duration::from_millis(in_template("EnrichTimeoutMs", "Default")))
    );
    assert_eq!(documented("PUBLISH_RESERVE"), seconds(PUBLISH_RESERVE));
    assert_eq!(documented("REPORT_RESERVE"), seconds(REPORT_RESERVE));
    assert_eq!(documented("CONNECT_TIMEOUT"), seconds(CONNECT_TIMEOUT));
    assert_eq!(documented("PUBLISH_ATTEMPT_TIMEOUT"), seconds(PUBLISH_ATTEMPT_TIMEOUT));
    assert_eq!(documented("LONGEST_BACKOFF"), seconds(LONGEST_BACKOFF));
    assert_eq!(documented("PUBLISH_ATTEMPTS"), PUBLISH_ATTEMPTS.to_string());
    assert_eq!(documented("LOOK_UP_ATTEMPTS"), LOOK_UP_ATTEMPTS.to_string());
}

#[test]
fn deadlines_fit_into_each_other() {
    let attempts = PUBLISH_ATTEMPT_TIMEOUT * PUBLISH_ATTEMPTS + LONGEST_BACKOFF * (PUBLISH_ATTEMPTS - 1);
    assert!(attempts <= PUBLISH_RESERVE - REPORT_RESERVE, "every attempt at a publish fits into what look-ups leave");
    let longest_look_up = Duration::from_millis(in_template("EnrichTimeoutMs", "MaxValue"));
    assert!(
        longest_look_up + PUBLISH_RESERVE <= function_timeout(),
        "the longest look-ups that the template takes fit in front"
    );
    assert!(CONNECT_TIMEOUT < PUBLISH_ATTEMPT_TIMEOUT && CONNECT_TIMEOUT < enrich_timeout());
}
