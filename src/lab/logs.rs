//! `federation-lab logs`: the log files of the programs, as they are and as they grow.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::service::files;

/// How much of the end of a file is looked at for its last lines, in bytes.
const WINDOW: u64 = 256 * 1024;
/// How often growing files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The last lines of a file.
///
/// # Errors
/// When the file cannot be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.iter().skip(lines.len().saturating_sub(count)).map(|line| (*line).to_owned()).collect())
}

/// A log file that is being followed, also when it is put aside for a new one of its name.
#[derive(Debug)]
struct Followed {
    label: String,
    path: PathBuf,
    read: u64,
    inode: u64,
}

// === impl Followed ===

impl Followed {
    fn from_the_end(label: String, path: PathBuf) -> Self {
        let (read, inode) = std::fs::metadata(&path).map_or((0, 0), |found| (found.len(), found.ino()));
        Self { label, path, read, inode }
    }

    /// The whole lines that came since the last look.
    fn news(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let found = file.metadata()?;
        if found.ino() != self.inode || found.len() < self.read {
            (self.read, self.inode) = (0, found.ino());
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.read += whole as u64;
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }
}

/// Prints the last `count` lines of each file, by its label where there are several, and with `follow` what comes
/// after, until interrupted.
///
/// # Errors
/// When a file or the terminal fails; a reader that has gone away (`| head`) is no error.
pub fn show(logs: Vec<(String, PathBuf)>, count: usize, follow: bool) -> anyhow::Result<()> {
    match print(logs, count, follow) {
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Trouble::Output(error)) => Err(files::cannot("write to", Path::new("the terminal"), error).into()),
        Err(Trouble::File(path, error)) => Err(files::cannot("read", &path, error).into()),
        Ok(()) => Ok(()),
    }
}

enum Trouble {
    Output(io::Error),
    File(PathBuf, io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn print(logs: Vec<(String, PathBuf)>, count: usize, follow: bool) -> Result<(), Trouble> {
    let several = logs.len() > 1;
    let mut out = io::stdout().lock();
    let mut followed = Vec::new();
    for (label, path) in logs {
        followed.push(Followed::from_the_end(label.clone(), path.clone()));
        let lines = match last_lines(&path, count) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines.map_err(|error| Trouble::File(path.clone(), error))?,
        };
        if several && !lines.is_empty() {
            writeln!(out, "==> {label}: {} <==", path.display())?;
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    if follow { print_news(&mut followed, several, &mut out) } else { Ok(()) }
}

/// Ends when a file or the reader fails.
fn print_news(followed: &mut [Followed], several: bool, out: &mut impl io::Write) -> Result<(), Trouble> {
    loop {
        for log in &mut *followed {
            for line in log.news().map_err(|error| Trouble::File(log.path.clone(), error))? {
                if several {
                    write!(out, "{:>10} | ", log.label)?;
                }
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["b", "c"]);
        assert_eq!(last_lines(&path, 9).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn a_followed_file_may_grow_and_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let mut log = Followed::from_the_end("x".to_owned(), path.clone());
        std::fs::write(&path, "old\nnew\nhal").unwrap();
        assert_eq!(log.news().unwrap(), ["new"]);
        std::fs::write(&path, "old\nnew\nhalf\n").unwrap();
        assert_eq!(log.news().unwrap(), ["half"]);
        std::fs::rename(&path, directory.path().join("log.1")).unwrap();
        assert!(log.news().unwrap().is_empty());
        std::fs::write(&path, "another file\n").unwrap();
        assert_eq!(log.news().unwrap(), ["another file"]);
    }
}
