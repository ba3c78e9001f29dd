//! Files that are either the old or the new version, never a mixture.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::failure::{Failure, Status};

/// Mode of a file that only its owner may read: keys, tokens, passwords.
pub const SECRET: u32 = 0o600;
/// Mode of a file that everybody may read: certificates, generated configuration without secrets.
pub const PUBLIC: u32 = 0o644;

/// Writes `content` to `path` atomically and durably: beside it, synced, renamed, directory synced.
///
/// A reader, and a crash at any point, sees the old file or the new one.
///
/// # Errors
/// A [`Failure`] that names the path, with a remedy where the cause is known (full disk, no permission).
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let attempt = || -> io::Result<()> {
        let directory = parent(path);
        let mut beside = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        beside.write_all(content)?;
        // The umask may have taken bits away from the mode.
        beside.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        beside.as_file().sync_all()?;
        beside.persist(path).map_err(|failed| failed.error)?;
        fs::File::open(directory)?.sync_all()
    };
    attempt().map_err(|error| cannot("write", path, error))
}

/// Reads a whole file as UTF-8 text of at most `limit` bytes.
///
/// # Errors
/// A [`Failure`] that names the path, also for a larger file and for one that is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    let size = fs::metadata(path).map_err(|error| cannot("read", path, error))?.len();
    if size > limit {
        return Err(Failure::new(
            Status::Data,
            format!("{} has {size} bytes; at most {limit} are expected", path.display()),
        ));
    }
    fs::read_to_string(path).map_err(|error| cannot("read", path, error))
}

/// Makes a directory and its parents; those that it makes are for the owner only (0700).
///
/// # Errors
/// A [`Failure`] that names the directory.
pub fn make_directory(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| cannot("make directory", path, error))
}

/// Bytes that this user may still write to the file system that holds `path`.
///
/// # Errors
/// When the path is not there or its file system does not tell.
pub fn room(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses to begin what needs more room than there is, in bytes; `what` needs it.
///
/// # Errors
/// A [`Failure`] that says how much there is and how much is needed.
pub fn require_room(path: &Path, needed: u64, what: &str) -> Result<(), Failure> {
    const MIB: u64 = 1 << 20;
    // A file system that does not tell may well have room.
    let free = room(path).unwrap_or(u64::MAX);
    if free >= needed {
        return Ok(());
    }
    let text = format!("{what} needs {} MiB in {}, and {} MiB are free", needed / MIB, path.display(), free / MIB);
    Err(Failure::new(Status::Io, text).remedy("Free some space there, or choose a directory on another disk."))
}

/// The failure of an operation on a path, with the remedy that its cause suggests.
pub fn cannot(verb: &str, path: &Path, error: io::Error) -> Failure {
    let (status, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Status::Io, Some("The disk is full: free some space there, then try again.".to_owned()))
        }
        io::ErrorKind::PermissionDenied => {
            (Status::NoPermission, Some(format!("Give this user access to {}.", path.display())))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (Status::CannotCreate, Some("Choose a directory on a file system that can be written.".to_owned()))
        }
        io::ErrorKind::NotFound => (Status::NoInput, None),
        _ => (Status::Io, None),
    };
    let failure = Failure::new(status, format!("cannot {verb} {}", path.display())).because(error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

/// Name of a user directory of this project under an XDG base directory.
pub const PROJECT: &str = "care-federation";

/// A directory of this project below one of the XDG base directories of this user.
///
/// # Errors
/// A [`Failure`] when neither `HOME` nor the directory's own variable is set.
pub fn user_directory(base: Base) -> Result<PathBuf, Failure> {
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(Status::Config, "cannot tell this user's home directory")
            .because(error)
            .remedy("Set HOME, or name the directory on the command line.")
    })?;
    let directory = match base {
        Base::Cache => Some(strategy.cache_dir()),
        Base::State => strategy.state_dir(),
    };
    Ok(directory.unwrap_or_else(|| strategy.data_dir()).join(PROJECT))
}

/// Which XDG base directory is meant (XDG Base Directory Specification 0.8).
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// What can be made again: `$XDG_CACHE_HOME`, else `~/.cache`.
    Cache,
    /// What must survive a restart: `$XDG_STATE_HOME`, else `~/.local/state`.
    State,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_more_room_than_there_is_does_not_begin() {
        let directory = tempfile::tempdir().unwrap();
        require_room(directory.path(), 1, "a test").unwrap();
        let failure = require_room(directory.path(), u64::MAX, "a test").unwrap_err().to_string();
        assert!(failure.starts_with("a test needs "), "{failure}");
        assert!(failure.contains(&directory.path().display().to_string()), "{failure}");
    }

    #[test]
    fn a_written_file_has_its_mode_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, b"one", SECRET).unwrap();
        write(&path, b"two", SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_path() {
        let failure = write(Path::new("/nonexistent/key"), b"", SECRET).unwrap_err();
        assert_eq!(failure.to_string(), "cannot write /nonexistent/key");
    }
}
