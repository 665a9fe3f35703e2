//! What the alerts say and look like: goldens, layout, limits, and that hostile text changes none of it.

use insta::{Settings, assert_snapshot};
use kms_key_guard::assess::assess;
use kms_key_guard::config::Rules;
use kms_key_guard::detect::{self, OptIns, detect};
use kms_key_guard::event::Event;
use kms_key_guard::finding::Finding;
use kms_key_guard::key::{Fact, Grants, KeyFacts, KeyMetadata, LastUsage, MultiRegion, Why};
use kms_key_guard::own::OwnStack;
use kms_key_guard::render::Alert;
use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::sound::{assert_sound, samples};

const ALL: OptIns = OptIns { denied_attempts: true, lost_key_use: true };

/// The settings of the function that the samples are about.
fn of_the_samples() -> detect::Settings {
    let topics = ["AlertsTopic", "FindingsTopic", "ChatTopicNotifications"]
        .map(|topic| format!("arn:aws:sns:eu-west-1:111122223333:kms-key-guard-{topic}-1A2B3C4D5E6F"));
    let own =
        OwnStack { stack: "kms-key-guard".into(), function: "kms-key-guard-AlertFunction-1A2B3C4D5E6F".into(), topics };
    detect::Settings { own: Some(own), ..ALL.into() }
}

fn known() -> KeyFacts {
    KeyFacts {
        metadata: Fact::Known(KeyMetadata {
            state: Some("PendingDeletion".into()),
            origin: Some("AWS_KMS".into()),
            spec: Some("SYMMETRIC_DEFAULT".into()),
            description: Some("Card data at rest".into()),
            ..KeyMetadata::default()
        }),
        aliases: Fact::Known(vec!["alias/payments-db".into()]),
        alias_since: Some(datetime!(2024-05-01 08:00 UTC)),
        tags: Fact::Known(vec![("owner".into(), "team-payments".into()), ("env".into(), "prod".into())]),
        last_usage: Fact::Known(LastUsage::Used {
            operation: "Decrypt".into(),
            at: datetime!(2026-09-28 09:11:07 UTC),
        }),
        grants: Fact::Known(Grants {
            count: 2,
            more: false,
            grantees: vec![("rds.amazonaws.com".into(), 2)],
            resources: vec![("aws:rds:db-id".into(), "db-EXAMPLE".into())],
        }),
    }
}

/// What KMS would say after what the sample tells.
fn after(detection: &str, sample: &str) -> KeyFacts {
    if detection == "key-deleted" {
        return KeyFacts::unknown(Why::NotFound);
    }
    let (state, origin) = match detection {
        "key-disabled" | "key-deletion-cancelled" | "lost-key-used" => ("Disabled", "AWS_KMS"),
        "key-material-deleted" | "key-material-expired" => ("PendingImport", "EXTERNAL"),
        "key-material-expiring" | "key-material-restored" => ("Enabled", "EXTERNAL"),
        "key-enabled" | "key-loss-denied" | "key-policy-lockout" | "key-policy-cutoff" => ("Enabled", "AWS_KMS"),
        _ if sample == "deletion-pending-replicas" => ("PendingReplicaDeletion", "AWS_KMS"),
        _ => ("PendingDeletion", "AWS_KMS"),
    };
    let multi_region = match state {
        "PendingReplicaDeletion" => MultiRegion::Primary(vec!["eu-central-1".into()]),
        _ => MultiRegion::No,
    };
    let mut facts = known();
    if let Fact::Known(metadata) = &mut facts.metadata {
        (metadata.state, metadata.origin, metadata.multi_region) =
            (Some(state.into()), Some(origin.into()), multi_region);
    }
    facts
}

/// The facts of `known` whose bit is set, the others unknown for reasons of all kinds.
fn partly_known(bits: u8) -> KeyFacts {
    fn pick<T>(bits: u8, bit: u8, fact: Fact<T>, why: Why) -> Fact<T> {
        if bits & (1 << bit) != 0 { fact } else { Fact::Unknown(why) }
    }
    let all = known();
    KeyFacts {
        metadata: pick(bits, 0, all.metadata, Why::DeniedByKeyPolicy),
        aliases: pick(bits, 1, all.aliases, Why::TimedOut),
        alias_since: all.alias_since,
        tags: pick(bits, 2, all.tags, Why::Denied),
        last_usage: pick(bits, 3, all.last_usage, Why::Unsupported),
        grants: pick(bits, 4, all.grants, Why::Failed("InternalException".into())),
    }
}

fn rendered(text: &str, facts: Option<KeyFacts>) -> Option<(Finding, Alert)> {
    let mut finding = detect(&Event::read(text), &of_the_samples(), datetime!(2026-11-21 03:12:44 UTC))?;
    if let (Some(facts), true) = (facts, finding.key().is_some()) {
        finding.facts = facts;
    }
    finding.assessment = assess(&finding, &Rules::default());
    let now = finding.time + time::Duration::seconds(4);
    let alert = Alert::with_chat(&finding, now);
    Some((finding, alert))
}

#[test]
fn every_sample_renders_soundly_whatever_is_known_of_the_key() {
    let (mut documents, mut channels) = (String::new(), String::new());
    let mut keep = |alert: Alert| {
        documents += &format!("{}\n", alert.ocsf);
        channels += &format!("{}\n", alert.chat.unwrap());
    };
    for (name, text) in samples() {
        let Some((finding, alert)) = rendered(&text, None) else { continue };
        assert_sound(&name, &alert);
        keep(alert);
        let combinations = if finding.key().is_some() { 0..32 } else { 0..0 };
        for bits in combinations {
            let (_, alert) = rendered(&text, Some(partly_known(bits))).unwrap();
            assert_sound(&name, &alert);
            keep(alert);
        }
        assert!(finding.assessment.severity.id() >= 1);
    }
    // The schemas' own validators read them from here: tests/ocsf, tests/chat.
    write("ocsf/documents.jsonl", &documents);
    write("chat/documents.jsonl", &channels);
}

/// Writes what a test in Python reads.
fn write(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What a caller could write to be read as markup in a channel, in Slack's words and in Teams'.
const MARKUP: [&str; 12] = [
    "<!channel> <!here> <!everyone> @channel @here <@U012AB3CD> <#C012AB3CD> <at>General</at>",
    "<https://evil.example|the runbook> [the runbook](https://evil.example) [x]: https://evil.example",
    "www.(evil.example) @(evil.example) ://(evil.example) https://evil.example evil.example evil.example/x",
    "*bold* _italic_ ~struck~ **bold** __bold__ ***both*** ~~struck~~",
    "`code` ```block``` ` `` ```",
    "&lt;!channel&gt; &amp; &#64;here &#x3c;!here&#x3e;",
    ":white_check_mark: :rotating_light::tada: :+1:",
    "> quoted\n# heading\n- item\n1. item\n---\n| a | b |",
    "![x](https://evil.example/x.png) <img src=x> <b>bold</b> <!-- x -->",
    "\\*not bold\\* \\`not code\\` \\<!here\\>",
    "mailto:a@evil.example a@evil.example tel:+15550100",
    "\u{202e}\u{200b}@here \u{1f6a8} \u{2028}- all clear",
];

#[test]
fn markup_of_a_caller_is_text_in_a_channel() {
    let mut channels = String::new();
    let sample = |name: &str| serde_json::from_str(&samples().into_iter().find(|(n, _)| n == name).unwrap().1).unwrap();
    for markup in MARKUP {
        let mut scheduled: Value = sample("deletion-scheduled.json");
        let identity = &mut scheduled["detail"]["userIdentity"];
        identity["arn"] = format!("arn:aws:sts::111122223333:assumed-role/admin/{markup}").into();
        identity["sessionContext"]["sessionIssuer"]["userName"] = markup.into();
        let facts = KeyFacts {
            aliases: Fact::Known(vec![markup.into()]),
            tags: Fact::Known(vec![("owner".into(), markup.into())]),
            grants: Fact::Known(Grants {
                count: 1,
                more: false,
                grantees: vec![(markup.into(), 1)],
                resources: vec![],
            }),
            ..known()
        };
        let mut no_key: Value = sample("deletion-scheduled-key-id-unusable.json");
        no_key["detail"]["requestParameters"]["keyId"] = markup.into();
        let mut part: Value = sample("guard-subscription-removed.json");
        part["detail"]["requestParameters"]["subscriptionArn"] = markup.into();
        part["detail"]["userIdentity"]["arn"] = markup.into();
        let mut store: Value = sample("store-disconnected.json");
        store["detail"]["additionalEventData"] = json!({"customKeyStoreName": markup});
        for (event, facts) in [(scheduled, Some(facts)), (no_key, None), (part, None), (store, None)] {
            let (_, alert) = rendered(&event.to_string(), facts).unwrap();
            assert_sound(markup, &alert);
            channels += &format!("{}\n", alert.chat.unwrap());
        }
    }
    write("chat/hostile.jsonl", &channels);
}

#[test]
fn key_has_one_thread_from_scheduled_to_all_clear_and_refused_calls_have_their_own() {
    let thread = |name: &str| {
        let (_, text) = samples().into_iter().find(|(n, _)| *n == format!("{name}.json")).unwrap();
        let (finding, alert) = rendered(&text, None).unwrap();
        let document: Value = serde_json::from_str(&alert.chat.unwrap()).unwrap();
        (document["metadata"]["threadId"].as_str().unwrap().to_owned(), finding.key().unwrap().to_string())
    };
    for name in
        ["deletion-scheduled", "deletion-cancelled", "key-enabled", "material-deleted", "policy-account-dropped"]
    {
        let (thread, key) = thread(name);
        assert_eq!(thread, key, "{name}");
    }
    let (thread, key) = thread("denied-deletion");
    assert_eq!(thread, format!("{key}#attempt"));
}

#[test]
fn goldens() {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _guard = settings.bind_to_scope();
    for (name, text) in samples() {
        let Some(name) = GOLDEN.iter().find(|golden| format!("{golden}.json") == name) else { continue };
        let (finding, _) = rendered(&text, None).unwrap();
        let (_, alert) = rendered(&text, Some(after(finding.detection.id, name))).unwrap();
        assert_snapshot!(format!("{name}.text"), alert.text);
        let document: Value = serde_json::from_str(&alert.ocsf).unwrap();
        assert_snapshot!(format!("{name}.ocsf"), serde_json::to_string_pretty(&document).unwrap());
        if IN_A_CHANNEL.contains(name) {
            let document: Value = serde_json::from_str(&alert.chat.unwrap()).unwrap();
            assert_snapshot!(format!("{name}.chat"), serde_json::to_string_pretty(&document).unwrap());
        }
    }
    let (_, alert) = rendered(
        &samples().into_iter().find(|(name, _)| name == "deletion-scheduled.json").unwrap().1,
        Some(partly_known(0)),
    )
    .unwrap();
    assert_snapshot!("nothing-known.text", alert.text);
}

#[test]
fn alert_in_the_readme_is_a_real_one() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "deletion-scheduled.json").unwrap();
    let (_, alert) = rendered(&text, Some(after("key-deletion-scheduled", "deletion-scheduled"))).unwrap();
    let readme = std::fs::read_to_string(format!("{}/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (beginning, _) = alert.text.split_once("\nABOUT THIS ALERT\n").unwrap();
    let shown = format!("```\n{}\n\n{beginning}```", alert.subject);
    assert!(readme.contains(&shown), "README.md should hold:\n{shown}");
}

/// The text in lines of so many characters at most, as a phone breaks them: between words, and within one that is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut room = String::new();
        for word in line.split(' ') {
            if !room.is_empty() && room.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut room));
            }
            room = if room.is_empty() { word.to_owned() } else { format!("{room} {word}") };
            while room.chars().count() > width {
                let rest = room.split_off(room.char_indices().nth(width).unwrap().0);
                lines.push(std::mem::replace(&mut room, rest));
            }
        }
        lines.push(room);
    }
    lines
}

/// The texts of all goldens, the digests' too; what is in them is compared elsewhere.
fn golden_texts() -> Vec<(String, String)> {
    let folder = format!("{}/tests/golden", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.to_str().unwrap().ends_with(".text.snap")).map(|path| {
        let snapshot = std::fs::read_to_string(&path).unwrap();
        let text = snapshot.split_once("\n---\n").unwrap().1.to_owned();
        (path.file_name().unwrap().to_str().unwrap().replace(".text.snap", ""), text)
    });
    texts.collect()
}

#[test]
fn first_command_is_on_the_first_screen_of_a_phone() {
    // A phone of 390 by 844 points shows 22 lines below a mail's head, each of some 42 characters (make pictures).
    const FIRST_SCREEN: usize = 20;
    let mut with_commands = 0;
    for (name, text) in golden_texts().into_iter().filter(|(_, text)| text.contains("\nUNDO IT\n")) {
        let undo = text.split("\nUNDO IT\n").nth(1).unwrap().split("\n\nSEVERITY\n").next().unwrap();
        if !undo.lines().any(|line| line.starts_with("  aws ")) {
            continue;
        }
        with_commands += 1;
        let lines = wrapped(&text, 40);
        let first = lines.iter().position(|line| line.starts_with("aws ") || line.starts_with("  aws ")).unwrap() + 1;
        assert!(first <= FIRST_SCREEN, "{name}: the first command is in line {first}\n{}", lines.join("\n"));
    }
    assert!(with_commands >= 15, "{with_commands}");
}

#[test]
fn nothing_is_aligned_for_a_font_of_fixed_width() {
    for (name, text) in golden_texts() {
        for line in text.lines() {
            assert!(!line.trim_start().contains("  ") && !line.starts_with("   "), "{name}: {line}");
        }
    }
}

#[test]
fn lock_screen_shows_more_than_the_subject() {
    for (name, text) in golden_texts() {
        let preview: String = text.chars().take(100).collect();
        assert!(preview.lines().next().unwrap().contains(' ') && !preview.starts_with('['), "{name}: {preview}");
    }
}

/// One sample of each detection, and the ones that look different.
const GOLDEN: [&str; 34] = [
    "deletion-scheduled",
    "deletion-pending-replicas",
    "deletion-scheduled-by-github-actions",
    "deletion-scheduled-by-identity-center-user",
    "deletion-scheduled-by-root",
    "deletion-scheduled-key-id-unusable",
    "deletion-scheduled-in-china",
    "deletion-cancelled",
    "key-disabled",
    "key-enabled",
    "key-deleted",
    "key-deleted-native",
    "material-deleted",
    "material-expired",
    "material-expiring",
    "material-restored",
    "store-disconnected",
    "store-changed",
    "store-deleted",
    "store-connected",
    "policy-account-dropped",
    "denied-deletion",
    "lost-key-disabled",
    "guard-rule-disabled",
    "guard-rule-targets-put-back",
    "guard-function-code-replaced-by-cloudformation",
    "guard-subscription-removed",
    "guard-trail-without-kms",
    "guard-alarm-muted",
    "hub-bus-opened",
    "hub-spokes-removed",
    "spoke-could-not-forward",
    "spoke-forwards-again",
    "guard-test",
];

/// Those whose notification for channels looks different.
const IN_A_CHANNEL: [&str; 7] = [
    "deletion-scheduled",
    "deletion-scheduled-key-id-unusable",
    "key-enabled",
    "policy-account-dropped",
    "store-disconnected",
    "guard-subscription-removed",
    "guard-test",
];

#[test]
fn every_golden_is_of_a_sample() {
    let samples = samples();
    assert!(IN_A_CHANNEL.iter().all(|name| GOLDEN.contains(name)));
    for golden in GOLDEN {
        assert!(
            samples.iter().any(|(name, text)| *name == format!("{golden}.json") && rendered(text, None).is_some()),
            "{golden}"
        );
    }
}

#[test]
fn record_of_250_kb_still_fits_and_says_that_it_was_shortened() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "deletion-scheduled.json").unwrap();
    for filler in ["x", "\u{1}", "\u{1f511}", "\"", "\\"] {
        let mut event: Value = serde_json::from_str(&text).unwrap();
        event["detail"]["requestParameters"]["filler"] = filler.repeat(250_000 / filler.len()).into();
        let (_, alert) = rendered(&event.to_string(), Some(known())).unwrap();
        assert_sound("250 kB", &alert);
        let document: Value = serde_json::from_str(&alert.ocsf).unwrap();
        let shortened = document["unmapped"]["shortened"].as_str().unwrap();
        assert!(shortened.contains("of 25") || shortened.contains("bytes"), "{shortened}");
        assert!(document["evidences"][0]["data"].is_null() && document["raw_data"].as_str().unwrap().len() > 10_000);
    }
}

#[test]
fn subject_names_a_key_by_its_oldest_alias_and_always_by_its_id() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "key-disabled.json").unwrap();
    let subject = |alias: &str, days: i64| {
        let happened = datetime!(2026-09-28 09:14:07 UTC);
        let facts = KeyFacts {
            aliases: Fact::Known(vec![alias.into()]),
            alias_since: Some(happened - time::Duration::days(days)),
            ..known()
        };
        let (finding, alert) = rendered(&text, Some(facts)).unwrap();
        assert!(alert.subject.contains(&finding.key().unwrap().id()[..8]), "{}", alert.subject);
        alert.subject
    };
    assert!(subject("alias/payments-db", 8).contains("KMS key alias/payments-db ("));
    assert!(subject("alias/payments-db", 6).contains("KMS key alias/payments-db (new alias, "));
    assert!(subject("alias/log-in.at.evil.example", 8).contains("alias/log-in[.]at[.]evil[.]example ("));
    let long = subject(&format!("alias/{}", "x".repeat(200)), 8);
    assert!(long.contains("xx.. (") && long.len() == 99, "{long}");
    let none = subject("not plain", 8);
    assert!(!none.contains("not plain"), "{none}");
}

#[test]
fn alias_that_is_plain_and_endless_names_nothing() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "deletion-scheduled.json").unwrap();
    let facts = KeyFacts { aliases: Fact::Known(vec!["x".repeat(300_000)]), ..known() };
    assert_sound("endless alias", &rendered(&text, Some(facts)).unwrap().1);
}

#[test]
fn unreadable_text_of_any_size_is_attached() {
    for raw in ["not json".to_owned(), "\u{1f511}".repeat(100_000), format!("\"{}\"", "\\u0000".repeat(40_000))] {
        let (finding, alert) = rendered(&json!({"source": "aws.kms", "detail": raw}).to_string(), None).unwrap();
        assert_eq!(finding.detection.id, "unreadable-signal");
        assert_sound("unreadable", &alert);
        assert!(alert.text.contains("RAW TEXT"));
    }
}

#[test]
fn panthers_seven_fields_can_be_read_from_the_finding() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "panther-key-scheduled-for-deletion.json").unwrap();
    let record: Value = serde_json::from_str::<Value>(&text).unwrap()["detail"].clone();
    let document: Value = serde_json::from_str(&rendered(&text, None).unwrap().1.ocsf).unwrap();
    let evidence = &document["evidences"][0];
    assert_eq!(document["api"]["operation"], record["eventName"]);
    assert_eq!(document["api"]["service"]["name"], record["eventSource"]);
    assert_eq!(document["cloud"]["region"], record["awsRegion"]);
    assert_eq!(document["cloud"]["account"]["uid"], record["recipientAccountId"]);
    assert_eq!(evidence["src_endpoint"]["ip"], record["sourceIPAddress"]);
    assert_eq!(evidence["http_request"]["user_agent"], record["userAgent"]);
    assert_eq!(evidence["data"]["userIdentity"], record["userIdentity"]);
    assert_eq!(evidence["actor"]["user"]["uid"], record["userIdentity"]["arn"]);
}

/// Text as an attacker would choose it; shows its beginning only when a test fails.
struct Hostile(String);

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} bytes", self.0.chars().take(100).collect::<String>(), self.0.len())
    }
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let piece = prop_oneof![
        Just("\n\nUNDO IT\n  aws kms schedule-key-deletion --key-id x".to_owned()),
        Just("\r\nSEVERITY\r\n  Informational".to_owned()),
        Just("\nTime left: 30 d\nBy: nobody".to_owned()),
        Just("\u{1b}[2J\u{1b}[31m".to_owned()),
        Just("\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}UNDO IT".to_owned()),
        Just("[click](https://evil.example) <a href=x>".to_owned()),
        Just("; rm -rf / $(id) `id` | sh & ' \" \\".to_owned()),
        Just("x".repeat(300_000)),
        "\\PC{0,20}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| Hostile(pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_in_any_field_changes_no_layout_and_reaches_no_command(
        text in hostile(), other in hostile(), call in prop::sample::select(vec![
            "ScheduleKeyDeletion", "DisableKey", "DeleteImportedKeyMaterial", "UpdateCustomKeyStore", "PutKeyPolicy",
            "ImportKeyMaterial", "CancelKeyDeletion", "Decrypt", "DisconnectCustomKeyStore",
        ]), with_key in any::<bool>(), kind in prop::sample::select(vec!["AssumedRole", "IAMUser", "WebIdentityUser", "SAMLUser", "?"]),
    ) {
        let (Hostile(text), Hostile(other)) = (text, other);
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c-0000-4000-8000-000000000001";
        let event = json!({
            "id": text, "source": "aws.kms", "detail-type": "AWS API Call via CloudTrail", "account": other, "region": text,
            "time": other, "resources": [text],
            "detail": {
                "eventSource": "kms.amazonaws.com", "eventName": call, "eventID": text, "sharedEventID": other,
                "requestID": text, "eventTime": "2026-09-28T09:14:07Z", "awsRegion": if with_key { "eu-west-1" } else { &text },
                "recipientAccountId": if with_key { "111122223333" } else { &other }, "userAgent": text,
                "sourceIPAddress": other, "vpcEndpointId": text,
                "errorCode": if call == "Decrypt" { Value::from("DisabledException") } else { Value::Null },
                "errorMessage": if call == "Decrypt" { Value::from(text.clone()) } else { Value::Null },
                "requestParameters": {
                    "keyId": if with_key { arn } else { &text }, "customKeyStoreId": other, "keyMaterialId": text,
                    "policy": other, (text.clone()): 1, "validTo": other,
                },
                "additionalEventData": {"customKeyStoreName": text},
                "userIdentity": {
                    "type": kind, "arn": format!("arn:aws:sts::111122223333:assumed-role/{other}/{text}"), "principalId": text,
                    "accountId": other, "userName": text, "invokedBy": other, "identityProvider": text,
                    "onBehalfOf": {"userId": text},
                    "sessionContext": {
                        "sourceIdentity": other, "sessionIssuer": {"type": "Role", "userName": other, "arn": text},
                        "webIdFederationData": {"federatedProvider": text, "attributes": {"x:sub": format!("repo:{other}:{text}")}},
                    },
                },
            },
        });
        let facts = KeyFacts {
            metadata: Fact::Known(KeyMetadata {
                state: Some(text.clone()), origin: Some(other.clone()), description: Some(text.clone()),
                custom_key_store_id: Some(other.clone()), multi_region: MultiRegion::Primary(vec![text.clone()]), ..KeyMetadata::default()
            }),
            aliases: Fact::Known(vec![text.clone(), other.clone()]),
            alias_since: None,
            tags: Fact::Known(vec![(text.clone(), other.clone())]),
            last_usage: Fact::Known(LastUsage::Used { operation: text.clone(), at: OffsetDateTime::UNIX_EPOCH }),
            grants: Fact::Known(Grants { count: 1, more: true, grantees: vec![(text.clone(), 1)], resources: vec![(other.clone(), text.clone())] }),
        };
        let (_, alert) = rendered(&event.to_string(), Some(facts)).unwrap();
        assert_sound("hostile", &alert);
        prop_assert!(!alert.text.contains("](") && !alert.text.contains("://evil"));
        for (_, value) in &alert.attributes {
            prop_assert!(!value.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn hostile_text_in_a_call_on_the_guard_changes_no_layout_and_reaches_no_command(
        text in hostile(), other in hostile(), (service, call) in prop::sample::select(vec![
            ("events", "PutRule"), ("events", "PutTargets"), ("lambda", "PutFunctionConcurrency20171031"),
            ("sns", "SetTopicAttributes"), ("sns", "Unsubscribe"), ("sqs", "SetQueueAttributes"),
            ("monitoring", "DeleteAlarms"), ("iam", "AttachRolePolicy"), ("cloudtrail", "StopLogging"),
            ("cloudtrail", "PutEventSelectors"), ("cloudformation", "DeleteStack"),
        ]),
    ) {
        let (Hostile(text), Hostile(other)) = (text, other);
        let event = json!({
            "id": text, "source": format!("aws.{service}"), "detail-type": "AWS API Call via CloudTrail", "account": other,
            "detail": {
                "eventSource": format!("{service}.amazonaws.com"), "eventName": call, "eventID": other,
                "eventTime": "2026-09-28T09:14:07Z", "awsRegion": "eu-west-1", "recipientAccountId": "111122223333",
                "requestParameters": {
                    "name": text, "rule": text, "eventPattern": other, "targets": [{"id": text, "arn": other}],
                    "functionName": text, "topicArn": text, "attributeName": "Policy", "attributeValue": other,
                    "subscriptionArn": text, "queueUrl": text, "attributes": {(text.clone()): other},
                    "alarmNames": [text, other], "roleName": text, "policyArn": other, "trailName": text, "stackName": text,
                },
            },
        });
        let (finding, alert) = rendered(&event.to_string(), None).unwrap();
        prop_assert_eq!(finding.detection.id, "guard-tampered");
        assert_sound("hostile", &alert);
        prop_assert!(!alert.text.contains("](") && !alert.text.contains("://evil"));
    }
}
