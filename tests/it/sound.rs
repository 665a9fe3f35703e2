//! What must hold for every alert.

use kms_key_guard::render::Alert;
use serde_json::Value;

const SNS_LIMIT: usize = 262_144;

/// What the lines before the first section begin with, after the sentence that is the first.
const FIRST_LINES: [&str; 11] = [
    "Time left: ",
    "By: ",
    "Tool: ",
    "Key: ",
    "Custom key store: ",
    "CloudHSM cluster: ",
    "Part of the guard: ",
    "Test: ",
    "Check: ",
    // Of a check, and of an all-clear.
    "What the check requires: ",
    "But KMS ",
];

/// The names that stand at the start of a line below; nothing else may.
const SECTIONS: [&str; 10] = [
    "UNDO IT",
    "WHAT TO DO",
    "DETAILS",
    "SEVERITY",
    "WHAT DEPENDS ON IT",
    "KEY",
    "WHO",
    "ABOUT THIS ALERT",
    "LINKS",
    "RAW TEXT",
];

/// The sample events by file name, below `events/`.
pub fn samples() -> Vec<(String, String)> {
    let folder = format!("{}/events", env!("CARGO_MANIFEST_DIR"));
    let names = ["", "records/"].into_iter().flat_map(|sub| {
        let entries = std::fs::read_dir(format!("{folder}/{sub}")).unwrap();
        entries.map(move |entry| format!("{sub}{}", entry.unwrap().file_name().into_string().unwrap()))
    });
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| (std::fs::read_to_string(format!("{folder}/{name}")).unwrap(), name))
        .map(|(t, n)| (n, t))
        .collect()
}

/// What holds for every alert, whatever led to it.
pub fn assert_sound(name: &str, alert: &Alert) {
    let Alert { subject, text, ocsf, chat, attributes } = alert;
    assert!((1..100).contains(&subject.len()), "{name}: {subject}");
    assert!(subject.bytes().all(|b| (b' '..=b'~').contains(&b)), "{name}: {subject:?}");
    assert!(!text.contains(subject.as_str()), "{name}: mail shows the Subject above the text");
    let (first, below) = text.split_once("\n\n").unwrap();
    let ours = |line: &str| FIRST_LINES.iter().any(|start| line.starts_with(start));
    // What the guard's own checks and alarms say, in one sentence or two, comes first.
    let spoken =
        attributes.iter().any(|(_, value)| matches!(&*value.to_string(), "guard-blind" | "guard-test" | "Close"));
    assert!(first.lines().skip(1).all(|line| ours(line) || spoken), "{name}: {first}");
    let headings: Vec<_> = below.lines().filter(|line| !line.is_empty() && !line.starts_with("  ")).collect();
    assert!(headings.iter().all(|line| SECTIONS.contains(line)), "{name}: {headings:?}");
    let positions: Vec<_> = headings.iter().map(|line| SECTIONS.iter().position(|section| section == line)).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{name}: {headings:?}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}");
    assert!(!ocsf.chars().any(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{200b}".contains(c)), "{name}");
    assert!(attributes.len() <= 10 && attributes.iter().all(|(_, value)| !value.to_string().is_empty()), "{name}");
    let beside: usize = attributes.iter().map(|(name, value)| name.len() + value.to_string().len() + 6).sum();
    assert!(
        ocsf.len() + beside < SNS_LIMIT && text.len() + beside < SNS_LIMIT,
        "{name}: {} {}",
        ocsf.len(),
        text.len()
    );
    if let Some(chat) = chat {
        assert!(chat.len() + beside < SNS_LIMIT, "{name}: {}", chat.len());
        assert_sound_in_a_channel(name, &serde_json::from_str(chat).unwrap());
    }
    assert!(commands(alert).all(|command| is_safe(&command)), "{name}: {:?}", commands(alert).collect::<Vec<_>>());
}

/// What holds for every notification in a channel: it is shown whole, and reads as it was meant.
pub fn assert_sound_in_a_channel(name: &str, document: &Value) {
    let content = &document["content"];
    let texts = |field: &str| content[field].as_array().into_iter().flatten().filter_map(Value::as_str);
    let [title, description] = ["title", "description"].map(|field| content[field].as_str().unwrap());
    assert!(!title.contains('\n') && title.len() <= 250, "{name}: {title}");
    assert!(description.len() <= 3_000, "{name}: {}", description.len());
    assert!(texts("nextSteps").all(|step| step.len() <= 350 && !step.contains('\n')), "{name}: {content}");
    for text in [title, description].into_iter().chain(texts("nextSteps")).chain(texts("keywords")) {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' || "<>&@".contains(c)), "{name}: {text}");
        let parts: Vec<_> = text.split('`').collect();
        assert!(parts.len() % 2 == 1, "{name}: code without an end in {text}");
        for outside in parts.iter().step_by(2) {
            assert!(!outside.contains(['*', '~']) && !outside.contains("]("), "{name}: {text}");
        }
    }
}

/// Every command in the text and in the OCSF document.
fn commands(alert: &Alert) -> impl Iterator<Item = String> {
    let document: Value = serde_json::from_str(&alert.ocsf).unwrap();
    let remediation = document["remediation"]["desc"].as_str().unwrap().to_owned();
    let lines = [alert.text.clone(), remediation];
    lines
        .into_iter()
        .flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
        .filter(|line| line.starts_with("aws "))
}

/// Whether a shell runs the command as it stands: plain words, at most one quoted policy, and one file that is written.
fn is_safe(command: &str) -> bool {
    let command = command.strip_suffix(" > ImportParameters.json").unwrap_or(command);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b" :/=,._-".contains(&b));
    match command.split('\'').collect::<Vec<_>>().as_slice() {
        [all] => plain(all),
        [before, policy, ""] => plain(before) && serde_json::from_str::<Value>(policy).is_ok(),
        _ => false,
    }
}
