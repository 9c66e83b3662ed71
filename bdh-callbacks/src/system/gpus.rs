//! The machine's GPUs, as their drivers see them.
//!
//! NVIDIA's driver is asked by its own program, `nvidia-smi`, which runs beside the run and prints every few seconds:
//! its library would be a dependency for three numbers. AMD's driver keeps them in files. Both take milliseconds to
//! answer, so a thread waits for them, and not the training.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks, and the same for `nvidia-smi`.
const EVERY: Duration = Duration::from_secs(2);
const EVERY_SECONDS: &str = "2";

/// What has not been heard of for so long is no longer told: the program may hang, or have been killed.
const STALE: Duration = Duration::from_secs(10);

/// What one GPU was doing; `None` for what its driver does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Gpu {
    /// Percentage of the driver's last sampling period, up to a second, in which a kernel ran.
    pub(super) busy: Option<f64>,
    /// Bytes in use, by all processes together.
    pub(super) used: Option<f64>,
    /// Bytes there are.
    pub(super) total: Option<f64>,
}

/// By number: that of `nvidia-smi`, or the place among AMD's cards.
type Seen = BTreeMap<usize, (Instant, Gpu)>;

/// Watches the GPUs until it is dropped.
#[derive(Debug)]
pub(super) struct Gpus {
    seen: Arc<Mutex<Seen>>,
    smi: Option<Arc<Mutex<Child>>>,
    /// The thread ends when this does.
    _running: Sender<()>,
}

impl Gpus {
    pub(super) fn watch() -> Self {
        Self::watch_with("nvidia-smi".as_ref(), "/sys/class/drm".as_ref())
    }

    fn watch_with(smi: &Path, cards: &Path) -> Self {
        let (running, stop) = channel();
        let seen = Arc::default();
        let (smi, lines) = start(smi).unzip();
        let (to, child, cards) = (Arc::clone(&seen), smi.clone(), cards.to_owned());
        // Without a thread there are no figures; the run does not depend on them.
        let _ = std::thread::Builder::new().name("gpus".to_owned()).spawn(move || {
            let has_told = lines.is_some_and(|lines| listen(lines, &to));
            if let Some(child) = child {
                let _ = lock(&child).wait(); // its output has ended; without this it stays a zombie
            }
            if !has_told {
                look_again_and_again(&cards, &to, &stop);
            }
        });
        Self { seen, smi, _running: running }
    }

    /// What is known of each, by number.
    pub(super) fn now(&self) -> Vec<(usize, Gpu)> {
        let seen = lock(&self.seen);
        let fresh = seen.iter().filter(|(_, (when, _))| when.elapsed() < STALE);
        fresh.map(|(index, (_, gpu))| (*index, *gpu)).collect()
    }
}

impl Drop for Gpus {
    fn drop(&mut self) {
        if let Some(smi) = &self.smi {
            let _ = lock(smi).kill(); // it may have ended by itself
        }
    }
}

/// A thread that panicked has left a whole value behind: each is written by one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts `nvidia-smi`; `None` where there is none.
fn start(program: &Path) -> Option<(Arc<Mutex<Child>>, ChildStdout)> {
    let query = "--query-gpu=index,utilization.gpu,memory.used,memory.total";
    let mut command = Command::new(program);
    command.args([query, "--format=csv,noheader,nounits", "-l", EVERY_SECONDS]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let lines = child.stdout.take()?;
    Some((Arc::new(Mutex::new(child)), lines))
}

/// Takes in what the program prints until it ends; tells whether there was a GPU in it.
fn listen(lines: ChildStdout, seen: &Mutex<Seen>) -> bool {
    let mut has_told = false;
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if let Some((index, gpu)) = parse(&line) {
            lock(seen).insert(index, (Instant::now(), gpu));
            has_told = true;
        }
    }
    has_told
}

/// A line of `nvidia-smi`, such as `0, 37, 1024, 81559`: number, percent, MiB, MiB.
fn parse(line: &str) -> Option<(usize, Gpu)> {
    let mut fields = line.split(',').map(str::trim);
    let index = fields.next()?.parse().ok()?;
    let mut number = || fields.next()?.parse::<f64>().ok(); // `[N/A]` for what the GPU does not tell
    let busy = number();
    let mut bytes = || number().map(|mebibytes| mebibytes * 1024.0 * 1024.0);
    Some((index, Gpu { busy, used: bytes(), total: bytes() }))
}

/// Reads the files of AMD's driver until `stop` ends, or not again if there are none.
fn look_again_and_again(cards: &Path, seen: &Mutex<Seen>, stop: &Receiver<()>) {
    loop {
        let devices = amd_devices(cards);
        for (index, device) in devices.iter().enumerate() {
            lock(seen).insert(index, (Instant::now(), look(device)));
        }
        if devices.is_empty() || stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The cards that tell how busy they are, in order; `card0-DP-1` and the like are their connectors.
fn amd_devices(cards: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cards).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
        Some((number, entry.path().join("device")))
    });
    let amd = numbered.filter(|(_, device)| device.join("gpu_busy_percent").exists());
    amd.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Source: the kernel's documentation of amdgpu, "GPU Power/Thermal Controls and Monitoring" and "memory".
fn look(device: &Path) -> Gpu {
    let number = |file| std::fs::read_to_string(device.join(file)).ok()?.trim().parse().ok();
    Gpu {
        busy: number("gpu_busy_percent"),
        used: number("mem_info_vram_used"),
        total: number("mem_info_vram_total"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: &str = "/nonexistent/nvidia-smi";
    const MIB: f64 = 1024.0 * 1024.0;

    /// What is seen once something is, or nothing after a second.
    fn seen(gpus: &Gpus) -> Vec<(usize, Gpu)> {
        let began = Instant::now();
        while gpus.now().is_empty() && began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
        gpus.now()
    }

    #[test]
    fn a_line_of_nvidia_smi_is_read_as_far_as_it_tells() {
        let all = Gpu { busy: Some(37.0), used: Some(1024.0 * MIB), total: Some(81_559.0 * MIB) };
        assert_eq!(parse("0, 37, 1024, 81559"), Some((0, all)));
        let sliced = Gpu { busy: None, ..all }; // one that is partitioned
        assert_eq!(parse("3, [N/A], 1024, 81559"), Some((3, sliced)));
        assert_eq!(parse("NVIDIA-SMI has failed because it couldn't communicate"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn cards_of_amd_are_found_among_what_else_there_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("card0/device/vendor", "0x8086\n");
        write("card10/device/gpu_busy_percent", "80\n");
        write("card2/device/gpu_busy_percent", "25\n");
        write("card2/device/mem_info_vram_used", "1048576\n");
        write("card2/device/mem_info_vram_total", "4194304\n");
        write("card2-DP-1/device/gpu_busy_percent", "1\n");
        write("renderD128/device/gpu_busy_percent", "2\n");
        let first = Gpu { busy: Some(25.0), used: Some(MIB), total: Some(4.0 * MIB) };
        let second = Gpu { busy: Some(80.0), ..Gpu::default() };
        let gpus = Gpus::watch_with(NOWHERE.as_ref(), dir.path());
        assert_eq!(seen(&gpus), [(0, first), (1, second)]);
    }

    #[test]
    fn a_machine_without_gpus_has_none() {
        let gpus = Gpus::watch_with(NOWHERE.as_ref(), "/nonexistent/drm".as_ref());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(gpus.now(), []);
    }

    #[test]
    fn what_was_seen_long_ago_is_not_told() {
        let gpus = Gpus::watch_with(NOWHERE.as_ref(), "/nonexistent/drm".as_ref());
        let Some(long_ago) = Instant::now().checked_sub(STALE) else { return };
        lock(&gpus.seen).insert(0, (long_ago, Gpu::default()));
        lock(&gpus.seen).insert(1, (Instant::now(), Gpu::default()));
        assert_eq!(gpus.now(), [(1, Gpu::default())]);
    }
}
