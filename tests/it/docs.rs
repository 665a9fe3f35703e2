//! The documents say what the code does: the tables of the catalogue, of the severity rules and of doctor's checks. (`tests/faults` holds the
//! table of the time-outs to code and template.)

use kms_key_guard::assess::RULES;
use kms_key_guard::catalogue::{CATALOGUE, Technique};

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

#[cfg(feature = "cli")]
#[test]
fn doctors_checks_in_the_runbook_are_the_codes() {
    use kms_key_guard::coverage::prove::LEGS;
    use kms_key_guard::coverage::{About, CHECKS};

    let expected = |abouts: &[&About]| -> Vec<_> {
        abouts.iter().map(|about| vec![format!("`{}`", about.id), about.what.to_owned()]).collect()
    };
    for (head, abouts) in [("| check | what has to be so |", CHECKS.as_slice()), ("| leg | what has to be so |", &LEGS)]
    {
        let rows = table("docs/runbook.md", head);
        assert_eq!(rows.iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>(), expected(abouts), "{head}");
    }
}
