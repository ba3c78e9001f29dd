//! Bytes both ways between two streams: after an HTTP upgrade, and through the egress.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::AsyncWrite as _;

use super::{
    http1::buffer::{Buffer, SIZE},
    io::{Stream, Timer},
};

/// One direction of a tunnel.
struct Direction {
    held: Buffer,
    ended: bool,
    shut: bool,
}

/// Copies until both sides have ended, one fails, or nothing passes for `idle`. What was read before goes first.
pub(crate) async fn copy(
    (mut left, left_held): (Stream, Buffer),
    (mut right, right_held): (Stream, Buffer),
    idle: Duration,
    timer: &mut Timer,
) {
    let mut there = Direction { held: left_held, ended: false, shut: false };
    let mut back = Direction { held: right_held, ended: false, shut: false };
    timer.set_in(idle);
    poll_fn(|cx| {
        let there_polled = there.poll(cx, &mut left, &mut right);
        let back_polled = back.poll(cx, &mut right, &mut left);
        match (there_polled, back_polled) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(_)), Poll::Ready(Ok(_))) if there.shut && back.shut => return Poll::Ready(()),
            (Poll::Ready(Ok(moved)), _) | (_, Poll::Ready(Ok(moved))) if moved => timer.set_in(idle),
            _ => {}
        }
        timer.poll_elapsed(cx)
    })
    .await;
}

// === impl Direction ===

impl Direction {
    /// Moves what can be moved now; gives whether anything was.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<io::Result<bool>> {
        let mut moved = false;
        loop {
            while !self.held.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, self.held.filled()) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => self.held.consume(count),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Ready(Ok(moved)),
                }
                moved = true;
            }
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(moved));
            }
            match self.held.poll_fill(cx, from, SIZE) {
                Poll::Ready(Ok(count)) => self.ended = count == 0,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if let Poll::Ready(Err(error)) = Pin::new(&mut *to).poll_flush(cx) {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Ready(Ok(moved));
                }
            }
        }
    }
}
