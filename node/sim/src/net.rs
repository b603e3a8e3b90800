//! The nodes' and the clients' way onto the simulated network.
//!
//! Machine `n` has the address 10.0.0.(n+1). Called by the node through [`stanchion_replica::Net`], and by the clients of a seed.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use stanchion_replica::{Listener, Net, Socket, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint};

use crate::world::{self, Machine, Stream, World};

/// The address of a machine.
pub fn address(machine: Machine) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(machine + 1).unwrap_or(u8::MAX)))
}

fn machine(address: IpAddr) -> Option<Machine> {
    match address {
        IpAddr::V4(v4) if v4.octets()[..3] == [10, 0, 0] => Machine::from(v4.octets()[3]).checked_sub(1),
        _ => None,
    }
}

/// The network as one machine has it.
#[derive(Clone)]
pub struct SimNet {
    pub world: World,
    pub machine: Machine,
}

type Connecting = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

impl SimNet {
    fn connector(
        &self,
    ) -> impl tower::Service<http::Uri, Response = TokioIo<Stream>, Error = io::Error, Future = Connecting>
    + Send
    + 'static
    + use<> {
        let net = self.clone();
        tower::service_fn(move |uri: http::Uri| {
            let net = net.clone();
            async move {
                let host = uri.host().unwrap_or_default().parse().ok().and_then(machine);
                let (Some(to), Some(port)) = (host, uri.port_u16()) else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("no machine has the address {uri}"),
                    ));
                };
                Stream::connect(&net.world, net.machine, to, port).await.map(TokioIo::new)
            }
            .boxed()
        })
    }
}

impl Net for SimNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (world, machine) = (self.world.clone(), self.machine);
        async move {
            let listener = world::Listener::bind(&world, machine, address.port())?;
            Ok(Box::new(Listening(listener)) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> {
        let connector = self.connector();
        async move { endpoint.connect_with_connector(connector).await }.boxed()
    }

    fn connect_lazy(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }
}

struct Listening(world::Listener);

impl Listener for Listening {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let (machine, port) = self.0.address();
        Ok(SocketAddr::new(address(machine), port))
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Socket>> {
        async move {
            let stream = poll_fn(|context| self.0.poll_accept(context)).await?;
            Ok(Socket::Other(Box::new(Accepted(stream))))
        }
        .boxed()
    }
}

struct Accepted(Stream);

impl Wire for Accepted {
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        let (machine, port) = self.0.peer();
        Some(SocketAddr::new(address(machine), port))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
