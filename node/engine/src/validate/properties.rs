//! UpsertWorkflowSearchAttributes and ModifyWorkflowProperties: their own rules. Called by `completion`.
//!
//! Whether a search attribute exists and a value has its type is known to the meta group alone, not here: the server asks
//! [`super::search_attributes`] before it proposes the completion.

use stanchion_proto::temporal::command::v1::{
    ModifyWorkflowPropertiesCommandAttributes, UpsertWorkflowSearchAttributesCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::validate::Refusal;
use crate::validate::fields;
use crate::validate::search_attributes::check_sizes;

pub fn upsert_search_attributes(
    attributes: Option<&UpsertWorkflowSearchAttributesCommandAttributes>,
    payload_bytes_max: usize,
) -> Result<&SearchAttributes, Refusal> {
    let refuse = |reason| Refusal::new(WorkflowTaskFailedCause::BadSearchAttributes, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(
            "UpsertWorkflowSearchAttributesCommandAttributes is not set on UpsertWorkflowSearchAttributesCommand.",
        ));
    };
    let Some(upserted) = attributes.search_attributes.as_ref() else {
        return Err(refuse("SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand."));
    };
    if upserted.indexed_fields.is_empty() {
        return Err(refuse("IndexedFields is not set on UpsertWorkflowSearchAttributesCommand."));
    }
    check_sizes(Some(upserted)).map_err(|why| Refusal::oversized(WorkflowTaskFailedCause::BadSearchAttributes, why))?;
    if fields::payload_map_bytes(&upserted.indexed_fields) > payload_bytes_max {
        return Err(Refusal::oversized(
            WorkflowTaskFailedCause::BadSearchAttributes,
            "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.",
        ));
    }
    Ok(upserted)
}

pub fn modify(
    attributes: Option<&ModifyWorkflowPropertiesCommandAttributes>,
    memo_bytes_max: usize,
) -> Result<&Memo, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadModifyWorkflowPropertiesAttributes;
    let Some(attributes) = attributes else {
        return Err(Refusal::new(
            CAUSE,
            "ModifyWorkflowPropertiesCommandAttributes is not set on ModifyWorkflowPropertiesCommand.",
        ));
    };
    let Some(memo) = attributes.upserted_memo.as_ref() else {
        return Err(Refusal::new(CAUSE, "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand."));
    };
    if fields::payload_map_bytes(&memo.fields) > memo_bytes_max {
        return Err(Refusal::oversized(CAUSE, "ModifyWorkflowPropertiesCommandAttributes exceeds size limit."));
    }
    Ok(memo)
}
