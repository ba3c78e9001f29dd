//! `fhir-bridge move`: from SQLite files to PostgreSQL, while no bridge runs.

use std::path::PathBuf;

use super::settings::{self, Settings};
use crate::{
    bridge::store::{self, Mode, SqlStore},
    fhir::repository,
    service::{
        database::{self, Part, Server, transfer},
        failure::{Failure, Status},
    },
};

/// Where everything goes, as far as the command line says it.
#[derive(Debug, Default)]
pub(super) struct Destination {
    pub(super) url: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

// === impl Destination ===

impl Destination {
    /// What the command line leaves open, the settings say.
    fn database(self, settings: &database::Settings) -> Result<database::Settings, Failure> {
        let database = database::Settings {
            url: self.url.or_else(|| settings.url.clone()),
            password_file: self.password_file.or_else(|| settings.password_file.clone()),
            ca_file: self.ca_file.or_else(|| settings.ca_file.clone()),
            ..settings.clone()
        };
        if database.url.is_none() {
            return Err(Failure::new(Status::Usage, "where everything goes is not said")
                .remedy("Give --to postgresql://…, or set database.url."));
        }
        database.check()?;
        Ok(database)
    }
}

/// Moves the state and the embedded FHIR repository. The files stay as they are.
pub(super) async fn relocate(settings: &Settings, to: Destination) -> anyhow::Result<()> {
    let database = to.database(&settings.database)?;
    let state = settings.state()?;
    let file = settings::state_file(&state);
    if !file.exists() {
        return Err(Failure::new(Status::NoInput, format!("there is no state of a bridge in {}", state.display()))
            .remedy("Name the right directory with --state-directory.")
            .into());
    }
    let server = Server::new(&database)?;
    // As the bridge itself opens it: there is no other one, and what an earlier one held is let go.
    let alone = SqlStore::open(&file, Mode::Serve).await?;
    let mut parts = vec![Part { schema: store::SCHEMA, file, passing: &["duty"] }];
    let resources = settings::fhir_file(&state);
    if resources.exists() {
        parts.push(Part { schema: repository::SCHEMA, file: resources, passing: &[] });
    }
    let moved = transfer(parts, &server).await?;
    drop(alone);
    for table in &moved {
        println!("{}: {} rows", table.table, table.rows);
    }
    println!("All of it is in {server} now. The files in {} are as they were.", state.display());
    if settings.database.url != database.url {
        println!("Put into the settings before the bridge starts again:\n  [database]");
        let files = [("password_file", &database.password_file), ("ca_file", &database.ca_file)];
        let url = database.url.unwrap_or_default();
        println!("  url = {url:?}");
        for (key, path) in files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
            println!("  {key} = {:?}", path.display().to_string());
        }
    }
    println!("Never start a bridge on those files again: it would know nothing of what happens from now on.");
    Ok(())
}
