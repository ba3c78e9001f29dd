//! The thread that writes: what waits together is committed together, and answered once it is durable.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Backend, DatabaseError, Presence, connection::Connection};

/// Writes that may wait; who comes later waits to hand its write in, so memory is bounded.
pub(super) const WAITING: usize = 1024;
/// Writes that share one commit, and so one sync of the disk.
const GROUP: usize = 256;

/// Work for the writer's transaction, or the news that there is none; gives what is to be done once the end is known.
pub(super) type Job = Box<dyn FnOnce(Result<&Connection, DatabaseError>) -> Completion + Send>;
/// What is to be done once the end is known. `false` in [`Outcome`] means that the transaction is of no use any more.
pub(super) struct Completion {
    answer: Box<dyn FnOnce(Result<(), DatabaseError>) + Send>,
    is_sound: bool,
}

/// The life of the thread.
pub(super) struct Writer {
    pub(super) backend: Backend,
    pub(super) connection: Option<Connection>,
    pub(super) presence: Arc<Presence>,
    pub(super) after_commit: Box<dyn Fn() + Send>,
}

/// Wraps work as a job, and gives where its answer comes.
pub(super) fn job<T: Send + 'static, E: From<DatabaseError> + Send + 'static>(
    work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, E>>) {
    let (answer, answered) = oneshot::channel();
    let job = Box::new(move |connection: Result<&Connection, DatabaseError>| {
        let (result, is_sound) = match connection {
            Ok(connection) => in_savepoint(connection, work),
            Err(error) => (Err(error.into()), true),
        };
        let answer = move |committed: Result<(), DatabaseError>| {
            // Who asked may have gone; the write stands all the same.
            let _ = answer.send(committed.map_err(E::from).and(result));
        };
        Completion { answer: Box::new(answer), is_sound }
    });
    (job, answered)
}

/// Does work that is undone when it fails, without harm to what was done before it. The flag says whether the
/// transaction is sound.
fn in_savepoint<T, E: From<DatabaseError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> (Result<T, E>, bool) {
    if let Err(error) = connection.batch("SAVEPOINT job") {
        return (Err(error.into()), false);
    }
    let done = work(connection).and_then(|result| Ok(connection.batch("RELEASE SAVEPOINT job").map(|()| result)?));
    let is_sound = done.is_ok() || connection.batch("ROLLBACK TO SAVEPOINT job; RELEASE SAVEPOINT job").is_ok();
    (done, is_sound)
}

// === impl Writer ===

impl Writer {
    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            self.write(group);
            (self.after_commit)();
        }
    }

    fn write(&mut self, group: Vec<Job>) {
        let connection = match self.begin() {
            Ok(connection) => connection,
            Err(error) => {
                self.presence.note(&error);
                for job in group {
                    (job(Err(error.clone())).answer)(Err(error.clone()));
                }
                return;
            }
        };
        let completions: Vec<Completion> = group.into_iter().map(|job| job(Ok(&connection))).collect();
        let broken = || DatabaseError::Unreachable("a transaction broke off".to_owned());
        let committed = match completions.iter().all(|completion| completion.is_sound) {
            true => connection.batch("COMMIT"),
            false => Err(broken()),
        };
        match &committed {
            Ok(()) => {
                self.presence.here();
                self.connection = Some(connection);
            }
            // The connection goes with what it holds; nothing of the group counts, unless the commit itself was cut off.
            Err(error) => self.presence.note(error),
        }
        for completion in completions {
            (completion.answer)(committed.clone());
        }
    }

    /// A connection with a transaction, made anew if the last one broke.
    fn begin(&mut self) -> Result<Connection, DatabaseError> {
        if let Some(connection) = self.connection.take()
            && connection.broken().is_none()
        {
            match connection.begin_writing() {
                Ok(()) => return Ok(connection),
                // The server may have gone since; a new connection tells.
                Err(error) if error.is_unreachable() => {}
                Err(error) => return Err(error),
            }
        }
        let connection = self.backend.open_writer()?;
        connection.begin_writing()?;
        Ok(connection)
    }
}
