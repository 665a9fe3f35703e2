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
    has_no_stack: bool,
    /// What STS says is wrong with the credentials.
    wrong_credentials: Option<&'static str>,
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
        let refused = |status, code: &str, message: &str| {
            let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            (status, "", format!("<ErrorResponse>{error}</ErrorResponse>"))
        };
        match asked.split(' ').next().unwrap() {
            "GetCallerIdentity" if self.wrong_credentials.is_some() => {
                refused(403, self.wrong_credentials.unwrap(), "The security token is wrong")
            }
            "DescribeStacks" if self.has_no_stack => {
                refused(400, "ValidationError", "Stack with id kms-key-guard does not exist")
            }
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
        let address = self.start();
        let run = keyguard(
            arguments,
            &[
                ("AWS_ENDPOINT_URL", &address),
                ("AWS_ACCESS_KEY_ID", OF_ENVIRONMENT),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ],
        );
        std::fs::remove_file(config).unwrap();
        run
    }
}

/// Runs the command line with these variables and no others that matter.
fn keyguard(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_keyguard"))
        .args(arguments)
        .env_clear()
        .envs([
            ("AWS_REGION", "eu-west-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/nonexistent"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
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

/// Whatever looks at an account before anything else.
const LOOKING: [&[&str]; 3] = [&["doctor"], &["sweep"], &["redrive", "--queue-url", QUEUE]];

fn is_one_sentence(command: &[&str], variables: &[(&str, &str)], says: &str) {
    let (status, out, error) = keyguard(command, variables);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!((status, out.as_str(), lines.len()), (Some(2), "", 1), "{error}");
    assert!(error.starts_with("keyguard: ") && error.contains(says), "{error}");
    for internal in ["DispatchFailure", "ConnectorError", "{ ", "::", r"\u{a}"] {
        assert!(!error.contains(internal), "{error}");
    }
}

#[test]
fn credentials_that_are_missing_or_wrong_are_one_sentence_that_says_what_to_do() {
    for command in LOOKING {
        is_one_sentence(command, &[("HOME", "/nonexistent")], "there are no AWS credentials: name a profile");
    }
    for (code, says) in [
        ("ExpiredToken", "has expired: sign in again, or get new ones (sts:GetCallerIdentity answered ExpiredToken)"),
        ("InvalidClientTokenId", "they are wrong or were deleted"),
        ("SignatureDoesNotMatch", "the secret access key is wrong"),
    ] {
        let aws = Aws { wrong_credentials: Some(code), ..Aws::default() };
        let (status, out, error) = aws.keyguard(&["sweep"]);
        assert_eq!((status, out.as_str(), error.lines().count()), (Some(2), "", 1));
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn profile_whose_sign_in_is_missing_says_how_to_sign_in() {
    let config = std::env::temp_dir().join(format!("keyguard-{}-sso", std::process::id()));
    let text = "[profile corp]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = audit\n\
                [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://example.awsapps.com/start\n";
    std::fs::write(&config, text).unwrap();
    let variables = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("HOME", "/nonexistent")];
    is_one_sentence(&["doctor", "--profile", "corp"], &variables, "run aws sso login, with the same --profile");
    std::fs::remove_file(config).unwrap();
}

#[test]
fn aws_that_cannot_be_reached_is_one_sentence_that_says_why() {
    let credentials = [("AWS_ACCESS_KEY_ID", OF_ENVIRONMENT), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Longer than a part of a name may be, so that nobody is asked for it.
    let nowhere = format!("http://{}.invalid", "x".repeat(64));
    for (address, says) in [
        (format!("http://{closed}"), "the service sts can't be reached: the other side refused the connection"),
        (nowhere, "the address of the service sts can't be found: check the name of the Region"),
    ] {
        is_one_sentence(&["doctor"], &[credentials.as_slice(), &[("AWS_ENDPOINT_URL", &address)]].concat(), says);
    }
}

#[test]
fn stack_that_is_missing_is_named_with_what_deploys_it() {
    let aws = Aws { has_no_stack: true, ..Aws::default() };
    let (status, out, error) = aws.keyguard(&["redrive", "--queue-url", QUEUE]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(
        error.contains("there is no stack kms-key-guard in eu-west-1: KMS Key Guard isn't deployed there"),
        "{error}"
    );
    assert!(error.contains("name the stack with --stack-name"), "{error}");

    let (status, out, _) = aws.keyguard(&["doctor", "--profile", "other"]);
    assert_eq!(status, Some(1));
    assert!(out.contains("      make deploy REGION=eu-west-1 PROFILE=other\n"), "{out}");
    let (_, out, _) = aws.keyguard(&["doctor", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["regions"][0]["checks"][0]["fix"][0]["command"], "make deploy REGION=eu-west-1");
}

#[test]
fn what_may_not_be_asked_is_unknown_with_the_permission_and_the_policy_that_grants_it() {
    let (status, out, error) = Aws::default().keyguard(&["doctor"]);
    assert_eq!(status, Some(1), "{error}");
    assert!(out.contains("Whether a trail logs isn't known: no permission for cloudtrail:DescribeTrails."), "{out}");
    assert!(out.contains("\nMissing permissions: docs/policies/doctor.json grants all that doctor needs"), "{out}");
    assert!(!out.contains("got no answer") && !out.contains("{ "), "{out}");
    let (status, _, error) = Aws::default().keyguard(&["sweep"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("the keys can't be listed: no permission; docs/policies/sweep.json"), "{error}");
}
