//! Ghosts, invitations, joins, leaving and being removed.

use care_federation::matrix::intent::{Invitation, Membership, Outgoing, content};
use ruma::RoomVersionId;
use serde_json::json;

use care_federation::matrix::rooms::Plan;

use crate::world::{transaction_id, world};

#[tokio::test]
async fn a_ghost_has_a_name_that_others_see() {
    let world = world();
    let (ghost, person) = (world.ghost("practitioner"), world.person("jan").await);
    assert_eq!(
        ghost.profile(ghost.user_id()).await.unwrap().and_then(|profile| profile.display_name).as_deref(),
        ghost.user_id().localpart().into()
    );
    ghost.set_display_name("Dr. A. de Vries").await.unwrap();
    ghost.set_display_name("Dr. A. de Vries").await.unwrap();
    let seen = person.get(&format!("/_matrix/client/v3/profile/{}", ghost.user_id())).await;
    assert_eq!(seen["displayname"], "Dr. A. de Vries");
    let avatar = ruma::owned_mxc_uri!("mxc://zorg.test/abc");
    ghost.set_avatar(avatar.clone()).await.unwrap();
    assert_eq!(world.bot().profile(ghost.user_id()).await.unwrap().unwrap().avatar_url, Some(avatar));
    assert_eq!(world.bot().profile(ruma::user_id!("@niemand:zorg.test")).await.unwrap(), None);
}

#[tokio::test]
async fn an_invitation_carries_the_context_to_the_invited() {
    let world = world();
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let person = world.person("jan").await;
        let plan = Plan { version: Some(version), ..Plan::default() };
        let room = world.bot().create_room(&plan).await.unwrap().room_id;
        let context = json!({ "version": 1.0, "room.subject": { "resourceType": "Patient" } });
        let mut invitation = Invitation { reason: Some("zorgvraag".to_owned()), ..Invitation::default() };
        invitation.fields.insert("nl-ta-chat.invite.context".to_owned(), context.clone());
        world.bot().invite(&room, person.user_id(), &invitation).await.unwrap();
        let sync = person.get("/_matrix/client/v3/sync").await;
        let stripped = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().unwrap();
        let own = stripped.iter().find(|event| event["state_key"] == person.id.as_str()).unwrap();
        // Events hold integers only: the 1.0 of the Dutch specification is sent, and arrives, as 1.
        assert_eq!(own["content"]["nl-ta-chat.invite.context"]["version"].to_string(), "1");
        assert_eq!(own["content"]["nl-ta-chat.invite.context"]["room.subject"], context["room.subject"]);
        assert_eq!(own["content"]["reason"], "zorgvraag");
        // Inviting again, before and after the answer, changes nothing.
        world.bot().invite(&room, person.user_id(), &Invitation::default()).await.unwrap();
        person.join(&room).await;
        world.bot().invite(&room, person.user_id(), &Invitation::default()).await.unwrap();
        assert_eq!(world.bot().membership(&room, person.user_id()).await.unwrap(), Membership::Join);
    }
}

#[tokio::test]
async fn a_ghost_joins_when_it_has_something_to_say() {
    let world = world();
    let person = world.person("jan").await;
    let room = world.room_with(&person).await;
    let ghost = world.ghost("patient");
    let hallo = Outgoing::message(content::text("hallo"), &transaction_id());
    let event = ghost.send(&room, &hallo).await.unwrap();
    assert_eq!(world.service.event(&event).await.outline().unwrap().sender, ghost.user_id());
    assert!(ghost.joined_rooms().await.unwrap().contains(&room));
    let members = world.bot().members(&room).await.unwrap();
    assert_eq!(members.iter().filter(|member| member.membership == Membership::Join).count(), 3);
}

#[tokio::test]
async fn a_kicked_ghost_comes_back_and_a_banned_one_does_not() {
    let world = world();
    let person = world.person("jan").await;
    let (room, ghost, bot) = (world.room_with(&person).await, world.ghost("patient"), world.bot());
    let say = async || ghost.send(&room, &Outgoing::message(content::text("x"), &transaction_id())).await;
    say().await.unwrap();
    bot.kick(&room, ghost.user_id(), Some("test")).await.unwrap();
    bot.kick(&room, ghost.user_id(), None).await.unwrap();
    assert_eq!(bot.membership(&room, ghost.user_id()).await.unwrap(), Membership::Leave);
    say().await.unwrap();
    bot.ban(&room, ghost.user_id(), None).await.unwrap();
    bot.ban(&room, ghost.user_id(), None).await.unwrap();
    assert!(say().await.unwrap_err().is_forbidden());
    bot.unban(&room, ghost.user_id(), None).await.unwrap();
    bot.unban(&room, ghost.user_id(), None).await.unwrap();
    say().await.unwrap();
    ghost.leave(&room, Some("klaar")).await.unwrap();
    ghost.leave(&room, None).await.unwrap();
    assert_eq!(bot.membership(&room, ghost.user_id()).await.unwrap(), Membership::Leave);
}

#[tokio::test]
async fn a_ghost_accepts_a_persons_invitation() {
    let world = world();
    let (person, ghost) = (world.person("jan").await, world.ghost("practitioner"));
    ghost.register().await.unwrap();
    let request = json!({ "invite": [ghost.user_id()], "preset": "private_chat" });
    let made = person.must(reqwest::Method::POST, "/_matrix/client/v3/createRoom", request).await;
    let room: ruma::OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    let invited = |event: &care_federation::matrix::Event| {
        event.outline().is_ok_and(|outline| {
            outline.room_id == room && outline.state_key.as_deref() == Some(ghost.user_id().as_str())
        })
    };
    world.service.wait_for("the invitation", |kept| kept.events().find(|event| invited(event)).map(drop)).await;
    assert_eq!(ghost.join((&*room).into(), &[]).await.unwrap(), room);
    let said = person.say(&room, "welkom").await;
    world.service.event(&said).await;
}

#[tokio::test]
async fn only_users_of_the_namespace_are_acted_for() {
    let world = world();
    let person = world.person("jan").await;
    assert!(world.homeserver().intent(person.user_id()).is_err());
    // Nobody else can take a ghost's name.
    let request = json!({ "username": "_fhir_patient-1", "password": "x", "auth": { "type": "m.login.dummy" } });
    let (status, answer) = person.call(reqwest::Method::POST, "/_matrix/client/v3/register", request).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn a_ghost_gets_a_device_where_it_needs_one() {
    let world = world();
    let ghost = world.ghost("practitioner");
    let session = ghost.log_in(None).await.unwrap();
    let again = ghost.log_in(Some(&session.device_id)).await.unwrap();
    assert_eq!(again.device_id, session.device_id);
    let url = format!("{}/_matrix/client/v3/account/whoami", world.synapse.url);
    let request = reqwest::Client::new().get(url).bearer_auth(again.access_token.expose());
    let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["user_id"], ghost.user_id().as_str(), "{answer}");
    assert_eq!(answer["device_id"], session.device_id.as_str());
}
