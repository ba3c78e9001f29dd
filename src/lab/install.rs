//! The pinned Synapse in a private virtual environment, made once and kept in the cache.

use std::{
    env,
    ffi::OsString,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Turn,
    places::Places,
    program::{Child, Program},
    python::Python,
};
use crate::service::{
    failure::{Failure, Status},
    files,
};

/// Synapse and all that it needs, with hashes.
pub const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Time for the whole installation; the download is about 40 MB.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How many of pip's last lines are looked at for the cause of a failure.
const TAIL: usize = 200;

/// Runs the pip that came with Python, in one process (`python -m ensurepip` would start a second one).
const PIP: &str = "
import glob, os, runpy, sys, sysconfig
import ensurepip
places = [sysconfig.get_config_var('WHEEL_PKG_DIR'), os.path.join(os.path.dirname(ensurepip.__file__), '_bundled')]
wheels = [wheel for place in places if place for wheel in sorted(glob.glob(os.path.join(place, 'pip-*.whl')))]
if not wheels:
    sys.exit('ERROR: this Python has ensurepip without a pip')
sys.path.insert(0, wheels[-1])
sys.argv[0] = 'pip'
runpy.run_module('pip', run_name='__main__', alter_sys=True)
";

/// How a homeserver is started: the program and the arguments before `--config-path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synapse {
    /// The command without its own arguments.
    pub command: Vec<OsString>,
}

// === impl Synapse ===

impl Synapse {
    /// `$SYNAPSE_HOMESERVER` where it is set, else the pinned one, which is installed first if need be.
    ///
    /// # Errors
    /// One sentence for each of: no Python, no venv module, no network, a full disk, an unwritable directory.
    pub async fn obtain(places: &Places, stop: &CancellationToken) -> anyhow::Result<Self> {
        if let Some(named) = env::var_os("SYNAPSE_HOMESERVER").filter(|named| !named.is_empty()) {
            if !Path::new(&named).is_file() {
                return Err(Failure::new(
                    Status::NoInput,
                    format!("SYNAPSE_HOMESERVER={} is no file", named.display()),
                )
                .remedy("Set it to the program synapse_homeserver, or unset it.")
                .into());
            }
            return Ok(Self { command: vec![named] });
        }
        let python = tokio::select! {
            python = Python::find() => python?,
            () = stop.cancelled() => return Err(interrupted().into()),
        };
        let environment = Environment::for_python(places.cache(), python);
        environment.make(places.cache(), stop).await?;
        Ok(environment.synapse())
    }
}

/// What Synapse and its downloads take, with some to spare; in bytes.
const NEEDED_ROOM: u64 = 512 << 20;

/// The virtual environment of one set of requirements and one Python.
#[derive(Debug)]
struct Environment {
    python: Python,
    directory: PathBuf,
}

// === impl Environment ===

impl Environment {
    fn for_python(cache: &Path, python: Python) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(REQUIREMENTS.as_bytes());
        context.update(python.executable.as_os_str().as_encoded_bytes());
        let key: String = context.finish().as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let directory = cache.join(format!("synapse-python{}-{key}", python.version));
        Self { python, directory }
    }

    fn interpreter(&self) -> PathBuf {
        self.directory.join("bin/python3")
    }

    fn synapse(&self) -> Synapse {
        let command = vec![self.interpreter().into(), "-m".into(), "synapse.app.homeserver".into()];
        Synapse { command }
    }

    /// Whole and with a Python that is still there: an upgrade of the system may take it away.
    fn is_whole(&self) -> bool {
        self.interpreter().exists()
    }

    async fn make(&self, cache: &Path, stop: &CancellationToken) -> anyhow::Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        let turn = tokio::select! {
            turn = Turn::take(cache, "synapse") => turn?,
            () = stop.cancelled() => return Err(interrupted().into()),
        };
        if self.is_whole() {
            return Ok(());
        }
        let beside = turn.beside()?;
        files::require_room(beside.path(), NEEDED_ROOM, "Synapse")?;
        self.fill(beside.path(), stop).await?;
        Ok(turn.put_in_place(beside, &self.directory)?)
    }

    async fn fill(&self, directory: &Path, stop: &CancellationToken) -> anyhow::Result<()> {
        let progress = Progress::start(wheels(REQUIREMENTS));
        let venv = [self.python.executable.as_os_str(), "-m".as_ref(), "venv".as_ref(), "--without-pip".as_ref()];
        run(venv.into_iter().map(Into::into).chain([directory.into()]), &progress, stop).await?;
        let requirements = directory.join("requirements.txt");
        files::write(&requirements, REQUIREMENTS.as_bytes(), files::PUBLIC)?;
        let pip: [OsString; 14] = [
            directory.join("bin/python3").into(),
            "-I".into(),
            "-c".into(),
            PIP.into(),
            "install".into(),
            "--no-deps".into(),
            "--only-binary=:all:".into(),
            "--require-hashes".into(),
            "--no-input".into(),
            "--disable-pip-version-check".into(),
            "--progress-bar=off".into(),
            "--retries=2".into(),
            "-r".into(),
            requirements.into(),
        ];
        run(pip, &progress, stop).await?;
        progress.finish(&format!("Synapse is installed in {}", self.directory.display()));
        Ok(())
    }
}

fn interrupted() -> Failure {
    Failure::new(Status::Interrupted, "interrupted while installing Synapse")
}

/// One package a line that starts with its name.
fn wheels(requirements: &str) -> u64 {
    requirements.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric())).count() as u64
}

/// Runs one step of the installation to its end.
async fn run(
    command: impl IntoIterator<Item = OsString>,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let program = Program::new("the installation of Synapse", command).variable("PYTHONNOUSERSITE", "1");
    let mut child = program.start_piped()?;
    let watched = async {
        let (stdout, stderr) = (child.take_stdout(), child.take_stderr());
        let (said, complaints) = tokio::join!(follow(stdout, Some(progress)), follow(stderr, None));
        Ok::<_, Failure>((child.wait().await?, said, complaints))
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(PATIENCE, watched) => outcome,
        () = stop.cancelled() => {
            stop_now(&mut child).await;
            return Err(interrupted().into());
        }
    };
    let Ok(outcome) = outcome else {
        stop_now(&mut child).await;
        let text = format!("installing Synapse took longer than {} minutes", PATIENCE.as_secs() / 60);
        return Err(Failure::new(Status::Temporary, text).remedy("Try again; what was downloaded is kept.").into());
    };
    let (status, mut said, complaints) = outcome?;
    if status.success() {
        return Ok(());
    }
    said.extend(complaints);
    Err(explain(&said).into())
}

async fn stop_now(child: &mut Child) {
    child.stop(Duration::from_secs(2)).await;
}

/// Reads the lines of a child's output to their end and keeps the last ones.
async fn follow(output: Option<impl AsyncRead + Unpin>, progress: Option<&Progress>) -> Vec<String> {
    let mut kept = std::collections::VecDeque::new();
    let Some(output) = output else { return Vec::new() };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(progress) = progress {
            progress.hear(&line);
        }
        if kept.len() == TAIL {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}

/// What pip's words mean, in one sentence with a remedy.
fn explain(lines: &[String]) -> Failure {
    let has = |needle: &str| lines.iter().any(|line| line.contains(needle));
    let error = lines.iter().rev().find_map(|line| line.trim().strip_prefix("ERROR: "));
    let cause = error.or_else(|| lines.last().map(|line| line.trim())).unwrap_or("no reason was given").to_owned();
    let (status, what, remedy) =
        if has("No space left on device") || has("Disk quota exceeded") || has("File too large") {
            (
                Status::Io,
                "the disk is full: Synapse cannot be installed",
                "Free about 300 MB, or name another directory with --cache.",
            )
        } else if has("Permission denied") || has("Read-only file system") {
            (
                Status::NoPermission,
                "the cache directory cannot be written: Synapse cannot be installed",
                "Make it writable, or name another directory with --cache.",
            )
        } else if has("THESE PACKAGES DO NOT MATCH THE HASHES") {
            (
                Status::Data,
                "a downloaded package is not the one that was pinned: Synapse is not installed",
                "Do not use it; find out what stands between this machine and its package index.",
            )
        } else if NETWORK_TROUBLE.iter().any(|sign| has(sign)) {
            (
                Status::Unavailable,
                "the package index cannot be reached: Synapse cannot be installed",
                "Connect this machine to the network (or set PIP_INDEX_URL, or HTTPS_PROXY), then try again.",
            )
        } else if has("No matching distribution found") {
            (
                Status::Unavailable,
                "the package index has no build of the pinned packages for this machine: Synapse cannot be installed",
                "Linux with glibc on x86_64 or aarch64 is supported; elsewhere set SYNAPSE_HOMESERVER to a Synapse.",
            )
        } else {
            (
                Status::Unavailable,
                "Synapse cannot be installed",
                "Set SYNAPSE_HOMESERVER to use one that is installed already.",
            )
        };
    Failure::new(status, what).because(cause).remedy(remedy)
}

/// What pip says when it cannot reach the index.
const NETWORK_TROUBLE: [&str; 6] = [
    "NewConnectionError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ConnectTimeoutError",
    "ProxyError",
];

/// A bar on a terminal; a few plain lines elsewhere.
struct Progress {
    bar: ProgressBar,
}

// === impl Progress ===

impl Progress {
    fn start(packages: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(packages), target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg:40!} {wide_bar} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let progress = Self { bar };
        progress.say("Installing Synapse (once; it is kept)");
        progress
    }

    fn say(&self, message: &str) {
        self.bar.set_message(message.to_owned());
        if self.bar.is_hidden() {
            eprintln!("{message} …");
        }
    }

    /// Moves on with what pip says.
    fn hear(&self, line: &str) {
        if let Some(package) = line.strip_prefix("Collecting ") {
            let package = package.split([' ', '=', '(']).next().unwrap_or(package);
            self.bar.inc(1);
            self.bar.set_message(format!("Fetching {package}"));
        } else if line.starts_with("Ignoring ") {
            self.bar.inc(1);
        } else if line.starts_with("Installing collected packages") {
            self.say("Unpacking and compiling the packages");
        }
    }

    fn finish(&self, message: &str) {
        let hidden = self.bar.is_hidden();
        self.bar.finish_and_clear();
        if !hidden {
            eprintln!("{message}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(path: &str) -> Python {
        Python { executable: path.into(), version: "3.11".to_owned() }
    }

    #[test]
    fn every_requirement_is_pinned_and_hashed() {
        assert!(REQUIREMENTS.contains("\nmatrix-synapse==1.163.2 \\\n    --hash=sha256:"));
        let pinned = REQUIREMENTS
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains("==") && line.ends_with(" \\"))
            .count();
        assert_eq!(pinned as u64, wheels(REQUIREMENTS));
        assert!(!REQUIREMENTS.contains("://"), "a package registry is named");
    }

    #[test]
    fn another_python_gets_another_environment() {
        let cache = Path::new("/c");
        let one = Environment::for_python(cache, python("/usr/bin/python3"));
        assert_eq!(one.directory, Environment::for_python(cache, python("/usr/bin/python3")).directory);
        assert_ne!(one.directory, Environment::for_python(cache, python("/opt/python3")).directory);
    }

    #[test]
    fn pips_troubles_are_told_apart() {
        for (line, status) in [
            ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", Status::Io),
            ("WARNING: Retrying … NewConnectionError('…: Failed to establish a new connection", Status::Unavailable),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", Status::Data),
            (
                "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'",
                Status::NoPermission,
            ),
        ] {
            assert_eq!(explain(&[line.to_owned()]).status(), status, "{line}");
        }
        let unknown = explain(&["ERROR: something new".to_owned()]);
        assert_eq!(std::error::Error::source(&unknown).unwrap().to_string(), "something new");
    }
}
