//! The import rule of ARCHITECTURE.md, checked on the workspace's own dependency graph: crates depend on each other only along the
//! arrows, and each heavy dependency has one owner.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// For each crate, the crates of ours that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("stanchion-proto", &[]),
    ("stanchion-engine", &["stanchion-proto"]),
    ("stanchion-store", &["stanchion-engine", "stanchion-proto"]),
    ("stanchion-replica", &["stanchion-store", "stanchion-engine", "stanchion-proto"]),
    ("stanchion-dispatch", &["stanchion-engine", "stanchion-proto"]),
    (
        "stanchion-server",
        &[
            "stanchion-replica",
            "stanchion-store",
            "stanchion-dispatch",
            "stanchion-engine",
            "stanchion-client",
            "stanchion-proto",
        ],
    ),
    ("stanchion-client", &["stanchion-proto"]),
    ("stanchion-proof", &["stanchion-engine", "stanchion-proto"]),
    ("stanchion-faultdisk", &[]),
    (
        "stanchion-sim",
        &[
            "stanchion-server",
            "stanchion-replica",
            "stanchion-store",
            "stanchion-dispatch",
            "stanchion-engine",
            "stanchion-client",
            "stanchion-proof",
            "stanchion-faultdisk",
            "stanchion-proto",
        ],
    ),
    (
        "stanchion-jepsen",
        &["stanchion-client", "stanchion-engine", "stanchion-proof", "stanchion-faultdisk", "stanchion-proto"],
    ),
    ("stanchion-bench", &["stanchion-client", "stanchion-engine", "stanchion-store", "stanchion-proto"]),
];

/// Dependencies that one crate alone may name.
const OWNERS: &[(&str, &str)] = &[("rocksdb", "stanchion-store"), ("openraft", "stanchion-replica")];

/// What the engine must not even see, in tests neither.
const NOT_IN_ENGINE: &[&str] = &["tokio", "rocksdb", "openraft", "tonic", "metrics", "rand", "tracing"];

/// What Cargo says. Asked by its own command: a crate that does so would bring features along (see the test of them).
fn cargo(arguments: &[&str]) -> String {
    // The one that runs the tests.
    let command = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(command).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version=1", "--locked"])).unwrap();
    let name = |of: &Value| of["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let dependencies =
        |package: &Value| package["dependencies"].as_array().expect("dependencies").iter().map(name).collect();
    packages.iter().map(|package| (name(package), dependencies(package))).collect()
}

#[test]
fn crates_depend_on_each_other_along_the_arrows_only() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    for (name, dependencies) in dependencies() {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no place in ARROWS"));
        for ours in dependencies.iter().filter(|d| d.starts_with("stanchion-")) {
            assert!(may.contains(ours.as_str()), "{name} must not depend on {ours}");
        }
    }
}

#[test]
fn heavy_dependencies_have_one_owner() {
    for (name, dependencies) in dependencies() {
        for (heavy, owner) in OWNERS {
            assert!(!dependencies.contains(*heavy) || name == *owner, "{name} names {heavy}, which is {owner}'s");
        }
    }
}

#[test]
fn the_engine_is_pure() {
    let engine = &dependencies()["stanchion-engine"];
    for name in NOT_IN_ENGINE {
        assert!(!engine.contains(*name), "the engine must not depend on {name}");
    }
}

/// What a dependency list cannot show: the standard library has clocks, files and threads too.
const NOT_IN_ENGINE_SOURCE: &[&str] = &[
    "SystemTime",
    "Instant::",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
    "println!",
    "async fn",
];

#[test]
fn the_engine_names_no_clock_file_thread_or_unordered_map() {
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/engine/src")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in NOT_IN_ENGINE_SOURCE {
                assert!(!line.contains(name), "{}:{} names {name}", path.display(), number + 1);
            }
        }
    }
}

/// Each package as it is built, with its features; one that is built in two ways stands there twice.
fn built(edges: &str) -> BTreeSet<(String, String)> {
    let told = cargo(&[
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--prefix=none",
        "--no-dedupe",
        "-f={p}\t{f}",
        "-e",
        edges,
    ]);
    let lines = told.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(package, features)| (package.to_owned(), features.to_owned())).collect()
}

/// With other features for tests than without, `cargo nextest` would compile anew most of what `cargo build` has compiled.
#[test]
fn development_dependencies_change_no_features() {
    let (alone, mut with_tests) = (built("normal,build"), built("normal,build,dev"));
    let known: BTreeSet<_> = alone.iter().map(|(package, _)| package).collect();
    assert!(known.len() > 100, "{known:?}");
    with_tests.retain(|(package, _)| known.contains(package));
    let other: Vec<_> = alone.symmetric_difference(&with_tests).collect();
    assert!(other.is_empty(), "built with other features for tests: name these for all: {other:?}");
}
