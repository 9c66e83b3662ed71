//! However much is logged, the device is asked once a step; whoever asks it alone is charged.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::{
    AfterBackward, AfterOptimizerStep, Attach, BeforeOptimizerStep, BoxError, Callback, HookResult,
    MemorySink, Overhead, Record, RunInfo, Sink, StepEnd, at, callback, every, never,
};

/// Logs every statistic of everything in every hook that has something on the device.
struct Chatty;

#[callback]
impl Callback for Chatty {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        at.log("chatty/loss", at.loss.clone());
        at.log("chatty/perplexity", at.loss.exp());
        for param in at.weights.iter().chain(at.gradients.iter()) {
            at.log(
                format!("chatty/{}", param.name()),
                param.l2() / param.std() + param.mean(),
            );
        }
        Ok(())
    }

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        at.log("chatty/clipped", at.gradients.l2());
        at.log("chatty/norm", at.grad_norm.expect("clipping is on").clone());
        at.log(
            "chatty/factor",
            at.clip_coefficient.expect("clipping is on").clone(),
        );
        Ok(())
    }

    fn after_optimizer_step(&mut self, at: &AfterOptimizerStep<'_>) -> HookResult {
        at.log("chatty/update", at.updates.l2());
        at.log("chatty/broken", at.weights.non_finite());
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        at.log("chatty/end", at.loss.clone());
        Ok(())
    }
}

fn overhead(run: tiny::Builder) -> Overhead {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
        .overhead
}

fn chatty(name: &str) -> impl Callback + use<> {
    Chatty.named(name)
}

#[test]
fn the_device_is_read_once_a_step_whatever_is_logged() {
    let run = tiny::run(10).clip_grad_norm(1.0).eval(never());
    let overhead = overhead(run.callback(chatty("one")).callback(chatty("two")));
    assert_eq!(overhead.reads, 10);
    assert!(overhead.rows.iter().all(|row| row.reads == 0));
}

#[test]
fn an_eval_needs_no_second_read() {
    let run = tiny::run(10)
        .clip_grad_norm(1.0)
        .eval(every(1))
        .callback(Chatty);
    assert_eq!(overhead(run).reads, 10);
}

#[test]
fn a_checkpoint_needs_no_second_read_of_what_was_logged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = tiny::run(4)
        .clip_grad_norm(1.0)
        .eval(never())
        .callback(Chatty);
    let run = run.run_dir(dir.path().join("run")).checkpoint(every(1));
    assert_eq!(overhead(run).reads, 4);
}

#[test]
fn nothing_is_read_where_nothing_is_logged() {
    let run = tiny::run(10).log(never()).eval(never()).clip_grad_norm(0.1);
    let looks = tiny::after_backward(|at| {
        let _ = (at.weights.l2(), at.gradients.non_finite());
        Ok(())
    });
    assert_eq!(overhead(run.callback(looks)).reads, 0);
}

/// Keeps what it is told.
#[derive(Clone)]
struct Listener(tiny::Seen<String>);

impl Sink for Listener {
    fn name(&self) -> String {
        "listener".to_owned()
    }

    fn open(&mut self, _run: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        Ok(self.0.push(format!("record {}", record.clock.step)))
    }

    fn remark(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn a_line_for_a_person_comes_after_its_record_and_needs_no_read_of_its_own() {
    let listener = Listener(tiny::Seen::new());
    let says = tiny::after_backward(|at| {
        let step = at.step();
        Ok(
            at.say([at.loss.clone(), at.weights.l2()], move |[loss, norm]| {
                format!("{step}:{}", loss > 0.0 && norm > 0.0)
            }),
        )
    });
    let run = tiny::run(4)
        .eval(never())
        .log(every(2))
        .sink(listener.clone());
    assert_eq!(overhead(run.callback(says)).reads, 4);
    assert_eq!(
        listener.0.text(),
        "1:true record 2 2:true 3:true record 4 4:true"
    );
}

#[test]
fn what_is_read_along_waits_for_a_read_and_is_known_when_a_checkpoint_is_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seen = tiny::Seen::new();
    let (kept, note) = (tiny::Seen::new(), seen.clone());
    let keeps = tiny::after_backward(move |at| {
        let norm = at.gradients.l2();
        at.read_along(&norm);
        kept.push(norm);
        let known = kept
            .all()
            .iter()
            .filter(|norm| norm.value().is_some())
            .count();
        Ok(note.push(format!("{}:{known}", at.step())))
    });
    let run = tiny::run(8).eval(never()).log(at([4])).checkpoint(at([6]));
    let run = run.run_dir(dir.path().join("run")).callback(keeps);
    assert_eq!(overhead(run).reads, 3, "steps 4 and 8, and the checkpoint");
    assert_eq!(seen.text(), "1:0 2:0 3:0 4:0 5:4 6:4 7:6 8:6");
}

#[test]
fn reads_follow_the_cadence_of_the_records() {
    assert_eq!(overhead(tiny::run(20).log(every(5)).eval(never())).reads, 4);
}

#[test]
fn a_callback_that_reads_is_charged_for_it() {
    let memory = MemorySink::default();
    let greedy = tiny::on_step(|at| {
        let loss = at.read(at.loss)?;
        at.read(at.loss)?; // known by now
        at.log("greedy/loss", loss);
        Ok(())
    });
    let run = tiny::run(6).eval(never()).sink(memory.clone());
    let overhead = overhead(
        run.callback(greedy.named("greedy"))
            .callback(tiny::on_step(|_| Ok(()))),
    );
    let reads: Vec<_> = overhead
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.reads))
        .collect();
    assert_eq!(reads, [("greedy", 6), ("AtStep", 0)]);
    assert_eq!(
        overhead.reads, 0,
        "the loss was known, so the record needed no read"
    );
    assert_eq!(memory.series("greedy/loss"), memory.series("train/loss"));
}
