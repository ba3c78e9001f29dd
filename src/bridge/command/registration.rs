//! `fhir-bridge registration`.

use std::path::Path;

use super::settings::Settings;
use crate::{
    matrix::{Registration, registration::Origin},
    service::files,
};

/// Makes the registration if it is not there and says what to do with it; with `readdress` one that is there gets the
/// settings' address.
pub(super) fn make(settings: &Settings, readdress: bool) -> anyhow::Result<()> {
    let path = settings.registration_file()?;
    if let Some(directory) = path.parent() {
        files::make_directory(directory)?;
    }
    let see_to = if readdress { Registration::read_or_make_at } else { Registration::read_or_make };
    let (registration, origin) = see_to(&path, &settings.blueprint())?;
    let path_shown = path.display();
    match origin {
        Origin::Read => println!("The registration is in {path_shown}."),
        Origin::Made => println!("The registration was made in {path_shown}."),
        Origin::Changed => println!("The registration in {path_shown} names {} now.", settings.url()),
    }
    println!("{}", instructions(&path));
    for remark in registration.remarks(&files::read_text(&path, 1 << 20)?) {
        println!("Note: {remark}.");
    }
    Ok(())
}

/// What to put into homeserver.yaml.
pub(super) fn instructions(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!(
        "Put into homeserver.yaml, and restart the homeserver:\n  app_service_config_files:\n    - {}",
        path.display()
    )
}
