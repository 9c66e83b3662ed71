//! Writer threads of the sinks, their queues, and the limits on how long the run waits for them.

use super::Sink;
use crate::failure::{BoxError, panic_text, with_causes};
use crate::feedback::Feedback;
use crate::flushing::Flushing;
use crate::message::Message;
use crate::outcome::{Outcome, StopReason, Warning};
use crate::record::Record;
use crate::signal::SignalWatch;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time that an idle writer thread sleeps. A new record does not wake it: waking a thread would cost the training
/// thread more than queueing the record does.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Backlog, in bytes, above which the run gives up a sink and continues without it.
const BACKLOG: usize = 256 << 20;

/// Backlog, in bytes, above which a lossy sink starts dropping records.
const LOSSY_BACKLOG: usize = 1 << 20;

enum Job {
    Record(Arc<Record>, usize),
    Message(Arc<Message>),
    Flush(Sender<()>),
    Close(Outcome),
}

/// The writers of all sinks of a run.
#[derive(Default)]
pub(crate) struct Writers {
    all: Vec<Writer>,
    messages: Option<Receiver<Message>>,
    /// The latest request of a sink to stop the run.
    pub(crate) stop: Option<StopReason>,
}

/// A sink's queue and thread.
struct Writer {
    name: String,
    flush_timeout: Duration,
    is_lossy: bool,
    queue: Sender<Job>,
    /// Bytes of the records in the queue.
    backlog: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    run: Feedback,
    gave_up: bool,
}

impl Writers {
    /// Starts a thread for each opened sink. `messages` receives what the sinks send to the run.
    pub(crate) fn start(
        sinks: Vec<Box<dyn Sink>>,
        feedback: &Feedback,
        messages: Receiver<Message>,
    ) -> Self {
        let mut all = Vec::new();
        for sink in sinks {
            all.push(Writer::start(sink, feedback));
        }
        Self {
            all,
            messages: Some(messages),
            stop: None,
        }
    }

    /// Queues a record for every sink, without waiting.
    pub(crate) fn write(&mut self, record: &Arc<Record>) {
        let size = record.size();
        for writer in &mut self.all {
            writer.write(record, size);
        }
    }

    /// Sends a message to every sink, and to `tracing`.
    pub(crate) fn send(&mut self, message: &Message) {
        message.trace();
        let message = Arc::new(message.clone());
        for writer in &self.all {
            writer.send(Job::Message(Arc::clone(&message)));
        }
    }

    /// Asks every sink to make its records durable. The result can be waited for on any thread.
    pub(crate) fn flush(&self) -> Flushing {
        let mut answers = Vec::new();
        for writer in &self.all {
            let (done, answer) = channel();
            writer.send_now(Job::Flush(done));
            answers.push((writer.flush_timeout, answer));
        }
        Flushing(answers)
    }

    /// Gives up the sinks that did not flush in time.
    pub(crate) fn give_up_late(&mut self, late: &[usize], step: u64) {
        for index in late {
            self.all[*index].give_up_late(step);
        }
    }

    /// Closes every sink and waits for its thread. Lossy sinks are closed last, as they show failures of the others. A
    /// signal that arrives meanwhile hurries the sinks, which may wait for a server.
    ///
    /// `note` writes all warnings to `run.json`, and returns a warning if that fails. It is called before the lossy
    /// sinks are closed, so that they can show its warning, and again if they raise warnings themselves.
    pub(crate) fn close(
        &mut self,
        outcome: &Outcome,
        step: u64,
        warnings: &mut Vec<Warning>,
        signals: Option<&SignalWatch>,
        note: impl Fn(&[Warning]) -> Option<Warning>,
    ) {
        if let Some(signals) = signals {
            // A signal that arrived too late to stop the run is meant for this wait.
            if signals.asked() && *outcome != Outcome::Stopped(StopReason::Signal) {
                self.hurry();
            }
            signals.listen_again();
        }
        self.close_some(false, outcome, step, warnings, signals);
        let noted = warnings.len();
        if let Some(warning) = note(warnings) {
            self.send(&Message::Warning(warning.clone()));
            warnings.push(warning);
        }
        self.close_some(true, outcome, step, warnings, signals);
        if warnings.len() > noted {
            let _ = note(warnings); // a failure was reported above, or there is no sink left to show it
        }
    }

    /// Closes the lossy sinks, or all others.
    fn close_some(
        &mut self,
        is_lossy: bool,
        outcome: &Outcome,
        step: u64,
        warnings: &mut Vec<Warning>,
        signals: Option<&SignalWatch>,
    ) {
        self.drain(warnings);
        let began = Instant::now();
        for writer in &self.all {
            if writer.is_lossy == is_lossy {
                writer.send_now(Job::Close(outcome.clone()));
            }
        }
        while self.is_closing(is_lossy, began, step) {
            if signals.is_some_and(SignalWatch::asked_again) {
                self.hurry();
            }
            self.drain(warnings); // a sink that waits for a server sends notices, and a terminal is still open to show them
            thread::sleep(Duration::from_millis(1));
        }
        self.drain(warnings);
    }

    fn hurry(&self) {
        for writer in &self.all {
            writer.run.hurry();
        }
    }

    /// Whether a lossy sink, or one of the others, is still working. Gives up those that exceed their timeout.
    fn is_closing(&mut self, is_lossy: bool, began: Instant, step: u64) -> bool {
        let mut is_closing = false;
        for writer in &mut self.all {
            if writer.is_lossy != is_lossy {
                continue;
            }
            if began.elapsed() >= writer.flush_timeout && writer.is_working() {
                writer.give_up_late(step); // its thread is not joined, so the program can end
            }
            is_closing |= writer.is_working();
        }
        is_closing
    }

    /// Forwards the messages that sinks have sent from their threads, and collects their warnings.
    pub(crate) fn drain(&mut self, warnings: &mut Vec<Warning>) {
        let messages: Vec<_> = self.messages.iter().flat_map(Receiver::try_iter).collect();
        for message in messages {
            match message {
                // Not forwarded: the sinks receive it when the run acts on it.
                Message::StopRequested(reason) => self.stop = Some(reason),
                Message::Notice(_) => self.send(&message),
                Message::Warning(ref warning) => {
                    warnings.push(warning.clone());
                    self.send(&message);
                }
            }
        }
    }
}

impl Writer {
    fn start(sink: Box<dyn Sink>, feedback: &Feedback) -> Self {
        let (name, flush_timeout, is_lossy) = (sink.name(), sink.flush_timeout(), sink.is_lossy());
        let (queue, jobs) = channel();
        let mut writer = Self {
            name,
            flush_timeout,
            is_lossy,
            queue,
            backlog: Arc::default(),
            thread: None,
            run: feedback.clone(),
            gave_up: false,
        };
        match writer.spawn(sink, jobs) {
            Ok(thread) => writer.thread = Some(thread),
            Err(error) => writer.give_up(0, format!("its thread could not be started: {error}")),
        }
        writer
    }

    fn spawn(&self, sink: Box<dyn Sink>, jobs: Receiver<Job>) -> io::Result<JoinHandle<()>> {
        let (backlog, run) = (Arc::clone(&self.backlog), self.run.clone());
        thread::Builder::new()
            .name(format!("sink {}", self.name).replace('\0', "")) // a thread name must not contain NUL
            .spawn(move || work(sink, &jobs, &backlog, &run))
    }

    fn write(&mut self, record: &Arc<Record>, size: usize) {
        // Relaxed: the counter only limits memory; the queue itself orders the records.
        let backlog = self.backlog.load(Ordering::Relaxed);
        if self.is_lossy && backlog > LOSSY_BACKLOG {
            return;
        }
        if self.has_ended() {
            return; // it has reported why, and takes nothing from its queue any more
        }
        if backlog > BACKLOG && !self.gave_up {
            let error = format!("it is {} MiB of records behind", backlog >> 20);
            return self.give_up(record.clock.step, error);
        }
        self.backlog.fetch_add(size, Ordering::Relaxed);
        self.send(Job::Record(Arc::clone(record), size));
    }

    fn send(&self, job: Job) {
        if !self.gave_up {
            let _ = self.queue.send(job); // if the thread has ended, it has reported why
        }
    }

    /// Sends a job and wakes the thread, because the run waits for the answer.
    fn send_now(&self, job: Job) {
        self.send(job);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn is_working(&self) -> bool {
        !self.gave_up && !self.has_ended()
    }

    fn give_up_late(&mut self, step: u64) {
        if !self.gave_up {
            let error = format!("it did not finish in {:?}", self.flush_timeout);
            self.give_up(step, error);
        }
    }

    /// Ignores the sink from now on, and reports why.
    fn give_up(&mut self, step: u64, error: String) {
        self.gave_up = true;
        self.run.warn(Warning {
            source: self.name.clone(),
            phase: "write".to_owned(),
            step,
            cause: error,
            consequence: "the run continues without it".to_owned(),
        });
    }
}

/// Runs a sink on its thread until it is closed or fails. Reports a failure once.
fn work(mut sink: Box<dyn Sink>, jobs: &Receiver<Job>, backlog: &AtomicUsize, run: &Feedback) {
    let mut step = 0;
    while let Some(job) = next_job(jobs) {
        let is_last = matches!(job, Job::Close(_));
        let phase = job.phase();
        if let Job::Record(record, size) = &job {
            step = record.clock.step;
            backlog.fetch_sub(*size, Ordering::Relaxed);
        }
        if let Err(cause) = job.execute(&mut *sink, run) {
            return run.warn(Warning {
                source: sink.name(),
                phase: phase.to_owned(),
                step,
                cause,
                consequence: "it is closed, and the run continues without it".to_owned(),
            });
        }
        if is_last {
            return;
        }
    }
}

/// Waits for the next job. Returns `None` when the run has dropped the queue.
fn next_job(jobs: &Receiver<Job>) -> Option<Job> {
    loop {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            // Polled, so that a sender need not wake this thread; see `POLL_INTERVAL`.
            Err(TryRecvError::Empty) => thread::park_timeout(POLL_INTERVAL),
        }
    }
}

impl Job {
    /// Returns the name of the operation in a warning.
    fn phase(&self) -> &'static str {
        match self {
            Self::Record(..) => "write",
            Self::Message(_) => "message",
            Self::Flush(_) => "flush",
            Self::Close(_) => "close",
        }
    }

    /// Passes the job to the sink. Returns the text of its error or panic, if it fails.
    fn execute(self, sink: &mut dyn Sink, run: &Feedback) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| self.handle(sink, run))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(&*error)),
            Err(panic) => Err(format!("it panicked: {}", panic_text(&*panic))),
        }
    }

    fn handle(self, sink: &mut dyn Sink, run: &Feedback) -> Result<(), BoxError> {
        match self {
            Self::Record(record, _) => {
                let step = record.clock.step;
                sink.write(&record.with_images(|key, error| run.warn(not_drawn(key, step, error))))
            }
            Self::Message(message) => {
                sink.message(&message);
                Ok(())
            }
            Self::Flush(done) => {
                let flushed = sink.flush();
                let _ = done.send(()); // the run stops waiting whether or not it worked
                flushed
            }
            Self::Close(outcome) => sink.close(&outcome),
        }
    }
}

/// Returns the warning about a picture that could not be drawn.
fn not_drawn(key: &str, step: u64, error: &str) -> Warning {
    Warning {
        source: key.to_owned(),
        phase: "draw".to_owned(),
        step,
        cause: error.to_owned(),
        consequence: "the picture is left out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::record::Value;
    use crate::run::RunInfo;
    use crate::sink::MemorySink;

    /// A sink that hangs on its first record until the other end of the channel is dropped.
    struct Hung {
        until: Receiver<()>,
        is_lossy: bool,
    }

    impl Sink for Hung {
        fn name(&self) -> String {
            "hung".to_owned()
        }

        fn flush_timeout(&self) -> Duration {
            Duration::from_millis(50)
        }

        fn is_lossy(&self) -> bool {
            self.is_lossy
        }

        fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
            Ok(())
        }

        fn write(&mut self, _: &Record) -> Result<(), BoxError> {
            let _ = self.until.recv();
            Ok(())
        }
    }

    fn record(step: u64, bytes: usize) -> Record {
        let values = vec![("sample".to_owned(), Value::Text("x".repeat(bytes)))];
        Record {
            clock: Clock {
                step,
                ..Clock::default()
            },
            values,
        }
    }

    /// Writers of a sink that hangs and of one that works, and the channel end that keeps the first one hanging.
    fn writers(memory: &MemorySink, is_lossy: bool) -> (Writers, Sender<()>) {
        let (keep, until) = channel();
        let (feedback, messages) = Feedback::channel();
        let sinks: Vec<Box<dyn Sink>> =
            vec![Box::new(Hung { until, is_lossy }), Box::new(memory.clone())];
        (Writers::start(sinks, &feedback, messages), keep)
    }

    fn reported(warnings: &[Warning]) -> Vec<(&str, &str, u64)> {
        warnings
            .iter()
            .map(|p| (&*p.source, &*p.cause, p.step))
            .collect()
    }

    #[test]
    fn a_hanging_sink_is_given_up_and_others_get_all_records() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory, false);
        let mut warnings = Vec::new();
        for step in 1..=3 {
            writers.write(&Arc::new(record(step, 0)));
        }
        let began = Instant::now();
        let late = writers.flush().wait();
        writers.give_up_late(&late, 3);
        writers.write(&Arc::new(record(4, 0)));
        assert!(writers.flush().wait().is_empty());
        writers.close(&Outcome::Completed, 4, &mut warnings, None, |_| None);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(
            reported(&warnings),
            [("hung", "it did not finish in 50ms", 3)]
        );
        assert_eq!(memory.records().len(), 4);
    }

    #[test]
    fn a_sink_far_behind_is_given_up_without_waiting_for_it() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory, false);
        let mut warnings = Vec::new();
        let big = Arc::new(record(1, BACKLOG / 8));
        for written in 1..=12 {
            writers.write(&big);
            while memory.records().len() < written {
                thread::sleep(Duration::from_millis(1)); // the other sink is not behind
            }
        }
        writers.drain(&mut warnings);
        assert_eq!(
            reported(&warnings),
            [("hung", "it is 256 MiB of records behind", 1)]
        );
        writers.close(&Outcome::Completed, 1, &mut warnings, None, |_| None);
        assert_eq!((warnings.len(), memory.records().len()), (1, 12));
    }

    #[test]
    fn lossy_sink_is_not_closed_for_lagging() {
        let memory = MemorySink::default();
        let (mut writers, keep) = writers(&memory, true);
        let mut warnings = Vec::new();
        let big = Arc::new(record(1, LOSSY_BACKLOG / 8));
        for _ in 0..100 {
            writers.write(&big);
        }
        drop(keep);
        writers.close(&Outcome::Completed, 1, &mut warnings, None, |_| None);
        assert_eq!(reported(&warnings), []);
        assert_eq!(memory.records().len(), 100);
    }
}
