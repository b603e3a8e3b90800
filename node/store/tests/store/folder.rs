//! The data folder: whose it is, who may open it, and what becomes of an ephemeral one.

use stanchion_engine::GroupId;
use stanchion_store::{Store, StoreError, StoreOptions};

use crate::support::{append, entries, open, small};

#[test]
fn a_folder_belongs_to_one_cluster_and_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let drawn = store.identity();
    assert_eq!((drawn.cluster_id, drawn.node_id), (None, None));
    store.adopt("red", 1).unwrap();
    store.adopt("red", 1).unwrap();
    drop(store);

    let store = open(dir.path());
    let identity = store.identity();
    assert_eq!((identity.cluster_id.as_deref(), identity.node_id), (Some("red"), Some(1)));
    assert_eq!(identity.incarnation, drawn.incarnation);
    let error = store.adopt("blue", 1).unwrap_err();
    assert!(matches!(error, StoreError::OtherCluster { .. }));
    assert!(error.to_string().contains("`red`") && error.to_string().contains("`blue`"), "{error}");
    let error = store.adopt("red", 2).unwrap_err();
    assert!(error.to_string().contains("node 1") && error.to_string().contains("node 2"), "{error}");
    assert_eq!(store.identity(), identity, "an error adopts nothing");
    assert!(store.adopt("two\nlines", 1).is_err());
}

#[test]
fn a_second_opener_is_told_that_the_folder_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(small(dir.path())).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains("another process"), "{error}");
    let log = store.log(GroupId(1));
    drop(store);
    assert!(Store::open(small(dir.path())).is_err(), "a part of it still lives");
    drop(log);
    open(dir.path());
}

#[test]
fn a_folder_of_another_format_or_without_its_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("identity");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("format = 1", "format = 99")).unwrap();
    let error = Store::open(small(dir.path())).err().unwrap();
    assert!(matches!(error, StoreError::OtherFormat { .. }));
    assert!(error.to_string().contains("99"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = Store::open(small(dir.path())).err().unwrap();
    assert!(error.to_string().contains("identity"), "must not pass for an empty disk: {error}");
}

#[test]
fn a_folder_that_is_a_file_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(small(file.path())).err().unwrap();
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
}

#[test]
fn an_ephemeral_store_leaves_nothing() {
    let store = Store::open(StoreOptions::ephemeral()).unwrap();
    let dir = store.dir().to_owned();
    append(&store.log(GroupId(1)), entries(1, 0..=9, 100)).unwrap();
    assert!(dir.exists() && store.disk_bytes() > 0);
    store.shutdown().unwrap();
    assert!(!dir.exists());
    drop(store);
    assert!(!dir.exists());
}

#[test]
fn a_removed_group_is_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store.log(GroupId(1)), entries(1, 0..=9, 100)).unwrap();
    append(&store.log(GroupId(2)), entries(2, 0..=9, 100)).unwrap();
    let mut state = store.group_state(GroupId(1)).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    assert!(store.remove_group(GroupId(1)).is_err(), "its state machine lives");
    drop(state);
    store.remove_group(GroupId(1)).unwrap();
    assert_eq!(store.groups(), [GroupId(2)]);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.groups(), [GroupId(2)]);
    assert_eq!(store.log(GroupId(1)).last(), None);
}
