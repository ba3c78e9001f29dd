//! Organisations, care teams and conversations, as FHIR has them and with their rooms.

use axum::{extract::Path, response::Response};
use maud::{Markup, html};

use super::{
    layout::{link, nothing, time},
    visit::{Mishap, Visit},
};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            person,
            thread::{self, Member},
        },
        store::{Millis, now},
        words::Word,
    },
    fhir::{
        instant::DateTime,
        query::Query,
        resources::{Organization, Resource, ResourceType},
        server::{Page, PageLink},
    },
};

/// Resources on a page.
const PAGE: &str = "25";
/// Members of a team that are shown.
const MEMBERS: usize = 200;

/// `/organisations`.
pub(super) async fn organisations(visit: Visit) -> Response {
    visit.answer(Word::Organisations, list_organisations(&visit).await)
}

/// `/teams`.
pub(super) async fn teams(visit: Visit) -> Response {
    let query = newest_first(Query::new());
    visit.answer(Word::Teams, list(&visit, Word::Teams, ResourceType::CareTeam, query).await)
}

/// `/threads`.
pub(super) async fn threads(visit: Visit) -> Response {
    let query = newest_first(Query::new());
    visit.answer(Word::Threads, list(&visit, Word::Threads, ResourceType::CommunicationRequest, query).await)
}

/// `/teams/{id}`.
pub(super) async fn team(visit: Visit, Path(id): Path<String>) -> Response {
    visit.answer(Word::Team, one_team(&visit, id).await)
}

fn newest_first(query: Query) -> Query {
    query.with("_sort", "-_lastUpdated").with("_count", PAGE)
}

/// The page of a search that the request asks for.
pub(super) async fn page(visit: &Visit, kind: ResourceType, query: &Query) -> Result<Page, Mishap> {
    let fhir = visit.desk.engine.fhir();
    Ok(match visit.place::<String>()? {
        Some(link) => fhir.follow(&PageLink(link)).await?,
        None => fhir.search(kind, query).await?,
    })
}

async fn list_organisations(visit: &Visit) -> Result<Markup, Mishap> {
    let t = |word| visit.language.say(word);
    let page = page(visit, ResourceType::Organization, &newest_first(Query::new())).await?;
    let may_read = visit.viewer.may_read(ResourceType::Organization);
    let found: Vec<(String, &Resource, Organization)> = page
        .matches()
        .filter_map(|resource| Some((resource.key()?.to_string(), resource, resource.to().ok()?)))
        .collect();
    Ok(html! {
        h1 { (t(Word::Organisations)) }
        @if found.is_empty() { (nothing(visit)) } @else {
            div.table { table {
                thead { tr {
                    th scope="col" { (t(Word::Identifier)) }
                    @if may_read { th scope="col" { (t(Word::Name)) } }
                    th scope="col" { (t(Word::Homeserver)) }
                    th scope="col" { (t(Word::Status)) }
                    th scope="col" { (t(Word::Changed)) }
                } }
                tbody { @for (key, resource, organisation) in &found { tr {
                    th scope="row" { code { (key) } }
                    @if may_read { td { (organisation.name.as_deref().unwrap_or("–")) } }
                    td { (person::homeserver(organisation).as_deref().unwrap_or("–")) }
                    td { (t(if organisation.active == Some(false) { Word::Inactive } else { Word::Active })) }
                    td { (time(changed(resource))) }
                } } }
            } }
        }
        (visit.turn(page.next.map(|next| next.0)))
    })
}

/// Teams or conversations with their rooms.
async fn list(visit: &Visit, title: Word, kind: ResourceType, query: Query) -> Result<Markup, Mishap> {
    let page = page(visit, kind, &query).await?;
    let rows = with_rooms(visit, &page).await?;
    Ok(html! {
        h1 { (visit.language.say(title)) }
        (table(visit, &rows))
        (visit.turn(page.next.map(|next| next.0)))
    })
}

/// A resource with its room.
pub(super) struct Placed {
    key: String,
    status: String,
    changed: Option<Millis>,
    room: Option<String>,
}

async fn with_rooms(visit: &Visit, page: &Page) -> Result<Vec<Placed>, Mishap> {
    let mut rows = Vec::new();
    for resource in page.matches() {
        let Some(key) = resource.key().map(|key| key.to_string()) else { continue };
        let room = visit.desk.engine.store().room_of(&key).await?.map(|link| link.room_id);
        rows.push(Placed { key, status: status(resource), changed: changed(resource), room });
    }
    Ok(rows)
}

fn table(visit: &Visit, rows: &[Placed]) -> Markup {
    let t = |word| visit.language.say(word);
    html! {
        @if rows.is_empty() { (nothing(visit)) } @else {
            div.table { table {
                thead { tr {
                    @for word in [Word::Identifier, Word::Status, Word::Room, Word::Changed] {
                        th scope="col" { (t(word)) }
                    }
                } }
                tbody { @for row in rows { tr {
                    th scope="row" { (link(&row.key)) }
                    td { (row.status) }
                    td { @match &row.room {
                        Some(room) => code.id { (room) },
                        None => span.muted { (t(Word::NoRoom)) },
                    } }
                    td { (time(row.changed)) }
                } } }
            } }
        }
    }
}

async fn one_team(visit: &Visit, id: String) -> Result<Markup, Mishap> {
    let t = |word| visit.language.say(word);
    let engine = &visit.desk.engine;
    let place = Instance::new(Kind::CareTeam, id).map_err(|_| Mishap::NotFound)?;
    let resource = engine.look_up(&place).await?.ok_or(Mishap::NotFound)?;
    let team = engine.team_in(&resource).await?;
    let mut members = thread::members(&team, &engine.settings().lead_roles, now());
    members.truncate(MEMBERS);
    let room = engine.store().room_of(&place.to_string()).await?;
    let query = newest_first(Query::new().with("recipient", place.to_string()));
    let page = page(visit, ResourceType::CommunicationRequest, &query).await?;
    let threads = with_rooms(visit, &page).await?;
    Ok(html! {
        h1 { (t(Word::Team)) " " code { (place.id()) } }
        dl.facts {
            dt { (t(Word::Status)) } dd { (status(&resource)) }
            dt { (t(Word::Room)) }
            dd { @match &room { Some(room) => code.id { (room.room_id) }, None => (t(Word::NoRoom)) } }
            dt { (t(Word::Changed)) } dd { (time(changed(&resource))) }
        }
        section { h2 { (t(Word::Members)) } (member_table(visit, &members).await?) }
        section {
            h2 { (t(Word::Threads)) }
            (table(visit, &threads))
            (visit.turn(page.next.map(|next| next.0)))
        }
    })
}

async fn member_table(visit: &Visit, members: &[Member]) -> Result<Markup, Mishap> {
    let t = |word| visit.language.say(word);
    let mut rows = Vec::new();
    for member in members {
        let own = visit.desk.engine.store().user_of(&member.person.to_string()).await?;
        rows.push((member, name(visit, &member.person).await?, own));
    }
    Ok(html! {
        @if rows.is_empty() { (nothing(visit)) } @else {
            div.table { table {
                thead { tr {
                    @for word in [Word::Person, Word::Level, Word::TakesPartAs] { th scope="col" { (t(word)) } }
                } }
                tbody { @for (member, name, own) in &rows { tr {
                    th scope="row" { (link(&member.person.to_string())) @if let Some(name) = name { " " (name) } }
                    td { (member.level) }
                    td { (t(if own.is_some() { Word::OwnUser } else { Word::Ghost })) }
                } } }
            } }
        }
    })
}

/// The name of a person, for those who may see it.
pub(super) async fn name(visit: &Visit, person: &Instance) -> Result<Option<String>, Mishap> {
    let Ok(kind) = person.kind().name().parse::<ResourceType>() else { return Ok(None) };
    if !visit.viewer.may_read(kind) {
        return Ok(None);
    }
    let resource = visit.desk.engine.look_up(person).await?;
    Ok(resource.and_then(|resource| person::profile(&resource).name))
}

/// `status` as FHIR has it.
pub(super) fn status(resource: &Resource) -> String {
    resource.members().get("status").and_then(serde_json::Value::as_str).unwrap_or("–").to_owned()
}

pub(super) fn changed(resource: &Resource) -> Option<Millis> {
    resource.last_updated().as_ref().and_then(DateTime::millis)
}
