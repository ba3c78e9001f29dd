//! Buffers that are read into. An idle connection holds none.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Size of a buffer: that of a TLS record.
pub(crate) const SIZE: usize = 16 * 1024;

/// Spare buffers that each thread keeps.
const SPARES: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    static SPARE_OUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty vector to write into, with room if this thread has one to spare.
pub(crate) fn spare_output() -> Vec<u8> {
    SPARE_OUT.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes a vector back that was written into, so that an idle connection holds none.
pub(crate) fn keep_output(mut bytes: Vec<u8>) {
    if (1..=2 * SIZE).contains(&bytes.capacity()) {
        bytes.clear();
        SPARE_OUT.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(bytes);
            }
        });
    }
}

/// Bytes that were read and not yet used.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Empty, or initialised over its whole length.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

// === impl Buffer ===

impl Buffer {
    /// The unused bytes.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Marks the first bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.release();
        }
    }

    /// Reads what is there, once, growing up to `most` bytes in all. Gives 0 at the end of the stream and when `most`
    /// bytes are held already.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.make_room(most);
        let mut room = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        let polled = Pin::new(reader).poll_read(cx, &mut room);
        let count = room.filled().len();
        self.end += count;
        if self.is_empty() {
            self.release();
        }
        ready!(polled)?;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self, most: usize) {
        if self.bytes.is_empty() {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
        }
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.bytes.len() < most {
            self.bytes.resize((self.bytes.len() * 2).min(most), 0);
        }
    }

    /// Gives an empty buffer's memory back.
    fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() == SIZE {
            // A buffer that outlives its thread is simply freed.
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < SPARES {
                    spare.push(bytes);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}
