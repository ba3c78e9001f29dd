//! HTTP/2 (RFC 9113) as far as a load generator needs it: GET without a body, answers counted and not decoded.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::Progress;
use crate::upstream::BODY;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head in bytes (section 4.1).
const HEAD: usize = 9;
/// The largest flow-control window (section 6.9.1).
const WINDOW: u32 = 0x7FFF_FFFF;
/// The window of the connection at its start.
const FIRST_WINDOW: u32 = 65_535;
/// Where an HPACK dynamic table starts, after the static one (RFC 7541, section 2.3.3).
const DYNAMIC: u8 = 62;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// An open connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// The block of the first request, which fills the peer's dynamic table.
    first: Vec<u8>,
    /// The block of every later one: indexes only.
    later: Vec<u8>,
    next_stream: u32,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Answers that are under way, by stream.
    answers: Vec<Answer>,
    /// Body bytes that the peer's window has not got back.
    consumed: u32,
    body: Vec<u8>,
}

/// An answer that is under way.
struct Answer {
    stream: u32,
    body: usize,
    ok: bool,
}

// === impl Connection ===

impl Connection {
    /// Sends the preface over a stream whose handshake is done.
    pub async fn start(stream: TlsStream<TcpStream>, name: &str, address: SocketAddr) -> Result<Self> {
        let (first, later) = blocks(name, address);
        let mut connection = Self {
            stream,
            first,
            later,
            next_stream: 1,
            incoming: Vec::new(),
            outgoing: PREFACE.to_vec(),
            answers: Vec::new(),
            consumed: 0,
            body: Vec::new(),
        };
        // SETTINGS_ENABLE_PUSH 0 and SETTINGS_INITIAL_WINDOW_SIZE (section 6.5.2).
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend(WINDOW.to_be_bytes());
        connection.push(SETTINGS, 0, 0, &settings);
        connection.push(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        connection.send().await?;
        Ok(connection)
    }

    /// One request and its complete answer, which must be a 200 of the right length.
    pub async fn exchange(&mut self) -> Result<()> {
        self.request();
        while !self.answers.is_empty() {
            self.send().await?;
            self.receive().await?;
        }
        // What the answer asked for: an acknowledgement, a window.
        self.send().await
    }

    /// The same, with the body.
    pub async fn exchange_for_body(&mut self) -> Result<&[u8]> {
        self.body.clear();
        self.exchange().await?;
        Ok(&self.body)
    }

    /// Keeps `streams` requests under way until the load is over.
    pub async fn multiplex(&mut self, streams: usize, progress: &Progress) -> Result<()> {
        for _ in 0..streams {
            self.request();
        }
        while !self.answers.is_empty() {
            self.send().await?;
            let done = self.receive().await?;
            progress.count(done as u64);
            if !progress.is_over() {
                for _ in 0..done {
                    self.request();
                }
            }
        }
        self.send().await
    }

    /// Closes in both layers.
    pub async fn close(mut self) -> Result<()> {
        self.push(GOAWAY, 0, 0, &[0; 8]);
        self.send().await?;
        Ok(self.stream.shutdown().await?)
    }

    fn request(&mut self) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = if stream == 1 { std::mem::take(&mut self.first) } else { std::mem::take(&mut self.later) };
        self.push(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        if stream != 1 {
            self.later = block;
        }
        self.answers.push(Answer { stream, body: 0, ok: false });
    }

    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // Every frame of this client is far below 64 KiB.
        let [_, _, high, low] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        self.outgoing.extend([0, high, low, kind, flags]);
        self.outgoing.extend(stream.to_be_bytes());
        self.outgoing.extend(payload);
    }

    async fn send(&mut self) -> Result<()> {
        if !self.outgoing.is_empty() {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// Reads once and returns how many answers became complete.
    async fn receive(&mut self) -> Result<usize> {
        self.incoming.reserve(16 * 1024);
        let read = self.stream.read_buf(&mut self.incoming).await.context("cannot read an answer")?;
        ensure!(read > 0, "the peer closed the connection");
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = incoming.as_slice();
        let mut done = 0;
        while let Some((frame, after)) = Frame::split(rest) {
            done += usize::from(self.take(&frame)?);
            rest = after;
        }
        if rest.is_empty() {
            // An idle connection shall not hold a buffer.
            self.incoming = if self.answers.is_empty() { Vec::new() } else { emptied(incoming) };
        } else {
            self.incoming = rest.to_vec();
        }
        if self.consumed > WINDOW / 2 {
            self.push(WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
        Ok(done)
    }

    /// Acts on a frame; true when it completed an answer.
    fn take(&mut self, frame: &Frame<'_>) -> Result<bool> {
        match frame.kind {
            DATA => {
                self.consumed += u32::try_from(frame.payload.len())?;
                let data = frame.content()?;
                let answer = self.answers.iter_mut().find(|answer| answer.stream == frame.stream);
                answer.context("data for no request")?.body += data.len();
                if self.body.len() < BODY {
                    self.body.extend(data);
                }
            }
            HEADERS => {
                ensure!(frame.flags & END_HEADERS != 0, "a head in several frames");
                let ok = status_is_200(frame.content()?);
                let answer = self.answers.iter_mut().find(|answer| answer.stream == frame.stream);
                answer.context("a head for no request")?.ok |= ok;
            }
            SETTINGS if frame.flags & ACK == 0 => {
                self.check(frame.payload)?;
                self.push(SETTINGS, ACK, 0, &[]);
            }
            PING if frame.flags & ACK == 0 => self.push(PING, ACK, 0, frame.payload),
            GOAWAY => bail!("the peer closes the connection (GOAWAY)"),
            RST_STREAM => bail!("the peer broke a stream off"),
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            let place = self.answers.iter().position(|answer| answer.stream == frame.stream);
            let answer = self.answers.swap_remove(place.context("an end for no request")?);
            ensure!(answer.ok && answer.body == BODY, "not a 200 with {BODY} bytes");
            return Ok(true);
        }
        Ok(false)
    }

    /// The blocks of the requests rest on the peer's table for headers having its usual size.
    fn check(&self, settings: &[u8]) -> Result<()> {
        for setting in settings.chunks_exact(6) {
            if let [0, 1, a, b, c, d] = *setting {
                let size = u32::from_be_bytes([a, b, c, d]);
                ensure!(size >= 4096, "a header table of {size} bytes is not provided for");
            }
        }
        Ok(())
    }
}

fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

/// A frame (section 4.1).
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// The first complete frame and the bytes after it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a, b, c, kind, flags, d, e, f, g], after) = bytes.split_first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let (payload, rest) = after.split_at_checked(length)?;
        Some((Self { kind, flags, stream: u32::from_be_bytes([d & 0x7F, e, f, g]), payload }, rest))
    }

    /// The payload without padding and priority.
    fn content(&self) -> Result<&'a [u8]> {
        let mut content = self.payload;
        if self.flags & PADDED != 0 {
            let (&padding, rest) = content.split_first().context("no length of padding")?;
            let end = rest.len().checked_sub(padding.into()).context("more padding than frame")?;
            content = rest.get(..end).unwrap_or_default();
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            content = content.get(5..).context("no priority")?;
        }
        Ok(content)
    }
}

/// Whether a header block starts with `:status: 200`, index 8 of the static table, after any change of table size.
fn status_is_200(block: &[u8]) -> bool {
    block.iter().find(|byte| **byte & 0xE0 != 0x20) == Some(&0x88)
}

/// Two header blocks for the same request (RFC 7541): the first adds every field to the dynamic table, the second
/// refers to them.
fn blocks(name: &str, address: SocketAddr) -> (Vec<u8>, Vec<u8>) {
    let authority = format!("{name}:{}", address.port());
    let fields = [(":authority", authority.as_str()), (":path", super::PATH)].into_iter().chain(super::HEADERS);
    // `:method: GET` and `:scheme: https` stand in the static table.
    let (mut first, mut later) = (vec![0x82, 0x87], vec![0x82, 0x87]);
    let count = u8::try_from(2 + super::HEADERS.len()).unwrap_or_default();
    for (position, (field, value)) in (0..).zip(fields) {
        // A literal with incremental indexing and a new name (section 6.2.1).
        first.push(0x40);
        for text in [field, value] {
            first.push(u8::try_from(text.len()).unwrap_or_default());
            first.extend(text.as_bytes());
        }
        // An indexed field (section 6.1); the newest entry has the lowest index.
        later.push(0x80 | (DYNAMIC + count - 1 - position));
    }
    (first, later)
}
