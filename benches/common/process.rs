//! A child process on a core of its own: started, measured through `/proc`, and stopped whatever happens.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// The unit of times in `/proc/PID/stat`: `USER_HZ`, 100 a second in the kernel's interface with programs (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// How long a process may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program with its children; dropped, it is stopped.
pub struct Process {
    child: Child,
    group: Option<Pid>,
}

// === impl Process ===

impl Process {
    /// Starts a program, pinned to a core, with its output in a file.
    ///
    /// It forms a process group, and hears SIGTERM when the harness dies, even by SIGKILL.
    pub fn start(
        program: &Path,
        arguments: &[String],
        under: &[String],
        core: Option<usize>,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = core {
            command.args(["taskset", "--cpu-list", &core.to_string()]);
        }
        let directory = log.parent().unwrap_or(Path::new("."));
        command.args(under).arg(program).args(arguments).current_dir(directory);
        // caddy looks for its directories here; no peer needs more of the environment.
        command.env("HOME", directory).env("XDG_CONFIG_HOME", directory).env("XDG_DATA_HOME", directory);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().context("cannot start setpriv (util-linux)")?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// The process id of the first process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time, user and system, that the process, its children and their dead have used so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time_of(self.id())
    }

    /// Memory in KiB: the proportional set size of the process and its children, shared pages divided among them.
    pub fn memory(&self) -> Result<u64> {
        memory_of(self.id())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails only when the group is already gone.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while self.is_running() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// CPU time, user and system, of a process, its children and their dead so far.
pub fn cpu_time_of(root: u32) -> Result<Duration> {
    Ok(in_time(tree(root)?.iter().map(|process| process.ticks).sum()))
}

/// Memory of a process and its children in KiB; see [`Process::memory`].
pub fn memory_of(root: u32) -> Result<u64> {
    let mut sum = 0;
    for process in tree(root)? {
        let path = format!("/proc/{}/smaps_rollup", process.id);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>().context("Pss is no number")?;
    }
    Ok(sum)
}

/// CPU time that this program has used so far.
pub fn own_cpu_time() -> Result<Duration> {
    Ok(in_time(stat(std::process::id()).context("cannot read /proc/self/stat")?.ticks))
}

/// Time that a core has not been idle so far, whoever used it, the host of a virtual machine included (proc_stat(5)).
pub fn core_time(core: usize) -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")));
    let times: Vec<u64> =
        line.context("no such core")?.split(' ').filter_map(|ticks| ticks.parse().ok()).take(8).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen] = times[..] else {
        anyhow::bail!("/proc/stat is not understood");
    };
    Ok(in_time(user + nice + system + interrupts + soft_interrupts + stolen))
}

fn in_time(ticks: u64) -> Duration {
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// What `/proc/PID/stat` says of one process.
struct Stat {
    id: u32,
    parent: u32,
    ticks: u64,
}

/// A process and all its descendants.
fn tree(root: u32) -> Result<Vec<Stat>> {
    let mut others: Vec<Stat> = fs::read_dir("/proc")
        .context("cannot read /proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut found = vec![stat(root).context("the peer is gone")?];
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.id) {
        found.extend(others.extract_if(.., |process| process.parent == parent));
        next += 1;
    }
    Ok(found)
}

/// Fields 4 (parent) and 14–17 (times, own and of waited-for children) of proc_pid_stat(5).
fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the name, in parentheses, and may hold anything.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { id, parent: fields.get(1)?.parse().ok()?, ticks })
}
