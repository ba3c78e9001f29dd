//! Installing into the cache: one lab at a time, and either wholly or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::control::or_another;
use crate::service::{failure::Failure, files};

/// The right to install one thing into the cache; given back when it is dropped or the process ends.
#[derive(Debug)]
pub struct Turn {
    _file: fs::File,
    cache: PathBuf,
    prefix: String,
}

// === impl Turn ===

impl Turn {
    /// Takes the right to install `what`, waiting for another lab that does so now, and removes what one that died
    /// left half-made.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub async fn take(cache: &Path, what: &str) -> anyhow::Result<Self> {
        files::make_directory(cache).map_err(|failure| or_another(failure, cache, "--cache"))?;
        let path = cache.join(format!("{what}.lock"));
        let file = fs::File::create(&path).map_err(|error| files::cannot("write", &path, error))?;
        let file = if file.try_lock().is_ok() {
            file
        } else {
            eprintln!("Another lab of yours is installing {what}; waiting for it …");
            let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?;
            locked.map_err(|error| files::cannot("lock", &path, error))?
        };
        let turn = Self { _file: file, cache: cache.to_owned(), prefix: format!(".new-{what}-") };
        turn.sweep()?;
        Ok(turn)
    }

    /// A directory to fill, beside where it will be; removed again unless it is put in place.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn beside(&self) -> Result<TempDir, Failure> {
        let made = tempfile::Builder::new().prefix(&self.prefix).tempdir_in(&self.cache);
        made.map_err(|error| files::cannot("write to", &self.cache, error))
    }

    /// Gives a filled directory its name; a broken one of that name goes.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn put_in_place(&self, filled: TempDir, to: &Path) -> Result<(), Failure> {
        if to.exists() {
            fs::remove_dir_all(to).map_err(|error| files::cannot("remove the broken", to, error))?;
        }
        fs::rename(filled.path(), to).map_err(|error| files::cannot("make", to, error))?;
        // It has a new name and is nobody's temporary directory any more.
        _ = filled.keep();
        Ok(())
    }

    fn sweep(&self) -> Result<(), Failure> {
        let cannot = |error| files::cannot("read", &self.cache, error);
        for entry in fs::read_dir(&self.cache).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let is_left_over = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.prefix));
            if is_left_over {
                fs::remove_dir_all(&path).map_err(|error| files::cannot("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_dead_lab_left_is_swept_and_the_rest_stays() {
        let cache = tempfile::tempdir().unwrap();
        for name in [".new-synapse-1", ".new-element-1", "synapse"] {
            fs::create_dir_all(cache.path().join(name).join("inner")).unwrap();
        }
        let turn = Turn::take(cache.path(), "synapse").await.unwrap();
        assert!(!cache.path().join(".new-synapse-1").exists());
        assert!(cache.path().join(".new-element-1").exists());
        let beside = turn.beside().unwrap();
        fs::write(beside.path().join("whole"), "").unwrap();
        turn.put_in_place(beside, &cache.path().join("synapse")).unwrap();
        assert!(cache.path().join("synapse/whole").exists() && !cache.path().join("synapse/inner").exists());
    }

    #[tokio::test]
    async fn two_take_turns() {
        let cache = tempfile::tempdir().unwrap();
        let first = Turn::take(cache.path(), "synapse").await.unwrap();
        let path = cache.path().to_owned();
        let second = tokio::spawn(async move { Turn::take(&path, "synapse").await.map(|_| ()) });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
    }
}
