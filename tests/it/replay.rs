//! `keyguard replay` as it is run: what tools export is read, what isn't is named, and nothing unread counts as clean.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_smithy_types::base64;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// A folder that is gone when it isn't needed any more.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("keyguard-replay-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run printed, and how it ended.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    /// How many findings the summary counts.
    fn findings(&self) -> u64 {
        let summary = self.err.lines().find(|line| line.contains(" finding")).expect("a summary");
        summary.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// What was said of inputs.
    fn problems(&self) -> Vec<&str> {
        self.err.lines().filter(|line| line.starts_with("keyguard: ")).collect()
    }
}

fn replay(arguments: &[&str], input: &[u8]) -> Ran {
    let mut keyguard = Command::new(env!("CARGO_BIN_EXE_keyguard"))
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = keyguard.stdin.take().unwrap();
    let input = input.to_owned();
    // It ends before the input does if it has seen enough of it.
    let write = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = keyguard.wait_with_output().unwrap();
    write.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// The same bytes as standard input and as a file.
fn read(bytes: &[u8]) -> Ran {
    let of_stdin = replay(&["-"], bytes);
    let folder = Folder::new().with("export", bytes);
    let of_file = replay(&[&format!("{}/export", folder.path())], b"");
    assert_eq!((of_stdin.status, &of_stdin.out), (of_file.status, &of_file.out), "{of_stdin:?} {of_file:?}");
    of_stdin
}

fn record() -> Value {
    envelope()["detail"].take()
}

fn envelope() -> Value {
    let path = format!("{}/events/deletion-scheduled.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A record with other fields.
fn record_with(fields: Value) -> Value {
    let mut record = record();
    record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    record
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes.as_ref()).unwrap();
    gzip.finish().unwrap()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// One event in every shape that tools hand it on in.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let (record, envelope) = (record().to_string(), envelope().to_string());
    let pretty = serde_json::to_string_pretty(&json!({"Records": [self::record()]})).unwrap();
    let looked_up = json!({"EventId": "1", "EventName": "ScheduleKeyDeletion", "EventSource": "kms.amazonaws.com",
        "Resources": [{"ResourceName": "r", "ResourceType": "AWS::KMS::Key"}], "CloudTrailEvent": record});
    let logged = json!({"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "trail", "logStream": "s",
        "subscriptionFilters": ["f"], "logEvents": [{"id": "1", "timestamp": 1, "message": record}]})
    .to_string();
    let notified = json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-west-1:111122223333:t", "Message": envelope});
    let sqs = |body: &str| json!({"Records": [{"messageId": "1", "receiptHandle": "x", "body": body, "eventSource": "aws:sqs"}]});
    let kinesis = |data: &[u8]| {
        json!({"Records": [{"kinesis": {"partitionKey": "1", "sequenceNumber": "1", "data": base64::encode(data)},
            "eventSource": "aws:kinesis", "eventName": "aws:kinesis:record"}]})
    };
    let yaml = record.replace('\'', "''");
    // The emitter folds long text at blanks.
    let folded = yaml.replace(" ", "\n    ");
    let json: Vec<(&str, Value)> = vec![
        ("lookup-events", json!({"Events": [looked_up], "NextToken": "x"})),
        ("lookup-events, queried", json!([record])),
        (
            "SQS, received",
            json!({"Messages": [{"MessageId": "1", "ReceiptHandle": "x", "MD5OfBody": "0", "Body": envelope}]}),
        ),
        ("SQS, in Lambda", sqs(&envelope)),
        ("SQS, in EventBridge Pipes", json!([sqs(&envelope)["Records"][0]])),
        ("SNS in SQS", sqs(&notified.to_string())),
        ("SNS", notified.clone()),
        ("SNS, in Lambda", json!({"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": notified}]})),
        (
            "Lambda's failure destination",
            json!({"version": "1.0", "requestContext": {}, "requestPayload": self::envelope()}),
        ),
        ("Kinesis, in Lambda", kinesis(record.as_bytes())),
        (
            "Kinesis, received",
            json!({"Records": [{"SequenceNumber": "1", "PartitionKey": "1", "Data": base64::encode(&record)}], "MillisBehindLatest": 0}),
        ),
        (
            "Firehose, in Lambda",
            json!({"invocationId": "1", "records": [{"recordId": "1", "data": base64::encode(&envelope)}]}),
        ),
        ("CloudWatch Logs through Kinesis, in Lambda", kinesis(&gzip(&logged))),
        ("CloudWatch Logs, in Lambda", json!({"awslogs": {"data": base64::encode(gzip(&logged))}})),
        (
            "filter-log-events",
            json!({"events": [{"logStreamName": "s", "timestamp": 1, "message": record, "ingestionTime": 1, "eventId": "1"}], "searchedLogStreams": []}),
        ),
        (
            "CloudWatch Logs Insights",
            json!({"results": [[{"field": "@timestamp", "value": "x"}, {"field": "@message", "value": record}]], "statistics": {}, "status": "Complete"}),
        ),
        (
            "Elastic, as a hit",
            json!({"_index": "logs", "_id": "1", "_source": {"@timestamp": "x", "ecs": {}, "event": {"original": record, "action": "x"}}}),
        ),
        (
            "Elastic, found",
            json!({"took": 1, "hits": {"total": {"value": 1}, "hits": [{"_index": "logs", "_source": {"event.original": record}}]}}),
        ),
        ("Elastic, the record as the document", json!({"_index": "logs", "_source": self::record()})),
        (
            "Datadog's archive",
            json!({"_id": "1", "date": "x", "source": "cloudtrail", "message": "", "attributes": self::record()}),
        ),
        (
            "Datadog's API",
            json!({"data": [{"id": "1", "type": "log", "attributes": {"service": "cloudtrail", "tags": [], "attributes": self::record()}}]}),
        ),
        ("Splunk", json!({"preview": false, "result": {"_raw": record, "host": "x"}})),
    ];
    let mut shapes: Vec<(&str, Vec<u8>)> =
        json.into_iter().map(|(name, value)| (name, value.to_string().into_bytes())).collect();
    let text: Vec<(&str, String)> = vec![
        ("CloudTrail's file", json!({"Records": [self::record()]}).to_string()),
        ("EventBridge's event", envelope.clone()),
        (
            "lookup-events, text",
            format!(
                "EVENTS\tASIAEXAMPLE\t{record}\t1\tScheduleKeyDeletion\tkms.amazonaws.com\nRESOURCES\tr\tAWS::KMS::Key\n"
            ),
        ),
        ("lookup-events, text, queried", format!("{record}\t\n")),
        (
            "lookup-events, table",
            format!(
                "--------------\n|  LookupEvents  |\n+------------+\n||  Events  ||\n|+------------+|\n||  CloudTrailEvent|  {}  ||\n||  EventId  |  1  ||\n|+---+|\n|||  Resources  |||\n|||  ResourceName  |  r  |||\n",
                record.replace("deploy-7", "deploy | 7")
            ),
        ),
        (
            "lookup-events, wide table",
            format!(
                "--------------\n|  LookupEvents  |\n||  Events  ||\n||  AccessKeyId  |  CloudTrailEvent  |  EventId  ||\n|+---+|\n||  A  |  {record}  |  1  ||\n|+---+|\n"
            ),
        ),
        (
            "lookup-events, table, queried",
            format!("---------------\n|  LookupEvents  |\n+------+\n|  {record}  |\n+------+\n"),
        ),
        (
            "lookup-events, YAML",
            format!(
                "Events:\n- AccessKeyId: A\n  CloudTrailEvent: '{yaml}'\n  EventId: '1'\n  Resources:\n  - ResourceName: r\nNextToken: x\n"
            ),
        ),
        ("lookup-events, folded YAML", format!("Events:\n- CloudTrailEvent: '{folded}'\n  EventId: '1'\n")),
        ("lookup-events, YAML stream", format!("- Events:\n  - CloudTrailEvent: '{yaml}'\n    EventId: '1'\n")),
        ("lookup-events, YAML, queried", format!("- '{yaml}'\n")),
        ("filter-log-events, text", format!("EVENTS\t123\t1\tstream\t{record}\t1\nSEARCHEDLOGSTREAMS\tTrue\ts\n")),
        ("an exported log", format!("2026-11-21T03:12:44.000Z {record}\n")),
        ("aws logs tail", format!("2026-11-21T03:12:44.000000+00:00 111122223333_CloudTrail_eu-west-1 {record}\n")),
        ("CSV of Logs Insights", format!("@timestamp,@message\n2026-11-21 03:12:44.000,{}\n", quoted(&record))),
        ("CSV in quotes", format!("\"eventtime\";\"raw event\"\r\n\"x\";{}\r\n", quoted(&record))),
        ("CSV of one column", format!("CloudTrailEvent\n{}\n", quoted(&record))),
        (
            "CSV of Splunk",
            format!("_raw,eventName,eventSource\n{},ScheduleKeyDeletion,kms.amazonaws.com\n", quoted(&record)),
        ),
        (
            "an Elasticsearch bulk file",
            format!("{{\"index\":{{\"_index\":\"x\"}}}}\n{}\n", json!({"event": {"original": record}})),
        ),
    ];
    shapes.extend(text.into_iter().map(|(name, text)| (name, text.into_bytes())));
    shapes.extend([
        ("UTF-16, little end first", utf16(&pretty, u16::to_le_bytes)),
        ("UTF-16, big end first", utf16(&pretty, u16::to_be_bytes)),
        ("UTF-8 with a mark", format!("\u{feff}{pretty}").into_bytes()),
        ("gzip", gzip(&pretty)),
        ("gzip of UTF-16", gzip(utf16(&pretty, u16::to_le_bytes))),
        ("gzip of gzip, as Firehose packs CloudWatch Logs", gzip(gzip(&logged))),
        ("two gzips, one after the other", [gzip(&record), gzip("\n")].concat()),
    ]);
    shapes
}

#[test]
fn every_shape_holds_its_one_finding() {
    for (name, bytes) in shapes() {
        let ran = read(&bytes);
        assert_eq!((ran.status, ran.findings()), (0, 1), "{name}: {ran:?}");
        assert!(ran.problems().is_empty(), "{name}: {ran:?}");
    }
}

#[test]
fn shape_that_is_cut_off_is_never_clean() {
    for (name, bytes) in shapes() {
        let ran = read(&bytes[..bytes.len() * 3 / 5]);
        assert_eq!(ran.status, 2, "{name}: {ran:?}");
        assert!(!ran.problems().is_empty(), "{name}: {ran:?}");
    }
}

#[test]
fn events_one_after_the_other_are_all_read() {
    let one = |id: &str| record_with(json!({"eventID": id})).to_string();
    let ran = read(format!("{}{}\n{}", one("1"), one("2"), one("3")).as_bytes());
    assert_eq!((ran.status, ran.findings()), (0, 3), "{ran:?}");
}

#[test]
fn what_callers_write_into_an_event_is_no_event() {
    let forged = json!({"Records": [record()], "body": envelope().to_string(), "messageId": "1", "message": record().to_string(),
        "timestamp": 1, "detail": record(), "CloudTrailEvent": record().to_string(), "_source": record()});
    let event = json!({"eventSource": "kms.amazonaws.com", "eventName": "TagResource", "eventID": "1",
        "requestParameters": forged, "userAgent": record().to_string(), "detail": record()});
    let text = event.to_string();
    for (name, input) in [
        ("a record", text.clone()),
        (
            "a record in an event of EventBridge",
            json!({"source": "aws.s3", "detail-type": "x", "detail": event}).to_string(),
        ),
        (
            "a record that was looked up",
            json!({"Events": [{"CloudTrailEvent": text, "Username": record().to_string()}]}).to_string(),
        ),
        ("the name of a resource, as text", format!("EVENTS\t{text}\t1\nRESOURCES\t{}\tAWS::S3::Object\n", record())),
        (
            "the name of a resource, in a table",
            format!(
                "----------------\n||  Events  ||\n||  CloudTrailEvent|  {text} ||\n|||  ResourceName|  CloudTrailEvent | {} |||\n",
                record()
            ),
        ),
    ] {
        let ran = read(input.as_bytes());
        assert_eq!((ran.status, ran.findings()), (0, 0), "{name}: {ran:?}");
    }
    let flat = format!("requestparameters,x\n{},1\n", quoted(&record().to_string()));
    let ran = read(flat.as_bytes());
    assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
}

#[test]
fn what_is_no_event_is_named_with_its_place() {
    for (input, problem) in [
        (r#"{"detail": "Not Found"}"#, "line 1: neither a CloudTrail record"),
        (r#"{"eventSource": "kms.amazonaws.com"}"#, "line 1: neither a CloudTrail record"),
        (r#"{"Records": [{"eventName": "DisableKey"}]}"#, "line 1, record 1: neither"),
        ("\n[1]", "line 2, record 1: a number is no event"),
        ("null", "null is no event"),
        (r#"{"Messages": [{"MessageId": "1", "Body": "hello"}]}"#, "record 1: its Body isn't JSON"),
        (r#"{"Records": [{"messageId": "1", "body": "{\"a\": 1}"}]}"#, "record 1: body: neither"),
        (r#"{"kinesis": {"data": "!"}}"#, "data: not base64"),
        ("", "empty: it holds no event"),
        (" \n ", "empty: it holds no event"),
        ("hello", "line 1: not JSON"),
        (r#"{"events": [{"id": "1", "timestamp": 1, "message": "REPORT x"}]}"#, "its message isn't JSON"),
    ] {
        let ran = read(input.as_bytes());
        assert_eq!((ran.status, ran.findings()), (2, 0), "{input}: {ran:?}");
        assert!(ran.problems()[0].contains(problem), "{input}: {ran:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused_once_by_its_name() {
    let many = |line: Value| vec![line.to_string(); 30].join("\n").into_bytes();
    let mut tar = vec![0; 600];
    tar[..4].copy_from_slice(b"logs");
    tar[257..262].copy_from_slice(b"ustar");
    for (name, bytes) in [
        ("OCSF", many(json!({"class_uid": 6003, "api": {"operation": "DisableKey"}}))),
        ("flattened", many(json!({"eventname": "DisableKey", "eventsource": "kms.amazonaws.com"}))),
        (
            "flattened",
            many(json!({"EventName": "DisableKey", "EventSource": "kms.amazonaws.com", "RequestParameters": "{}"})),
        ),
        (
            "flattened",
            [b"eventtime,eventsource,eventname\n".to_vec(), b"x,kms.amazonaws.com,DisableKey\n".repeat(30)].concat(),
        ),
        ("flattened", b"Event name,Event time,Event source\n".to_vec()),
        ("Elastic", many(json!({"@timestamp": "x", "ecs": {}, "event": {"action": "DisableKey"}, "message": "x"}))),
        ("Athena", many(json!({"ResultSet": {"Rows": []}}))),
        ("a notice", many(json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}))),
        ("Kinesis Producer Library", many(json!({"kinesis": {"data": base64::encode([0xf3, 0x89, 0x9a, 0xc2, 1])}}))),
        ("zip", b"PK\x03\x04...".to_vec()),
        ("zstd", b"\x28\xb5\x2f\xfd...".to_vec()),
        ("bzip2", b"BZh9...".to_vec()),
        ("xz", b"\xfd7zXZ\0...".to_vec()),
        ("Parquet", b"PAR1\x15\x04...".to_vec()),
        ("tar", gzip(tar)),
        ("UTF-16 without", utf16("{}", u16::to_le_bytes)[2..].to_vec()),
        ("binary", vec![0; 5_000]),
    ] {
        let ran = read(&bytes);
        assert_eq!((ran.status, ran.findings()), (2, 0), "{name}: {ran:?}");
        let problems = ran.problems();
        assert!(problems[0].contains(name), "{name}: {ran:?}");
        assert!(
            problems.iter().filter(|problem| !problem.ends_with("no event was read")).count() == 1,
            "{name}: {ran:?}"
        );
    }
}

#[test]
fn digests_and_insights_are_passed_over_wherever_they_are() {
    let digest = json!({"awsAccountId": "111122223333", "digestStartTime": "x", "digestEndTime": "x", "digestS3Object": "x", "logFiles": []});
    let insights = json!({"Records": [{"eventVersion": "1.09", "eventType": "AwsCloudTrailInsight", "eventCategory": "Insight",
        "insightDetails": {"eventSource": "kms.amazonaws.com", "eventName": "DisableKey"}}]});
    for alone in [&digest, &insights] {
        let ran = read(alone.to_string().as_bytes());
        assert_eq!((ran.status, ran.findings()), (0, 0), "{ran:?}");
        assert!(ran.err.contains("passed over: 1 CloudTrail "), "{ran:?}");
    }
    let folder = Folder::new()
        .with("CloudTrail/a.json.gz", gzip(json!({"Records": [record()]}).to_string()))
        .with("CloudTrail-Digest/eu-west-1/b.json.gz", gzip(digest.to_string()))
        .with("CloudTrail-Digest/eu-west-1/c.json.gz", gzip(digest.to_string()))
        .with("CloudTrail-Insight/d.json.gz", gzip(insights.to_string()))
        .with("notes.txt", "what happened, and when")
        .with("read.me", "[![badge](x)](y)");
    let ran = replay(&[folder.path()], b"");
    assert_eq!((ran.status, ran.findings()), (0, 1), "{ran:?}");
    assert!(ran.err.contains("1 .me, 1 .txt, 1 CloudTrail Insights, 2 CloudTrail digest"), "{ran:?}");
}

#[test]
fn folder_of_files_without_an_ending_is_read() {
    let folder = Folder::new()
        .with("2026/11/02/09/kms-stream-1-2026-11-02-09-30-00-c0ffee00", envelope().to_string())
        .with("exportedlogs/aws-logs-write-test", "Permission Check Successful")
        .with(
            "exportedlogs/000000.gz",
            gzip(format!("2026-11-21T03:12:44.000Z {}\n", record_with(json!({"eventID": "2"})))),
        );
    let ran = replay(&[folder.path()], b"");
    assert_eq!((ran.status, ran.findings()), (0, 2), "{ran:?}");
    assert!(ran.err.contains("passed over: 1 without an ending"), "{ran:?}");
}

#[test]
fn nothing_read_is_not_clean() {
    let empty = Folder::new();
    let notes = Folder::new().with("notes.txt", "nothing, really");
    let blank = Folder::new().with("a.json", "");
    for folder in [&empty, &notes, &blank] {
        let ran = replay(&[folder.path()], b"");
        assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
        assert!(ran.err.contains("no event was read"), "{ran:?}");
    }
    for understood in [r#"{"Records": []}"#, "[]", r#"{"Events": []}"#] {
        assert_eq!(read(understood.as_bytes()).status, 0, "{understood}");
    }
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_pipes_and_devices_are_named() {
    let folder = Folder::new().with("a.json", record().to_string());
    std::os::unix::fs::symlink(folder.path(), folder.0.join("again")).unwrap();
    let made = Command::new("mkfifo").arg(folder.0.join("pipe")).status().unwrap();
    assert!(made.success());
    let ran = replay(&[folder.path()], b"");
    assert_eq!((ran.status, ran.findings()), (2, 1), "{ran:?}");
    assert!(ran.err.contains("again: a link to a folder that it is in"), "{ran:?}");
    assert!(ran.err.contains("pipe: a pipe: not read"), "{ran:?}");
    let ran = replay(&["/dev/zero"], b"");
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("/dev/zero: a device: not read"), "{ran:?}");
    // What a shell's <( ) makes.
    let ran = replay(&["/dev/stdin"], record().to_string().as_bytes());
    assert_eq!((ran.status, ran.findings()), (0, 1), "{ran:?}");
}

#[test]
fn one_event_is_one_finding() {
    let shared = |id: &str, account: &str| {
        record_with(json!({"eventID": id, "sharedEventID": "s", "recipientAccountId": account}))
    };
    let folder = Folder::new()
        .with(
            "a/trail.json",
            json!({"Records": [shared("1", "111122223333"), shared("1", "111122223333")]}).to_string(),
        )
        .with(
            "b/looked-up.json",
            json!({"Events": [{"CloudTrailEvent": shared("1", "111122223333").to_string()}]}).to_string(),
        )
        .with("c/other-trail.json", json!({"Records": [shared("2", "111122223333")]}).to_string());
    let ran = replay(&["--format", "ocsf", folder.path()], b"");
    assert_eq!((ran.status, ran.out.lines().count()), (0, 2), "{ran:?}");
    assert!(ran.err.contains("4 events, 2 findings, 2 repeated"), "{ran:?}");
    // Without an id nothing tells that it is the same.
    let nameless = record_with(json!({"eventID": null}));
    assert_eq!(read(json!([nameless, nameless]).to_string().as_bytes()).findings(), 2);
}

#[test]
fn tampering_is_reported_for_trails_and_for_the_parts_that_are_named() {
    let call = |service: &str, name: &str, request: Value| {
        json!({"eventSource": format!("{service}.amazonaws.com"), "eventName": name, "eventID": format!("{name}{request}"),
            "awsRegion": "eu-west-1", "requestParameters": request})
    };
    let enveloped =
        |record: Value| json!({"source": "aws.iam", "detail-type": "AWS API Call via CloudTrail", "detail": record});
    let calls = [
        call("cloudtrail", "StopLogging", json!({"name": "trail"})),
        call("cloudtrail", "StartLogging", json!({"name": "trail"})),
        call("iam", "AttachRolePolicy", json!({"roleName": "somebody"})),
        enveloped(call("iam", "AttachRolePolicy", json!({"roleName": "somebody-else"}))),
        enveloped(call("iam", "AttachRolePolicy", json!({"roleName": "guard-AlertFunctionRole-1"}))),
        call("monitoring", "DeleteAlarms", json!({"alarmNames": ["other", "guard-FailuresAlarm-1"]})),
        call("sns", "DeleteTopic", json!({"topicArn": "arn:aws:sns:eu-west-1:111122223333:guardian"})),
        call(
            "lambda",
            "DeleteFunction20150331",
            json!({"functionName": "arn:aws:lambda:eu-west-1:111122223333:function:watcher"}),
        ),
    ];
    let input = json!({"Records": calls}).to_string();
    for (arguments, count) in [
        (&["-"][..], 1),
        (&["--stack-name", "guard", "-"], 3),
        (&["--stack-name", "other-guard", "-"], 1),
        (&["--guard-part", "watcher", "-"], 2),
        (&["--guard-part", "arn:aws:sns:eu-west-1:111122223333:guardian", "--stack-name", "guard", "-"], 4),
    ] {
        let ran = replay(arguments, input.as_bytes());
        assert_eq!((ran.status, ran.findings()), (0, count), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn table_is_sorted_and_lines_up_and_counts() {
    let at = |id: &str, time: &str, region: &str| {
        let arn = format!("arn:aws:kms:{region}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab");
        record_with(
            json!({"eventID": id, "eventTime": time, "awsRegion": region, "resources": [], "responseElements": {"keyId": arn}}),
        )
    };
    let records = [
        at("1", "2026-11-21T03:00:00Z", "us-gov-east-1"),
        at("2", "2026-11-19T03:00:00Z", "eu-west-1"),
        at("3", "2026-11-20T03:00:00Z", "ap-southeast-1"),
    ];
    let ran = read(json!(records).to_string().as_bytes());
    let lines: Vec<_> = ran.out.lines().collect();
    let days: Vec<_> = lines[1..4].iter().map(|line| &line[..10]).collect();
    assert_eq!(days, ["2026-11-19", "2026-11-20", "2026-11-21"], "{ran:?}");
    for column in ["SEVERITY", "DETECTION", "ACCOUNT", "REGION", "KEY", "WHO"] {
        let start = lines[0].find(column).unwrap();
        assert!(
            lines[1..4].iter().all(|line| &line[start - 1..start] == " " && &line[start..=start] != " "),
            "{column}: {ran:?}"
        );
    }
    assert!(ran.out.ends_with("key-deletion-scheduled 3\n"), "{ran:?}");
    let ran = replay(&["--format", "ocsf", "-"], json!(records).to_string().as_bytes());
    let times: Vec<_> =
        ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].as_i64()).collect();
    assert!(times[1] < times[2] && times[2] < times[0], "{ran:?}");
    assert!(ran.err.contains("key-deletion-scheduled 3"), "{ran:?}");
}

#[test]
fn problems_are_counted_and_not_all_shown() {
    let mut lines = "{\"eventName\": \n".repeat(64_000);
    writeln!(lines, "{}", record()).unwrap();
    for bytes in [lines.clone().into_bytes(), gzip(&lines)] {
        let ran = read(&bytes);
        assert_eq!((ran.status, ran.findings()), (2, 1), "{ran:?}");
        assert!(ran.problems().len() <= 11 && ran.err.contains("more problems"), "{ran:?}");
    }
}

#[test]
fn what_never_ends_is_left() {
    // Each line begins a value that only the end of the file ends, so that reading each takes the whole rest.
    let open = gzip("{\"a\":[\n".repeat(500_000));
    let ran = read(&open);
    assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
    assert!(ran.err.len() < 10_000, "{} bytes", ran.err.len());
    // Packed twice: a thousand times a thousand.
    let bomb = gzip(gzip(vec![b' '; 24 << 20]));
    let ran = read(&bomb);
    assert_eq!(ran.status, 2, "{ran:?}");
    let packed = base64::encode(gzip(gzip(vec![b' '; 2 << 20])));
    let ran = read(json!({"kinesis": {"data": packed}}).to_string().as_bytes());
    assert!(ran.status == 2 && ran.err.contains("data: "), "{ran:?}");
}

#[test]
fn nesting_has_an_end() {
    let fields = format!("{}{}{}", "{\"_source\":".repeat(100), record(), "}".repeat(100));
    let lists = format!("{}{}{}", "[".repeat(100), record(), "]".repeat(100));
    let deep = "[".repeat(1_000_000);
    let yaml = format!("Events:\n{}x", "- ".repeat(100));
    for input in [fields, lists, deep, yaml] {
        let ran = read(input.as_bytes());
        assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
        assert!(ran.err.len() < 2_000, "{ran:?}");
    }
}

#[test]
fn encoding_that_lies_is_a_problem() {
    let text = record().to_string();
    for bytes in [
        [b"\xff\xfe".to_vec(), text.clone().into_bytes()].concat(),
        [b"\xef\xbb\xbf".to_vec(), utf16(&text, u16::to_le_bytes)].concat(),
        [b"\x1f\x8b".to_vec(), text.into_bytes()].concat(),
    ] {
        let ran = read(&bytes);
        assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
    }
}

#[test]
fn value_longer_than_any_event_is_named() {
    for input in [
        format!(
            "{{\"eventSource\":\"kms.amazonaws.com\",\"eventName\":\"DisableKey\",\"x\":\"{}\"}}",
            "x".repeat(2 << 20)
        ),
        format!("[\"{}\"]", "x".repeat(33 << 20)),
        format!("EVENTS\t{{\"a\":\"{}", "x".repeat(33 << 20)),
        format!("@timestamp,@message\n1,\"{}", "x".repeat(33 << 20)),
        format!("Events:\n- CloudTrailEvent: '{}'\n", "x".repeat(33 << 20)),
    ] {
        let ran = replay(&["-"], input.as_bytes());
        assert_eq!((ran.status, ran.findings()), (2, 0), "{ran:?}");
        assert!(ran.err.contains("longer than"), "{ran:?}");
    }
}

#[cfg(unix)]
#[test]
fn name_of_a_file_is_inert() {
    let folder = Folder::new().with("a\u{1b}[31m\nkeyguard: fine.json", "7").with("b.\u{202e}x", "hello");
    let ran = replay(&[folder.path()], b"");
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\u{202e}'), "{ran:?}");
    assert_eq!(ran.problems().len(), 2, "{ran:?}");
    assert!(Path::new(folder.path()).exists());
}
