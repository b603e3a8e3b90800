//! Fields of a memo and search attributes whose value says that there is none: nothing, null, an empty list.
//!
//! What a run begins with leaves them out, as the real server does; an upsert records them, because there they take a field away.
//!
//! Called by the server's frontend for starts, schedules and the commands that start a run, and by a schedule's actions.

use std::collections::BTreeMap;

use stanchion_proto::temporal::common::v1::{Memo, Payload, SearchAttributes};

/// Whatever its encoding says.
pub fn is_absent(payload: &Payload) -> bool {
    matches!(payload.data.as_ref(), b"" | b"null" | b"[]")
}

/// A memo of absent fields only is no memo.
pub fn drop_from_memo(memo: &mut Option<Memo>) {
    if memo.as_mut().is_some_and(|memo| drop_absent(&mut memo.fields)) {
        *memo = None;
    }
}

/// Likewise search attributes.
pub fn drop_from_attributes(attributes: &mut Option<SearchAttributes>) {
    if attributes.as_mut().is_some_and(|attributes| drop_absent(&mut attributes.indexed_fields)) {
        *attributes = None;
    }
}

/// Whether nothing is left of fields that there were.
fn drop_absent(fields: &mut BTreeMap<String, Payload>) -> bool {
    let before = fields.len();
    fields.retain(|_, payload| !is_absent(payload));
    before > 0 && fields.is_empty()
}
