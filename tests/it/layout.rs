//! The shape of the code: imports run one way, each type has a name of its own, and a file can be read in one sitting.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The longest a source file may be, its tests included.
const LONGEST: usize = 700;

/// Every source file with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    below(&root, &mut found);
    found.sort();
    let text = |path: PathBuf| (path.strip_prefix(&root).unwrap().to_owned(), read_to_string(&path).unwrap());
    found.into_iter().map(text).collect()
}

/// The modules of the library in the order in which `lib.rs` declares them, which is the order of an event's way.
fn declared(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// The top-level modules that a file names by `crate::`, its tests left out: they may look from anywhere.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let path = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            // A group that holds another names the inner one's parts as well; that only makes the test stricter.
            Some(group) => {
                let group = group.split_once(';').map_or(group, |(group, _)| group);
                found.extend(
                    group
                        .split(|c| !path(c))
                        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
                        .map(str::to_owned),
                );
            }
            None => {
                found.insert(rest.split(|c| !path(c)).next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// What is wrong with the imports of these modules: each may name those that are declared before it, and itself.
fn against_the_stream<'a>(order: &[&str], modules: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let at = |module: &str| order.iter().position(|known| *known == module);
    let mut wrong = Vec::new();
    for (module, text) in modules {
        for other in named(text) {
            match (at(module), at(&other)) {
                (Some(here), Some(there)) if there > here => {
                    wrong.push(format!("{module} imports {other}, a later one"))
                }
                (None, _) => wrong.push(format!("{module} isn't declared in lib.rs")),
                _ => {}
            }
        }
    }
    wrong
}

#[test]
fn imports_run_one_way() {
    let sources = sources();
    let lib = &sources.iter().find(|(path, _)| path == Path::new("lib.rs")).unwrap().1;
    let order = declared(lib);
    let modules = sources.iter().filter_map(|(path, text)| {
        let first = path.iter().next()?.to_str()?;
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(module, "lib" | "bin")).then_some((module, text.as_str()))
    });
    let wrong = against_the_stream(&order, modules);
    assert!(wrong.is_empty(), "{wrong:#?}\nlib.rs declares the modules in the order in which an event meets them");
}

#[test]
fn a_circle_is_found() {
    let order = ["event", "detect"];
    let modules = [("event", "use crate::detect::Kind;"), ("detect", "use crate::event::Event;")];
    assert_eq!(against_the_stream(&order, modules.into_iter()), ["event imports detect, a later one"]);
    let grouped = [("event", "use crate::{event::Event,\n    detect};")];
    assert_eq!(against_the_stream(&order, grouped.into_iter()).len(), 1);
}

#[test]
fn every_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
            let line = line.strip_prefix("pub(super) ").unwrap_or(line);
            let Some((word, rest)) = line.split_once(' ') else { continue };
            if matches!(word, "struct" | "enum" | "type" | "trait") && !line.starts_with("type Err") {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !matches!(name.as_str(), "Response" | "Error" | "Future" | "Value" if line.starts_with("type ")) {
                    places.entry(name).or_default().push(path.display().to_string());
                }
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines: {long:?}");
}

#[test]
fn every_file_is_in_the_tables_of_the_documents() {
    for document in ["CONTRIBUTING.md", "docs/architecture.md"] {
        let text = read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
        let table = text.split("| file | what |").nth(1).unwrap().split("\n\n").next().unwrap();
        let missing: Vec<_> = sources()
            .into_iter()
            .map(|(path, _)| path)
            .filter(|path| {
                let row = match path.parent().unwrap().to_str().unwrap() {
                    "" | "bin" => "`src/".to_owned(),
                    folder => format!("`src/{folder}/`"),
                };
                let name = path.file_name().unwrap().to_str().unwrap();
                !table.lines().any(|line| {
                    line.contains(&row) && (line.contains(&format!("`{name}`")) || line.contains(&format!("/{name}`")))
                })
            })
            .collect();
        assert!(missing.is_empty(), "{document} doesn't name {missing:?}");
    }
}
