//! Load and memory of the machine's GPUs, from their drivers.
//!
//! NVIDIA's driver has a library, AMD's keeps files. Both take milliseconds to answer, so a thread polls them and
//! training does not wait.

use nvml_wrapper::Nvml;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two polls.
const EVERY: Duration = Duration::from_secs(2);

/// Age from which values are not reported, since the driver may hang.
const STALE: Duration = Duration::from_secs(10);

/// Load and memory of one GPU. `None` for values that its driver does not report.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Gpu {
    /// Percentage of the driver's last sampling period, up to a second, during which a kernel ran.
    pub(super) busy: Option<f64>,
    /// Memory in use by all processes, in bytes.
    pub(super) used: Option<f64>,
    /// Memory of the GPU, in bytes.
    pub(super) total: Option<f64>,
}

impl Gpu {
    /// Returns the percentage of the memory that is in use.
    pub(super) fn used_percent(self) -> Option<f64> {
        Some(100.0 * self.used? / self.total?)
    }
}

/// GPUs by number, that of `nvidia-smi` or the place among AMD's cards, with the time of the poll.
type Seen = BTreeMap<usize, (Instant, Gpu)>;

/// Thread that polls the GPUs, until this is dropped.
#[derive(Debug)]
pub(super) struct Gpus {
    /// Shared with the thread, which writes; the callback reads.
    seen: Arc<Mutex<Seen>>,
    /// The thread ends when this sender is dropped.
    _running: Sender<()>,
}

impl Gpus {
    pub(super) fn watch() -> Self {
        Self::watch_with(|| Driver::nvidia().or_else(|| Driver::amd("/sys/class/drm".as_ref())))
    }

    fn watch_with(open: impl FnOnce() -> Option<Driver> + Send + 'static) -> Self {
        let (running, stop) = channel();
        let seen = Arc::default();
        let to = Arc::clone(&seen);
        let poll = move || {
            if let Some(driver) = open() {
                driver.poll(&to, &stop);
            }
        };
        // If the system gives no thread, nothing is recorded; the run does not depend on it.
        let _ = std::thread::Builder::new()
            .name("gpus".to_owned())
            .spawn(poll);
        Self {
            seen,
            _running: running,
        }
    }

    /// Returns the latest values of each GPU by number, without stale ones.
    pub(super) fn latest(&self) -> Vec<(usize, Gpu)> {
        let mut fresh = Vec::new();
        for (index, (when, gpu)) in lock(&self.seen).iter() {
            if when.elapsed() < STALE {
                fresh.push((*index, *gpu));
            }
        }
        fresh
    }
}

/// Locks a mutex. A poisoned one holds whole values, since each is written by one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Driver of at least one GPU.
#[derive(Debug)]
enum Driver {
    Nvidia {
        library: Box<Nvml>,
        count: u32,
    },
    /// Folders of the cards' counters, in order.
    Amd(Vec<PathBuf>),
}

impl Driver {
    /// Opens NVIDIA's library. `None` if it is not installed or finds no GPU.
    fn nvidia() -> Option<Self> {
        let library = Nvml::init().ok()?;
        let count = library.device_count().ok()?;
        if count == 0 {
            return None;
        }
        Some(Self::Nvidia {
            library: Box::new(library),
            count,
        })
    }

    /// Finds the cards that report their load.
    fn amd(cards: &Path) -> Option<Self> {
        let mut folders = BTreeMap::new();
        for entry in std::fs::read_dir(cards).ok()?.flatten() {
            let device = entry.path().join("device");
            if let Some(number) = card_number(&entry.file_name())
                && device.join("gpu_busy_percent").exists()
            {
                folders.insert(number, device);
            }
        }
        if folders.is_empty() {
            return None;
        }
        Some(Self::Amd(folders.into_values().collect()))
    }

    /// Reads every GPU again and again, until the sender of `stop` is dropped.
    fn poll(&self, seen: &Mutex<Seen>, stop: &Receiver<()>) {
        loop {
            for (index, gpu) in self.read() {
                lock(seen).insert(index, (Instant::now(), gpu));
            }
            if stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn read(&self) -> Vec<(usize, Gpu)> {
        let mut gpus = Vec::new();
        match self {
            Self::Nvidia { library, count } => {
                for index in 0..*count {
                    if let Some(gpu) = nvidia_gpu(library, index) {
                        gpus.push((index as usize, gpu));
                    }
                }
            }
            Self::Amd(folders) => {
                for (index, folder) in folders.iter().enumerate() {
                    gpus.push((index, amd_gpu(folder)));
                }
            }
        }
        gpus
    }
}

/// Returns the number of `card2`. `None` for other names, such as `card2-DP-1`, a connector of the card.
fn card_number(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix("card")?.parse().ok()
}

/// Reads one GPU. `None` if it has fallen off the bus, or is not visible to the process. A partitioned GPU reports no
/// load.
fn nvidia_gpu(library: &Nvml, index: u32) -> Option<Gpu> {
    let device = library.device_by_index(index).ok()?;
    let rates = device.utilization_rates().ok();
    let memory = device.memory_info().ok();
    Some(Gpu {
        busy: rates.map(|rates| f64::from(rates.gpu)),
        used: memory.as_ref().map(|memory| memory.used as f64),
        total: memory.as_ref().map(|memory| memory.total as f64),
    })
}

/// Reads one GPU from its files.
///
/// Source: the kernel's documentation of amdgpu, "GPU Power/Thermal Controls and Monitoring" and "memory".
fn amd_gpu(folder: &Path) -> Gpu {
    Gpu {
        busy: number_in(&folder.join("gpu_busy_percent")),
        used: number_in(&folder.join("mem_info_vram_used")),
        total: number_in(&folder.join("mem_info_vram_total")),
    }
}

fn number_in(file: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    /// Waits up to a second for the first values.
    fn first(gpus: &Gpus) -> Vec<(usize, Gpu)> {
        let began = Instant::now();
        while gpus.latest().is_empty() && began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
        gpus.latest()
    }

    #[test]
    fn amd_cards_are_found_among_other_entries() {
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
        let first_card = Gpu {
            busy: Some(25.0),
            used: Some(MIB),
            total: Some(4.0 * MIB),
        };
        let second = Gpu {
            busy: Some(80.0),
            ..Gpu::default()
        };
        let cards = dir.path().to_owned();
        let gpus = Gpus::watch_with(move || Driver::amd(&cards));
        assert_eq!(first(&gpus), [(0, first_card), (1, second)]);
    }

    #[test]
    fn machine_without_gpus_has_none() {
        let gpus = Gpus::watch_with(|| Driver::amd("/nonexistent/drm".as_ref()));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(gpus.latest(), []);
    }

    #[test]
    fn stale_values_are_not_reported() {
        let gpus = Gpus::watch_with(|| Driver::amd("/nonexistent/drm".as_ref()));
        let Some(long_ago) = Instant::now().checked_sub(STALE) else {
            return;
        };
        lock(&gpus.seen).insert(0, (long_ago, Gpu::default()));
        lock(&gpus.seen).insert(1, (Instant::now(), Gpu::default()));
        assert_eq!(gpus.latest(), [(1, Gpu::default())]);
    }
}
