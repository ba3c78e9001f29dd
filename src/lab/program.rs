//! Child processes that never outlive the lab.
//!
//! Every child is started through the lab's own `program guard`, which asks the kernel to kill it when the lab dies
//! (PR_SET_PDEATHSIG, prctl(2)) and then becomes the program. Each has a process group of its own, so that Ctrl-C
//! on the terminal reaches the lab alone, and stopping reaches the child's own children too.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use tokio::process::{ChildStderr, ChildStdout, Command};

use crate::service::{
    failure::{Failure, Status},
    files,
};

/// Variables that would lead a child's calls astray: the lab's homeservers call each other and nobody else.
const UNWANTED: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
];
/// A log file of a program's output that is larger than this, in bytes, is put aside at the next start.
const LARGE_LOG: u64 = 10 * 1024 * 1024;

/// A program that the lab runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, for people: a server name, `proxy`, or `bridge-` and a server name.
    pub name: String,
    command: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    output: Option<PathBuf>,
    offline: bool,
}

/// A program that was started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: tokio::process::Child,
    group: Option<Pid>,
}

// === impl Program ===

impl Program {
    /// A program by its command line.
    pub fn new(name: impl Into<String>, command: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            name: name.into(),
            command: command.into_iter().collect(),
            variables: Vec::new(),
            output: None,
            offline: false,
        }
    }

    /// One of this project's own daemons, run by this very executable.
    ///
    /// # Errors
    /// When the path of this executable is not known.
    pub fn own(name: &str, daemon: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let head = [own_executable()?.into(), OsString::from("program"), OsString::from(daemon)];
        Ok(Self::new(name, head.into_iter().chain(arguments)))
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Appends what it writes to a file.
    #[must_use]
    pub fn output(mut self, path: PathBuf) -> Self {
        self.output = Some(path);
        self
    }

    /// Keeps from it how this user reaches the world (proxies and the like), and settings meant for other daemons.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Starts it with its output in its file (or nowhere).
    ///
    /// Call this from a thread that lives as long as the process: the kernel kills the child with the thread.
    ///
    /// # Errors
    /// When the file or the process cannot be made.
    pub fn start(&self) -> Result<Child, Failure> {
        let (out, err) = match &self.output {
            Some(path) => {
                let file = open_log(path)?;
                let second = file.try_clone().map_err(|error| files::cannot("write", path, error))?;
                (Stdio::from(file), Stdio::from(second))
            }
            None => (Stdio::null(), Stdio::null()),
        };
        self.spawn(out, err)
    }

    /// Starts it with its output as pipes; see [`Child::take_stdout`].
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn start_piped(&self) -> Result<Child, Failure> {
        self.spawn(Stdio::piped(), Stdio::piped())
    }

    fn spawn(&self, out: Stdio, err: Stdio) -> Result<Child, Failure> {
        let mut command = Command::new(own_executable()?);
        command
            .args(["program", "guard", "--parent", &std::process::id().to_string(), "--"])
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true)
            .env("PYTHONUNBUFFERED", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.offline {
            let settings = env::vars_os().map(|(name, _)| name).filter(|name| is_a_setting(name));
            for name in UNWANTED.iter().map(OsString::from).chain(settings) {
                command.env_remove(name);
            }
        }
        let process = command
            .spawn()
            .map_err(|error| Failure::new(Status::Unavailable, format!("cannot start {}", self.name)).because(error))?;
        let group = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Child { name: self.name.clone(), process, group })
    }
}

/// Whether a variable is a setting of a daemon of this project: the lab's daemons have theirs from files alone.
fn is_a_setting(name: &OsStr) -> bool {
    ["FEDERATION_PROXY_", "FHIR_BRIDGE_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
}

/// This program's file. A replaced file (`cargo build` under a running lab) is still run: the kernel holds it.
fn own_executable() -> Result<PathBuf, Failure> {
    let linked = Path::new("/proc/self/exe");
    let path = env::current_exe()
        .map_err(|error| Failure::new(Status::Unavailable, "cannot tell where this program is").because(error))?;
    Ok(if path.exists() { path } else { linked.to_owned() })
}

fn open_log(path: &Path) -> Result<fs::File, Failure> {
    if fs::metadata(path).is_ok_and(|found| found.len() > LARGE_LOG) {
        let aside = path.with_extension("out.1");
        fs::rename(path, &aside).map_err(|error| files::cannot("rename", path, error))?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| files::cannot("write", path, error))
}

// === impl Child ===

impl Child {
    /// The number of its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Its standard output, once, if it was started with pipes.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Its standard error, once, if it was started with pipes.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }

    /// Waits for its end. May be called again.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.process
            .wait()
            .await
            .map_err(|error| Failure::new(Status::Unavailable, format!("cannot wait for {}", self.name)).because(error))
    }

    /// Asks it and all its children to end (SIGTERM), and kills what has not ended after `patience`.
    pub async fn stop(&mut self, patience: Duration) {
        if self.process.id().is_some() {
            self.signal(Signal::TERM);
            if tokio::time::timeout(patience, self.process.wait()).await.is_ok() {
                // What it left behind in its group goes with it.
                self.signal(Signal::KILL);
                return;
            }
        }
        self.signal(Signal::KILL);
        _ = self.process.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // An error says that nobody is left in the group.
            _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}

/// An exit status for people.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Becomes `command`, to be killed by the kernel when `parent` dies. Returns only when that fails.
///
/// # Errors
/// When the parent is gone already, or the program cannot be run.
pub fn guard(parent: u32, command: &[OsString]) -> anyhow::Result<()> {
    let cannot = |what: &str| Failure::new(Status::Unavailable, format!("cannot {what}"));
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| cannot("ask to be ended with the lab").because(std::io::Error::from(error)))?;
    // The parent may have died before the kernel was asked; then somebody else has adopted this process.
    if getppid().map(|id| id.as_raw_nonzero().get().cast_unsigned()) != Some(parent) {
        return Err(cannot("go on: the lab has ended").into());
    }
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Status::Usage, "no program was named").into());
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(cannot(&format!("run {}", OsStr::new(program).display())).because(error).into())
}
