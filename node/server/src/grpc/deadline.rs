//! Ends a call whose client's time is over with DEADLINE_EXCEEDED. The gRPC library would end it a moment later with CANCELLED, which a
//! client sees whose own clock is a little behind.
//!
//! Called by `grpc::serve`, for every request.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::context::timeout_of;

/// So much before the library's own time-out, which counts in milliseconds.
const AHEAD: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Within<S>;

    fn layer(&self, inner: S) -> Within<S> {
        Within { inner }
    }
}

#[derive(Clone)]
pub struct Within<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Within<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let within = timeout_of(request.headers());
        let answer = self.inner.call(request);
        let Some(within) = within else { return Box::pin(answer) };
        Box::pin(async move {
            match tokio::time::timeout(within.saturating_sub(AHEAD), answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("context deadline exceeded").into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    /// The code that a call ends with which has so much time, and is answered at once or never.
    async fn code(timeout: Option<&str>, is_answered: bool) -> Option<String> {
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let service = tower::service_fn(move |_: Request<()>| async move {
            if !is_answered {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        });
        let response = Deadlines.layer(service).oneshot(request).await.unwrap();
        response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_ends_when_its_clients_time_is_over() {
        assert_eq!(code(Some("20m"), false).await, Some("4".into()));
        assert_eq!(code(Some("20S"), true).await, None);
        assert_eq!(code(None, true).await, None);
    }
}
