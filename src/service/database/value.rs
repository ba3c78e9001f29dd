//! What both databases hold: whole numbers and texts.

use std::borrow::Cow;

use super::DatabaseError;

/// Longest text in an index, in bytes. PostgreSQL takes 2,704 for all columns of one together.
const INDEXED: usize = 512;

/// A value of a statement or of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A whole number; 0 and 1 for no and yes.
    Integer(i64),
    /// A text. PostgreSQL holds no zero bytes; there they become U+FFFD.
    Text(Cow<'a, str>),
}

/// A row that a query gave.
pub struct Row<'a>(pub(super) Source<'a>);

/// Where a row comes from.
pub(super) enum Source<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

/// A type that a column can be read as.
pub trait Column: Sized {
    /// The value, if it is of this type.
    fn of(value: Value<'_>) -> Option<Self>;
}

/// Values for a statement, in the order of its question marks.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::service::database::Value::from($value)),*] };
}
pub(crate) use values;

/// A text as it may stand in an index: itself, or its digest when it is too long for PostgreSQL. Texts that differ
/// stay different.
pub fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= INDEXED {
        return Cow::Borrowed(text);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    Cow::Owned(digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

// === impl Row ===

impl Row<'_> {
    /// A column, counted from 0.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, DatabaseError> {
        let value = match &self.0 {
            Source::Sqlite(row) => super::sqlite::value(row, column),
            Source::Postgres(row) => super::postgres::value(row, column),
        };
        T::of(value?).ok_or_else(|| DatabaseError::Unexpected(format!("column {column} is of another type")))
    }
}

impl Column for i64 {
    fn of(value: Value<'_>) -> Option<Self> {
        if let Value::Integer(number) = value { Some(number) } else { None }
    }
}

impl Column for u32 {
    fn of(value: Value<'_>) -> Option<Self> {
        i64::of(value)?.try_into().ok()
    }
}

impl Column for u64 {
    fn of(value: Value<'_>) -> Option<Self> {
        i64::of(value)?.try_into().ok()
    }
}

impl Column for bool {
    fn of(value: Value<'_>) -> Option<Self> {
        i64::of(value).map(|number| number != 0)
    }
}

impl Column for String {
    fn of(value: Value<'_>) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.into_owned()) } else { None }
    }
}

impl Column for Value<'static> {
    fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Value::Null,
            Value::Integer(number) => Value::Integer(number),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        })
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: Value<'_>) -> Option<Self> {
        if value == Value::Null { Some(None) } else { T::of(value).map(Some) }
    }
}

// === impl Value ===

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Integer(flag.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
