//! The import rule of ARCHITECTURE.md, checked on the workspace's own dependency graph: crates depend on each other only along the
//! arrows, and each heavy dependency has one owner.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

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
    ("stanchion-bench", &["stanchion-client", "stanchion-engine", "stanchion-store", "stanchion-proto"]),
];

/// Dependencies that one crate alone may name.
const OWNERS: &[(&str, &str)] = &[("rocksdb", "stanchion-store"), ("openraft", "stanchion-replica")];

/// What the engine must not even see.
const NOT_IN_ENGINE: &[&str] = &["tokio", "rocksdb", "openraft", "tonic", "metrics", "rand", "tracing"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("the workspace's metadata");
    metadata
        .packages
        .iter()
        .map(|package| {
            let names = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            (package.name.to_string(), names.map(|d| d.name.clone()).collect())
        })
        .collect()
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
