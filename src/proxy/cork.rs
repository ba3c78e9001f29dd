//! Gathers what a protocol writes piece by piece, so that it leaves in one TLS record and one system call.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is held back: what a TLS record takes (RFC 8446 section 5.1).
const MOST: usize = 16 * 1024;

/// A stream that holds back what is written to it until [`Corked::poll_release`], or until there is a record full.
///
/// The `h2` crate flushes after every frame, and so makes a record and a system call of each. It is given one handle
/// and may flush as it likes; the connection's task has the other, and releases what is there once a turn.
#[derive(Debug)]
pub(crate) struct Corked<S>(Rc<RefCell<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    /// Gone while nothing is held back, so that an idle connection has no buffer.
    held: Vec<u8>,
    /// How much of it the stream has taken.
    taken: usize,
}

// === impl Corked ===

impl<S: AsyncWrite + Unpin> Corked<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Inner { stream, held: Vec::new(), taken: 0 })))
    }

    /// Another handle to the same stream.
    pub(crate) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// Writes what is held back. Ready when the system has all of it.
    ///
    /// # Errors
    /// When the stream takes nothing any more.
    pub(crate) fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_release(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    /// Says that all is written; [`Corked::poll_release`] does it.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_release(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

// === impl Inner ===

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() >= MOST {
            // The writer waits for the system, so that a client that does not read costs a record, not a response.
            ready!(self.poll_release(cx))?;
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(MOST);
        }
        let count = bytes.len().min(MOST - self.held.len());
        self.held.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
        }
        self.held = Vec::new();
        self.taken = 0;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    fn corked(room: usize) -> (Corked<DuplexStream>, Corked<DuplexStream>, DuplexStream) {
        let (stream, peer) = duplex(room);
        let corked = Corked::new(stream);
        (corked.share(), corked, peer)
    }

    /// What a peer can read now.
    fn readable(peer: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = vec![0; 4 * MOST];
        let mut room = ReadBuf::new(&mut bytes);
        let _ = Pin::new(peer).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut room);
        room.filled().to_vec()
    }

    #[tokio::test]
    async fn what_is_written_leaves_in_one_piece_when_it_is_released() {
        let (mut writer, owner, mut peer) = corked(4 * MOST);
        for piece in [b"one, ", b"two, "] {
            writer.write_all(piece).await.unwrap();
            writer.flush().await.unwrap();
        }
        assert_eq!(readable(&mut peer), b"");
        poll_fn(|cx| owner.poll_release(cx)).await.unwrap();
        assert_eq!(readable(&mut peer), b"one, two, ");
        assert_eq!(owner.0.borrow().held.capacity(), 0);
    }

    #[tokio::test]
    async fn no_more_than_a_record_waits_for_a_peer_that_does_not_read() {
        let (mut writer, owner, mut peer) = corked(100);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut written = 0;
        while let Poll::Ready(count) = Pin::new(&mut writer).poll_write(&mut cx, &[7; 1000]) {
            written += count.unwrap();
            assert!(owner.poll_release(&mut cx).is_pending() || written <= 100);
        }
        assert_eq!((written, owner.0.borrow().held.len()), (MOST, MOST));
        // What the peer reads makes room, and wakes who waits for it.
        let rest = tokio::spawn(async move {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).await.unwrap();
            rest.len()
        });
        writer.write_all(&[7; 1000]).await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(rest.await.unwrap(), MOST + 1000);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_told_of() {
        let (mut writer, owner, peer) = corked(100);
        drop(peer);
        writer.write_all(b"x").await.unwrap();
        assert_eq!(poll_fn(|cx| owner.poll_release(cx)).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(writer.shutdown().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
