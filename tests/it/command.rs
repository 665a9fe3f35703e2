//! The command line, started as people do, against an AWS that writes down who asked it for what.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const ACCOUNT: &str = "111122223333";
const GUARD: &str = "arn:aws:lambda:eu-west-1:111122223333:function:kms-key-guard-AlertFunction-1A2B";
const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-AlertFailureQueue-1A2B";
const OF_PROFILE: &str = "AKIAOFTHEPROFILE";
const OF_ENVIRONMENT: &str = "AKIAENVIRONMENT";

/// A request: the access key that signed it, and what it asked for.
type Request = (String, String);

/// An AWS on this machine. Messages are given out once.
#[derive(Clone, Default)]
struct Aws {
    requests: Arc<Mutex<Vec<Request>>>,
    messages: Arc<Mutex<Vec<String>>>,
    function_fails: bool,
}

impl Aws {
    /// Its address.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let aws = self.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let aws = aws.clone();
                std::thread::spawn(move || aws.answer(connection.unwrap()));
            }
        });
        address
    }

    fn answer(&self, mut connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut target, mut key) = (0, String::new(), String::new());
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "x-amz-target" => target = value.to_owned(),
                "authorization" => {
                    key = value.split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned();
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let asked = match target.split_once('.') {
            Some((_, operation)) if operation == "DeleteMessage" => format!("{operation} {body}"),
            Some((_, operation)) => operation.to_owned(),
            None if body.starts_with("Action=") => body.split(['=', '&']).nth(1).unwrap().to_owned(),
            None => path,
        };
        let (status, header, answer) = self.of(&asked);
        self.requests.lock().unwrap().push((key, asked));
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{header}connection: close\r\n\r\n", answer.len());
        connection.write_all((head + &answer).as_bytes()).unwrap();
    }

    fn of(&self, asked: &str) -> (u16, &'static str, String) {
        let done = |answer: String| (200, "", answer);
        match asked.split(' ').next().unwrap() {
            "GetCallerIdentity" => done(format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/admin/alice\
                 </Arn><Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            )),
            "DescribeStacks" => {
                let outputs = [
                    ("AlertFailureQueueUrl", QUEUE),
                    ("RuleDeadLetterQueueUrl", "https://sqs.eu-west-1.amazonaws.com/111122223333/rule"),
                    ("WatchFailureQueueUrl", "https://sqs.eu-west-1.amazonaws.com/111122223333/watch"),
                    ("ScheduleDeadLetterQueueUrl", "https://sqs.eu-west-1.amazonaws.com/111122223333/schedule"),
                    ("AlertFunctionName", "kms-key-guard-AlertFunction-1A2B"),
                    ("WatchFunctionName", "kms-key-guard-WatchFunction-1A2B"),
                ];
                let outputs = outputs.map(|(key, value)| {
                    format!("<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>")
                });
                done(format!(
                    "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>kms-key-guard</StackName>\
                     <StackId>arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/kms-key-guard/1</StackId>\
                     <CreationTime>2026-11-21T03:12:44Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>\
                     <Outputs>{}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>",
                    outputs.concat()
                ))
            }
            "ListStackResources" => done(
                "<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries/></ListStackResourcesResult>\
                 </ListStackResourcesResponse>"
                    .into(),
            ),
            "ReceiveMessage" => {
                let message = self.messages.lock().unwrap().pop();
                let messages = message.map(|body| {
                    let id = format!("message-{}", self.messages.lock().unwrap().len());
                    serde_json::json!({"MessageId": id, "ReceiptHandle": id, "Body": body})
                });
                done(serde_json::json!({"Messages": messages.into_iter().collect::<Vec<_>>()}).to_string())
            }
            "DeleteMessage" | "ChangeMessageVisibility" => done("{}".into()),
            path if path.starts_with("/2015-03-31/functions/") && self.function_fails => {
                (200, "x-amz-function-error: Unhandled\r\n", r#"{"errorMessage":"the topic is gone"}"#.into())
            }
            path if path.starts_with("/2015-03-31/functions/") => done(r#"{"outcome":"published"}"#.into()),
            _ => (400, "", r#"{"__type":"AccessDeniedException","message":"not here"}"#.into()),
        }
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.requests.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
        keys.dedup();
        keys
    }

    fn asked(&self, beginning: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(_, asked)| asked.starts_with(beginning)).map(|(_, asked)| asked.clone()).collect()
    }

    /// Runs the command line with credentials in the environment, and a profile `other` beside `prod` in a file.
    fn keyguard(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let config =
            std::env::temp_dir().join(format!("keyguard-{}-{:?}", std::process::id(), std::thread::current().id()));
        let profile = |name: &str, key: &str| {
            format!("[profile {name}]\naws_access_key_id = {key}\naws_secret_access_key = secret\nregion = eu-west-1\n")
        };
        std::fs::write(&config, profile("other", OF_PROFILE) + &profile("prod", "AKIAPROD")).unwrap();
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_keyguard"))
            .args(arguments)
            .env_clear()
            .envs([
                ("AWS_ENDPOINT_URL", self.start().as_str()),
                ("AWS_ACCESS_KEY_ID", OF_ENVIRONMENT),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
                ("AWS_CONFIG_FILE", config.to_str().unwrap()),
                ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
            ])
            .output()
            .unwrap();
        std::fs::remove_file(config).unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

fn failed_in(function: &str) -> String {
    let event = include_str!("../../events/key-disabled.json");
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    serde_json::json!({
        "requestContext": {"functionArn": format!("{function}:$LATEST"), "condition": "RetriesExhausted"},
        "requestPayload": event,
    })
    .to_string()
}

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/events/key-disabled.json");
const CALLING: [&[&str]; 4] =
    [&["doctor"], &["sweep"], &["redrive", "--queue-url", QUEUE], &["replay", "--enrich", SAMPLE]];

#[test]
fn profile_that_is_named_wins_over_the_environment_and_without_one_the_environment_counts() {
    for command in CALLING {
        for (more, key) in [(&["--profile", "other"][..], OF_PROFILE), (&[], OF_ENVIRONMENT)] {
            let aws = Aws::default();
            aws.keyguard(&[command, more].concat());
            assert_eq!(aws.keys(), [key], "{command:?} {more:?}");
        }
    }
}

#[test]
fn unknown_profile_is_named_beside_those_there_are_and_nothing_is_asked() {
    for command in CALLING {
        let aws = Aws::default();
        let (status, out, error) = aws.keyguard(&[command, &["--profile", "othre"]].concat());
        assert_eq!(status, Some(2), "{command:?}");
        assert_eq!(error, "keyguard: the AWS configuration has no profile othre; it has other, prod\n");
        assert!(out.is_empty() && aws.keys().is_empty());
    }
}

#[test]
fn message_that_names_another_function_stays_and_only_the_guards_is_invoked() {
    let planted = GUARD.replace("kms-key-guard-AlertFunction", "grants-admin-rights");
    let aws = Aws::default();
    aws.messages.lock().unwrap().extend([failed_in(&planted), failed_in(GUARD)]);
    let (status, shown, error) = aws.keyguard(&["redrive", "--queue-url", QUEUE]);
    assert!(aws.asked("/").is_empty(), "invoked without --yes");
    assert!(error.contains(&format!("the function is {GUARD}\n")), "{error}");
    assert_eq!(status, Some(2));
    assert_eq!(shown.lines().count(), 1);

    aws.messages.lock().unwrap().extend([failed_in(&planted), failed_in(GUARD)]);
    let (status, sent, error) = aws.keyguard(&["redrive", "--queue-url", QUEUE, "--yes"]);
    assert_eq!(status, Some(2));
    assert_eq!(aws.asked("/").len(), 1);
    assert!(aws.asked("/")[0].contains("kms-key-guard-AlertFunction"), "{:?}", aws.asked("/"));
    assert!(sent.starts_with("message-1: DisableKey"), "{sent}");
    assert!(error.contains("message-0 stays in the queue: it names another function"), "{error}");
    assert!(error.contains(&planted) && error.contains("1 sent again, 1 left"), "{error}");
    let deleted = aws.asked("DeleteMessage");
    assert!(deleted.len() == 1 && deleted[0].contains("message-1"), "{deleted:?}");
}

#[test]
fn function_that_fails_again_costs_no_message() {
    let aws = Aws { function_fails: true, ..Aws::default() };
    aws.messages.lock().unwrap().push(failed_in(GUARD));
    let (status, out, error) = aws.keyguard(&["redrive", "--queue-url", QUEUE, "--yes"]);
    assert!(error.contains("stays in the queue: the function failed again (Unhandled): the topic is gone"), "{error}");
    assert_eq!((status, out.as_str(), aws.asked("DeleteMessage").len()), (Some(2), "", 0));
}

#[test]
fn function_may_be_named_and_what_is_not_of_this_account_region_or_stack_is_refused() {
    let aws = Aws::default();
    aws.messages.lock().unwrap().push(failed_in(GUARD));
    let named = "111122223333:function:kms-key-guard-AlertFunction-1A2B";
    let (status, _, error) = aws.keyguard(&["redrive", "--queue-url", QUEUE, "--function", named, "--yes"]);
    assert_eq!((status, aws.asked("DescribeStacks").len(), aws.asked("/").len()), (Some(0), 0, 1), "{error}");

    let theirs = "https://sqs.eu-west-1.amazonaws.com/444455556666/kms-key-guard-AlertFailureQueue-1A2B";
    let orders = "https://sqs.eu-west-1.amazonaws.com/111122223333/orders";
    let abroad = GUARD.replace("eu-west-1", "us-east-1");
    for (queue, more, sentence) in [
        (QUEUE, &["--function", &abroad][..], "is a function of us-east-1, and the queue is in eu-west-1"),
        (QUEUE, &["--function", "a;b"], "isn't a function; it takes"),
        (theirs, &[], "the queue belongs to account 444455556666, and your credentials to 111122223333"),
        (orders, &[], "is none of the queues of the stack kms-key-guard in eu-west-1"),
    ] {
        let aws = Aws::default();
        aws.messages.lock().unwrap().push(failed_in(GUARD));
        let (status, out, error) = aws.keyguard(&[&["redrive", "--queue-url", queue, "--yes"], more].concat());
        assert!(error.contains(sentence), "{error}");
        assert_eq!((status, out.as_str()), (Some(2), ""));
        assert!(aws.asked("ReceiveMessage").is_empty() && aws.asked("/").is_empty());
    }
}
