//! What is remembered of users and rooms, to save requests. Losing it costs time, never correctness.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

/// Entries of either kind; when there are more, all are forgotten.
const MOST: usize = 200_000;

/// Registered users and joined rooms.
#[derive(Default)]
pub(in crate::matrix) struct Memory {
    registered: Mutex<HashSet<OwnedUserId>>,
    joined: Mutex<HashSet<(OwnedRoomId, OwnedUserId)>>,
}

// === impl Memory ===

impl Memory {
    pub(super) fn is_registered(&self, user: &UserId) -> bool {
        lock(&self.registered).contains(user)
    }

    pub(super) fn registered(&self, user: &UserId) {
        insert(&self.registered, user.to_owned());
    }

    pub(super) fn is_joined(&self, room: &RoomId, user: &UserId) -> bool {
        lock(&self.joined).contains(&(room.to_owned(), user.to_owned()))
    }

    pub(super) fn joined(&self, room: &RoomId, user: &UserId) {
        insert(&self.joined, (room.to_owned(), user.to_owned()));
    }

    pub(super) fn left(&self, room: &RoomId, user: &UserId) {
        lock(&self.joined).remove(&(room.to_owned(), user.to_owned()));
    }
}

fn insert<T: Eq + std::hash::Hash>(set: &Mutex<HashSet<T>>, entry: T) {
    let mut set = lock(set);
    if set.len() >= MOST {
        set.clear();
    }
    set.insert(entry);
}

/// A panic elsewhere leaves a set as good as it was.
fn lock<T>(set: &Mutex<T>) -> MutexGuard<'_, T> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
