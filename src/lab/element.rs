//! The pinned Element Web: from a directory that was named, else fetched once, checked and kept.

use std::{
    fs,
    io::{self, Read, Write as _},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{cache::Turn, places::Places};
use crate::service::{
    failure::{Failure, Status},
    files,
};

/// The pinned release.
const VERSION: &str = "v1.12.25";
/// The SHA-256 digest of its archive.
const DIGEST: &str = "14d7f2671eb1fbccc690e7f176042d72ed2b4e34f7326a007e8b1540b1e748bb";
/// Where Element's makers publish their releases.
const RELEASES: &str = "https://github.com/element-hq/element-web/releases/download";
/// Largest archive that is accepted, in bytes; the release has about 30 MB.
const ARCHIVE_LIMIT: u64 = 200 * 1024 * 1024;
/// Largest sum of files that is unpacked, in bytes.
const UNPACKED_LIMIT: u64 = 1024 * 1024 * 1024;
/// Most files that are unpacked.
const FILES_LIMIT: usize = 50_000;
/// Time to reach the releases: without a network the lab goes on without Element, and soon.
const CONNECT_TIME: Duration = Duration::from_secs(4);
/// Time for the whole download.
const DOWNLOAD_TIME: Duration = Duration::from_secs(300);

/// Where Element Web is; `None`, after one line that says why, where it cannot be had.
///
/// # Errors
/// When a directory was named and holds no Element Web.
pub async fn obtain(places: &Places, named: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    if let Some(directory) = named {
        if !directory.join("index.html").is_file() {
            return Err(Failure::new(Status::NoInput, format!("{} holds no Element Web", directory.display()))
                .remedy("Name the directory that has its index.html, or leave --element and ELEMENT_WEB away."));
        }
        return std::path::absolute(directory).map(Some).map_err(|error| files::cannot("find", directory, error));
    }
    let kept = places.cache().join(format!("element-{VERSION}"));
    if kept.join("index.html").is_file() {
        return Ok(Some(kept));
    }
    match fetch(places, &kept).await {
        Ok(()) => Ok(Some(kept)),
        Err(error) => {
            eprintln!("No Element Web this time ({}); any Matrix client will do.", one_line(&error));
            Ok(None)
        }
    }
}

/// `config.json` of Element Web (its documentation, docs/config.md): one homeserver and nobody else.
pub fn config(homeserver: &str, name: &str, display_name: &str) -> toml::Table {
    let text = |value: &str| toml::Value::String(value.to_owned());
    let table = |fields: Vec<(&str, toml::Value)>| -> toml::Table {
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let server = table(vec![("base_url", text(homeserver)), ("server_name", text(name))]);
    table(vec![
        ("default_server_config", table(vec![("m.homeserver", server.into())]).into()),
        ("brand", text(&format!("Element – {display_name}"))),
        ("disable_custom_urls", true.into()),
        ("disable_guests", true.into()),
        ("disable_3pid_login", true.into()),
        ("default_federate", true.into()),
        ("show_labs_settings", false.into()),
        ("permalink_prefix", text("https://matrix.to")),
        ("room_directory", table(vec![("servers", toml::Value::Array(vec![text(name)]))]).into()),
    ])
}

fn one_line(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}

async fn fetch(places: &Places, to: &Path) -> anyhow::Result<()> {
    let turn = Turn::take(places.cache(), "element").await?;
    if to.join("index.html").is_file() {
        return Ok(());
    }
    let address = format!("{RELEASES}/{VERSION}/element-{VERSION}.tar.gz");
    let cannot = |error| files::cannot("write to", places.cache(), error);
    let mut archive = tempfile::tempfile_in(places.cache()).map_err(cannot)?;
    download(&address, &mut archive).await?;
    let beside = turn.beside()?;
    let unpacked = tokio::task::spawn_blocking(move || -> anyhow::Result<tempfile::TempDir> {
        unpack(archive, beside.path())?;
        Ok(beside)
    });
    Ok(turn.put_in_place(unpacked.await??, to)?)
}

/// Downloads the release with the system's roots; the digest is what is trusted.
async fn download(address: &str, to: &mut fs::File) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().connect_timeout(CONNECT_TIME).timeout(DOWNLOAD_TIME).build()?;
    let unreachable = |error: reqwest::Error| {
        let why = if error.is_timeout() { "its download does not answer" } else { "its download cannot be reached" };
        Failure::new(Status::Unavailable, why)
    };
    let response = tokio::time::timeout(CONNECT_TIME * 2, client.get(address).send()).await;
    let response = response.map_err(|_| Failure::new(Status::Unavailable, "its download does not answer"))?;
    let mut response = response.and_then(reqwest::Response::error_for_status).map_err(unreachable)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        length += chunk.len() as u64;
        if length > ARCHIVE_LIMIT {
            return Err(Failure::new(Status::Data, "its archive is larger than can be").into());
        }
        digest.update(&chunk);
        to.write_all(&chunk)?;
    }
    let digest: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != DIGEST {
        return Err(Failure::new(Status::Data, "its archive is not the one that was pinned").into());
    }
    io::Seek::rewind(to)?;
    Ok(())
}

/// Unpacks files and directories below the archive's one top directory; links, devices and paths that lead elsewhere
/// are refused.
fn unpack(archive: impl Read, to: &Path) -> anyhow::Result<()> {
    let wrong = |what: String| Failure::new(Status::Data, format!("its archive holds {what}"));
    let bounded = flate2::read::GzDecoder::new(archive).take(UNPACKED_LIMIT);
    let mut archive = tar::Archive::new(bounded);
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if count >= FILES_LIMIT {
            return Err(wrong("too many files".to_owned()).into());
        }
        let path = entry.path()?.into_owned();
        let mut inner = PathBuf::new();
        for part in path.components().filter(|part| *part != Component::CurDir).skip(1) {
            match part {
                Component::Normal(part) => inner.push(part),
                _ => return Err(wrong(format!("a path that leads elsewhere: {}", path.display())).into()),
            }
        }
        if path.components().any(|part| matches!(part, Component::ParentDir | Component::RootDir)) {
            return Err(wrong(format!("a path that leads elsewhere: {}", path.display())).into());
        }
        let target = to.join(&inner);
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target)?,
            tar::EntryType::Regular => {
                if let Some(directory) = target.parent() {
                    fs::create_dir_all(directory)?;
                }
                let mut file = fs::File::create_new(&target)?;
                io::copy(&mut entry, &mut file)?;
            }
            tar::EntryType::XGlobalHeader => {}
            other => return Err(wrong(format!("{}, which is {other:?}", path.display())).into()),
        }
    }
    if to.join("index.html").is_file() { Ok(()) } else { Err(wrong("no index.html".to_owned()).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of raw entries, so that paths may be as evil as they like.
    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn an_archive_is_unpacked_without_its_top_directory() {
        let directory = tempfile::tempdir().unwrap();
        let good = archive(&[
            ("element/", tar::EntryType::Directory, b""),
            ("element/index.html", tar::EntryType::Regular, b"<html>"),
            ("element/a/b.js", tar::EntryType::Regular, b"1"),
        ]);
        unpack(good.as_slice(), directory.path()).unwrap();
        assert_eq!(fs::read(directory.path().join("index.html")).unwrap(), b"<html>");
        assert_eq!(fs::read(directory.path().join("a/b.js")).unwrap(), b"1");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (path, kind) in [
            ("element/../../x", tar::EntryType::Regular),
            ("/etc/x", tar::EntryType::Regular),
            ("../x/y", tar::EntryType::Regular),
            ("element/link", tar::EntryType::Symlink),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let inner = directory.path().join("inner");
            fs::create_dir(&inner).unwrap();
            assert!(unpack(archive(&[(path, kind, b"")]).as_slice(), &inner).is_err(), "{path}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "{path}");
        }
    }

    #[test]
    fn the_client_knows_its_homeserver() {
        let config = config("http://vvt.localhost:8008", "vvt", "VVT");
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["default_server_config"]["m.homeserver"]["base_url"], "http://vvt.localhost:8008");
    }

    #[tokio::test]
    async fn a_named_directory_without_element_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::new(Some(directory.path()), Some(directory.path())).unwrap();
        let failure = obtain(&places, Some(directory.path())).await.unwrap_err();
        assert!(failure.to_string().ends_with("holds no Element Web"));
        fs::write(directory.path().join("index.html"), "").unwrap();
        assert!(obtain(&places, Some(directory.path())).await.unwrap().is_some());
    }
}
