//! Commands that look at the bridge, also while it runs.

use std::io::Write;

use serde_json::json;

use super::{serve::Parts, settings::Settings};
use crate::{
    bridge::{
        engine::{Difference, FOLLOWED},
        store::{Change, Mode},
    },
    fhir::{
        query::Query,
        resources::ResourceType,
        server::{FhirError, FhirServer, HistoryOf, Page},
    },
    matrix::{Homeserver, Registration},
    service::{
        failure::{Failure, Status},
        files,
    },
};

/// Versions on a page of what is exported.
const PAGE: u32 = 1000;
/// Held work that `status` shows at most.
const SHOWN: usize = 50;

/// Checks settings, registration and, unless `offline`, the connection both ways.
pub(super) async fn check(settings: &Settings, offline: bool) -> anyhow::Result<()> {
    let path = settings.registration_file()?;
    if !path.exists() {
        println!("The settings are right. There is no registration in {} yet; `run` makes one.", path.display());
        return Ok(());
    }
    let registration = Registration::read(&path)?;
    for remark in registration.remarks(&files::read_text(&path, 1 << 20)?) {
        println!("Note: {remark}.");
    }
    let homeserver = Homeserver::new(settings.homeserver.clone(), registration)?;
    if offline {
        println!("The settings and the registration are right.");
        return Ok(());
    }
    match homeserver.diagnose().await.failure(&homeserver) {
        None => println!("The settings and the registration are right, and homeserver and bridge reach each other."),
        Some(failure) => return Err(failure.into()),
    }
    Ok(())
}

/// Shows what is linked and what is to be done.
pub(super) async fn status(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let parts = open(settings).await?;
    let (overview, held) = (parts.store.overview().await?, parts.store.held(SHOWN).await?);
    if as_json {
        println!("{}", json!({ "overview": overview, "held": held }));
        return Ok(());
    }
    println!("{} rooms, {} messages, {} events taken in", overview.rooms, overview.messages, overview.events);
    println!(
        "to do: {} for Matrix, {} for FHIR; {} waiting, {} parked",
        overview.ready[0], overview.ready[1], overview.waiting, overview.parked
    );
    for work in held {
        println!("  {} {} in {}: {} ({} tries)", work.seq, work.kind, work.lane, work.reason, work.attempts);
    }
    Ok(())
}

/// Puts parked work back.
pub(super) async fn retry(settings: &Settings, number: Option<i64>) -> anyhow::Result<()> {
    let parts = open(settings).await?;
    let before = parts.store.overview().await?.parked;
    parts.store.commit(vec![Change::Retry { seq: number }]).await?;
    let after = parts.store.overview().await?.parked;
    if let (Some(number), true) = (number, before == after) {
        return Err(Failure::new(Status::Data, format!("no parked work has the number {number}")).into());
    }
    println!("{} put back; a running bridge takes it up within a second", before.saturating_sub(after));
    Ok(())
}

/// Compares both sides.
pub(super) async fn reconcile(settings: &Settings, only: Option<&str>, repair: bool) -> anyhow::Result<()> {
    let parts = open(settings).await?;
    let report = parts.engine.reconcile(only, repair).await?;
    for difference in &report.differences {
        match difference {
            Difference::NoRoom { resource } => println!("{resource} has no room"),
            Difference::NotInMatrix { resource } => println!("{resource} is not in Matrix"),
            Difference::NotInFhir { room_id, event_id } => println!("{event_id} in {room_id} is not in FHIR"),
        }
    }
    println!(
        "{} conversations, {} messages equal, {} differences{}",
        report.conversations,
        report.equal,
        report.differences.len(),
        if report.repaired && !report.differences.is_empty() { ", put to work" } else { "" }
    );
    if report.differences.is_empty() || repair {
        return Ok(());
    }
    Err(Failure::new(Status::Failed, "both sides differ").remedy("Run the same without --dry-run to repair it.").into())
}

/// Writes rooms, messages and every version of every resource as lines of JSON.
pub(super) async fn export(settings: &Settings) -> anyhow::Result<()> {
    let parts = open(settings).await?;
    let mut out = std::io::stdout().lock();
    for room in parts.store.rooms().await? {
        writeln!(out, "{}", json!({ "room": room }))?;
        for message in parts.store.messages_in(&room.room_id).await? {
            let message = json!({ "event_id": message.event_id, "room_id": message.room_id, "resource": message.resource, "part": message.part });
            writeln!(out, "{}", json!({ "message": message }))?;
        }
    }
    let fhir = parts.fhir.as_ref();
    // A server that does not know the address may take it for a type of which it has nothing.
    if let Some(page) = if_kept(fhir.history(HistoryOf::System, None, Some(PAGE)).await)?
        && !page.entries.is_empty()
    {
        return write_pages(&mut out, fhir, page).await;
    }
    for kind in FOLLOWED.into_iter().chain([ResourceType::AuditEvent]) {
        let page = match if_kept(fhir.history(HistoryOf::Type(kind), None, Some(PAGE)).await)? {
            Some(page) => Some(page),
            // Without a history there are only the newest versions.
            None => if_kept(fhir.search(kind, &Query::new()).await)?,
        };
        if let Some(page) = page {
            write_pages(&mut out, fhir, page).await?;
        }
    }
    Ok(())
}

/// What a server answered; `None` where it does not do this.
fn if_kept(answer: Result<Page, FhirError>) -> Result<Option<Page>, FhirError> {
    match answer {
        Ok(page) => Ok(Some(page)),
        Err(FhirError::NotFound(_) | FhirError::NotSupported(_) | FhirError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_pages(out: &mut impl Write, fhir: &dyn FhirServer, mut page: Page) -> anyhow::Result<()> {
    loop {
        for entry in &page.entries {
            writeln!(out, "{}", json!({ "resource": entry.resource.members() }))?;
        }
        match page.next {
            Some(next) => page = fhir.follow(&next).await?,
            None => return Ok(()),
        }
    }
}

/// The parts beside a running bridge; makes nothing.
async fn open(settings: &Settings) -> Result<Parts, Failure> {
    let state = settings.state()?;
    if settings.database.url.is_none() && !super::settings::state_file(&state).exists() {
        return Err(Failure::new(Status::NoInput, format!("there is no state of a bridge in {}", state.display()))
            .remedy("Name the right directory with --state-directory, or start the bridge first."));
    }
    Parts::open(settings, Mode::Visit).await
}
