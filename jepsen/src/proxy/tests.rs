//! What passes and what does not, over real sockets.

use super::*;
use crate::ports;

/// A proxy in front of a server that sends back what it gets.
async fn echoing() -> Proxy {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Proxy::begin("test", ports::free().unwrap(), to, 1).await.unwrap()
}

async fn ask(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

/// Reads while it writes: neither side's buffers hold so much.
async fn ask_bulk(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = stream.split();
    let mut answer = vec![0; bytes.len()];
    let (sent, got) = tokio::join!(write.write_all(bytes), read.read_exact(&mut answer));
    sent.unwrap();
    got.unwrap();
    answer
}

const SOON: Duration = Duration::from_millis(150);

#[tokio::test]
async fn bytes_pass_and_are_counted() {
    let proxy = echoing().await;
    let mut stream = TcpStream::connect(proxy.listens).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await, b"hello");
    assert_eq!((proxy.connections(), proxy.bytes()), (1, 10));
}

#[tokio::test]
async fn what_a_cut_held_arrives_after_it_was_healed() {
    let proxy = echoing().await;
    let mut stream = TcpStream::connect(proxy.listens).await.unwrap();
    ask(&mut stream, b"before").await;
    for harm in [Harm::held(), Harm { out: Flow { held: true, ..Flow::default() }, ..Harm::default() }] {
        proxy.harm(harm);
        stream.write_all(b"during").await.unwrap();
        let mut answer = [0; 6];
        assert!(tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.is_err());
        proxy.heal(false);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"during");
    }
}

#[tokio::test]
async fn a_reset_closes_connections_and_a_refusing_link_makes_none() {
    let proxy = echoing().await;
    let mut stream = TcpStream::connect(proxy.listens).await.unwrap();
    ask(&mut stream, b"before").await;
    proxy.harm(Harm::refused());
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let mut other = TcpStream::connect(proxy.listens).await.unwrap();
    assert_eq!(other.read(&mut [0; 1]).await.unwrap_or(0), 0);
    proxy.heal(false);
    let mut again = TcpStream::connect(proxy.listens).await.unwrap();
    assert_eq!(ask(&mut again, b"after").await, b"after");
}

#[tokio::test]
async fn a_delay_delays() {
    let proxy = echoing().await;
    let mut stream = TcpStream::connect(proxy.listens).await.unwrap();
    ask(&mut stream, b"before").await;
    proxy.harm(Harm::slow(Duration::from_millis(40), Duration::ZERO));
    let begin = Instant::now();
    ask(&mut stream, b"slowly").await;
    assert!(begin.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_bit_is_flipped_in_a_bulky_transfer_beside_the_usual_connection_and_nowhere_else() {
    let proxy = echoing().await;
    proxy.flip(1);
    let bulk = vec![0; 256 * 1024];
    let mut usual = TcpStream::connect(proxy.listens).await.unwrap();
    assert_eq!(ask_bulk(&mut usual, &bulk).await, bulk);
    let mut transfer = TcpStream::connect(proxy.listens).await.unwrap();
    let answer = ask_bulk(&mut transfer, &bulk).await;
    assert_eq!(answer.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(proxy.flip_no_more(), 0);
}
