//! HTTP/1.1 with keep-alive, one request at a time.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::upstream::{BODY, head_end};

/// The largest answer that is read, head and body, in bytes.
const LIMIT: usize = 4096;

/// An open connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    /// Over a stream whose handshake is done.
    pub fn new(stream: TlsStream<TcpStream>, name: &str, address: SocketAddr) -> Self {
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {name}:{}\r\n", super::PATH, address.port());
        for (header, value) in super::HEADERS {
            // Writing to a String cannot fail.
            let _ = write!(request, "{header}: {value}\r\n");
        }
        request.push_str("\r\n");
        Self { stream, request: request.into_bytes(), buffer: Vec::new() }
    }

    /// One request and its complete answer, which must be a 200 of the right length.
    pub async fn exchange(&mut self) -> Result<()> {
        self.exchange_for_body().await.map(drop)
    }

    /// The same, with the body.
    pub async fn exchange_for_body(&mut self) -> Result<&[u8]> {
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = head_end(&self.buffer) {
                break end;
            }
        };
        let text =
            std::str::from_utf8(self.buffer.get(..head).unwrap_or_default()).context("a head that is no text")?;
        ensure!(text.starts_with("HTTP/1.1 200"), "not a 200: {}", text.lines().next().unwrap_or_default());
        ensure!(content_length(text) == Some(BODY), "an answer without the right content-length");
        while self.buffer.len() < head + BODY {
            self.read().await?;
        }
        ensure!(self.buffer.len() == head + BODY, "bytes after the answer");
        Ok(self.buffer.get(head..).unwrap_or_default())
    }

    /// Closes in both layers.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    async fn read(&mut self) -> Result<()> {
        self.buffer.reserve(LIMIT / 2);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(_) if self.buffer.len() > LIMIT => bail!("an answer above {LIMIT} bytes"),
            Ok(_) => Ok(()),
            Err(error) => Err(error).context("cannot read the answer"),
        }
    }
}

fn content_length(head: &str) -> Option<usize> {
    const NAME: &str = "content-length:";
    let line = head.lines().find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    line.get(NAME.len()..)?.trim().parse().ok()
}
