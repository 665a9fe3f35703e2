//! Who did it: the person or program behind the credentials, with what, and from where.

use std::net::IpAddr;

use crate::event::{Identity, Record};
use crate::key::is_account_id;

/// The caller of an API, as far as the record tells. All text in here is as the record holds it: some of it was chosen
/// by the caller.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// The ARN the call was made with.
    pub arn: Option<String>,
    /// The unique id the call was made with.
    pub principal_id: Option<String>,
    /// The caller's account.
    pub account: Option<String>,
    /// The ARN of the role behind a session.
    pub role_arn: Option<String>,
    /// Who the session's first caller was, where it is set.
    pub source_identity: Option<String>,
    /// The IAM Identity Center user id on whose behalf the call was made.
    pub on_behalf_of: Option<String>,
    /// The service that made the call for the caller.
    pub invoked_by: Option<String>,
    /// Whether the caller had used a second factor.
    pub mfa: Mfa,
    /// With what.
    pub tool: Tool,
    /// Where that is known from.
    pub tool_by: ToolBy,
    /// What the caller's program says it is.
    pub user_agent: Option<String>,
    /// From where.
    pub place: SourceAddress,
    /// The VPC endpoint the call came through.
    pub vpc_endpoint: Option<String>,
    /// Whether the caller belongs to another account than the one the record is about.
    pub cross_account: bool,
}

/// Kinds of callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Who {
    /// The account's root user.
    Root {
        /// Whether through centralized root access, from the organization's management account.
        assumed: bool,
    },
    /// An IAM user with credentials of its own.
    IamUser(String),
    /// A person through IAM Identity Center.
    IdentityCenter {
        /// The permission set, if there is a role that tells.
        permission_set: Option<String>,
        /// The user: the session's name.
        user: String,
    },
    /// A program with a token of an identity provider, such as a CI job.
    WebIdentity {
        /// The provider's host, such as `token.actions.githubusercontent.com`.
        provider: String,
        /// The role.
        role: String,
        /// The session's name.
        session: String,
        /// What the token says about the caller, if the record holds it.
        subject: Option<WebSubject>,
    },
    /// Somebody in a role.
    Role {
        /// The role's name.
        role: String,
        /// The session's name, chosen by whoever assumed the role.
        session: Option<String>,
    },
    /// Another kind of user: federated, SAML, directory.
    Federated {
        /// The kind, as the record calls it.
        kind: String,
        /// The name.
        name: String,
    },
    /// An AWS service by itself.
    Service(String),
    /// Another account, not told further.
    Account(String),
    /// The record doesn't say.
    #[default]
    Unknown,
}

/// The subject of a web identity token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebSubject {
    /// A GitHub Actions job.
    GitHub {
        /// `OWNER/NAME`.
        repository: String,
        /// The workflow file, where the token's subject names it.
        workflow: Option<String>,
        /// The rest: branch, tag, environment or pull request.
        context: String,
    },
    /// Any other.
    Other(String),
}

/// Whether a second factor was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mfa {
    /// Yes.
    Yes,
    /// No, by a user who could have.
    No,
    /// The record can't tell: role and Identity Center sessions say no whatever the person did; services have none.
    NotApplicable,
    /// The record doesn't say.
    #[default]
    Unknown,
}

/// What the call was made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tool {
    /// The AWS console.
    Console,
    /// The AWS CLI.
    Cli,
    /// Terraform.
    Terraform,
    /// OpenTofu.
    OpenTofu,
    /// Pulumi.
    Pulumi,
    /// CloudFormation.
    CloudFormation,
    /// The AWS CDK.
    Cdk,
    /// Another program that is known by this name.
    Known(&'static str),
    /// An AWS SDK.
    Sdk,
    /// An AWS service.
    Service,
    /// Something else.
    Other,
    /// The record doesn't say.
    #[default]
    Unknown,
}

impl Tool {
    /// The name in a sentence: "with …".
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "the AWS console",
            Self::Cli => "the AWS CLI",
            Self::Terraform => "Terraform",
            Self::OpenTofu => "OpenTofu",
            Self::Pulumi => "Pulumi",
            Self::CloudFormation => "CloudFormation",
            Self::Cdk => "the AWS CDK",
            Self::Known(name) => name,
            Self::Sdk => "an AWS SDK",
            Self::Service => "an AWS service",
            Self::Other => "another program",
            Self::Unknown => "an unknown program",
        }
    }
}

/// Where the tool is known from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToolBy {
    /// From what AWS itself fills in, or nothing is known.
    #[default]
    Aws,
    /// From the user agent.
    UserAgent,
    /// From the name of the role or the session.
    Name,
}

impl ToolBy {
    /// What to think of it, after the tool's name.
    pub fn caution(self) -> &'static str {
        match self {
            Self::Aws => "",
            // Anybody can set it.
            Self::UserAgent => ", says its user agent",
            Self::Name => ", by the name of the role or session",
        }
    }
}

/// Where a call came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// An address.
    Ip(IpAddr),
    /// A service of AWS, by DNS name or as `AWS Internal`.
    Service(String),
    /// Anything else the record holds in that place.
    Other(String),
    /// The record doesn't say.
    #[default]
    Unknown,
}

impl Actor {
    /// Reads the caller out of a record.
    pub fn of(record: &Record) -> Self {
        let identity = &record.identity;
        let who = who(identity);
        let (tool, tool_by) = tool(record, &who);
        Self {
            mfa: mfa(&who, identity),
            tool,
            tool_by,
            place: place(record.source_ip.as_deref()),
            cross_account: match (&identity.account, &record.recipient_account) {
                (Some(caller), Some(owner)) => is_account_id(caller) && is_account_id(owner) && caller != owner,
                _ => false,
            },
            who,
            arn: identity.arn.clone(),
            principal_id: identity.principal_id.clone(),
            account: identity.account.clone().filter(|account| is_account_id(account)),
            role_arn: identity
                .issuer_arn
                .clone()
                .filter(|_| identity.issuer_kind.as_deref().is_none_or(|k| k == "Role")),
            source_identity: identity.source_identity.clone(),
            on_behalf_of: identity.on_behalf_of.clone(),
            invoked_by: identity.invoked_by.clone(),
            user_agent: record.user_agent.clone(),
            vpc_endpoint: record.vpc_endpoint.clone(),
        }
    }

    /// What the caller is known by, a session by itself: its ARN, else the next best.
    pub fn id(&self) -> Option<&str> {
        self.arn.as_deref().or(self.principal_id.as_deref()).or(self.invoked_by.as_deref())
    }

    /// The AWS service that acts by itself where no caller is named: KMS's own events.
    pub fn kms() -> Self {
        let service = "kms.amazonaws.com".to_owned();
        Self {
            who: Who::Service(service.clone()),
            mfa: Mfa::NotApplicable,
            tool: Tool::Service,
            place: SourceAddress::Service(service),
            ..Self::default()
        }
    }
}

fn who(identity: &Identity) -> Who {
    let arn = identity.arn.as_deref();
    let session = || session_name(identity).unwrap_or_else(|| "unnamed".into());
    let name = || {
        let named = identity.user_name.clone().or_else(|| arn.map(|arn| last_part(arn).to_owned()));
        named.or_else(|| identity.principal_id.clone()).unwrap_or_else(|| "unnamed".into())
    };
    match identity.kind.as_deref() {
        Some("Root") => Who::Root { assumed: identity.assumed_root },
        Some("IAMUser") => Who::IamUser(name()),
        Some("AssumedRole" | "Role") if identity.issuer_kind.as_deref() == Some("Root") => Who::Root { assumed: true },
        Some("AssumedRole" | "Role") => {
            if identity.assumed_root {
                return Who::Root { assumed: true };
            }
            let role = role_name(identity).unwrap_or_else(|| "unknown".into());
            if let Some(permission_set) = permission_set(&role, identity.issuer_arn.as_deref()) {
                return Who::IdentityCenter { permission_set: Some(permission_set), user: session() };
            }
            match &identity.web_provider {
                Some(provider) => web_identity(provider, role, session(), identity.web_subject.as_deref()),
                None => Who::Role { role, session: session_name(identity) },
            }
        }
        Some("WebIdentityUser") => {
            let provider =
                identity.identity_provider.as_deref().or(identity.web_provider.as_deref()).unwrap_or("unknown");
            let subject = identity.web_subject.as_deref().or(identity.user_name.as_deref());
            web_identity(provider, role_name(identity).unwrap_or_else(|| "none yet".into()), session(), subject)
        }
        Some("IdentityCenterUser") => Who::IdentityCenter {
            permission_set: None,
            user: identity.user_name.clone().or_else(|| identity.on_behalf_of.clone()).unwrap_or_else(name),
        },
        Some("AWSService") => Who::Service(identity.invoked_by.clone().unwrap_or_else(name)),
        Some("AWSAccount") => Who::Account(identity.account.clone().unwrap_or_else(name)),
        Some("FederatedUser") if identity.issuer_kind.as_deref() == Some("Root") => Who::Root { assumed: false },
        Some(kind @ ("FederatedUser" | "SAMLUser" | "Directory")) => {
            Who::Federated { kind: kind.to_owned(), name: name() }
        }
        // KMS's service events carry no type, only who they were invoked by.
        _ => match &identity.invoked_by {
            Some(service) => Who::Service(service.clone()),
            None if arn.is_some() || identity.user_name.is_some() || identity.principal_id.is_some() => {
                Who::Federated { kind: "Unknown".into(), name: name() }
            }
            None => Who::Unknown,
        },
    }
}

/// The session's name: the end of the ARN, else of the principal id.
fn session_name(identity: &Identity) -> Option<String> {
    let from_arn =
        identity.arn.as_deref().and_then(|arn| arn.split_once(":assumed-role/")?.1.split_once('/').map(|(_, s)| s));
    let from_id = || identity.principal_id.as_deref().and_then(|id| id.split_once(':').map(|(_, session)| session));
    from_arn.or_else(from_id).filter(|session| !session.is_empty()).map(str::to_owned)
}

/// The role's name: the issuer's, else the one in the session's ARN.
fn role_name(identity: &Identity) -> Option<String> {
    let from_session = || identity.arn.as_deref()?.split_once(":assumed-role/")?.1.split('/').next().map(str::to_owned);
    let from_issuer = || identity.issuer_arn.as_deref().map(|arn| last_part(arn).to_owned());
    let from_role =
        || identity.arn.as_deref().filter(|arn| arn.contains(":role/")).map(|arn| last_part(arn).to_owned());
    identity
        .issuer_name
        .clone()
        .or_else(from_issuer)
        .or_else(from_session)
        .or_else(from_role)
        .filter(|role| !role.is_empty())
}

/// The permission set in the name of a role that IAM Identity Center made: `AWSReservedSSO_NAME_HASH`.
/// <https://docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html>
///
/// Anybody may name a role so, but only IAM Identity Center can make one under this path.
fn permission_set(role: &str, role_arn: Option<&str>) -> Option<String> {
    if !role_arn?.contains(":role/aws-reserved/sso.amazonaws.com/") {
        return None;
    }
    let (name, hash) = role.strip_prefix("AWSReservedSSO_")?.rsplit_once('_')?;
    let is_hash = hash.len() >= 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hash && !name.is_empty()).then(|| name.to_owned())
}

fn web_identity(provider: &str, role: String, session: String, subject: Option<&str>) -> Who {
    let provider = provider.split_once("oidc-provider/").map_or(provider, |(_, host)| host).to_owned();
    // Any provider can issue a token that reads like GitHub's.
    let is_github = provider == "token.actions.githubusercontent.com" || provider.ends_with("/_services/token");
    let subject = subject.map(|subject| {
        let github = if is_github { github(subject) } else { None };
        github.unwrap_or_else(|| WebSubject::Other(subject.to_owned()))
    });
    Who::WebIdentity { provider, role, session, subject }
}

/// The subject of a GitHub Actions token, `repo:OWNER/NAME:CONTEXT`; a customized one may carry `job_workflow_ref`.
/// <https://docs.github.com/en/actions/reference/security/oidc>
fn github(subject: &str) -> Option<WebSubject> {
    let (repository, context) = subject.strip_prefix("repo:")?.split_once(':')?;
    let workflow = context.split_once("job_workflow_ref:").map(|(_, workflow)| workflow.to_owned());
    Some(WebSubject::GitHub { repository: repository.to_owned(), workflow, context: context.to_owned() })
}

/// What `mfaAuthenticated` is worth: it speaks of root and IAM users only. Long-term keys don't carry it: no second factor.
fn mfa(who: &Who, identity: &Identity) -> Mfa {
    match who {
        Who::Root { assumed: true } => Mfa::NotApplicable,
        Who::Root { .. } | Who::IamUser(_) => match identity.mfa {
            Some(true) => Mfa::Yes,
            Some(false) | None => Mfa::No,
        },
        Who::Role { .. } | Who::Federated { .. } if identity.mfa == Some(true) => Mfa::Yes,
        Who::Unknown | Who::Account(_) => Mfa::Unknown,
        _ => Mfa::NotApplicable,
    }
}

/// Programs by a mark in their user agent, in lower case. In order: most of them call through an SDK and name it too.
static AGENTS: [(&str, Tool); 24] = [
    ("c7n/", CLOUD_CUSTODIAN),
    ("cloudcustodian/", CLOUD_CUSTODIAN),
    ("cloud-custodian", CLOUD_CUSTODIAN),
    ("aws-nuke", AWS_NUKE),
    ("cloud-nuke", CLOUD_NUKE),
    ("ansible", Tool::Known("Ansible")),
    ("steampipe", Tool::Known("Steampipe")),
    ("prowler", Tool::Known("Prowler")),
    ("crossplane", CROSSPLANE),
    ("upbound-provider", CROSSPLANE),
    ("aws-controllers-k8s", Tool::Known("AWS Controllers for Kubernetes")),
    ("spire", SPIRE),
    ("opentofu", Tool::OpenTofu),
    ("pulumi", Tool::Pulumi),
    ("terraform", Tool::Terraform),
    ("aws-cdk", Tool::Cdk),
    ("cdk-toolkit", Tool::Cdk),
    ("aws-cli/", Tool::Cli),
    ("aws-tools", Tool::Known("AWS Tools for PowerShell")),
    ("boto3/", BOTO),
    ("botocore/", BOTO),
    ("aws-sdk-", Tool::Sdk),
    ("aws-sdk/", Tool::Sdk),
    ("exec-env/", Tool::Sdk),
];

/// Programs by a part of the names that their roles and sessions are usually given, in lower case: some have no user agent
/// of their own.
static NAMES: [(&str, Tool); 7] = [
    ("cloud-custodian", CLOUD_CUSTODIAN),
    ("cloudcustodian", CLOUD_CUSTODIAN),
    ("c7n", CLOUD_CUSTODIAN),
    ("aws-nuke", AWS_NUKE),
    ("cloud-nuke", CLOUD_NUKE),
    ("spire", SPIRE),
    ("crossplane", CROSSPLANE),
];

/// AWS services that act for others, by the name that AWS fills in.
static SERVICES: [(&str, Tool); 4] = [
    ("cloudformation.amazonaws.com", Tool::CloudFormation),
    ("ssm.amazonaws.com", Tool::Known("AWS Systems Manager, such as an Automation or a remediation of AWS Config")),
    ("config.amazonaws.com", Tool::Known("AWS Config")),
    ("controltower.amazonaws.com", Tool::Known("AWS Control Tower")),
];

const CLOUD_CUSTODIAN: Tool = Tool::Known("Cloud Custodian");
const AWS_NUKE: Tool = Tool::Known("aws-nuke");
const CLOUD_NUKE: Tool = Tool::Known("cloud-nuke");
const CROSSPLANE: Tool = Tool::Known("Crossplane");
const SPIRE: Tool = Tool::Known("SPIRE");
const BOTO: Tool = Tool::Known("Python's AWS SDK (boto3)");

fn tool(record: &Record, who: &Who) -> (Tool, ToolBy) {
    let agent = record.user_agent.as_deref().unwrap_or_default().to_ascii_lowercase();
    let invoked_by = record.identity.invoked_by.as_deref();
    // AWS itself fills these two; the user agent is only what the caller says.
    let services = [invoked_by, record.source_ip.as_deref()];
    if let Some((_, tool)) = SERVICES.iter().find(|(service, _)| services.contains(&Some(*service))) {
        return (*tool, ToolBy::Aws);
    }
    let by_agent = AGENTS.iter().find(|(mark, _)| has_word(&agent, mark)).map(|(_, tool)| *tool);
    // What a program is called says more than the SDK that it calls through.
    if by_agent.is_none_or(|tool| matches!(tool, Tool::Sdk | BOTO)) {
        let names = match who {
            Who::Role { role, session } => [Some(role.as_str()), session.as_deref()],
            Who::WebIdentity { role, session, .. } => [Some(role.as_str()), Some(session.as_str())],
            Who::IamUser(user) => [Some(user.as_str()), None],
            _ => [None, None],
        };
        let names = names.map(|name| name.unwrap_or_default().to_ascii_lowercase());
        if let Some((_, tool)) = NAMES.iter().find(|(mark, _)| names.iter().any(|name| has_word(name, mark))) {
            return (*tool, ToolBy::Name);
        }
    }
    let console = || record.from_console || CONSOLE.iter().any(|mark| agent.contains(mark));
    match by_agent {
        Some(tool) if tool != Tool::Sdk && tool != BOTO => (tool, ToolBy::UserAgent),
        _ if console() => (Tool::Console, ToolBy::Aws),
        Some(tool) => (tool, ToolBy::UserAgent),
        None if invoked_by.is_some() || matches!(place(record.source_ip.as_deref()), SourceAddress::Service(_)) => {
            (Tool::Service, ToolBy::Aws)
        }
        None if agent.is_empty() => (Tool::Unknown, ToolBy::Aws),
        None => (Tool::Other, ToolBy::Aws),
    }
}

/// Whether a word of the text begins with the mark: "inspire" isn't SPIRE.
fn has_word(text: &str, mark: &str) -> bool {
    let begins =
        |at: usize| !text.get(..at).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric()));
    text.match_indices(mark).any(|(at, _)| begins(at))
}

/// What the user agents of console sessions hold, in lower case.
const CONSOLE: [&str; 4] =
    ["sessioncredentialfromconsole", "signin.amazonaws.com", "console.amazonaws.com", "mozilla/"];

fn place(source_ip: Option<&str>) -> SourceAddress {
    match source_ip {
        None => SourceAddress::Unknown,
        Some(text) => match text.parse() {
            Ok(ip) => SourceAddress::Ip(ip),
            Err(_) if text == "AWS Internal" || is_service_name(text) => SourceAddress::Service(text.to_owned()),
            Err(_) => SourceAddress::Other(text.to_owned()),
        },
    }
}

/// Whether this is a service's DNS name, such as `cloudformation.amazonaws.com`.
fn is_service_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    plain
        && (text.ends_with(".amazonaws.com") || text.ends_with(".amazonaws.com.cn") || text.ends_with(".aws.internal"))
}

fn last_part(arn: &str) -> &str {
    arn.rsplit(['/', ':']).next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use serde_json::{Value, json};

    fn actor(identity: Value, agent: &str, ip: &str) -> Actor {
        let record = json!({
            "eventSource": "kms.amazonaws.com", "eventName": "DisableKey", "recipientAccountId": "111122223333",
            "userIdentity": identity, "userAgent": agent, "sourceIPAddress": ip,
        });
        Actor::of(Event::from_value(record).record().unwrap())
    }

    #[test]
    fn identity_center_session_is_the_person() {
        let actor = actor(
            json!({
                "type": "AssumedRole", "accountId": "111122223333",
                "arn": "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Key_Admins_0123456789abcdef/alice@example.com",
                "sessionContext": {"attributes": {"mfaAuthenticated": "false"}, "sessionIssuer": {"type": "Role",
                    "userName": "AWSReservedSSO_Key_Admins_0123456789abcdef",
                    "arn": "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Key_Admins_0123456789abcdef"}},
            }),
            "aws-cli/2.31.0 md/prompt#off",
            "198.51.100.7",
        );
        let user = "alice@example.com".to_owned();
        assert_eq!(actor.who, Who::IdentityCenter { permission_set: Some("Key_Admins".into()), user });
        assert_eq!(actor.mfa, Mfa::NotApplicable);
        assert_eq!(actor.tool, Tool::Cli);
        assert_eq!(actor.place, SourceAddress::Ip("198.51.100.7".parse().unwrap()));
    }

    #[test]
    fn role_that_only_looks_like_identity_center_is_a_role() {
        let role = "AWSReservedSSO_Admin_0123456789abcdef";
        let arn = format!("arn:aws:sts::111122223333:assumed-role/{role}/bob");
        let issuer = json!({"type": "Role", "arn": format!("arn:aws:iam::111122223333:role/{role}"), "userName": role});
        let actor =
            actor(json!({"type": "AssumedRole", "arn": arn, "sessionContext": {"sessionIssuer": issuer}}), "", "");
        assert_eq!(actor.who, Who::Role { role: role.into(), session: Some("bob".into()) });
    }

    #[test]
    fn session_name_comes_from_the_principal_id_when_the_arn_has_none() {
        let arn = "arn:aws:sts::123456789012:assumed-role/tester";
        let actor = actor(json!({"type": "AssumedRole", "arn": arn, "principalId": "1111:tester"}), "", "");
        assert_eq!(actor.who, Who::Role { role: "tester".into(), session: Some("tester".into()) });
    }

    #[test]
    fn github_job_is_named_by_repository_and_workflow() {
        let subject =
            "repo:octo-org/infra:job_workflow_ref:octo-org/infra/.github/workflows/deploy.yml@refs/heads/main";
        let actor = actor(
            json!({
                "type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/deploy/GitHubActions",
                "sessionContext": {"webIdFederationData": {
                    "federatedProvider": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com",
                    "attributes": {"token.actions.githubusercontent.com:sub": subject}}},
            }),
            "HashiCorp Terraform/1.9.0 (+https://www.terraform.io) aws-sdk-go-v2/1.30",
            "203.0.113.9",
        );
        let Who::WebIdentity { provider, subject: Some(WebSubject::GitHub { repository, workflow, .. }), .. } =
            actor.who
        else {
            panic!("{:?}", actor.who);
        };
        assert_eq!(provider, "token.actions.githubusercontent.com");
        assert_eq!(repository, "octo-org/infra");
        assert_eq!(workflow.as_deref(), Some("octo-org/infra/.github/workflows/deploy.yml@refs/heads/main"));
        assert_eq!(actor.tool, Tool::Terraform);
    }

    #[test]
    fn iam_user_with_a_long_term_key_has_no_second_factor() {
        let user = json!({"type": "IAMUser", "userName": "ci", "accountId": "111122223333"});
        assert_eq!(actor(user, "Boto3/1.40 md/Botocore#1.40", "192.0.2.1").mfa, Mfa::No);
        let user = json!({"type": "IAMUser", "userName": "alice",
            "sessionContext": {"attributes": {"mfaAuthenticated": "true"}}});
        assert_eq!(actor(user, "", "").mfa, Mfa::Yes);
    }

    #[test]
    fn service_event_without_a_type_is_the_service() {
        let actor =
            actor(json!({"accountId": "111122223333", "invokedBy": "AWS Internal"}), "AWS Internal", "AWS Internal");
        assert_eq!(actor.who, Who::Service("AWS Internal".into()));
        assert_eq!(actor.tool, Tool::Service);
        assert_eq!(actor.place, SourceAddress::Service("AWS Internal".into()));
    }

    #[test]
    fn caller_of_another_account_is_told() {
        assert!(actor(json!({"type": "AWSAccount", "accountId": "444455556666"}), "", "").cross_account);
        assert!(!actor(json!({"type": "IAMUser", "accountId": "111122223333"}), "", "").cross_account);
    }

    #[test]
    fn token_that_only_reads_like_githubs_is_its_providers() {
        let federation = json!({"federatedProvider": "arn:aws:iam::111122223333:oidc-provider/evil.example.com",
            "attributes": {"evil.example.com:sub": "repo:acme/infra:ref:refs/heads/main"}});
        let arn = "arn:aws:sts::111122223333:assumed-role/deploy/x";
        let actor = actor(
            json!({"type": "AssumedRole", "arn": arn, "sessionContext": {"webIdFederationData": federation}}),
            "",
            "",
        );
        let Who::WebIdentity { provider, subject: Some(WebSubject::Other(subject)), .. } = actor.who else {
            panic!("{:?}", actor.who)
        };
        assert_eq!((provider.as_str(), subject.as_str()), ("evil.example.com", "repo:acme/infra:ref:refs/heads/main"));
    }

    #[test]
    fn caller_is_named_by_whatever_the_record_holds() {
        let who = |identity: Value| actor(identity, "", "").who;
        let role = json!({"type": "Role", "arn": "arn:aws:iam::111122223333:role/path/ops"});
        assert_eq!(who(role), Who::Role { role: "ops".into(), session: None });
        let unknown = json!({"type": "Unknown", "userName": "carol"});
        assert_eq!(who(unknown), Who::Federated { kind: "Unknown".into(), name: "carol".into() });
        let federated = json!({"type": "FederatedUser", "sessionContext": {"sessionIssuer": {"type": "Root"}}});
        assert_eq!(who(federated), Who::Root { assumed: false });
    }

    #[test]
    fn root_taken_over_centrally_is_root() {
        let identity = json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-root",
            "sessionContext": {"assumedRoot": "true", "sessionIssuer": {"type": "Root"}}});
        assert_eq!(actor(identity, "", "").who, Who::Root { assumed: true });
    }

    #[test]
    fn the_tool_is_told_by_its_user_agent() {
        let tool = |agent: &str| actor(json!({"type": "IAMUser"}), agent, "192.0.2.1").tool;
        assert_eq!(tool("Mozilla/5.0 (X11; Linux x86_64)"), Tool::Console);
        assert_eq!(tool("AWS Internal sessionCredentialFromConsole"), Tool::Console);
        assert_eq!(tool("aws-sdk-go-v2/1.30 pulumi-aws/6.0"), Tool::Pulumi);
        assert_eq!(tool("OpenTofu/1.8 aws-sdk-go-v2/1.30"), Tool::OpenTofu);
        assert_eq!(tool("cloudformation.amazonaws.com"), Tool::Other, "anybody can say so");
        let called = |agent: &str, place: &str| actor(json!({"type": "IAMUser"}), agent, place).tool;
        assert_eq!(called("cloudformation.amazonaws.com", "cloudformation.amazonaws.com"), Tool::CloudFormation);
        assert_eq!(called("autoscaling.amazonaws.com", "autoscaling.amazonaws.com"), Tool::Service);
        assert_eq!(tool("Boto3/1.40 md/Botocore#1.40"), BOTO);
        assert_eq!(tool("aws-sdk-java/2.33.4"), Tool::Sdk);
        assert_eq!(tool("c7n/0.9.46 md/Botocore#1.40 ua/2.1 os/linux"), CLOUD_CUSTODIAN);
        assert_eq!(tool("CloudCustodian/0.8.42 Python/3.6"), CLOUD_CUSTODIAN);
        assert_eq!(tool("APN/1.0 Ansible/2.17.1 Boto3/1.40"), Tool::Known("Ansible"));
        assert_eq!(
            called("ssm.amazonaws.com", "ssm.amazonaws.com").name().split(',').next(),
            Some("AWS Systems Manager")
        );
        assert_eq!(tool("curl/8"), Tool::Other);
        assert_eq!(tool(""), Tool::Unknown);
    }

    #[test]
    fn the_tool_without_a_user_agent_of_its_own_is_told_by_the_role_or_session() {
        let by = |role: &str, session: &str, agent: &str| {
            let arn = format!("arn:aws:sts::111122223333:assumed-role/{role}/{session}");
            let actor = actor(json!({"type": "AssumedRole", "arn": arn}), agent, "192.0.2.1");
            (actor.tool, actor.tool_by)
        };
        assert_eq!(by("spire-server", "1", "aws-sdk-go-v2/1.39"), (SPIRE, ToolBy::Name));
        assert_eq!(by("ops", "aws-nuke-7", "aws-sdk-go-v2/1.39"), (AWS_NUKE, ToolBy::Name));
        assert_eq!(by("inspire-app", "x", "aws-sdk-go-v2/1.39"), (Tool::Sdk, ToolBy::UserAgent));
        // A person with the CLI in that role is no SPIRE.
        assert_eq!(by("spire-server", "1", "aws-cli/2.31.0"), (Tool::Cli, ToolBy::UserAgent));
        assert!(ToolBy::UserAgent.caution().contains("says") && ToolBy::Aws.caution().is_empty());
    }
}
