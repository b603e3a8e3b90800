//! Calls with deadlines, and what their failures mean.
//!
//! Called by workers and clients for everything that they ask of a node.

use std::future::Future;
use std::time::Duration;

use rand::Rng;
use stanchion_proto::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::{Nodes, Timings};
use crate::program::Dice;

pub type Client = WorkflowServiceClient<Channel>;

const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What came of a call that was repeated until it was known or given up.
#[derive(Debug)]
pub enum Told<T> {
    Ok(T),
    /// Certainly without effect.
    Fail(Status),
    /// It happened zero times or once.
    Unknown(Status),
}

/// Whether a status says that the call had no effect and will have none.
///
/// What a server does not know itself it says with `UNAVAILABLE`, `DEADLINE_EXCEEDED` and the like; `ABORTED` and `INTERNAL` leave open how
/// far it came. What was shed (`RESOURCE_EXHAUSTED`) was not begun.
pub fn had_no_effect(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::ResourceExhausted => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// One task's way to the nodes.
pub struct Caller<N> {
    nodes: N,
    pub dice: Dice,
    timings: Timings,
    at: usize,
    /// Whether the last request that was asked for was sent more than once.
    pub repeated: bool,
}

impl<N: Nodes> Caller<N> {
    pub fn new(nodes: &N, mut dice: Dice, timings: &Timings) -> Self {
        let at = dice.random_range(0..nodes.count().max(1));
        Self { nodes: nodes.clone(), dice, timings: timings.clone(), at, repeated: false }
    }

    /// A way of its own for a task that begins beside this one.
    pub fn another(&self, dice: Dice) -> Self {
        Self::new(&self.nodes, dice, &self.timings)
    }

    /// One call to the node whose turn it is. Its deadline holds here, whatever becomes of the connection.
    pub async fn once<M, T, F, Fut>(&mut self, message: M, within: Duration, call: F) -> Result<T, Status>
    where
        F: FnOnce(Client, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let client = Client::new(self.nodes.channel(self.at))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut request = Request::new(message);
        request.set_timeout(within);
        // The server answers a little before the deadline; past it nobody will.
        match tokio::time::timeout(within + within / 10, call(client, request)).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer within the client's own deadline")),
        }
    }

    /// Repeats the same request, on another node each time, until its outcome is known or it was tried often enough. A refusal counts as
    /// certain only if every try before it was refused too.
    pub async fn ask<M, T, F, Fut>(&mut self, message: M, call: F) -> Told<T>
    where
        M: Clone,
        F: Fn(Client, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_within(message, self.timings.call, call).await
    }

    pub async fn ask_within<M, T, F, Fut>(&mut self, message: M, within: Duration, call: F) -> Told<T>
    where
        M: Clone,
        F: Fn(Client, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut unknown = None;
        let mut shed = None;
        for n in 0..self.timings.tries.max(1) {
            self.repeated = n > 0;
            match self.once(message.clone(), within, &call).await {
                Ok(answer) => return Told::Ok(answer),
                Err(status) if status.code() == Code::ResourceExhausted => shed = Some(status),
                Err(status) if had_no_effect(&status) => {
                    return match unknown {
                        None => Told::Fail(status),
                        Some(_) => Told::Unknown(status),
                    };
                }
                Err(status) => unknown = Some(status),
            }
            self.elsewhere().await;
        }
        match (unknown, shed) {
            (None, Some(status)) => Told::Fail(status),
            (Some(status), _) => Told::Unknown(status),
            (None, None) => Told::Unknown(Status::unknown("it was never tried")),
        }
    }

    /// Pauses and turns to another node.
    pub async fn elsewhere(&mut self) {
        self.pause(self.timings.pause).await;
        self.next_node();
    }

    pub fn next_node(&mut self) {
        self.at = (self.at + 1) % self.nodes.count().max(1);
    }

    /// The next call goes to any node: a read shows most where the write before it did not go.
    pub fn any_node(&mut self) {
        self.at = self.dice.random_range(0..self.nodes.count().max(1));
    }

    /// Up to `most`, at least a millisecond.
    pub async fn pause(&mut self, most: Duration) {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(2);
        let ms = self.dice.random_range(1..most);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// One in `of`; never for 0.
    pub fn chance(&mut self, of: u32) -> bool {
        of > 0 && self.dice.random_ratio(1, of)
    }

    /// An id that repeats with the seed.
    pub fn fresh_id(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.dice.random()).into_uuid().to_string()
    }
}
