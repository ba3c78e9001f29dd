//! W3C Trace Context (Recommendation of 23 November 2021): which requests, work and events belong together.
//!
//! A trace enters with a request, is the [`current`] one of whatever is done for it, is kept with stored work, and goes
//! on with the calls that follow. What is not valid is replaced by a fresh trace (section 3.2). A `tracestate` is
//! passed on and never logged: what others put there is theirs.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
};

use http::HeaderMap;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

/// Header that names the trace and the step before.
pub const TRACEPARENT: &str = "traceparent";
/// Header in which the systems on the way keep what is theirs.
pub const TRACESTATE: &str = "tracestate";
/// Longest state that is passed on, in characters (section 3.3.1.5 asks for at least so many).
const LONGEST_STATE: usize = 512;
/// Entries longer than this go first where a state is too long (section 3.3.1.5).
const LONG_ENTRY: usize = 128;
/// Entries of a state at most (section 3.3.1.1).
const MOST_ENTRIES: usize = 32;

/// A step of a trace.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    id: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
    state: Option<String>,
}

/// Traces of what was done lately, by a name of it: a place beside the thing itself, where that has none for a trace.
#[derive(Debug)]
pub struct Memory {
    most: usize,
    known: Mutex<(HashMap<String, Trace>, VecDeque<String>)>,
}

tokio::task_local! {
    static CURRENT: Trace;
}

/// The trace of what is being done now.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(Clone::clone).ok()
}

// === impl Trace ===

impl Trace {
    /// The first step of a new trace.
    pub fn fresh() -> Self {
        Self { id: random(), span: random(), is_sampled: true, state: None }
    }

    /// The step after this one, in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random(), ..self.clone() }
    }

    /// The step that follows on a request: in its trace, or in a fresh one where it has none that is valid.
    pub fn of_request(headers: &HeaderMap) -> Self {
        Self::read(headers).map_or_else(Self::fresh, |trace| trace.child())
    }

    /// What a request says. `None` where it says nothing, nothing valid, or two things.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let mut states = Vec::new();
        for state in headers.get_all(TRACESTATE) {
            // One line that is no text spoils the state, not the trace.
            states.push(state.to_str().unwrap_or("\u{7f}"));
        }
        Self::parse(parent.to_str().ok()?, &states.join(","))
    }

    /// Reads both headers' values.
    pub fn parse(parent: &str, state: &str) -> Option<Self> {
        // A later version may have more behind the flags (section 3.2.4).
        let (known, more) = (parent.get(..55)?, parent.get(55..)?);
        let mut parts = known.split('-');
        let [version]: [u8; 1] = bytes(parts.next()?)?;
        if version == 0xff || !(more.is_empty() || (version > 0 && more.starts_with('-'))) {
            return None;
        }
        let (id, span, [flags]) = (bytes(parts.next()?)?, bytes(parts.next()?)?, bytes(parts.next()?)?);
        if parts.next().is_some() || id == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Self { id, span, is_sampled: flags & 1 == 1, state: valid_state(state) })
    }

    /// The value of `traceparent`.
    pub fn parent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.id), hex(&self.span), u8::from(self.is_sampled))
    }

    /// The value of `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace's id, for logs.
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// The step's id, for logs.
    pub fn span(&self) -> String {
        hex(&self.span)
    }

    /// As a member of an event.
    pub fn to_json(&self) -> Value {
        match &self.state {
            Some(state) => json!({ TRACEPARENT: self.parent(), TRACESTATE: state }),
            None => json!({ TRACEPARENT: self.parent() }),
        }
    }

    /// Reads what [`Trace::to_json`] wrote; others may write there too, so it is checked like a header.
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Self::parse(text(TRACEPARENT)?, text(TRACESTATE).unwrap_or_default())
    }

    /// Does something as this step: it and what it calls find it as the [`current`] one.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Work that is to be stored, with the trace in front of it.
    pub fn stamp(&self, work: &str) -> String {
        let state = self.state().map(|state| format!(" {state}")).unwrap_or_default();
        format!("{}{state}\n{work}", self.parent())
    }

    /// Undoes [`Trace::stamp`]; work without a trace is left as it is.
    pub fn unstamp(stored: &str) -> (Option<Self>, &str) {
        // What is stored is JSON otherwise, which never begins with two digits of zero.
        let Some((line, work)) = stored.split_once('\n').filter(|_| stored.starts_with("00-")) else {
            return (None, stored);
        };
        let (parent, state) = line.split_once(' ').unwrap_or((line, ""));
        match Self::parse(parent, state) {
            Some(trace) => (Some(trace), work),
            None => (None, stored),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({})", self.parent())
    }
}

// === impl Memory ===

impl Memory {
    /// A memory of so many things at most; the oldest are forgotten.
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// Takes note of the trace of something.
    pub fn note(&self, name: String, trace: Trace) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (traces, order) = &mut *known;
        if traces.insert(name.clone(), trace).is_none() {
            order.push_back(name);
        }
        while order.len() > self.most {
            if let Some(oldest) = order.pop_front() {
                traces.remove(&oldest);
            }
        }
    }

    /// The trace of something, if it is remembered.
    pub fn of(&self, name: &str) -> Option<Trace> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(name).cloned()
    }
}

/// The state, if every entry is as section 3.3.1 asks; shortened where it is too long to be passed on.
fn valid_state(text: &str) -> Option<String> {
    let mut entries: Vec<&str> =
        text.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty()).collect();
    let mut keys = Vec::new();
    for entry in &entries {
        let (key, value) = entry.split_once('=')?;
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    if entries.is_empty() || entries.len() > MOST_ENTRIES {
        return None;
    }
    let length = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>() - 1;
    if length(&entries) > LONGEST_STATE {
        entries.retain(|entry| entry.len() <= LONG_ENTRY);
    }
    while !entries.is_empty() && length(&entries) > LONGEST_STATE {
        entries.pop();
    }
    (!entries.is_empty()).then(|| entries.join(","))
}

fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let is_part = |part: &str, most: usize, may_begin_with_digit: bool| {
        let first = part.bytes().next();
        (1..=most).contains(&part.len())
            && part.bytes().all(allowed)
            && first.is_some_and(|first| first.is_ascii_lowercase() || (may_begin_with_digit && first.is_ascii_digit()))
    };
    match key.split_once('@') {
        None => is_part(key, 256, false),
        Some((tenant, system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
    }
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| (0x20..=0x7e).contains(&byte) && !b",=".contains(&byte);
    (1..=256).contains(&value.len()) && value.bytes().all(allowed) && !value.ends_with(' ')
}

/// Lower-case hexadecimal digits as bytes, exactly so many.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random bytes of which not all are zero. They are names, not secrets: should the system have no randomness, all
/// traces look alike and nothing else breaks.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = SystemRandom::new().fill(&mut bytes);
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_valid_parent_is_continued() {
        let request = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]);
        let read = Trace::read(&request).unwrap();
        assert_eq!(read.parent(), PARENT);
        let next = Trace::of_request(&request);
        assert_eq!((next.id(), next.state()), (read.id(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")));
        assert_ne!(next.span(), read.span());
        // A later version, with more behind what is known, and flags that are not known: passed on as version 00.
        let later = Trace::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-what", "").unwrap();
        assert_eq!(later.parent(), PARENT);
    }

    #[test]
    fn what_is_not_valid_is_replaced() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            assert_eq!(Trace::parse(wrong, ""), None, "{wrong}");
        }
        let twice = headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]);
        assert_eq!(Trace::read(&twice), None);
        assert_ne!(Trace::of_request(&twice).id(), Trace::parse(PARENT, "").unwrap().id());
        assert_ne!(Trace::fresh(), Trace::fresh());
    }

    #[test]
    fn a_state_is_checked_and_a_wrong_one_spoils_only_itself() {
        let state = |text: &str| Trace::parse(PARENT, text).unwrap().state;
        assert_eq!(state("a=1, b=2 ,,\tc=x y"), Some("a=1,b=2,c=x y".to_owned()));
        assert_eq!(state("0tenant@system=1"), Some("0tenant@system=1".to_owned()));
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=1")).collect();
        let double = "a=1,a=2".to_owned();
        for wrong in ["a", "A=1", "0a=1", "a@0=1", "a=", "a=é", "a=b=c", "a@b@c=1", "\u{7f}", &double, &many.join(",")]
        {
            assert_eq!(state(wrong), None, "{wrong}");
        }
        let long = format!("a={},b={},c=1", "x".repeat(200), "y".repeat(250));
        assert_eq!(state(&long), Some(long.clone()), "{}", long.len());
        let longer = format!("a={},{long}", "z".repeat(100)).replacen("a=", "z=", 1);
        assert_eq!(state(&longer), Some(format!("z={},c=1", "z".repeat(100))));
        let lines = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]);
        assert_eq!(Trace::read(&lines).unwrap().state(), Some("a=1,b=2"));
    }

    #[tokio::test]
    async fn work_carries_its_trace() {
        assert_eq!(current(), None);
        let trace = Trace::parse(PARENT, "a=b c").unwrap();
        assert_eq!(trace.clone().scope(async { current() }).await, Some(trace.clone()));
        for work in ["{}", "", "{\n}"] {
            assert_eq!(Trace::unstamp(&trace.stamp(work)), (Some(trace.clone()), work));
            assert_eq!(Trace::unstamp(work), (None, work));
        }
        assert_eq!(Trace::from_json(&trace.to_json()), Some(trace));
    }

    #[test]
    fn a_memory_forgets_the_oldest() {
        let memory = Memory::new(2);
        let traces: Vec<_> = (0..3).map(|_| Trace::fresh()).collect();
        for (name, trace) in ["a", "b", "a", "c"].iter().zip([0, 1, 0, 2]) {
            memory.note((*name).to_owned(), traces[trace].clone());
        }
        assert_eq!(
            (memory.of("a"), memory.of("b"), memory.of("c")),
            (None, Some(traces[1].clone()), Some(traces[2].clone()))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_as_it_was(parent in "[0-9a-f-]{50,60}|.*", state in ".*", work in ".*") {
            if let Some(trace) = Trace::parse(&parent, &state) {
                prop_assert_eq!(Trace::parse(&trace.parent(), trace.state().unwrap_or_default()), Some(trace.clone()));
                let stamped = trace.stamp(&work);
                prop_assert_eq!(Trace::unstamp(&stamped), (Some(trace), work.as_str()));
            }
        }
    }
}
