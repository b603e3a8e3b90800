//! openraft's own storage suite, over the real store.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use stanchion_engine::GroupId;
use stanchion_store::{Store, StoreOptions};

use crate::audit::Purse;
use crate::effects::Shared;
use crate::log_store::LogStore;
use crate::slots::SlotMap;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

struct Builder;

struct Opened {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.store.shutdown().unwrap();
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Opened> for Builder {
    async fn build(&self) -> Result<(Opened, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions { sync: false, ..StoreOptions::new(dir.path()) }).unwrap();
        let group = GroupId(1);
        let fatal = Arc::new(|reason: &str| panic!("{reason}"));
        let shared = Arc::new(Shared::new(group, 1, store.clone(), fatal, Arc::new(AtomicU64::new(0))));
        let mut state = store.group_state(group).unwrap();
        state.set_owned_slots(&SlotMap::even(1).slots_of(group)).unwrap();
        let machine = StateMachine::open(shared, state, Arc::new(Purse::new(1000))).unwrap();
        let log = LogStore::new(store.log(group), 1 << 20);
        Ok((Opened { store, _dir: dir }, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes_on_the_real_store() {
    Suite::test_all(Builder).await.unwrap();
}
