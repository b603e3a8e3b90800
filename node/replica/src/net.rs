//! Where a node listens and how it connects: real sockets, or whatever stands in their place.
//!
//! Everything between nodes, and the clients' address, goes through a [`Net`]. The binary uses [`RealNet`]; the simulator has one whose
//! wires are simulated. A name or an address is only looked up by the net itself.
//!
//! Never: a socket opened past it, but for the HTTP port, which no other node and no client of workflows uses.
//!
//! Called by the transport, and by the server for its listeners.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Channel, Endpoint};

/// See the module.
pub trait Net: Send + Sync + 'static {
    /// Listens on the address; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Connects, within the endpoint's time-out.
    fn connect(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>>;

    /// A channel that connects at its first call, and again after a failure.
    fn connect_lazy(&self, endpoint: Endpoint) -> Channel;
}

/// An address that is listened on.
pub trait Listener: Send + 'static {
    /// The address that was bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection. Dropping the future loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Socket>>;
}

/// The bytes of one connection, and who is at its ends.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    fn local_addr(&self) -> Option<SocketAddr>;
    fn peer_addr(&self) -> Option<SocketAddr>;
}

/// An accepted connection.
pub enum Socket {
    Tcp(TcpStream),
    Other(Box<dyn Wire>),
}

/// Between two tries where none can succeed, for want of file descriptors for example: the server asks again at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The connections of a listener, for a server; an error of one does not end the stream.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Socket>> + Send {
    stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await;
        if accepted.as_ref().is_err_and(|error| !is_of_one_connection(error)) {
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
        Some((accepted, listener))
    })
}

/// Whether the next connection may be accepted for all that.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// This machine's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNet;

impl Net for RealNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listener>) }.boxed()
    }

    fn connect(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> {
        async move { endpoint.connect().await }.boxed()
    }

    fn connect_lazy(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_lazy()
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Socket>> {
        async move {
            let (stream, _) = TcpListener::accept(self).await?;
            // A connection that is already broken says so when it is read.
            let _ = stream.set_nodelay(true);
            Ok(Socket::Tcp(stream))
        }
        .boxed()
    }
}

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Tcp(stream) => stream.connect_info(),
            Self::Other(wire) => TcpConnectInfo { local_addr: wire.local_addr(), remote_addr: wire.peer_addr() },
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Other(wire) => Pin::new(wire).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Other(wire) => Pin::new(wire).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Other(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(wire) => wire.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(wire) => Pin::new(wire).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(wire) => Pin::new(wire).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
