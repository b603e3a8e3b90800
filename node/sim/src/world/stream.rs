//! Sockets of the simulated network, as tokio's are used.
//!
//! Called by `net`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{End, EndId, Listening, Machine, Segment, WINDOW_BYTES, World};

/// A connection. Dropping it closes it.
pub struct Stream {
    world: World,
    id: EndId,
    peer: (Machine, u16),
}

impl Stream {
    /// Connects from one machine to a port of another. Waits for as long as nobody answers: bound it.
    ///
    /// # Errors
    /// Refused, because nobody listens there.
    pub async fn connect(world: &World, from: Machine, to: Machine, port: u16) -> io::Result<Self> {
        let id = {
            let mut inner = world.0.lock();
            let id = inner.next_connection * 2;
            inner.next_connection += 1;
            inner.ends.insert(id, End::new(from));
            // Until the other side has heard of it, its end is nobody's.
            inner.ends.insert(id ^ 1, End { open: false, ..End::new(to) });
            inner.send(id, Segment::Syn { port });
            id
        };
        // Held already, so that a caller who gives up closes it.
        let stream = Self { world: world.clone(), id, peer: (to, port) };
        poll_fn(|context| {
            let mut inner = stream.world.0.lock();
            match inner.ends.get_mut(&id) {
                Some(end) if end.reset => Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused))),
                Some(end) if end.connected => Poll::Ready(Ok(())),
                Some(end) => {
                    end.reader = Some(context.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
            }
        })
        .await?;
        Ok(stream)
    }

    /// The other machine, and the port that was called.
    pub fn peer(&self) -> (Machine, u16) {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.world.0.lock();
        let Some(end) = inner.ends.get_mut(&self.id).filter(|end| end.open && !end.reset) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if end.inbox.is_empty() {
            if end.eof {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut read = 0;
        while to.remaining() > 0
            && let Some(mut bytes) = end.inbox.pop_front()
        {
            let some = bytes.len().min(to.remaining());
            to.put_slice(&bytes[..some]);
            read += some;
            bytes.advance(some);
            if !bytes.is_empty() {
                end.inbox.push_front(bytes);
            }
        }
        if let Some(other) = inner.ends.get_mut(&(self.id ^ 1)) {
            other.unread = other.unread.saturating_sub(read);
            if let Some(waker) = other.writer.take() {
                waker.wake();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.world.0.lock();
        let Some(end) = inner.ends.get_mut(&self.id).filter(|end| end.open && !end.reset) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if end.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if end.unread >= WINDOW_BYTES {
            end.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let some = from.len().min(WINDOW_BYTES);
        end.unread += some;
        inner.send(self.id, Segment::Data(Bytes::copy_from_slice(&from[..some])));
        Poll::Ready(Ok(some))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.world.0.lock();
        if let Some(end) = inner.ends.get_mut(&self.id).filter(|end| end.open && !end.reset)
            && !std::mem::replace(&mut end.finished, true)
        {
            inner.send(self.id, Segment::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.world.0.lock().close(self.id);
    }
}

/// A port that is listened on. Dropping it frees the port.
pub struct Listener {
    world: World,
    machine: Machine,
    port: u16,
}

impl Listener {
    /// # Errors
    /// The port is taken.
    pub fn bind(world: &World, machine: Machine, port: u16) -> io::Result<Self> {
        let mut inner = world.0.lock();
        if inner.listening.contains_key(&(machine, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.listening.insert((machine, port), Listening::default());
        Ok(Self { world: world.clone(), machine, port })
    }

    /// The next caller.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let mut inner = self.world.0.lock();
        // Its process has ended, and is polled to the end of its turn: nothing comes any more.
        let Some(listening) = inner.listening.get_mut(&(self.machine, self.port)) else { return Poll::Pending };
        let Some(id) = listening.backlog.pop_front() else {
            listening.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let peer = inner.machine(id ^ 1).unwrap_or(self.machine);
        Poll::Ready(Ok(Stream { world: self.world.clone(), id, peer: (peer, 0) }))
    }

    pub fn address(&self) -> (Machine, u16) {
        (self.machine, self.port)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut inner = self.world.0.lock();
        if let Some(listening) = inner.listening.remove(&(self.machine, self.port)) {
            for waiting in listening.backlog {
                inner.close(waiting);
            }
        }
    }
}
