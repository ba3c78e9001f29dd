//! Reading back: what finds and fills gaps.

use care_federation::matrix::intent::{Direction, Format};

use crate::world::world;

#[tokio::test]
async fn history_is_paged_to_its_beginning_in_both_forms() {
    let world = world();
    let person = world.person("jan").await;
    let (room, bot) = (world.room_with(&person).await, world.bot());
    let mut said = Vec::new();
    for number in 0..25 {
        said.push(person.say(&room, &format!("bericht {number}")).await);
    }
    for format in [Format::Client, Format::Federation] {
        let (mut found, mut from) = (Vec::new(), None::<String>);
        loop {
            let page = bot.messages(&room, from.as_deref(), Direction::Backward, 10, format).await.unwrap();
            found.extend(page.events);
            from = page.end;
            if from.is_none() {
                break;
            }
        }
        let outlines: Vec<_> = found.iter().map(|event| event.outline().unwrap()).collect();
        let messages =
            outlines.iter().rev().filter(|outline| outline.kind == "m.room.message").map(|outline| &outline.event_id);
        let messages: Vec<_> = messages.collect();
        assert_eq!(messages, said.iter().collect::<Vec<_>>(), "{format:?}");
        assert!(outlines.last().unwrap().is_state("m.room.create"));
        // Only with the events before each can a gap be seen.
        let linked = outlines.windows(2).filter(|pair| pair[0].prev_events.contains(&pair[1].event_id)).count();
        match format {
            Format::Client => assert_eq!(linked, 0),
            Format::Federation => assert!(linked >= 25, "{linked}"),
        }
    }
}

#[tokio::test]
async fn an_event_is_found_with_what_stands_around_it() {
    let world = world();
    let person = world.person("jan").await;
    let (room, bot) = (world.room_with(&person).await, world.bot());
    let (one, two, three) = (person.say(&room, "1").await, person.say(&room, "2").await, person.say(&room, "3").await);
    let context = bot.context(&room, &two, 10).await.unwrap();
    let id = |event: &care_federation::matrix::Event| event.outline().unwrap().event_id.clone();
    assert_eq!(context.event.as_ref().map(id), Some(two.clone()));
    assert_eq!(context.before.first().map(id), Some(one));
    assert_eq!(context.after.first().map(id), Some(three.clone()));
    let after = bot.messages(&room, context.end.as_deref(), Direction::Backward, 1, Format::Client).await.unwrap();
    assert_eq!(after.events.first().map(id), Some(three));
    assert!(bot.event(&room, &two).await.unwrap().is_some());
    assert!(bot.event(&room, ruma::event_id!("$bestaat-niet")).await.unwrap().is_none());
}
