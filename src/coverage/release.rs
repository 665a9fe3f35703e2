//! Whether the deployed functions are those of a release, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Component, Path};

use aws_smithy_types::base64;
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{About, Check, Observation, Stack, in_region, plain, why};
use crate::escape::{inert, name};

static RELEASED: About = About {
    id: "functions-released",
    what: "The functions run the code of the release.",
    kind: "AWS::Lambda::Function",
};

/// The checksums of a release's files, as `sha256sum` writes them.
const CHECKSUMS: &str = "SHA256SUMS";
/// What a release says of itself.
const ABOUT: &str = "release.json";

/// A release, unpacked, whose files are what its checksums say.
#[derive(Debug)]
pub struct Release {
    about: Described,
    /// Logical id of the template, and Lambda's `CodeSha256` of its zip.
    functions: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Described {
    version: String,
    commit: String,
    architecture: String,
    /// Logical id of the template, and the file of its code.
    functions: BTreeMap<String, String>,
}

impl Release {
    /// Reads every file of the release.
    ///
    /// # Errors
    /// A sentence that names the file that is missing, or isn't the release's.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let shown = inert(&folder.to_string_lossy(), 300);
        let sums = fs::read_to_string(folder.join(CHECKSUMS)).map_err(|error| {
            format!("{shown} isn't the folder of an unpacked release: {CHECKSUMS} can't be read ({error})")
        })?;
        let mut found = BTreeMap::new();
        for line in sums.lines() {
            let (file, digest) = listed(folder, line)?;
            found.insert(file, digest);
        }
        let unread = |why: String| format!("{ABOUT} in {shown} can't be read: {why}");
        let about = fs::read(folder.join(ABOUT)).map_err(|error| unread(error.to_string()))?;
        let about: Described = serde_json::from_slice(&about).map_err(|error| unread(error.to_string()))?;
        let code = |(function, file): (&String, &String)| match found.get(file.as_str()) {
            Some(digest) => Ok((function.clone(), base64::encode(digest))),
            None => Err(format!("{ABOUT} in {shown} names {}, which {CHECKSUMS} doesn't list", name(file, 100))),
        };
        let functions = about.functions.iter().map(code).collect::<Result<_, _>>()?;
        Ok(Self { functions, about })
    }
}

/// A line of the checksums: the file's name and its digest, which it has.
fn listed<'a>(folder: &Path, line: &'a str) -> Result<(&'a str, [u8; 32]), String> {
    let shown = inert(&folder.to_string_lossy(), 300);
    let below = |file: &&str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    let Some((said, file)) = line.split_once("  ").filter(|(said, file)| said.len() == 64 && below(file)) else {
        return Err(format!(
            "{CHECKSUMS} in {shown} has a line that isn't a checksum and a file: {}",
            inert(line, 100)
        ));
    };
    let content = fs::read(folder.join(file)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} is missing in {shown}", name(file, 100)),
        _ => format!("{} in {shown} can't be read: {error}", name(file, 100)),
    })?;
    let digest: [u8; 32] = Sha256::digest(content).into();
    if hex(&digest) != said {
        let file = name(file, 100);
        return Err(format!(
            "{file} in {shown} isn't the release's: its SHA-256 is {}, and {CHECKSUMS} has {}",
            hex(&digest),
            inert(said, 64)
        ));
    }
    Ok((file, digest))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Compares each function's code with the release's.
pub async fn look(sdk: &SdkConfig, guard: &Stack, release: &Release) -> Check {
    let lambda = &aws_sdk_lambda::Client::new(&in_region(sdk, guard.region.as_str()));
    let looks = release.functions.iter().map(|(logical, code)| of_release(lambda, guard, release, logical, code));
    Check::of(&RELEASED, join_all(looks).await)
}

async fn of_release(
    lambda: &aws_sdk_lambda::Client,
    guard: &Stack,
    release: &Release,
    logical: &str,
    code: &str,
) -> Observation {
    let version = name(&release.about.version, 64);
    let Some(id) = guard.resources.get(logical).map(|resource| resource.id.as_str()).filter(|id| !id.is_empty()) else {
        return Observation::fail(format!("The stack has no {}, and version {version} has.", name(logical, 64)))
            .advise("Deploy the release.");
    };
    let configuration = match lambda.get_function_configuration().function_name(id).send().await {
        Ok(configuration) => configuration,
        Err(error) => {
            let reason = why("lambda:GetFunctionConfiguration", &error);
            return Observation::unknown(&format!("What {} runs", name(logical, 64)), &reason);
        }
    };
    let processors: Vec<_> = configuration.architectures().iter().map(|processor| processor.as_str()).collect();
    compared(release, logical, id, code, configuration.code_sha256(), &processors)
}

fn compared(
    Release { about, .. }: &Release,
    logical: &str,
    id: &str,
    code: &str,
    deployed: Option<&str>,
    processors: &[&str],
) -> Observation {
    let version = name(&about.version, 64);
    let deployed = deployed.unwrap_or("none");
    if deployed != code {
        return Observation::fail(format!(
            "The function {} ({}) doesn't run version {version}: its CodeSha256 is {}, the release's is {code}.",
            name(logical, 64),
            plain(id, "FUNCTION"),
            inert(deployed, 64)
        ))
        .advise("Deploy the release, or find out who replaced the code.");
    }
    if processors != [about.architecture.as_str()] {
        return Observation::fail(format!(
            "The function {} can't start: its code is for {}, and it runs on {}.",
            name(logical, 64),
            name(&about.architecture, 16),
            inert(&processors.join(", "), 64)
        ))
        .advise("Deploy the release with its own Architecture.");
    }
    Observation::pass(format!("{logical} is version {version} (commit {}) as released.", name(&about.commit, 40)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Verdict;
    use std::path::PathBuf;

    const CODE: &str = "x0dTMPqHtfjKK2rPwqRmzm2PFLYdYgMpaeZCyxwYCB0=";

    /// A release of one function, whose code is the text `code`, in a folder of its own.
    fn release(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("keyguard-{}-{test}", std::process::id()));
        fs::create_dir_all(folder.join("functions")).unwrap();
        let about = r#"{"version": "1.2.3", "commit": "0123abcd", "architecture": "arm64",
            "functions": {"AlertFunction": "functions/alert.zip"}}"#;
        fs::write(folder.join("functions/alert.zip"), "code").unwrap();
        fs::write(folder.join(ABOUT), about).unwrap();
        sum(&folder, &["functions/alert.zip", ABOUT]);
        folder
    }

    fn sum(folder: &Path, files: &[&str]) {
        let line = |file: &&str| format!("{}  {file}\n", hex(&Sha256::digest(fs::read(folder.join(file)).unwrap())));
        fs::write(folder.join(CHECKSUMS), files.iter().map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn code_of_the_release_is_told_from_any_other_and_from_that_of_another_processor() {
        let folder = release("code");
        let release = Release::open(&folder).unwrap();
        let digest = base64::encode(Sha256::digest("code"));
        assert_eq!(release.functions["AlertFunction"], digest);
        let look = |deployed, processors: &[&str]| {
            compared(&release, "AlertFunction", "guard-alert", &digest, deployed, processors).verdict
        };
        assert_eq!(
            look(Some(&digest), &["arm64"]),
            Verdict::Pass("AlertFunction is version 1.2.3 (commit 0123abcd) as released.".into())
        );
        for (verdict, says) in [
            (look(Some(CODE), &["arm64"]), "(guard-alert) doesn't run version 1.2.3: its CodeSha256 is x0dTMPqH"),
            (look(None, &["arm64"]), "its CodeSha256 is none"),
            (look(Some(&digest), &["x86_64"]), "can't start: its code is for arm64, and it runs on x86_64."),
        ] {
            assert!(matches!(&verdict, Verdict::Fail(text) if text.contains(says)), "{verdict:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folder_that_is_no_whole_release_is_refused_by_the_file() {
        let folder = release("refused");
        let refused = |spoil: &dyn Fn()| {
            spoil();
            let said = Release::open(&folder).unwrap_err();
            fs::remove_dir_all(&folder).unwrap();
            release("refused");
            assert!(!said.contains('\n'), "{said}");
            said
        };
        let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
        for (spoil, says) in [
            (&(|| write("functions/alert.zip", "other")) as &dyn Fn(), "isn't the release's: its SHA-256 is"),
            (&|| fs::remove_file(folder.join("functions/alert.zip")).unwrap(), "functions/alert.zip is missing in"),
            (&|| fs::remove_file(folder.join(CHECKSUMS)).unwrap(), "isn't the folder of an unpacked release"),
            (&|| write(CHECKSUMS, "hello\n"), "has a line that isn't a checksum and a file: hello"),
            (&|| write(CHECKSUMS, &format!("{}  ../x\n", "0".repeat(64))), "a line that isn't a checksum and a file"),
            (&|| write(CHECKSUMS, &format!("{}  /etc/passwd\n", "0".repeat(64))), "a line that isn't a checksum"),
            (&|| sum(&folder, &[ABOUT]), "which SHA256SUMS doesn't list"),
            (
                &|| {
                    write(ABOUT, "{}");
                    sum(&folder, &[ABOUT])
                },
                "release.json in",
            ),
        ] {
            let said = refused(spoil);
            assert!(said.contains(says), "{said} should say {says}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
