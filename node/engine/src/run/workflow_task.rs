//! The workflow task of a run.

use super::Run;
use crate::transaction::Transaction;

/// Schedules a workflow task unless there is one, or the run still backs off before its first.
pub fn schedule_if_none(_tx: &mut Transaction<'_>, _run: &mut Run) {}
