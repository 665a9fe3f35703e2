//! With which credentials, and in which Regions: what the subcommands that call AWS have in common.

use std::io::{self, IsTerminal};

use aws_config::SdkConfig;
use indicatif::{ProgressBar, ProgressStyle};
use kms_key_guard::config::is_role;
use kms_key_guard::key::Region;
use kms_key_guard::{aws, coverage};

/// How many Regions are checked side by side.
pub const SIDE_BY_SIDE: usize = 6;

/// Options for whatever reads from AWS.
#[derive(clap::Args)]
pub struct Access {
    /// A Region, or all that are enabled for the account; repeatable. Without it, the configured one
    #[arg(long = "region", value_name = "REGION", value_parser = place)]
    regions: Vec<RegionChoice>,
    /// The profile of your AWS configuration; it wins over credentials in the environment
    #[arg(long)]
    profile: Option<String>,
    /// A role to assume first, such as another account's
    #[arg(long, value_name = "ARN", value_parser = role)]
    role_arn: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RegionChoice {
    All,
    One(Region),
}

fn place(name: &str) -> Result<RegionChoice, String> {
    if name == "all" {
        return Ok(RegionChoice::All);
    }
    name.parse().map(RegionChoice::One).map_err(|_| "it takes a Region, such as eu-west-1, or all".to_owned())
}

fn role(arn: &str) -> Result<String, String> {
    let takes = "it takes the ARN of an IAM role, such as arn:aws:iam::111122223333:role/security-audit";
    if is_role(arn) { Ok(arn.to_owned()) } else { Err(takes.to_owned()) }
}

impl Access {
    /// The credentials, tried at once, since what is wrong with them would otherwise be said again and again; and the
    /// Regions. A role's session gets this name.
    pub async fn open(&self, session: &str) -> io::Result<(SdkConfig, Vec<Region>)> {
        let sdk = self.credentials(session).await.map_err(io::Error::other)?;
        let regions = self.regions(&sdk).await.map_err(io::Error::other)?;
        Ok((sdk, regions))
    }

    /// A command with the profile that this one was run with.
    pub fn paste(&self, command: &str) -> String {
        let Some(profile) = &self.profile else { return command.to_owned() };
        match command.split(' ').next() {
            Some("make") => format!("{command} PROFILE={}", quoted(profile)),
            _ => format!("{command} --profile {}", quoted(profile)),
        }
    }

    /// Whether all Regions were asked for.
    pub fn everywhere(&self) -> bool {
        self.regions.contains(&RegionChoice::All)
    }

    async fn credentials(&self, session: &str) -> Result<SdkConfig, String> {
        let first = self.regions.iter().find_map(|place| match place {
            RegionChoice::One(region) => Some(region.as_str()),
            RegionChoice::All => None,
        });
        let mut sdk = aws::operator_config(self.profile.as_deref(), first).await?;
        if sdk.region().is_none() {
            if self.regions.is_empty() {
                return Err("no Region is configured: name one with --region, or all".into());
            }
            sdk = sdk.to_builder().region(aws_config::Region::new("us-east-1")).build();
        }
        if let Some(role) = &self.role_arn {
            sdk = aws::as_role(&sdk, role, session).await;
        }
        account(&sdk).await?;
        Ok(sdk)
    }

    async fn regions(&self, sdk: &SdkConfig) -> Result<Vec<Region>, String> {
        let mut regions = Vec::new();
        for place in &self.regions {
            match place {
                RegionChoice::One(region) => regions.push(region.clone()),
                RegionChoice::All => regions.extend(coverage::enabled_regions(sdk).await.map_err(|reason| {
                    format!("the enabled Regions aren't known ({reason}): name the Regions with --region")
                })?),
            }
        }
        if regions.is_empty() {
            regions.push(configured(sdk)?);
        }
        regions.sort();
        regions.dedup();
        Ok(regions)
    }
}

/// The account of the credentials, which shows whether they work at all.
pub async fn account(sdk: &SdkConfig) -> Result<String, String> {
    let caller = coverage::caller(sdk).await?;
    // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
    Ok(caller.split(':').nth(4).unwrap_or_default().to_owned())
}

/// The Region that is configured.
pub fn configured(sdk: &SdkConfig) -> Result<Region, String> {
    let configured = sdk.region().ok_or("no Region is configured: name one with --region")?.to_string();
    let wrong = |_| format!("the configured Region {configured:?} isn't one: name another with --region");
    configured.parse().map_err(wrong)
}

/// Reads a stack's name.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html>
pub fn stack(name: &str) -> Result<String, String> {
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if letter && rest { Ok(name.to_owned()) } else { Err("it takes a stack's name, such as kms-key-guard".to_owned()) }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+=/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Shown on a terminal while several Regions are checked.
pub fn progress(regions: usize) -> ProgressBar {
    if regions < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} Regions").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(regions as u64).with_style(style)
}
