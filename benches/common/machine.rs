//! What was measured on, so that a reader can judge the numbers.

use std::{fs, process::Command, thread};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// How many cores the harness may use.
    pub cores: usize,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// Load average over the last minute before the run: how busy others kept the machine.
    pub load_before: String,
    /// How many files a process may open.
    pub files: u64,
}

// === impl Machine ===

impl Machine {
    /// Looks the machine over, and raises the number of files a process may open as far as it can.
    pub fn prepare(wanted_files: u64) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let field = |name: &str| cpu.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(": ")?.1));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = read("/etc/os-release");
        let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Ok(Self {
            processor: field("model name").unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").split(['-', '+']).next().unwrap_or_default().to_owned(),
            system: system.unwrap_or("Linux").trim_matches('"').to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            files: raise_files(wanted_files),
        })
    }

    /// The words that stand above the tables.
    pub fn describe(&self, date: &str) -> String {
        let Self { processor, cores, memory_gib, kernel, system, load_before, .. } = self;
        let kind = if self.virtual_machine { "virtual machine" } else { "machine" };
        format!(
            "Measured on {date} on a {kind} with {cores} cores ({processor}), {memory_gib} GiB, {system}, Linux {kernel}; \
             load average before the run {load_before}."
        )
    }
}

/// Raises the soft limit, and the hard one where that is allowed; returns what it is in the end.
fn raise_files(wanted: u64) -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let hard = limits.maximum.unwrap_or(u64::MAX);
    let higher = Rlimit { current: Some(wanted.max(hard)), maximum: Some(wanted.max(hard)) };
    if hard < wanted && setrlimit(Resource::Nofile, higher).is_ok() {
        return wanted;
    }
    let soft = Rlimit { current: Some(wanted.min(hard)), maximum: limits.maximum };
    match setrlimit(Resource::Nofile, soft) {
        Ok(()) => wanted.min(hard),
        Err(_) => limits.current.unwrap_or(u64::MAX),
    }
}

/// Pins this process, before it has threads, to one core.
pub fn pin(core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &std::process::id().to_string()])
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot start taskset (util-linux)")?;
    anyhow::ensure!(status.success(), "cannot pin to core {core}");
    Ok(())
}
