//! Labs as tests start them: real processes of the real program, which never outlive the tests.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use care_federation::service::network::Network;
use serde_json::Value;

/// Time for what takes seconds, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
const PROGRAM: &str = env!("CARGO_BIN_EXE_federation-lab");

/// Two organisations: the least that federates, for tests that break things.
pub(crate) const TWO: &str = "
[proxy]
federation_port = 8448
discovery_port = 443
client_port = 8008
egress_port = 3128
[organisations.huisarts]
display_name = \"Huisarts\"
homeserver_port = 8028
[organisations.vvt]
display_name = \"VVT\"
homeserver_port = 8038
bridge_port = 1234
";

/// A state directory and the commands on it; removed at the end.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
}

/// A program that runs, with what it has said.
pub(crate) struct Running {
    process: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

// === impl Lab ===

impl Lab {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("lab-").tempdir_in(own_directory()).unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A command of the lab's program on this state.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--state").arg(self.state()).args(arguments).stdin(Stdio::null());
        command.env_remove("ELEMENT_WEB").env_remove("FEDERATION_LAB_STATE").env("RUST_BACKTRACE", "0");
        // The stranger's homeserver lives in a temporary directory; here its processes can be told from others'.
        command.env("TMPDIR", self.directory.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a small network and waits until it is up.
    pub(crate) fn up(&self) -> Running {
        let mut up = self.start();
        up.wait_for("The network is up");
        up
    }

    /// Starts a small network.
    pub(crate) fn start(&self) -> Running {
        let two = self.write("two.toml", TWO);
        Running::start(&self.command(&[
            "--network",
            two.to_str().unwrap(),
            "up",
            "--port-offset",
            "auto",
            "--element",
            self.element().to_str().unwrap(),
        ]))
    }

    /// A directory that stands in for Element Web.
    pub(crate) fn element(&self) -> PathBuf {
        let directory = self.path("element");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("index.html"), "<title>Element stands here</title>").unwrap();
        directory
    }

    /// What `status --json` says of the running lab.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        status["lab"].clone()
    }

    /// The network with the ports that it has.
    pub(crate) fn network(&self) -> Network {
        serde_json::from_value(self.status()["network"].clone()).unwrap()
    }

    /// The processes that work for this lab, and for no other: its path is in their command line.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let own = self.directory.path().to_str().unwrap();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers.filter(|process| commandline(*process).contains(own)).collect()
    }

    /// Waits until no process works for this lab.
    pub(crate) fn wait_for_silence(&self) {
        wait_until("all processes have ended", || self.processes().is_empty());
    }
}

/// The directory of this run of the tests. Its file `alive` is locked as long as the run lives; a static is never
/// dropped, so what a run leaves is removed by the next one.
fn own_directory() -> &'static Path {
    static OWN: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _) = OWN.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in std::fs::read_dir(all).unwrap().flatten() {
            if File::open(entry.path().join("alive")).is_ok_and(|alive| alive.try_lock().is_ok()) {
                // Another run may be removing it too.
                _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let path = tempfile::Builder::new().prefix("federation-").tempdir_in(all).unwrap().keep();
        let alive = File::create(path.join("born")).unwrap();
        alive.lock().unwrap();
        std::fs::rename(path.join("born"), path.join("alive")).unwrap();
        (path, alive)
    });
    path
}

fn commandline(process: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

// === impl Running ===

impl Running {
    /// Starts a command that the kernel ends with the tests.
    pub(crate) fn start(command: &Command) -> Self {
        let mut guarded = guarded(command);
        guarded.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = spawn(guarded);
        let (sender, lines) = mpsc::channel();
        read_lines(process.stdout.take().unwrap(), sender.clone());
        read_lines(process.stderr.take().unwrap(), sender);
        Self { process, lines, said: Vec::new() }
    }

    /// Waits until it says a line with this text in it.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line);
                    if self.said.last().is_some_and(|line| line.contains(text)) {
                        return;
                    }
                }
                Err(_) => panic!("it never said {text:?}, but:\n{}", self.said.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_raw(self.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Waits for its end; how it ended and all that it said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.process.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status, self.said.join("\n"))
    }
}

fn read_lines(from: impl std::io::Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // A test that has its answer listens no more; the pipe is emptied all the same.
            _ = to.send(line);
        }
    });
}

/// The same command, which the kernel ends with the tests once [`spawn`] has started it.
pub(crate) fn guarded(command: &Command) -> Command {
    let mut guarded = Command::new(PROGRAM);
    guarded.args(["program", "guard", "--parent", &std::process::id().to_string(), "--"]);
    guarded.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    guarded.stdin(Stdio::null());
    guarded
}

/// Starts a process from a thread that lives as long as the tests: the kernel ends the child with its thread, and the
/// thread of a single test ends early.
pub(crate) fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<Child>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn().unwrap()).unwrap();
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    starter.send((command, answer)).unwrap();
    child.recv().unwrap()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a file can be found below a directory.
pub(crate) fn is_empty(directory: &Path) -> bool {
    !directory.exists() || std::fs::read_dir(directory).unwrap().next().is_none()
}
