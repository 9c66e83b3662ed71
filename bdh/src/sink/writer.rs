//! The threads on which sinks write, and the patience the run has with them.

use super::Sink;
use crate::outcome::{Outcome, Problem, chain};
use crate::{BoxError, Record};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Records a sink may be behind before the run waits for it.
const QUEUE: usize = 1_024;

/// How long the run waits for a sink that takes nothing, before it goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);

enum Message {
    Record(Arc<Record>),
    Problem(Arc<Problem>),
    Flush(Sender<()>),
    Close(Outcome),
}

/// All sinks of a run.
#[derive(Default)]
pub(crate) struct Writers(Vec<Writer>);

struct Writer {
    patience: Duration,
    name: String,
    queue: SyncSender<Message>,
    failures: Receiver<Problem>,
    thread: Option<JoinHandle<()>>,
    gave_up: bool,
}

impl Writers {
    /// Takes sinks that have been opened, each to its thread.
    pub(crate) fn start(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self(sinks.into_iter().map(|sink| Writer::start(sink, PATIENCE)).collect())
    }

    /// Hands a record to every sink.
    pub(crate) fn write(&mut self, record: &Arc<Record>, problems: &mut Vec<Problem>) {
        let step = record.clock.step;
        for writer in &mut self.0 {
            writer.send(Message::Record(Arc::clone(record)), step, problems);
        }
        self.hear(problems);
    }

    /// Tells the sinks that something failed.
    pub(crate) fn tell(&mut self, problem: &Problem) {
        let problem = Arc::new(problem.clone());
        for writer in &mut self.0 {
            let step = problem.step;
            writer.send(Message::Problem(Arc::clone(&problem)), step, &mut Vec::new());
        }
    }

    /// Waits until every sink has made durable what it was given.
    pub(crate) fn flush(&mut self, step: u64, problems: &mut Vec<Problem>) {
        let mut answers = Vec::with_capacity(self.0.len());
        for writer in &mut self.0 {
            let (done, answer) = channel();
            writer.send(Message::Flush(done), step, problems);
            answers.push(answer);
        }
        for (writer, answer) in self.0.iter_mut().zip(answers) {
            // An answer that can no longer come is one too: the sink has failed, and has told.
            if answer.recv_timeout(writer.patience) == Err(RecvTimeoutError::Timeout) {
                writer.give_up(step, problems);
            }
        }
        self.hear(problems);
    }

    /// Closes every sink and waits for its thread.
    pub(crate) fn close(&mut self, outcome: &Outcome, step: u64, problems: &mut Vec<Problem>) {
        for writer in &mut self.0 {
            writer.send(Message::Close(outcome.clone()), step, problems);
        }
        for writer in &mut self.0 {
            writer.join(step, problems);
        }
        self.hear(problems);
    }

    /// Collects the failures that sinks have reported from their threads.
    fn hear(&mut self, problems: &mut Vec<Problem>) {
        let heard: Vec<_> = self.0.iter().flat_map(|writer| writer.failures.try_iter()).collect();
        for problem in &heard {
            self.tell(problem);
        }
        problems.extend(heard);
    }
}

impl Writer {
    fn start(sink: Box<dyn Sink>, patience: Duration) -> Self {
        let name = sink.name();
        let (queue, messages) = sync_channel(QUEUE);
        let (report, failures) = channel();
        let thread = thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn(move || run(sink, &messages, &report))
            .ok();
        Self { patience, name, queue, failures, thread, gave_up: false }
    }

    /// Puts a message into the queue; waits with patience where it is full, then gives the sink up.
    fn send(&mut self, mut message: Message, step: u64, problems: &mut Vec<Problem>) {
        let deadline = Instant::now() + self.patience;
        while !self.gave_up {
            // A thread that has ended takes nothing more; it has reported why.
            let Err(TrySendError::Full(back)) = self.queue.try_send(message) else { return };
            if Instant::now() >= deadline {
                return self.give_up(step, problems);
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn join(&mut self, step: u64, problems: &mut Vec<Problem>) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + self.patience;
        while !self.gave_up && !thread.is_finished() {
            if Instant::now() >= deadline {
                self.give_up(step, problems); // the thread stays behind, and the program can end
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn give_up(&mut self, step: u64, problems: &mut Vec<Problem>) {
        self.gave_up = true;
        problems.push(Problem {
            who: self.name.clone(),
            during: "write".to_owned(),
            step,
            error: format!("it took nothing for {:?}", self.patience),
            consequence: "the run goes on without it".to_owned(),
        });
    }
}

/// A sink's thread: works until it is closed or fails, and reports a failure once.
fn run(mut sink: Box<dyn Sink>, messages: &Receiver<Message>, report: &Sender<Problem>) {
    let mut step = 0;
    for message in messages {
        let last = matches!(message, Message::Close(_));
        let during = message.what();
        if let Message::Record(record) = &message {
            step = record.clock.step;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| message.handle(&mut *sink)));
        let error = match handled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&*error)),
            Err(panic) => Some(format!("it panicked: {}", panic_text(&*panic))),
        };
        if let Some(error) = error {
            // Nobody listens only if the run is over, and then there is nobody to tell.
            let _ = report.send(Problem {
                who: sink.name(),
                during: during.to_owned(),
                step,
                error,
                consequence: "it is closed, and the run goes on without it".to_owned(),
            });
            return;
        }
        if last {
            return;
        }
    }
}

impl Message {
    fn what(&self) -> &'static str {
        match self {
            Self::Record(_) => "write",
            Self::Problem(_) => "problem",
            Self::Flush(_) => "flush",
            Self::Close(_) => "close",
        }
    }

    fn handle(self, sink: &mut dyn Sink) -> Result<(), BoxError> {
        match self {
            Self::Record(record) => sink.write(&record),
            Self::Problem(problem) => {
                sink.problem(&problem);
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

/// What a panic said, where it said something.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, MemorySink, RunInfo};

    /// Hangs on its first record for as long as the other end of the channel lives.
    struct Hung(Receiver<()>);

    impl Sink for Hung {
        fn name(&self) -> String {
            "hung".to_owned()
        }

        fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
            Ok(())
        }

        fn write(&mut self, _: &Record) -> Result<(), BoxError> {
            let _ = self.0.recv();
            Ok(())
        }
    }

    fn record(step: u64) -> Record {
        Record { clock: Clock { step, ..Clock::default() }, values: Vec::new() }
    }

    /// Writers of a sink that hangs and of one that does not, and what keeps the first one hanging.
    fn writers(memory: &MemorySink) -> (Writers, Sender<()>) {
        let (keep, hanging) = channel();
        let sinks: [Box<dyn Sink>; 2] = [Box::new(Hung(hanging)), Box::new(memory.clone())];
        let patience = Duration::from_millis(50);
        (Writers(sinks.map(|sink| Writer::start(sink, patience)).into()), keep)
    }

    fn told(problems: &[Problem]) -> Vec<(&str, &str, u64)> {
        problems.iter().map(|p| (&*p.who, &*p.error, p.step)).collect()
    }

    #[test]
    fn a_sink_that_hangs_is_given_up_once_and_the_others_get_everything() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory);
        let mut problems = Vec::new();
        for step in 1..=3 {
            writers.write(&Arc::new(record(step)), &mut problems);
        }
        let began = Instant::now();
        writers.flush(3, &mut problems);
        writers.write(&Arc::new(record(4)), &mut problems);
        writers.flush(4, &mut problems);
        writers.close(&Outcome::Completed, 4, &mut problems);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(told(&problems), [("hung", "it took nothing for 50ms", 3)]);
        assert_eq!(memory.records().len(), 4);
    }

    #[test]
    fn a_full_queue_is_waited_for_and_then_given_up() {
        let memory = MemorySink::default();
        let (mut writers, _keep) = writers(&memory);
        let mut problems = Vec::new();
        let more_than_fit = QUEUE as u64 + 3;
        for step in 1..=more_than_fit {
            writers.write(&Arc::new(record(step)), &mut problems);
        }
        writers.close(&Outcome::Completed, more_than_fit, &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(memory.records().len() as u64, more_than_fit);
    }
}
