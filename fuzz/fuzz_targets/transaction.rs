//! Transactions as a homeserver sends them, and the events in them.

#![no_main]

use care_federation::matrix::{Event, Transaction};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(transaction) = Transaction::parse("1", body) else { return };
    for event in &transaction.events {
        let _ = (event.typed(), event.redacts());
        // What is kept in a store is read back as the same.
        let again = Event::from_json(event.json().to_owned()).expect("an event is JSON");
        assert_eq!(again.json(), event.json());
        assert_eq!(again.outline().is_ok(), event.outline().is_ok());
    }
});
