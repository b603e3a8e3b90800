//! RecordMarker: its own rules. Called by `completion`.

use prost::Message;
use stanchion_proto::temporal::command::v1::RecordMarkerCommandAttributes;
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::validate::Refusal;
use crate::validate::fields::ID_BYTES_MAX;

pub fn record(
    attributes: Option<&RecordMarkerCommandAttributes>,
    payload_bytes_max: usize,
) -> Result<&RecordMarkerCommandAttributes, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadRecordMarkerAttributes;
    let Some(attributes) = attributes else {
        return Err(Refusal::new(CAUSE, "RecordMarkerCommandAttributes is not set on RecordMarkerCommand."));
    };
    let name = &attributes.marker_name;
    if name.is_empty() {
        return Err(Refusal::new(CAUSE, "MarkerName is not set on RecordMarkerCommand."));
    }
    if name.len() > ID_BYTES_MAX {
        let length = name.len();
        return Err(Refusal::new(
            CAUSE,
            format!(
                "MarkerName on RecordMarkerCommand exceeds length limit. MarkerName={name} Length={length} Limit={ID_BYTES_MAX}"
            ),
        ));
    }
    let bytes: usize = attributes.details.iter().map(|(name, values)| name.len() + values.encoded_len()).sum();
    if bytes > payload_bytes_max {
        return Err(Refusal::oversized(CAUSE, "RecordMarkerCommandAttributes.Details exceeds size limit."));
    }
    Ok(attributes)
}
