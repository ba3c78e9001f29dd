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
    worker::Presence,
};

/// One direction of a tunnel.
struct Direction {
    held: Buffer,
    ended: bool,
    shut: bool,
}

/// How long a tunnel through which an answer has passed last may be silent when the proxy stops.
const LINGER: Duration = Duration::from_secs(2);

/// Copies until both sides have ended, one fails, or nothing passes for `idle`. What was read before goes first.
///
/// When the proxy stops, what was asked on the left is still answered from the right; after that the tunnel is one that
/// is kept for later, and ends.
pub(crate) async fn copy(
    (mut left, left_held): (Stream, Buffer),
    (mut right, right_held): (Stream, Buffer),
    idle: Duration,
    timer: &mut Timer,
    presence: &Presence,
) {
    let mut there = Direction { held: left_held, ended: false, shut: false };
    let mut back = Direction { held: right_held, ended: false, shut: false };
    let (mut answered, mut lingers) = (true, false);
    timer.set_in(idle);
    poll_fn(|cx| {
        let there_polled = there.poll(cx, &mut left, &mut right);
        let back_polled = back.poll(cx, &mut right, &mut left);
        let (asked, said) = match (there_polled, back_polled) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(_)), Poll::Ready(Ok(_))) if there.shut && back.shut => return Poll::Ready(()),
            (there, back) => (matches!(there, Poll::Ready(Ok(true))), matches!(back, Poll::Ready(Ok(true)))),
        };
        if asked || said {
            answered = !asked;
        }
        let stays = !(presence.is_stopping() && answered);
        if asked || said || stays == lingers {
            lingers = !stays;
            timer.set_in(if stays { idle } else { LINGER.min(idle) });
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
