//! A certificate and its key on disk: always a pair, whatever happens while it is replaced.
//!
//! `certs/NAME` is a symbolic link to a directory that holds one pair and never changes:
//!
//! ```text
//! certs/vvt -> .versions/vvt.5f0c…
//! certs/.versions/vvt.5f0c…/cert.pem   0644
//! certs/.versions/vvt.5f0c…/key.pem    0600, or 0640 for a group
//! ```
//!
//! A new pair is written to a directory of its own and synced; then the link is replaced by a rename. A reader that
//! opens `certs/NAME/cert.pem` and `certs/NAME/key.pem` one after the other may meet the replacement between the two:
//! it reads both again when they do not match, or resolves the link first, as [`PairStore::load`] does.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rcgen::{KeyPair, PublicKeyData as _};
use tempfile::TempDir;
use tracing::warn;

use crate::service::{
    failure::{Failure, Status},
    files,
};

use super::{certificate::Certificate, name::HostName, serial::Serial};

/// Mode of a key that a group may read.
const SHARED: u32 = 0o640;
/// Mode of the directories: what must stay secret in them has a mode of its own.
const OPEN: u32 = 0o755;
/// Where the versions are.
const VERSIONS: &str = ".versions";
/// How the names of unfinished things begin, those of [`files::write`] too.
pub(super) const UNFINISHED: &str = ".new-";
/// Largest certificate or key file that is read, in bytes.
pub(super) const LIMIT: u64 = 64 * 1024;

/// A directory of pairs by name.
#[derive(Clone, Debug)]
pub struct PairStore {
    directory: PathBuf,
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: KeyPair,
    /// The group that may read the key, if one may.
    pub group: Option<u32>,
    /// Whether others may do with the key's file what they should not.
    exposed: bool,
}

// === impl Pair ===

impl Pair {
    /// Whether the key is that of the certificate.
    pub fn matches(&self) -> bool {
        self.certificate.public_key() == self.key.subject_public_key_info()
    }

    /// Whether others may know the key, or have replaced it; says so.
    pub(super) fn is_exposed(&self) -> bool {
        if self.exposed {
            let name = self.certificate.common_name();
            warn!(name, "others have access to the key: it is replaced; if they may know it, revoke the certificate");
        }
        self.exposed
    }
}

// === impl PairStore ===

impl PairStore {
    /// The pairs in a directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the certificate of a name is (PEM).
    pub fn certificate_path(&self, name: &str) -> PathBuf {
        self.directory.join(name).join("cert.pem")
    }

    /// Where the key of a name is (PKCS#8 in PEM).
    pub fn key_path(&self, name: &str) -> PathBuf {
        self.directory.join(name).join("key.pem")
    }

    /// The names that have a pair, in alphabetical order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| files::cannot("read", &self.directory, error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| files::cannot("read", &self.directory, error))?;
            match entry.file_name().into_string() {
                // What else is there, such as `lost+found`, is no host's.
                Ok(name) if matches!(name.parse(), Ok(HostName::Dns(_))) => names.push(name),
                _ => {}
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads the pair of a name; `None` where there is none.
    ///
    /// # Errors
    /// When a file of it cannot be read, is damaged, or the two do not belong together.
    pub fn load(&self, name: &str) -> Result<Option<Pair>, Failure> {
        let mut version = self.version(name)?;
        loop {
            // Resolved once, so that both files are of one version.
            let Some(path) = version else { return Ok(None) };
            match read_version(&path, name) {
                Ok(pair) => return Ok(Some(pair)),
                Err(failure) => {
                    // Replaced twice since, and so cleared away under our hands? Then the one in place counts.
                    version = self.version(name)?;
                    if version.as_ref() == Some(&path) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// As [`PairStore::load`], but a pair that cannot be used is none, and a failure to be told of when it is replaced.
    pub(super) fn load_usable(&self, name: &str) -> (Option<Pair>, Option<Failure>) {
        match self.load(name) {
            Ok(pair) => (pair, None),
            Err(failure) => (None, Some(failure)),
        }
    }

    /// The directory with the pair that is in place now.
    fn version(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let link = self.directory.join(name);
        match fs::read_link(&link) {
            Ok(version) => Ok(Some(self.directory.join(version))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A directory, not a link: not of our making, but perhaps a pair.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Some(link)),
            Err(error) => Err(files::cannot("read", &link, error)),
        }
    }

    /// Writes down the key of a pair that will replace that of a name, and sees to it that nothing else is in the way:
    /// what a certificate is asked for with cannot be had twice.
    ///
    /// The caller holds the lock of the directory, so that nobody else stores at the same time.
    ///
    /// # Errors
    /// When the file cannot be written, or the group cannot be given.
    pub(super) fn prepare(&self, name: &str, key_pem: &str, group: Option<u32>) -> Result<Unfinished<'_>, Failure> {
        let versions = self.directory.join(VERSIONS);
        open_directory(&self.directory)?;
        open_directory(&versions)?;
        sweep(&versions, |entry| entry.starts_with(UNFINISHED))?;
        let place = self.directory.join(name);
        if fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir()) {
            let text = format!("{} is a directory that federation-ca did not make", place.display());
            return Err(Failure::new(Status::CannotCreate, text).remedy("Move it away, then try again."));
        }
        let fresh = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&versions)
            .map_err(|error| files::cannot("write to", &versions, error))?;
        write_key(&fresh.path().join("key.pem"), key_pem, group)?;
        Ok(Unfinished { store: self, name: name.to_owned(), versions, fresh })
    }

    /// Lets a group read the key of a name.
    ///
    /// # Errors
    /// When this user may not give it to the group.
    pub(super) fn share(&self, name: &str, group: Option<u32>) -> Result<(), Failure> {
        share(&self.key_path(name), group)
    }

    /// The group that may read the key of a name, also where the pair is damaged.
    pub(super) fn group(&self, name: &str) -> Option<u32> {
        fs::metadata(self.key_path(name)).ok().as_ref().and_then(group_of)
    }

    /// Makes `NAME` point to a version: a link beside it, then a rename.
    fn point(&self, name: &str, versions: &Path, version_name: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        let cannot = |error| files::cannot("write", &path, error);
        let link = versions.join(format!("{UNFINISHED}link"));
        std::os::unix::fs::symlink(Path::new(VERSIONS).join(version_name), &link).map_err(cannot)?;
        fs::rename(&link, &path).map_err(cannot)?;
        sync(&self.directory)
    }
}

/// A pair that lacks its certificate. It leaves nothing behind when it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished<'a> {
    store: &'a PairStore,
    name: String,
    versions: PathBuf,
    fresh: TempDir,
}

// === impl Unfinished ===

impl Unfinished<'_> {
    /// Puts the pair in the place of the old one, at once and durably.
    ///
    /// # Errors
    /// When a file cannot be written. The old pair is then as it was.
    pub(super) fn complete(self, certificate_pem: &str, serial: &Serial) -> Result<(), Failure> {
        let Self { store, name, versions, fresh } = self;
        files::write(&fresh.path().join("cert.pem"), certificate_pem.as_bytes(), files::PUBLIC)?;
        set_mode(fresh.path(), OPEN)?;
        sync(fresh.path())?;
        let version_name = format!("{name}.{serial}");
        let version = versions.join(&version_name);
        fs::rename(fresh.keep(), &version).map_err(|error| files::cannot("write", &version, error))?;
        sync(&versions)?;

        let previous = fs::read_link(store.directory.join(&name)).ok();
        store.point(&name, &versions, &version_name)?;
        // The version before this one stays: somebody may be reading it now.
        let previous = previous.as_deref().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        sweep(&versions, |entry| is_version_of(entry, &name) && entry != version_name && entry != previous)
    }
}

/// Says that a pair was replaced because it could not be used.
pub(super) fn tell_replaced(name: &str, damage: Option<Failure>) {
    if let Some(failure) = damage {
        warn!(name, error = %failure, "the pair in place was damaged and has been replaced");
    }
}

/// Reads the pair in a directory that never changes.
fn read_version(version: &Path, name: &str) -> Result<Pair, Failure> {
    let (certificate_path, key_path) = (version.join("cert.pem"), version.join("key.pem"));
    let certificate = Certificate::read(&certificate_path)?;
    let key = read_key(&key_path)?;
    let metadata = fs::metadata(&key_path).map_err(|error| files::cannot("read", &key_path, error))?;
    let exposed = metadata.mode() & !SHARED & 0o777 != 0;
    let pair = Pair { certificate, key, group: group_of(&metadata), exposed };
    if !pair.matches() {
        return Err(Failure::new(
            Status::Data,
            format!("{} and {} do not belong together", certificate_path.display(), key_path.display()),
        )
        .remedy(format!("Make a new pair: federation-ca issue {name}")));
    }
    Ok(pair)
}

/// Reads a private key: PKCS#8 in PEM.
///
/// # Errors
/// When it cannot be read or is not a key. What stands in the file is not shown.
pub(super) fn read_key(path: &Path) -> Result<KeyPair, Failure> {
    let text = files::read_text(path, LIMIT)?;
    KeyPair::from_pem(&text).map_err(|error| {
        Failure::new(Status::Data, format!("{} is not a private key (PKCS#8 in PEM)", path.display()))
            .because(error)
            .remedy("Put the file back from a backup.")
    })
}

/// The group that may read a file.
fn group_of(file: &fs::Metadata) -> Option<u32> {
    (file.mode() & 0o040 != 0).then(|| file.gid())
}

fn write_key(path: &Path, pem: &str, group: Option<u32>) -> Result<(), Failure> {
    files::write(path, pem.as_bytes(), files::SECRET)?;
    share(path, group)
}

fn share(path: &Path, group: Option<u32>) -> Result<(), Failure> {
    let Some(group) = group else { return Ok(()) };
    std::os::unix::fs::chown(path, None, Some(group)).map_err(|error| {
        files::cannot(&format!("give group {group} access to"), path, error)
            .remedy("Run federation-ca as root, or as a member of that group.")
    })?;
    set_mode(path, SHARED)
}

/// Whether the entry is a version of the name: `NAME.SERIAL`. Serial numbers have no dots; names may have.
fn is_version_of(entry: &str, name: &str) -> bool {
    entry.rsplit_once('.').is_some_and(|(of, serial)| of == name && serial.parse::<Serial>().is_ok())
}

/// Removes what matches from a directory.
pub(super) fn sweep(directory: &Path, matches: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let cannot = |error| files::cannot("clean up", directory, error);
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if !entry.file_name().to_str().is_some_and(&matches) {
            continue;
        }
        let removed = match entry.file_type().map_err(cannot)?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        removed.map_err(cannot)?;
    }
    Ok(())
}

/// Makes a directory that others may enter, for the public files in it.
fn open_directory(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    files::make_directory(path)?;
    set_mode(path, OPEN)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| files::cannot("change the mode of", path, error))
}

fn sync(directory: &Path) -> Result<(), Failure> {
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| files::cannot("sync", directory, error))
}
