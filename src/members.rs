//! Looking keys up in the other accounts and Regions of an organization, through the reader role that the spoke makes
//! there.
//!
//! Whose role is assumed rests on what EventBridge wrote into the event's envelope, and only where the record and the key
//! say the same: nothing that a caller chose leads the guard into an account. The role's name is the configured one, and
//! the answer has to be a session of that role in that account.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html>

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{Credentials, IdentityCache};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::{AssumeRoleError, AssumeRoleOutput};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::config::Organization;
use crate::enrich::{enrich, go_without};
use crate::escape::inert;
use crate::event::Event;
use crate::finding::Finding;
use crate::key::{KeyArn, Region, Why, is_account_id};

/// The name of the guard's sessions, as the accounts' CloudTrail shows it.
pub const SESSION_NAME: &str = "kms-key-guard";

/// How long a session lasts, in seconds: the longest that a role may have which another role assumed.
const SESSION_SECONDS: i32 = 3600;

/// How long before its end a session is made anew.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// How many sessions and clients are kept; beyond that the function starts over rather than grow.
const MOST_SESSIONS: usize = 1024;
const MOST_CLIENTS: usize = 64;

/// Who asks KMS about the keys of an organization.
pub struct Members {
    organization: Organization,
    /// For the hub's own account and Region.
    kms: Client,
    sts: aws_sdk_sts::Client,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// By account.
    sessions: HashMap<String, RoleSession>,
    /// By account and Region; a client of another account goes with its session.
    clients: HashMap<(String, Region), Client>,
}

struct RoleSession {
    credentials: Credentials,
    until: SystemTime,
}

impl Members {
    /// With the clients of the function's own account and Region.
    pub fn new(organization: Organization, kms: Client, sts: aws_sdk_sts::Client) -> Self {
        Self { organization, kms, sts, cache: Mutex::default() }
    }

    /// Asks KMS where the key is and puts the answers in, as [`enrich`] does. Returns within `budget`, which the role's
    /// session counts to. What can't be asked is unknown with the reason.
    pub async fn enrich(&self, finding: &mut Finding, event: &Event, budget: Duration) {
        let Some(key) = finding.key().cloned().filter(|_| !budget.is_zero()) else {
            return enrich(finding, &self.kms, budget).await;
        };
        if let Err(doubt) = origin(&key, event) {
            finding.particulars.push(format!("The key wasn't looked up: {doubt}."));
            return go_without(finding, Why::NoReader(doubt));
        }
        let until = Instant::now() + budget;
        match timeout_at(until, self.client(&key)).await {
            Ok(Ok(kms)) => enrich(finding, &kms, until.saturating_duration_since(Instant::now())).await,
            Ok(Err(why)) => go_without(finding, why),
            Err(_) => go_without(finding, Why::TimedOut),
        }
    }

    /// The client for the key's account and Region: with the function's own credentials in its own account, else with
    /// those of the reader role.
    async fn client(&self, key: &KeyArn) -> Result<Client, Why> {
        let home = key.account() == self.organization.account;
        if home && self.kms.config().region().is_some_and(|region| region.as_ref() == key.region().as_str()) {
            return Ok(self.kms.clone());
        }
        let mut cache = self.cache.lock().await;
        let credentials = if home { None } else { Some(self.session(&mut cache, key).await?) };
        let place = (key.account().to_owned(), key.region().clone());
        if let Some(client) = cache.clients.get(&place) {
            return Ok(client.clone());
        }
        let region = aws_sdk_kms::config::Region::new(key.region().to_string());
        let mut config = self.kms.config().to_builder().region(region);
        if let Some(credentials) = credentials {
            // They are kept here; the client needn't keep them again.
            config = config.credentials_provider(credentials).identity_cache(IdentityCache::no_cache());
        }
        let client = Client::from_conf(config.build());
        if cache.clients.len() >= MOST_CLIENTS {
            cache.clients.clear();
        }
        cache.clients.insert(place, client.clone());
        Ok(client)
    }

    /// Credentials of the reader role in the key's account.
    async fn session(&self, cache: &mut Cache, key: &KeyArn) -> Result<Credentials, Why> {
        let now = SystemTime::now();
        if let Some(session) = cache.sessions.get(key.account()).filter(|session| session.until > now + REFRESH_BEFORE)
        {
            return Ok(session.credentials.clone());
        }
        cache.sessions.remove(key.account());
        cache.clients.retain(|(account, _), _| account != key.account());
        let session = self.assume(key).await?;
        if cache.sessions.len() >= MOST_SESSIONS {
            cache.sessions.clear();
            cache.clients.clear();
        }
        let credentials = session.credentials.clone();
        cache.sessions.insert(key.account().to_owned(), session);
        Ok(credentials)
    }

    async fn assume(&self, key: &KeyArn) -> Result<RoleSession, Why> {
        let (account, role) = (key.account(), &self.organization.reader_role);
        let partition = key.region().partition().name;
        let request = self
            .sts
            .assume_role()
            .role_arn(format!("arn:{partition}:iam::{account}:role/{role}"))
            .role_session_name(SESSION_NAME)
            .duration_seconds(SESSION_SECONDS);
        let answer = request.send().await.map_err(|error| refused(role, &error))?;
        let expected = format!("arn:{partition}:sts::{account}:assumed-role/{role}/{SESSION_NAME}");
        session(answer, &expected)
    }
}

/// Why the event isn't trusted to be about a key of the account and Region it comes from, if it isn't. EventBridge writes
/// the envelope's account and Region, whoever sends; the rest of the event is what the sender makes it.
fn origin(key: &KeyArn, event: &Event) -> Result<(), String> {
    let heard = &event.envelope;
    let account = match heard.account.as_deref() {
        Some(account) if is_account_id(account) => account,
        Some(other) => return Err(format!("the event comes from \"{}\", which is no account", inert(other, 64))),
        None => return Err("the event doesn't say which account it comes from".into()),
    };
    let region = match heard.region.as_deref().map(|region| (region, region.parse::<Region>())) {
        Some((_, Ok(region))) => region,
        Some((other, Err(_))) => {
            return Err(format!("the event comes from \"{}\", which is no Region", inert(other, 64)));
        }
        None => return Err("the event doesn't say which Region it comes from".into()),
    };
    let recipient = event.record().and_then(|record| record.recipient_account.as_deref());
    if let Some(recipient) = recipient.filter(|recipient| *recipient != account) {
        let recipient = inert(recipient, 64);
        return Err(format!("the event comes from account {account}, and its record is account {recipient}'s"));
    }
    if key.account() != account {
        return Err(format!("the event comes from account {account}, and the key is account {}'s", key.account()));
    }
    if *key.region() != region {
        return Err(format!("the event comes from {region}, and the key is in {}", key.region()));
    }
    Ok(())
}

/// The session of an answer, which has to be of the role that was asked for, in the account that was asked for.
fn session(answer: AssumeRoleOutput, expected: &str) -> Result<RoleSession, Why> {
    let empty = || Why::NoReader("the answer of STS is incomplete".into());
    let user = answer.assumed_role_user.ok_or_else(empty)?;
    if user.arn != expected {
        return Err(Why::NoReader(format!("STS answered with another session, {}", inert(&user.arn, 200))));
    }
    let given = answer.credentials.ok_or_else(empty)?;
    let until = SystemTime::try_from(given.expiration).map_err(|_| empty())?;
    let credentials = Credentials::new(
        given.access_key_id,
        given.secret_access_key,
        Some(given.session_token),
        Some(until),
        "kms-key-guard reader role",
    );
    Ok(RoleSession { credentials, until })
}

/// Why there is no session, in words. STS doesn't tell a role that isn't there from one that doesn't trust the caller.
fn refused(role: &str, error: &SdkError<AssumeRoleError>) -> Why {
    let reason = match error.as_service_error().map(|said| said.code().unwrap_or("no code")) {
        Some("AccessDenied") => format!("the role {role} isn't there, or doesn't let the guard in"),
        Some(code) if code.starts_with("Throttl") => "STS throttled the request".into(),
        Some(code) => format!("STS said {}", inert(code, 100)),
        None => match error {
            SdkError::TimeoutError(_) => "STS didn't answer in time".into(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => "STS didn't answer in time".into(),
            SdkError::DispatchFailure(_) => "STS couldn't be reached".into(),
            _ => "the answer of STS couldn't be read".into(),
        },
    };
    Why::NoReader(reason)
}
