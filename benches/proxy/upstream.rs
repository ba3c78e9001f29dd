//! The servers behind the proxies: HTTP/1.1 with keep-alive, one fixed answer of 1024 bytes a name.
//!
//! They run in the thread of the load generator. With one thread on the core there is no switching between the two,
//! which would add noise of its own to every peer's numbers.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Length of an answer's body in bytes.
pub const BODY: usize = 1024;

/// The body that the server called `name` answers with.
pub fn body(name: &str) -> String {
    let start = format!("{{\"server_name\":\"{name}\",\"padding\":\"");
    let fill = BODY.saturating_sub(start.len() + 2);
    format!("{start}{}\"}}", "x".repeat(fill))
}

/// Starts a server and returns its address; it ends with the runtime.
pub async fn start(name: &str) -> Result<SocketAddr> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(4096).context("cannot listen on the loopback interface")?;
    let address = listener.local_addr()?;
    let answer: Arc<[u8]> = answer(name).into_bytes().into();
    tokio::spawn(accept(listener, answer));
    Ok(address)
}

async fn accept(listener: TcpListener, answer: Arc<[u8]>) {
    loop {
        // Out of files: the peers report it as a failed request.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            // A peer may close a connection at any time; that is no error here.
            let _ = serve(stream, &answer).await;
        });
    }
}

/// Answers every request head; the load has no bodies.
async fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let mut held = 0;
    loop {
        let read = match buffer.get_mut(held..) {
            Some(free) if !free.is_empty() => stream.read(free).await?,
            _ => return Err(std::io::Error::other("a request head above 4096 bytes")),
        };
        if read == 0 {
            return Ok(());
        }
        held += read;
        while let Some(end) = head_end(&buffer[..held]) {
            stream.write_all(answer).await?;
            buffer.copy_within(end..held, 0);
            held -= end;
        }
    }
}

/// Where the head of a request or an answer ends, after its empty line.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

/// The headers are those that Synapse sends.
fn answer(name: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: Synapse/1.163.2\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: application/json\r\nCache-Control: no-cache, no-store, must-revalidate\r\n\
         Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n\
         Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization, Date\r\n\
         Content-Length: {BODY}\r\n\r\n{}",
        body(name)
    )
}
