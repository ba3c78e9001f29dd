//! Answers of a directory, remembered for a while.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Answers by question. All live equally long, so the oldest is always the next to go.
pub(super) struct Cache<Q, A> {
    age: Duration,
    most: usize,
    held: Mutex<Held<Q, A>>,
}

struct Held<Q, A> {
    answers: HashMap<Q, (Instant, Arc<A>)>,
    /// Questions in the order in which they were answered. One that was answered again stands twice.
    order: VecDeque<(Instant, Q)>,
}

// === impl Cache ===

impl<Q: Clone + Eq + Hash, A> Cache<Q, A> {
    /// Remembers at most `most` answers, each for `age`.
    pub(super) fn new(age: Duration, most: usize) -> Self {
        Self { age, most, held: Mutex::new(Held { answers: HashMap::new(), order: VecDeque::new() }) }
    }

    /// The answer to a question, unless it is too old.
    pub(super) fn get(&self, question: &Q, now: Instant) -> Option<Arc<A>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (answered, answer) = held.answers.get(question)?;
        (now.saturating_duration_since(*answered) < self.age).then(|| Arc::clone(answer))
    }

    /// Remembers an answer, and forgets what is too old or too much.
    pub(super) fn put(&self, question: Q, answer: Arc<A>, now: Instant) {
        if self.most == 0 {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.answers.insert(question.clone(), (now, answer));
        held.order.push_back((now, question));
        while let Some((answered, oldest)) = held.order.front() {
            let too_old = now.saturating_duration_since(*answered) >= self.age;
            let superseded = held.answers.get(oldest).is_none_or(|(latest, _)| latest != answered);
            if !too_old && !superseded && held.answers.len() <= self.most {
                break;
            }
            let Some((_, oldest)) = held.order.pop_front() else { break };
            if !superseded {
                held.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_age_and_the_oldest_goes_first() {
        let cache = Cache::new(Duration::from_secs(10), 2);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        cache.put("a", Arc::new(1), begin);
        cache.put("b", Arc::new(2), after(1));
        cache.put("a", Arc::new(3), after(2));
        assert_eq!(cache.get(&"a", after(3)).as_deref(), Some(&3));
        cache.put("c", Arc::new(4), after(4));
        assert_eq!(cache.get(&"b", after(4)), None, "one too many: the oldest is forgotten");
        assert_eq!(cache.get(&"a", after(11)).as_deref(), Some(&3));
        assert_eq!(cache.get(&"a", after(12)), None, "too old");
        cache.put("d", Arc::new(5), after(30));
        let held = cache.held.lock().unwrap();
        assert_eq!((held.answers.len(), held.order.len()), (1, 1), "nothing old is kept");
    }

    #[test]
    fn a_question_asked_for_ever_takes_no_room() {
        let cache = Cache::new(Duration::from_secs(1000), 3);
        let begin = Instant::now();
        for number in 0..1000 {
            cache.put("a", Arc::new(number), begin + Duration::from_millis(number));
        }
        assert_eq!(cache.held.lock().unwrap().order.len(), 1);
    }
}
