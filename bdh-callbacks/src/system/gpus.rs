//! The machine's GPUs, as their drivers see them.
//!
//! NVIDIA's driver is asked through its own library, AMD's keeps files. Both take milliseconds to answer, so a thread
//! waits for them, and not the training.

use nvml_wrapper::Nvml;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Age at which figures are no longer reported: the driver may hang.
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
    /// The thread ends when this does.
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
        // Without a thread there are no figures; the run does not depend on them.
        let _ = std::thread::Builder::new()
            .name("gpus".to_owned())
            .spawn(move || {
                if let Some(driver) = open() {
                    driver.look_again_and_again(&to, &stop);
                }
            });
        Self {
            seen,
            _running: running,
        }
    }

    /// What is known of each, by number.
    pub(super) fn now(&self) -> Vec<(usize, Gpu)> {
        let seen = lock(&self.seen);
        let fresh = seen.iter().filter(|(_, (when, _))| when.elapsed() < STALE);
        fresh.map(|(index, (_, gpu))| (*index, *gpu)).collect()
    }
}

/// A thread that panicked has left a whole value behind: each is written by one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver of at least one GPU.
#[derive(Debug)]
enum Driver {
    Nvidia {
        library: Box<Nvml>,
        count: u32,
    },
    /// The cards' folders of counters, in order.
    Amd(Vec<PathBuf>),
}

impl Driver {
    /// Opens NVIDIA's library; `None` where it is not installed or finds no GPU.
    fn nvidia() -> Option<Self> {
        let library = Nvml::init().ok()?;
        let count = library.device_count().ok().filter(|count| *count > 0)?;
        Some(Self::Nvidia {
            library: Box::new(library),
            count,
        })
    }

    /// Finds the cards that report how busy they are; `card0-DP-1` and the like are their connectors.
    fn amd(cards: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(cards).ok()?.flatten();
        let numbered = entries.filter_map(|entry| {
            let number: u32 = entry
                .file_name()
                .to_str()?
                .strip_prefix("card")?
                .parse()
                .ok()?;
            Some((number, entry.path().join("device")))
        });
        let amd = numbered.filter(|(_, device)| device.join("gpu_busy_percent").exists());
        let folders: Vec<_> = amd.collect::<BTreeMap<_, _>>().into_values().collect();
        (!folders.is_empty()).then_some(Self::Amd(folders))
    }

    /// Asks for every GPU until `stop` ends.
    fn look_again_and_again(&self, seen: &Mutex<Seen>, stop: &Receiver<()>) {
        loop {
            for (index, gpu) in self.look() {
                lock(seen).insert(index, (Instant::now(), gpu));
            }
            if stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn look(&self) -> Vec<(usize, Gpu)> {
        match self {
            Self::Nvidia { library, count } => {
                let all = (0..*count).map(|index| (index as usize, nvidia_gpu(library, index)));
                all.filter_map(|(index, gpu)| Some((index, gpu?))).collect()
            }
            Self::Amd(folders) => folders
                .iter()
                .map(|folder| amd_gpu(folder))
                .enumerate()
                .collect(),
        }
    }
}

/// Reads one GPU; `None` if it has fallen off the bus, or may not be seen. A partitioned one reports no load.
fn nvidia_gpu(library: &Nvml, index: u32) -> Option<Gpu> {
    let device = library.device_by_index(index).ok()?;
    let memory = device.memory_info().ok();
    Some(Gpu {
        busy: device
            .utilization_rates()
            .ok()
            .map(|rates| f64::from(rates.gpu)),
        used: memory.as_ref().map(|memory| memory.used as f64),
        total: memory.as_ref().map(|memory| memory.total as f64),
    })
}

/// Source: the kernel's documentation of amdgpu, "GPU Power/Thermal Controls and Monitoring" and "memory".
fn amd_gpu(folder: &Path) -> Gpu {
    let number = |file| {
        std::fs::read_to_string(folder.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    Gpu {
        busy: number("gpu_busy_percent"),
        used: number("mem_info_vram_used"),
        total: number("mem_info_vram_total"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let first = Gpu {
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
        assert_eq!(seen(&gpus), [(0, first), (1, second)]);
    }

    #[test]
    fn a_machine_without_gpus_has_none() {
        let gpus = Gpus::watch_with(|| Driver::amd("/nonexistent/drm".as_ref()));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(gpus.now(), []);
    }

    #[test]
    fn what_was_seen_long_ago_is_not_told() {
        let gpus = Gpus::watch_with(|| Driver::amd("/nonexistent/drm".as_ref()));
        let Some(long_ago) = Instant::now().checked_sub(STALE) else {
            return;
        };
        lock(&gpus.seen).insert(0, (long_ago, Gpu::default()));
        lock(&gpus.seen).insert(1, (Instant::now(), Gpu::default()));
        assert_eq!(gpus.now(), [(1, Gpu::default())]);
    }
}
