//! What a step cost: CPU seconds of the whole process, wall seconds, most memory. Decides how figures are printed.

use std::{
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// CPU time of this process, all threads that ever ran in it, in the kernel too.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Holds this thread, and all that it starts from now on, on one core.
pub fn hold_on_core(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).unwrap_or_else(|error| panic!("core {core}: {error}"));
}

/// The most memory that this process ever had, in MB.
pub fn memory_max_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1000.0 * 1.024)
}

/// What a piece of work cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Cost {
    /// MB of `bytes` a CPU second.
    pub fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.cpu.as_secs_f64()
    }
}

/// Does the work once.
pub fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (cpu_before, wall) = (cpu(), Instant::now());
    let done = black_box(work());
    (done, Cost { cpu: cpu() - cpu_before, wall: wall.elapsed() })
}

static CHECKS: Mutex<Vec<(String, String)>> = Mutex::new(vec![]);

/// A step came to this result.
pub fn checked(step: &str, check: &str) {
    CHECKS.lock().unwrap_or_else(PoisonError::into_inner).push((step.trim().to_owned(), check.to_owned()));
}

/// What all steps so far came to, in their order.
pub fn checks() -> Vec<(String, String)> {
    CHECKS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Prints a line: what was done, how quick, and the result's checksum.
pub fn report(step: &str, bytes: u64, cost: Cost, check: &str) {
    checked(step, check);
    println!(
        "{step:34} {:8.1} MB {:7.0} MB/cpu-s  cpu {:8.4} s  wall {:8.4} s  check {check}",
        bytes as f64 / 1e6,
        cost.rate(bytes),
        cost.cpu.as_secs_f64(),
        cost.wall.as_secs_f64()
    );
}

/// Does the work so often and prints the cheapest time: on a shared machine the others only add to it.
pub fn timed(step: &str, bytes: u64, times: usize, mut work: impl FnMut() -> u64) -> Cost {
    let mut best: Option<(u64, Cost)> = None;
    for _ in 0..times.max(1) {
        let (check, cost) = cost(&mut work);
        if let Some((before, _)) = best {
            assert_eq!(check, before, "{step}: the same work came to another result");
        }
        if best.is_none_or(|(_, best)| cost.cpu < best.cpu) {
            best = Some((check, cost));
        }
    }
    let (check, cost) = best.expect("done at least once");
    report(step, bytes, cost, &format!("{check:016x}"));
    cost
}
