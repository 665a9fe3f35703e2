//! The documents say what the code does: the tables of the catalogue, the severity rules, the calls that count as tampering,
//! the time-outs and doctor's checks; and what else is written down about the code outside of it.

use std::collections::BTreeSet;
use std::time::Duration;

use kms_key_guard::assess::RULES;
use kms_key_guard::aws::http::{CONNECT_TIMEOUT, OPEN_AHEAD_TIMEOUT};
use kms_key_guard::aws::{LONGEST_BACKOFF, LOOK_UP_ATTEMPTS, PUBLISH_ATTEMPT_TIMEOUT, PUBLISH_ATTEMPTS};
use kms_key_guard::catalogue::{CATALOGUE, Technique};
use kms_key_guard::config::DEFAULT_ENRICH_TIMEOUT;
use kms_key_guard::handler::{PUBLISH_RESERVE, REPORT_RESERVE};
use kms_key_guard::{metrics, tamper};

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

/// Each alert links to it.
#[test]
fn runbook_has_a_section_for_every_detection() {
    let runbook = file("docs/runbook.md");
    for detection in &CATALOGUE {
        assert!(runbook.lines().any(|line| line == format!("### {}", detection.id)), "{}", detection.id);
    }
}

#[test]
fn severity_rules_in_the_documents_are_the_codes() {
    let rows = table("docs/detections.md", "| levels | when |");
    let expected: Vec<_> = RULES.iter().map(|rule| vec![format!("{:+}", rule.levels), rule.when.to_owned()]).collect();
    assert_eq!(rows, expected);
}

#[cfg(feature = "cli")]
#[test]
fn doctors_checks_in_the_runbook_are_the_codes() {
    use kms_key_guard::coverage::prove::LEGS;
    use kms_key_guard::coverage::{About, CHECKS};

    let expected = |abouts: &[&About]| -> Vec<_> {
        abouts.iter().map(|about| vec![format!("`{}`", about.id), about.what.to_owned()]).collect()
    };
    for (head, abouts) in [("| check | requirement |", CHECKS.as_slice()), ("| leg | requirement |", &LEGS)] {
        let rows = table("docs/runbook.md", head);
        assert_eq!(rows.iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>(), expected(abouts), "{head}");
    }
}

#[test]
fn calls_that_count_as_tampering_are_the_codes() {
    let rows = table("docs/detections.md", "| what | calls |");
    let is_call = |word: &&str| *word == "Unsubscribe" || word.chars().filter(char::is_ascii_uppercase).count() > 1;
    let word = |c: char| !c.is_ascii_alphanumeric();
    let documented: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| {
            // What stands in code marks is a parameter of the call.
            row[1]
                .split('`')
                .step_by(2)
                .flat_map(|text| text.split(word))
                .filter(|word| is_call(word) && *word != "KMS")
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, tamper::calls().map(|(_, action)| action).collect());
}

#[test]
fn time_outs_in_the_documents_are_the_codes() {
    let seconds = |time: Duration| time.as_secs_f64();
    let expected = [
        ("ENRICH_TIMEOUT_MS", seconds(DEFAULT_ENRICH_TIMEOUT)),
        ("PUBLISH_RESERVE", seconds(PUBLISH_RESERVE)),
        ("REPORT_RESERVE", seconds(REPORT_RESERVE)),
        ("CONNECT_TIMEOUT", seconds(CONNECT_TIMEOUT)),
        ("OPEN_AHEAD_TIMEOUT", seconds(OPEN_AHEAD_TIMEOUT)),
        ("PUBLISH_ATTEMPT_TIMEOUT", seconds(PUBLISH_ATTEMPT_TIMEOUT)),
        ("PUBLISH_ATTEMPTS", f64::from(PUBLISH_ATTEMPTS)),
        ("LONGEST_BACKOFF", seconds(LONGEST_BACKOFF)),
        ("LOOK_UP_ATTEMPTS", f64::from(LOOK_UP_ATTEMPTS)),
    ];
    let rows = table("docs/architecture.md", "| what | value | where |");
    let documented: Vec<(&str, f64)> = rows
        .iter()
        .filter_map(|row| {
            let name = row[2].split('`').find(|name| name.contains('_'))?;
            Some((name, row[1].trim_end_matches(" s").parse().unwrap()))
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn publishing_at_its_slowest_fits_into_its_reserve() {
    assert!(CONNECT_TIMEOUT < PUBLISH_ATTEMPT_TIMEOUT && CONNECT_TIMEOUT < DEFAULT_ENRICH_TIMEOUT);
    let slowest = PUBLISH_ATTEMPT_TIMEOUT * PUBLISH_ATTEMPTS + LONGEST_BACKOFF * (PUBLISH_ATTEMPTS - 1);
    assert!(slowest <= PUBLISH_RESERVE - REPORT_RESERVE);
}

#[test]
fn metrics_in_the_cost_are_the_codes() {
    let cost = file("bench/cost.py");
    let hours = cost.split_once("METRIC_HOURS = {").unwrap().1.split_once('}').unwrap().0;
    let counted: BTreeSet<_> = hours.split('"').skip(1).step_by(2).collect();
    assert_eq!(counted, BTreeSet::from(metrics::ALL));
}

/// Each `why("service:Action"` of the checks is a permission that the check asks for.
#[cfg(feature = "cli")]
#[test]
fn doctor_asks_for_what_its_policies_give_and_no_more() {
    // The one is asked for without anybody being told that it couldn't be; the other needs no permission.
    const UNTOLD: &str = "account:GetRegionOptStatus";
    const FREE: &str = "sts:GetCallerIdentity";
    let asked_in = |files: &[String]| -> BTreeSet<String> {
        let code: String =
            files.iter().map(|name| file(name).split("#[cfg(test)]").next().unwrap().to_owned()).collect();
        let calls =
            code.split("why(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        calls.filter(|action| action.contains(':') && *action != FREE).map(str::to_owned).collect()
    };
    let given_by = |policy: &str| -> Vec<String> {
        let policy: serde_json::Value = serde_json::from_str(&file(policy)).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        let actions = statements.flat_map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            match &statement["Action"] {
                serde_json::Value::Array(many) => many.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
                one => vec![one.as_str().unwrap().to_owned()],
            }
        });
        let mut actions: Vec<String> = actions.collect();
        actions.sort();
        actions
    };
    let folder = std::fs::read_dir(format!("{}/src/coverage", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let names = folder.map(|entry| format!("src/coverage/{}", entry.unwrap().file_name().into_string().unwrap()));
    let (prove, checks): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with("/prove.rs"));
    let mut asked = asked_in(&checks);
    asked.insert(UNTOLD.to_owned());
    assert_eq!(given_by("docs/policies/doctor.json"), asked.into_iter().collect::<Vec<_>>());
    assert_eq!(given_by("docs/policies/doctor-prove.json"), asked_in(&prove).into_iter().collect::<Vec<_>>());
}
