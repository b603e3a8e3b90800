//! The end of a store: the first failure that must stop the process, told once to whoever opened the store.
//!
//! Never: forgets a failure; lets an operation go on after one. Called by the log writer, reads that meet corrupt data, and commits.

use std::sync::{Arc, OnceLock};

use crate::error::StoreError;

/// Called once, with the reason, from the thread that met the failure. It should end the process, and must not block for long.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Fatal {
    hook: Option<FatalHook>,
    reason: OnceLock<String>,
}

impl Fatal {
    pub fn new(hook: Option<FatalHook>) -> Self {
        Self { hook, reason: OnceLock::new() }
    }

    /// Stops the store. Only the first reason counts and reaches the hook.
    pub fn raise(&self, error: &StoreError) {
        if self.reason.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the store stops: its disk can no longer be trusted");
            metrics::counter!("stanchion_store_fatal_total").increment(1);
            if let Some(hook) = &self.hook {
                hook(&error.to_string());
            }
        }
    }

    /// Hands the error on, after stopping the store if it is of the kind that says that the disk is bad.
    pub fn judge(&self, error: StoreError) -> StoreError {
        match &error {
            StoreError::Corrupt { .. } | StoreError::DiskFull { .. } | StoreError::Io { .. } => self.raise(&error),
            StoreError::Locked { .. }
            | StoreError::OtherCluster { .. }
            | StoreError::OtherNode { .. }
            | StoreError::OtherFormat { .. }
            | StoreError::Stopped(_)
            | StoreError::Closed
            | StoreError::Misuse(_) => {}
        }
        error
    }

    /// Nothing may be written, and nothing said to be durable, once this is an error.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.reason.get() {
            Some(reason) => Err(StoreError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }
}
