//! Why a database did not do what was asked.

/// Why a database did not do what was asked. The texts hold no values of statements, so they may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be reached, or the connection broke: asking again later may help, and what was asked may have been
    /// done.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// It cannot do it now: a full disk, a lock that was not given in time. Nothing was done.
    #[error("the database cannot do it now: {0}")]
    Hindered(String),
    /// It gave up on it: a conflict with others, a statement that took too long. Nothing was done; once more may help,
    /// and if it does not for long, it is the work that is too much.
    #[error("the database gave up: {0}")]
    GaveUp(String),
    /// It lets this program do nothing of the kind, whatever the values: a wrong password, a missing right, a table that
    /// is not there, a file that cannot be written. Somebody has to mend it. Nothing was done.
    #[error("the database does not allow it: {0}")]
    Denied(String),
    /// It will not do this, however often it is asked, and does other things: a value that does not fit, a rule that is
    /// broken. Nothing was done.
    #[error("the database refused: {0}")]
    Refused(String),
    /// It holds something that this program did not put there, or a file is damaged.
    #[error("the database holds what it should not: {0}")]
    Unexpected(String),
    /// It was closed.
    #[error("the database is closed")]
    Closed,
}

// === impl DatabaseError ===

impl DatabaseError {
    /// Whether the connection is of no use any more.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether asking the same again gives the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Denied(_)) || self.is_about_the_work()
    }

    /// Whether it is this work that cannot be done, while others can: nobody need wait behind it.
    pub fn is_about_the_work(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unexpected(_))
    }
}
