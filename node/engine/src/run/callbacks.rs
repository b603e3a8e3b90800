//! Completion callbacks: whom to tell when a run, with all that follow it in its chain, is over.
//!
//! ```text
//!  registered (start, or attached by a later start) --> stands by --chain goes on--> the next run has them
//!                                                           |
//!                                                           +--run closes for good--> told, or failed
//! ```
//!
//! Addresses outside are not configured, as on the real development server, and refused where they come in. The server's own address
//! (`temporal://system`) is for the Nexus operations of its workflows, which prove themselves by a token in the callback's header. This
//! release has no such operations, so there is no valid token: the one attempt fails as it does on the real server.
//!
//! Never: an attempt while the chain goes on, or when a reset takes the run's place.

use stanchion_proto::row::CallbackRow;
use stanchion_proto::temporal::common::v1::Callback;
use stanchion_proto::temporal::enums::v1::CallbackState;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::workflow::v1::CallbackInfo;
use stanchion_proto::temporal::workflow::v1::callback_info::{Trigger, WorkflowClosed, trigger};

use super::Run;
use crate::time::timestamp_if_set;
use crate::transaction::Transaction;
use crate::types::ShardTime;

/// Callbacks that are registered at `now`.
pub(super) fn registered(callbacks: &[Callback], now: ShardTime) -> Vec<CallbackRow> {
    let row = |callback: &Callback| CallbackRow {
        callback: Some(callback.clone()),
        registered_at: now.0,
        state: CallbackState::Standby as i32,
        ..Default::default()
    };
    callbacks.iter().map(row).collect()
}

/// Adds callbacks to an open run.
pub(super) fn attach(run: &mut Run, callbacks: &[Callback], now: ShardTime) {
    if !callbacks.is_empty() {
        run.detail_mut().callbacks.extend(registered(callbacks, now));
    }
}

/// What the next run of the chain is given.
pub(super) fn carried(run: &Run) -> Vec<Callback> {
    run.detail().callbacks.iter().filter_map(|row| row.callback.clone()).collect()
}

/// The run has closed.
pub(super) fn run_closed(tx: &Transaction<'_>, run: &mut Run) {
    let goes_on = !run.row.successor_run_id.is_empty() || !run.row.reset_run_id.is_empty();
    if goes_on || run.detail().callbacks.is_empty() {
        return;
    }
    for row in &mut run.detail_mut().callbacks {
        row.state = CallbackState::Failed as i32;
        row.attempt = 1;
        row.last_attempt_at = tx.now.0;
        row.last_failure = Some(Failure {
            message: "handler error (BAD_REQUEST): invalid callback token".to_owned(),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
                non_retryable: true,
                ..Default::default()
            })),
            ..Default::default()
        });
    }
}

/// As describing the run shows them.
pub(crate) fn described(rows: Vec<CallbackRow>) -> Vec<CallbackInfo> {
    let info = |row: CallbackRow| CallbackInfo {
        callback: row.callback,
        trigger: Some(Trigger { variant: Some(trigger::Variant::WorkflowClosed(WorkflowClosed {})) }),
        registration_time: timestamp_if_set(row.registered_at),
        state: row.state,
        attempt: row.attempt,
        last_attempt_complete_time: timestamp_if_set(row.last_attempt_at),
        last_attempt_failure: row.last_failure,
        ..Default::default()
    };
    rows.into_iter().map(info).collect()
}
