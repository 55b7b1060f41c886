//! Rules about dependencies. Crates depend only on lower layers, and the modules of a crate do not
//! depend on each other in cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::tree::{File, Tree};

/// The layers, lowest first. Folders in one layer do not know each other.
const LAYERS: [&[&str]; 4] = [
    &["manifests", "embedded-cluster"],
    &["harness"],
    &["scenarios"],
    &["xtask"],
];

/// A path from the root of the crate or from a parent module: `crate::a`, `crate::{a, b}`,
/// `super::super::a`.
static IMPORT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?P<base>crate|(?:super::)*super)::(?P<rest>\w+|\{)").expect("an import is a pattern")
});

/// Finds crates that depend on a crate which is not below them.
pub(super) fn against_the_layers(tree: &Tree) -> Vec<Violation> {
    let manifests = || {
        tree.files
            .iter()
            .filter(|file| file.path.ends_with("/Cargo.toml"))
    };
    let package = |file: &File| Some((package_name(file)?.to_owned(), folder(&file.path).to_owned()));
    let packages: BTreeMap<String, String> = manifests().filter_map(package).collect();
    let mut found = Vec::new();
    for file in manifests() {
        let own = folder(&file.path);
        let Some(layer) = layer_of(own) else { continue };
        for (line, dependency) in dependencies(file, "dependencies]") {
            let Some(other) = packages.get(dependency) else {
                continue;
            };
            if other != own && layer_of(other).is_some_and(|other| other >= layer) {
                let seen = format!("{own} depends on {dependency}, which is not below it");
                found.push(Violation::new(&file.path, line, seen));
            }
        }
    }
    found
}

fn layer_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

fn folder(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Returns the name of the package of a `Cargo.toml`.
pub(super) fn package_name(file: &File) -> Option<&str> {
    let name = file.text.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim_matches('"'))
}

/// Returns the dependencies of a crate, with their lines. Reads the sections with this ending of
/// the heading.
pub(super) fn dependencies<'a>(file: &'a File, heading: &str) -> Vec<(usize, &'a str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        if line.starts_with('[') {
            inside = line.ends_with(heading);
        } else if inside {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push((number, &line[..end]));
        }
    }
    found
}

/// Finds imports between folders directly under `src` that are part of a cycle. The cycle may lead
/// through single files.
pub(super) fn cycles(tree: &Tree) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.is_program()) {
        if let Some((package, _)) = file.path.split_once("/src/") {
            crates.entry(package).or_default().push(file);
        }
    }
    crates
        .into_iter()
        .flat_map(|(package, files)| cycles_of(package, &files))
        .collect()
}

/// An import: the module that has it, and the module that it names.
type Edge<'a> = (&'a str, &'a str);

fn cycles_of(package: &str, files: &[&File]) -> Vec<Violation> {
    let modules: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| module_path(&file.path).into_iter().next())
        .collect();
    let mut edges: BTreeMap<Edge<'_>, Violation> = BTreeMap::new();
    for file in files {
        let path = module_path(&file.path);
        let Some(own) = path.first() else { continue };
        let program: String = file
            .lines_of_program()
            .map(|(_, line)| without_comment(line) + "\n")
            .collect();
        for (offset, name) in imports(&program, path.len()) {
            let Some(other) = modules.get(name.as_str()).filter(|other| *other != own) else {
                continue;
            };
            let line = program[..offset].lines().count().max(1);
            let place = Violation::new(&file.path, line, String::new());
            edges.entry((own, other)).or_insert(place);
        }
    }
    let folders: BTreeSet<&str> = files
        .iter()
        .map(|file| module_path(&file.path))
        .filter(|path| path.len() > 1)
        .map(|path| path[0])
        .collect();
    let reach = reachable(&edges.keys().copied().collect());
    let mut found = Vec::new();
    for ((from, to), mut place) in edges {
        let between_folders = folders.contains(from) && folders.contains(to);
        if between_folders && reach.get(to).is_some_and(|back| back.contains(from)) {
            place.seen = format!("{package}: {from} imports {to}, and {to} needs {from}");
            found.push(place);
        }
    }
    found
}

/// Returns the modules of a file, from the one under `src` down. Empty for the root of a crate.
fn module_path(path: &str) -> Vec<&str> {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    match inside {
        "lib" | "main" => Vec::new(),
        _ => inside.split('/').collect(),
    }
}

fn without_comment(line: &str) -> String {
    line.split("//").next().unwrap_or_default().to_owned()
}

/// Returns the names directly under the crate's root that a text imports, with their offsets.
/// `depth` is that of the text's module.
fn imports(text: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for import in IMPORT.captures_iter(text) {
        let up = import["base"].matches("super").count();
        if &import["base"] != "crate" && up != depth {
            continue;
        }
        let whole = import.get(0).map_or(0..0, |whole| whole.range());
        match &import["rest"] {
            "{" => found.extend(
                group(&text[whole.end..])
                    .into_iter()
                    .map(|name| (whole.start + 1, name)),
            ),
            name => found.push((whole.start + 1, name.to_owned())),
        }
    }
    found
}

/// Returns the first names in a group of imports. The text starts after the opening brace.
fn group(text: &str) -> Vec<String> {
    let mut depth = 1;
    let mut names = vec![String::new()];
    let mut complete = false;
    for character in text.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.push(String::new());
                complete = false;
            }
            ':' => complete = true,
            _ if depth == 1 && !complete && (character.is_alphanumeric() || character == '_') => {
                if let Some(name) = names.last_mut() {
                    name.push(character);
                }
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Returns the modules that each module reaches.
fn reachable<'a>(edges: &BTreeSet<Edge<'a>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        reach.entry(from).or_default().insert(to);
    }
    loop {
        let further: Vec<Edge<'a>> = reach
            .iter()
            .flat_map(|(from, to)| {
                to.iter()
                    .filter_map(|to| reach.get(to))
                    .flatten()
                    .map(|further| (*from, *further))
            })
            .filter(|(from, further)| !reach[from].contains(further))
            .collect();
        if further.is_empty() {
            return reach;
        }
        for (from, to) in further {
            reach.entry(from).or_default().insert(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(found: &[Violation]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lower_crate_that_depends_on_a_higher_one_is_found() {
        let tree = Tree::of(&[
            (
                "manifests/Cargo.toml",
                "[package]\nname = \"manifests\"\n[dependencies]\nharness-wait.workspace = true\n",
            ),
            (
                "harness/wait/Cargo.toml",
                "[package]\nname = \"harness-wait\"\n[dependencies]\nmanifests = { path = \"x\" }\n",
            ),
        ]);
        let expected = "manifests/Cargo.toml:4: manifests depends on harness-wait, which is not below it";
        assert_eq!(seen(&against_the_layers(&tree)), [expected]);
    }

    #[test]
    fn folders_of_one_layer_do_not_know_each_other() {
        let tree = Tree::of(&[
            (
                "manifests/Cargo.toml",
                "[package]\nname = \"manifests\"\n[dev-dependencies]\nembedded-cluster = {}\n",
            ),
            (
                "embedded-cluster/Cargo.toml",
                "[package]\nname = \"embedded-cluster\"\n",
            ),
        ]);
        assert_eq!(against_the_layers(&tree).len(), 1);
    }

    #[test]
    fn both_imports_of_a_cycle_are_found_with_their_lines() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "mod one;\nmod two;\nmod three;\n"),
            ("a/src/one/part.rs", "//! One.\nuse crate::two::Two;\n"),
            (
                "a/src/two/inner.rs",
                "use crate::{\n    one::One,\n    three::Three,\n};\n",
            ),
            ("a/src/three.rs", "// crate::one is only mentioned\n"),
        ]);
        assert_eq!(
            seen(&cycles(&tree)),
            [
                "a/src/one/part.rs:2: a: one imports two, and two needs one",
                "a/src/two/inner.rs:1: a: two imports one, and one needs two",
            ]
        );
    }

    #[test]
    fn a_cycle_over_three_folders_and_parents_is_found() {
        let files = [
            ("a/src/one/part.rs", "use super::super::two::Two;\n"),
            ("a/src/two/part.rs", "use crate::three;\n"),
            ("a/src/three/part.rs", "use crate::one;\n"),
        ];
        assert_eq!(cycles(&Tree::of(&files)).len(), 3);
        let test = (
            "a/src/three/part.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::one;\n}\n",
        );
        assert_eq!(cycles(&Tree::of(&[files[0], files[1], test])), []);
    }

    #[test]
    fn files_of_one_folder_may_know_each_other() {
        let files = [
            ("a/src/one.rs", "use crate::two;\n"),
            ("a/src/two.rs", "use crate::one;\n"),
        ];
        assert_eq!(cycles(&Tree::of(&files)), []);
    }
}
