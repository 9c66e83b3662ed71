//! Speed of the sinks, compared with the original Python packages, and their cost on the training thread.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench sinks
//! ```
//!
//! The originals are tensorboardX and wandb, in an environment that is created on first use. Without Python or a
//! network they are skipped with a message. Variants run alternately; times are medians over rounds. For our sinks and
//! tensorboardX the time includes closing the file and writing it to the disk, for wandb only the calls of `run.log`.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/originals.rs"]
mod originals;
#[path = "support/paired.rs"]
mod paired;

use bdh::stats::Histogram;
use bdh::testing::Queue;
use bdh::{Clock, Jsonl, Outcome, Record, RunInfo, Sink, Value};
use bdh_callbacks::wandb::Mode;
use bdh_callbacks::{TensorBoard, Wandb};
use originals::Originals;
use paired::{Variant, measure, time};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

/// Number of values of a histogram, and number of bins.
const VALUES: usize = 65_536;
const BINS: usize = 64;

/// Factory of new folders, which are deleted at the end.
struct Dirs {
    root: PathBuf,
    count: Cell<u32>,
}

impl Dirs {
    fn next(&self) -> PathBuf {
        self.count.set(self.count.get() + 1);
        let dir = self.root.join(self.count.get().to_string());
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Drop for Dirs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn run(dir: PathBuf) -> RunInfo {
    RunInfo {
        name: "bench".to_owned(),
        dir: Some(dir),
        steps: 1_000_000,
        length: 1_000_000.into(),
        seed: 0,
        config: serde_json::Value::Null,
        eval_sets: vec!["val".to_owned()],
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: 0.0,
        feedback: bdh::sink::Feedback::default(),
    }
}

fn wandb() -> Wandb {
    Wandb::from_env().mode(Mode::Offline).project("bench")
}

/// Creates a record with `count` scalars.
fn scalars(step: u64, count: u64) -> Record {
    let value = |number| {
        let value = 1.0 / (step + number + 3) as f64;
        (format!("group/metric_{number}"), Value::Scalar(value))
    };
    let clock = Clock {
        step,
        tokens: 512 * step,
        ..Clock::default()
    };
    Record {
        clock,
        values: (0..count).map(value).collect(),
    }
}

/// Writes `steps` records to a sink. The time of creating the records does not count.
fn write(
    mut sink: impl Sink,
    dir: PathBuf,
    steps: u64,
    record: impl Fn(u64) -> Record,
) -> Duration {
    let records: Vec<_> = (1..=steps).map(record).collect();
    sink.open(&run(dir)).unwrap();
    time(|| {
        for record in &records {
            sink.write(record).unwrap();
        }
        sink.close(&Outcome::Completed).unwrap();
    })
}

/// Bins `VALUES` values and writes the histogram, `steps` times.
fn write_histograms(dir: PathBuf, steps: u64, values: &[f32]) -> Duration {
    let mut sink = TensorBoard::default();
    sink.open(&run(dir)).unwrap();
    time(|| {
        for step in 1..=steps {
            let histogram = Value::Histogram(Histogram::of(values, BINS));
            let clock = Clock {
                step,
                ..Clock::default()
            };
            sink.write(&Record {
                clock,
                values: vec![("weights".to_owned(), histogram)],
            })
            .unwrap();
        }
        sink.close(&Outcome::Completed).unwrap();
    })
}

/// One measurement, of our sink or of the original.
struct Row<'a> {
    variant: Variant<'a>,
    /// Number of items of one measurement.
    count: u64,
    /// Index of the row to compare with.
    original: Option<usize>,
}

fn rows<'a>(
    dirs: &'a Dirs,
    values: &'a [f32],
    originals: Option<&'a RefCell<Originals>>,
) -> Vec<Row<'a>> {
    let ours = |name: &str, count, original, once: Box<dyn FnMut() -> Duration + 'a>| Row {
        variant: Variant {
            name: name.to_owned(),
            once,
        },
        count,
        original,
    };
    let to_board = |steps: u64, each: u64| {
        Box::new(move || {
            write(TensorBoard::default(), dirs.next(), steps, |step| {
                scalars(step, each)
            })
        })
    };
    let mut rows = vec![
        ours(
            "scalars into event files, 1 a step",
            100_000,
            Some(5),
            to_board(100_000, 1),
        ),
        ours(
            "scalars into event files, 5 a step",
            200_000,
            Some(5),
            to_board(40_000, 5),
        ),
        ours(
            "scalars into event files, 20 a step",
            400_000,
            Some(5),
            to_board(20_000, 20),
        ),
        ours("histograms of 65,536 values, counted", 500, Some(6), {
            Box::new(move || write_histograms(dirs.next(), 500, values))
        }),
        ours("rows of 5 metrics into .wandb", 20_000, Some(7), {
            Box::new(move || write(wandb(), dirs.next(), 20_000, |step| scalars(step, 5)))
        }),
    ];
    let Some(originals) = originals else {
        return rows;
    };
    for (name, kind, count) in [
        ("tensorboardX: scalars", "scalars", 10_000),
        ("tensorboardX: histograms", "histograms", 100),
        ("wandb: run.log of 5 metrics", "rows", 3_000),
    ] {
        let once = move || originals.borrow_mut().time(kind, count, &dirs.next());
        rows.push(Row {
            variant: Variant::new(name, once),
            count,
            original: None,
        });
    }
    rows
}

/// Work of the training thread before it hands over a record.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// Reads this number of bytes, like training, so that little is left in the caches.
    MemoryMonitor(usize),
    /// Sleeps, like a thread that waits for a GPU, so that the core has to wake up.
    Sleep(Duration),
}

/// Returns the times of handing over a record of five metrics, sorted.
fn hand_over(
    sinks: Vec<Box<dyn Sink>>,
    dir: PathBuf,
    records: u64,
    before: Before,
) -> Vec<Duration> {
    let mut queue = Queue::open(sinks, run(dir)).unwrap();
    let bytes = if let Before::MemoryMonitor(bytes) = before {
        bytes
    } else {
        0
    };
    let mut memory = vec![0_u64; bytes / size_of::<u64>()];
    let once = |step| {
        let record = Arc::new(scalars(step, 5)); // which the trainer makes with or without sinks
        for word in black_box(&mut memory).iter_mut() {
            *word = word.wrapping_add(step);
        }
        if let Before::Sleep(time) = before {
            thread::sleep(time);
        }
        let began = Instant::now();
        queue.write(&record);
        began.elapsed()
    };
    let mut times: Vec<_> = (1..=records).map(once).collect();
    assert_eq!(queue.close(&Outcome::Completed), []);
    times.sort_unstable();
    times
}

fn all_sinks() -> Vec<Box<dyn Sink>> {
    vec![
        Box::new(Jsonl::default()),
        Box::new(TensorBoard::default()),
        Box::new(wandb()),
    ]
}

fn print_rates(dirs: &Dirs) {
    let values: Vec<f32> = (0..VALUES)
        .map(|index| (1.7 * index as f32).sin())
        .collect();
    let originals = Originals::start().map(RefCell::new);
    let rows = rows(dirs, &values, originals.as_ref());
    let counts: Vec<_> = rows.iter().map(|row| (row.count, row.original)).collect();
    let mut variants: Vec<_> = rows.into_iter().map(|row| row.variant).collect();
    let times = measure(&mut variants, ROUNDS);
    println!("\n{:<40} {:>12} {:>12}", "", "a second", "to Python");
    for ((variant, of_variant), (count, original)) in variants.iter().zip(&times).zip(&counts) {
        let rate = *count as f64 / of_variant.median().as_secs_f64();
        let ratio = original.and_then(|original| {
            let factor = *count as f64 / counts.get(original)?.0 as f64;
            Some(format!("{:.1}", factor * times[original].ratio(of_variant)))
        });
        println!(
            "{:<40} {rate:>12.0} {:>12}",
            variant.name,
            ratio.unwrap_or_default()
        );
    }
}

fn print_costs(dirs: &Dirs) {
    println!(
        "{:<40} {:>9} {:>9} {:>9}",
        "µs for a record of 5 metrics", "median", "p99", "most"
    );
    let (one, ten) = (Duration::from_millis(1), Duration::from_millis(10));
    for (name, records, before) in [
        ("at once", 20_000, Before::Nothing),
        (
            "after 1 MiB of memory",
            20_000,
            Before::MemoryMonitor(1 << 20),
        ),
        (
            "after 16 MiB of memory",
            2_000,
            Before::MemoryMonitor(16 << 20),
        ),
        ("after 1 ms of sleep", 3_000, Before::Sleep(one)),
        ("after 10 ms of sleep", 500, Before::Sleep(ten)),
    ] {
        print_cost(
            &format!("{name}, no sink"),
            &hand_over(Vec::new(), dirs.next(), records, before),
        );
        print_cost(
            &format!("{name}, 3 sinks"),
            &hand_over(all_sinks(), dirs.next(), records, before),
        );
    }
}

fn print_cost(name: &str, times: &[Duration]) {
    let micros = |percent: usize| {
        let time = times[(times.len() * percent / 100).min(times.len() - 1)];
        time.as_secs_f64() * 1e6
    };
    println!(
        "{name:<40} {:>9.2} {:>9.2} {:>9.1}",
        micros(50),
        micros(99),
        micros(100)
    );
}

fn main() {
    let root = std::env::temp_dir().join(format!("bdh-bench-{}", std::process::id()));
    let dirs = Dirs {
        root,
        count: Cell::new(0),
    };
    print_costs(&dirs);
    print_rates(&dirs);
}
