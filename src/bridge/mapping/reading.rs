//! Who has read what: Tasks, as the OZO guide has them.
//!
//! `requested` is unread, `completed` is read, `focus` is the newest message. There is one Task for each member of a
//! conversation.

use super::{literal, logical, stable_id};
use crate::{
    bridge::identity::Instance,
    fhir::{
        instant::DateTime,
        resources::{Reference, Task, TaskStatus},
    },
};

/// The id of the Task that the bridge makes for a member of a conversation.
pub fn task_id(request: &Instance, owner: &Instance) -> String {
    stable_id("read", &[&request.to_string(), &owner.to_string()])
}

/// A new Task for a member.
pub fn task(request: &Instance, owner: &Instance, subject: Option<Reference>, at: i64) -> Task {
    Task {
        id: task_id(request, owner).parse().ok(),
        based_on: vec![literal(request.to_string())],
        status: Some(TaskStatus::Requested),
        intent: Some("order".to_owned()),
        subject,
        authored_on: Some(DateTime::from_millis(at)),
        owner: Some(logical::reference(owner)),
        ..Task::default()
    }
}

/// Moves a Task to a new message: unread for everybody but its sender. Says whether that changed anything.
pub fn new_message(task: &mut Task, communication: &str, is_sender: bool, at: i64) -> bool {
    let status = if is_sender { TaskStatus::Completed } else { TaskStatus::Requested };
    let focus = literal(communication);
    if task.focus.as_ref().and_then(|focus| focus.reference.as_deref()) == Some(communication) {
        // The same message again: what was read stays read.
        return false;
    }
    task.focus = Some(focus);
    task.status = Some(status);
    task.last_modified = Some(DateTime::from_millis(at));
    true
}

/// Marks a Task as read. Says whether that changed anything.
pub fn read(task: &mut Task, at: i64) -> bool {
    if task.status == Some(TaskStatus::Completed) {
        return false;
    }
    task.status = Some(TaskStatus::Completed);
    task.last_modified = Some(DateTime::from_millis(at));
    true
}
