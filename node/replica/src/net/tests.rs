//! A listener that fails is asked again, and not all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;

use super::*;

/// Fails each time, and counts.
struct Failing {
    with: io::ErrorKind,
    asked: Arc<AtomicUsize>,
}

impl Listener for Failing {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Socket>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let failed = Err(self.with.into());
        async move { failed }.boxed()
    }
}

/// How often a server that wants `wanted` connections has asked, and after how long.
async fn asked(with: io::ErrorKind, wanted: usize) -> (usize, Duration) {
    let asked = Arc::new(AtomicUsize::new(0));
    let began = tokio::time::Instant::now();
    let errors = incoming(Box::new(Failing { with, asked: asked.clone() }));
    assert!(errors.take(wanted).all(|accepted| async move { accepted.is_err() }).await);
    (asked.load(Ordering::Relaxed), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_fails_every_time_is_not_asked_all_the_time() {
    // As when the process has no file descriptor left.
    assert_eq!(asked(io::ErrorKind::Other, 10).await, (10, Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn one_broken_connection_holds_up_no_other() {
    assert_eq!(asked(io::ErrorKind::ConnectionAborted, 10).await, (10, Duration::ZERO));
}
