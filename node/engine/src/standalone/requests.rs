//! What callers ask of a standalone activity: its cancellation, its end, its deletion. Each request counts once by its request id.

use bytes::Bytes;
use stanchion_proto::command::{CancelStandaloneActivity, DeleteStandaloneActivity, TerminateStandaloneActivity};
use stanchion_proto::temporal::common::v1::{Payload, Payloads};
use stanchion_proto::temporal::enums::v1::RetryState;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, TerminatedFailureInfo};

use super::{Alone, Status, Value, answers, precondition};
use crate::reply::{Rejection, Reply};
use crate::transaction::{Outcome, Transaction};

/// CancelStandaloneActivity. A worker that has the activity hears of it with its next heartbeat; one that no worker has ends at once.
pub fn request_cancel(tx: &mut Transaction<'_>, command: &CancelStandaloneActivity) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("CancelStandaloneActivity carries no request.").into());
    };
    let mut alone = Alone::find(tx, &request.activity_id, &request.run_id)?;
    if alone.row.cancel_requested {
        if alone.row.cancel_request_id == request.request_id {
            return Ok(Reply::Done);
        }
        if alone.is_open() {
            let before = &alone.row.cancel_request_id;
            return Err(precondition(format!("cancellation already requested with request ID {before}")).into());
        }
    }
    if !alone.is_open() {
        return Err(precondition(format!("activity is in terminal state {}", alone.state_name())).into());
    }
    alone.row.cancel_requested = true;
    alone.row.cancel_request_id.clone_from(&request.request_id);
    alone.row.cancel_identity.clone_from(&request.identity);
    alone.row.cancel_reason.clone_from(&request.reason);
    if alone.activity.started_at == 0 {
        let failure = answers::canceled(Some(json(&request.reason)), &request.identity);
        alone.close(tx, Status::Canceled, Value::Failure(failure), RetryState::Unspecified)?;
    }
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// TerminateStandaloneActivity.
pub fn terminate(tx: &mut Transaction<'_>, command: &TerminateStandaloneActivity) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("TerminateStandaloneActivity carries no request.").into());
    };
    let mut alone = Alone::find(tx, &request.activity_id, &request.run_id)?;
    if alone.status() == Status::Terminated {
        let before = &alone.row.terminate_request_id;
        if *before == request.request_id {
            return Ok(Reply::Done);
        }
        return Err(precondition(format!("already terminated with request ID {before}")).into());
    }
    if !alone.is_open() {
        return Err(precondition(format!("invalid transition from {}", alone.state_name())).into());
    }
    alone.row.terminate_request_id.clone_from(&request.request_id);
    let failure = Failure {
        message: request.reason.clone(),
        failure_info: Some(FailureInfo::TerminatedFailureInfo(TerminatedFailureInfo {
            identity: request.identity.clone(),
        })),
        ..Default::default()
    };
    alone.close(tx, Status::Terminated, Value::Failure(failure), RetryState::Unspecified)?;
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// DeleteStandaloneActivity. An open one is ended by it.
pub fn delete(tx: &mut Transaction<'_>, command: &DeleteStandaloneActivity) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("DeleteStandaloneActivity carries no request.").into());
    };
    let alone = Alone::find(tx, &request.activity_id, &request.run_id)?;
    alone.erase(tx)?;
    Ok(Reply::Done)
}

/// The text as a JSON payload.
fn json(text: &str) -> Payloads {
    let mut data = String::with_capacity(text.len() + 2);
    data.push('"');
    for letter in text.chars() {
        match letter {
            '"' => data.push_str("\\\""),
            '\\' => data.push_str("\\\\"),
            control if control < ' ' => data.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => data.push(other),
        }
    }
    data.push('"');
    let metadata = [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into();
    Payloads { payloads: vec![Payload { metadata, data: data.into(), ..Default::default() }] }
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn any_text_becomes_json() {
        assert_eq!(json("a \"b\" \\ \n ü").payloads[0].data, "\"a \\\"b\\\" \\\\ \\u000a ü\"".as_bytes());
    }
}
