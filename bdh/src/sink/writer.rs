//! The threads on which sinks write, and the patience the run has with them.

use super::Sink;
use crate::failure::{BoxError, panic_text, with_causes};
use crate::feedback::{Feedback, Said};
use crate::flushing::Flushing;
use crate::outcome::{Outcome, Problem, StopReason};
use crate::record::Record;
use crate::signal::SignalWatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a sink's thread sleeps when there is nothing to do. Nobody wakes it for a record: that would
/// cost the training thread more than handing it over does.
const TURN: Duration = Duration::from_millis(20);

/// Bytes of records that a sink may be behind; then the run goes on without it.
const BACKLOG: usize = 256 << 20;

/// Bytes of records that a sink may be behind of which some may be left out.
const THIN_BACKLOG: usize = 1 << 20;

enum Message {
    Record(Arc<Record>, usize),
    Problem(Arc<Problem>),
    Remark(Arc<str>),
    Flush(Sender<()>),
    Close(Outcome),
}

/// All sinks of a run.
#[derive(Default)]
pub(crate) struct Writers {
    all: Vec<Writer>,
    said: Option<Receiver<Said>>,
    /// A sink's request to stop.
    pub(crate) stop: Option<StopReason>,
}

struct Writer {
    name: String,
    patience: Duration,
    may_thin: bool,
    queue: Sender<Message>,
    /// Bytes of the records in the queue.
    behind: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    run: Feedback,
    gave_up: bool,
}

impl Writers {
    /// Takes sinks that have been opened, each to its thread. What they say arrives at `said`.
    pub(crate) fn start(
        sinks: Vec<Box<dyn Sink>>,
        feedback: &Feedback,
        said: Receiver<Said>,
    ) -> Self {
        let start = |sink| Writer::start(sink, feedback);
        Self {
            all: sinks.into_iter().map(start).collect(),
            said: Some(said),
            stop: None,
        }
    }

    /// Hands a record to every sink; waits for none.
    pub(crate) fn write(&mut self, record: &Arc<Record>) {
        let size = record.size();
        for writer in &mut self.all {
            writer.write(record, size);
        }
    }

    /// Tells the sinks that something failed.
    pub(crate) fn tell(&mut self, problem: &Problem) {
        let problem = Arc::new(problem.clone());
        for writer in &mut self.all {
            writer.send(Message::Problem(Arc::clone(&problem)));
        }
    }

    /// Tells the sinks what a person may want to know.
    pub(crate) fn remark(&mut self, text: &str) {
        let text = Arc::from(text);
        for writer in &self.all {
            writer.send(Message::Remark(Arc::clone(&text)));
        }
    }

    /// Asks every sink to make durable what it was given so far.
    pub(crate) fn flush(&self) -> Flushing {
        let ask = |writer: &Writer| {
            let (done, answer) = channel();
            writer.send_now(Message::Flush(done));
            (writer.patience, answer)
        };
        Flushing(self.all.iter().map(ask).collect())
    }

    /// Goes on without those that did not flush in time.
    pub(crate) fn lose_patience(&mut self, late: &[usize], step: u64) {
        for index in late {
            self.all[*index].lose_patience(step);
        }
    }

    /// Closes every sink and waits for its thread; those last that show how the others ended. A signal that comes
    /// meanwhile ends what the sinks themselves wait for.
    ///
    /// `note` writes down all problems, and returns the one of not being able to: before the last sinks are closed, which
    /// show that, and again if those have problems of their own.
    pub(crate) fn close(
        &mut self,
        outcome: &Outcome,
        step: u64,
        problems: &mut Vec<Problem>,
        signals: Option<&SignalWatch>,
        note: impl Fn(&[Problem]) -> Option<Problem>,
    ) {
        if let Some(signals) = signals {
            // One that came too late to stop the run is meant for this wait.
            if signals.asked() && *outcome != Outcome::Stopped(StopReason::Signal) {
                self.hurry();
            }
            signals.listen_again();
        }
        self.close_those(false, outcome, step, problems, signals);
        let noted = problems.len();
        if let Some(problem) = note(problems) {
            self.tell(&problem);
            problems.push(problem);
        }
        self.close_those(true, outcome, step, problems, signals);
        if problems.len() > noted {
            let _ = note(problems); // a failure has been reported, or there is no sink left to show it
        }
    }

    /// Closes the sinks that show how the others ended, or the others.
    fn close_those(
        &mut self,
        shows: bool,
        outcome: &Outcome,
        step: u64,
        problems: &mut Vec<Problem>,
        signals: Option<&SignalWatch>,
    ) {
        self.hear(problems);
        let began = Instant::now();
        for writer in self.all.iter().filter(|writer| writer.may_thin == shows) {
            writer.send_now(Message::Close(outcome.clone()));
        }
        while self.is_closing(shows, began, step) {
            if signals.is_some_and(SignalWatch::asked_again) {
                self.hurry();
            }
            self.hear(problems); // a sink that waits says so, and those that show it are open still
            thread::sleep(Duration::from_millis(1));
        }
        self.hear(problems);
    }

    fn hurry(&self) {
        self.all.iter().for_each(|writer| writer.run.hurry());
    }

    /// Whether a sink is still at work, of those that show the others' end or of the others; gives up on those that
    /// take longer than their patience.
    fn is_closing(&mut self, shows: bool, began: Instant, step: u64) -> bool {
        let mut is_closing = false;
        for writer in self
            .all
            .iter_mut()
            .filter(|writer| writer.may_thin == shows)
        {
            if began.elapsed() >= writer.patience && writer.is_at_work() {
                writer.lose_patience(step); // the thread stays behind, and the program can end
            }
            is_closing |= writer.is_at_work();
        }
        is_closing
    }

    /// Collects what sinks have said from their threads.
    pub(crate) fn hear(&mut self, problems: &mut Vec<Problem>) {
        let heard: Vec<_> = self.said.iter().flat_map(Receiver::try_iter).collect();
        for said in heard {
            match said {
                Said::Stop(reason) => self.stop = Some(reason),
                Said::Remark(text) => self.remark(&text),
                Said::Problem(problem) => {
                    self.tell(&problem);
                    problems.push(problem);
                }
            }
        }
    }
}

impl Writer {
    fn start(sink: Box<dyn Sink>, feedback: &Feedback) -> Self {
        let (name, patience, may_thin) = (sink.name(), sink.patience(), sink.may_thin());
        let (queue, messages) = channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let (taken, run) = (Arc::clone(&behind), feedback.clone());
        let thread = thread::Builder::new()
            .name(format!("sink {name}").replace('\0', "")) // which no thread may have in its name
            .spawn(move || work(sink, &messages, &taken, &run));
        let run = feedback.clone();
        let (thread, failed) = match thread {
            Ok(thread) => (Some(thread), None),
            Err(error) => (None, Some(error)),
        };
        let mut writer = Self {
            name,
            patience,
            may_thin,
            queue,
            behind,
            thread,
            run,
            gave_up: false,
        };
        if let Some(error) = failed {
            writer.give_up(0, format!("it gets no thread: {error}"));
        }
        writer
    }

    fn write(&mut self, record: &Arc<Record>, size: usize) {
        let behind = self.behind.load(Ordering::Relaxed);
        if self.may_thin && behind > THIN_BACKLOG {
            return;
        }
        // A thread that has ended has told why, and takes nothing off the queue any more.
        let has_ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if has_ended {
            return;
        }
        if behind > BACKLOG && !self.gave_up {
            let error = format!("it is {} MiB of records behind", behind >> 20);
            return self.give_up(record.clock.step, error);
        }
        self.behind.fetch_add(size, Ordering::Relaxed);
        self.send(Message::Record(Arc::clone(record), size));
    }

    fn send(&self, message: Message) {
        if !self.gave_up {
            let _ = self.queue.send(message); // a thread that has ended has reported why
        }
    }

    /// Sends and wakes the thread: somebody is waiting.
    fn send_now(&self, message: Message) {
        self.send(message);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn is_at_work(&self) -> bool {
        !self.gave_up
            && self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
    }

    fn lose_patience(&mut self, step: u64) {
        if self.gave_up {
            return;
        }
        self.give_up(step, format!("it did not finish in {:?}", self.patience));
    }

    fn give_up(&mut self, step: u64, error: String) {
        self.gave_up = true;
        self.run.tell(Problem {
            who: self.name.clone(),
            during: "write".to_owned(),
            step,
            error,
            consequence: "the run goes on without it".to_owned(),
        });
    }
}

/// A sink's thread: works until it is closed or fails, and reports a failure once.
fn work(
    mut sink: Box<dyn Sink>,
    messages: &Receiver<Message>,
    behind: &AtomicUsize,
    run: &Feedback,
) {
    let mut step = 0;
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                thread::park_timeout(TURN);
                continue;
            }
        };
        let last = matches!(message, Message::Close(_));
        let during = message.what();
        if let Message::Record(record, size) = &message {
            step = record.clock.step;
            behind.fetch_sub(*size, Ordering::Relaxed);
        }
        let handled = catch_unwind(AssertUnwindSafe(|| message.handle(&mut *sink, run)));
        let error = match handled {
            Ok(Ok(())) if last => return,
            Ok(Ok(())) => continue,
            Ok(Err(error)) => with_causes(&*error),
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        let consequence = "it is closed, and the run goes on without it".to_owned();
        return run.tell(Problem {
            who: sink.name(),
            during: during.to_owned(),
            step,
            error,
            consequence,
        });
    }
}

impl Message {
    fn what(&self) -> &'static str {
        match self {
            Self::Record(..) => "write",
            Self::Problem(_) => "problem",
            Self::Remark(_) => "remark",
            Self::Flush(_) => "flush",
            Self::Close(_) => "close",
        }
    }

    fn handle(self, sink: &mut dyn Sink, run: &Feedback) -> Result<(), BoxError> {
        match self {
            Self::Record(record, _) => {
                let step = record.clock.step;
                sink.write(&record.developed(|key, error| run.tell(lost(key, step, error))))
            }
            Self::Problem(problem) => {
                sink.problem(&problem);
                Ok(())
            }
            Self::Remark(text) => {
                sink.remark(&text);
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

/// The problem of a picture that could not be drawn.
fn lost(key: &str, step: u64, error: &str) -> Problem {
    Problem {
        who: key.to_owned(),
        during: "draw".to_owned(),
        step,
        error: error.to_owned(),
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

    /// Hangs on its first record for as long as the other end of the channel lives.
    struct Hung {
        until: Receiver<()>,
        may_thin: bool,
    }

    impl Sink for Hung {
        fn name(&self) -> String {
            "hung".to_owned()
        }

        fn patience(&self) -> Duration {
            Duration::from_millis(50)
        }

        fn may_thin(&self) -> bool {
            self.may_thin
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

    /// Writers of a sink that hangs and of one that does not, and what keeps the first one hanging.
    fn writers(memory: &MemorySink, may_thin: bool) -> (Writers, Sender<()>) {
        let (keep, until) = channel();
        let (feedback, said) = Feedback::channel();
        let sinks: Vec<Box<dyn Sink>> =
            vec![Box::new(Hung { until, may_thin }), Box::new(memory.clone())];
        (Writers::start(sinks, &feedback, said), keep)
    }

    fn told(problems: &[Problem]) -> Vec<(&str, &str, u64)> {
        problems
            .iter()
            .map(|p| (&*p.who, &*p.error, p.step))
            .collect()
    }

    #[test]
    fn a_sink_that_hangs_is_given_up_once_and_the_others_get_everything() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory, false);
        let mut problems = Vec::new();
        for step in 1..=3 {
            writers.write(&Arc::new(record(step, 0)));
        }
        let began = Instant::now();
        let late = writers.flush().wait();
        writers.lose_patience(&late, 3);
        writers.write(&Arc::new(record(4, 0)));
        assert!(writers.flush().wait().is_empty());
        writers.close(&Outcome::Completed, 4, &mut problems, None, |_| None);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(told(&problems), [("hung", "it did not finish in 50ms", 3)]);
        assert_eq!(memory.records().len(), 4);
    }

    #[test]
    fn a_sink_far_behind_is_given_up_without_waiting_for_it() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory, false);
        let mut problems = Vec::new();
        let big = Arc::new(record(1, BACKLOG / 8));
        for written in 1..=12 {
            writers.write(&big);
            while memory.records().len() < written {
                thread::sleep(Duration::from_millis(1)); // the other sink is not behind
            }
        }
        writers.hear(&mut problems);
        assert_eq!(
            told(&problems),
            [("hung", "it is 256 MiB of records behind", 1)]
        );
        writers.close(&Outcome::Completed, 1, &mut problems, None, |_| None);
        assert_eq!((problems.len(), memory.records().len()), (1, 12));
    }

    #[test]
    fn a_sink_of_which_records_may_be_left_out_is_never_given_up_for_being_behind() {
        let memory = MemorySink::default();
        let (mut writers, keep) = writers(&memory, true);
        let mut problems = Vec::new();
        let big = Arc::new(record(1, THIN_BACKLOG / 8));
        for _ in 0..100 {
            writers.write(&big);
        }
        drop(keep);
        writers.close(&Outcome::Completed, 1, &mut problems, None, |_| None);
        assert_eq!(told(&problems), []);
        assert_eq!(memory.records().len(), 100);
    }
}
