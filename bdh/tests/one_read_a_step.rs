//! One device read a step fetches all logged values; a callback that reads by itself is charged for it.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, never};
use bdh::hooks::{AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, StepEnd};
use bdh::overhead::Overhead;
use bdh::{
    BoxError, Callback, CallbackExt, HookResult, MemorySink, Message, Record, RunInfo, Sink,
    callback,
};

/// A callback that logs every statistic in every hook that has values on the device.
struct Chatty;

#[callback]
impl Callback for Chatty {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        ctx.log("chatty/loss", ctx.loss.clone());
        ctx.log("chatty/perplexity", ctx.loss.exp());
        for param in ctx.weights.iter().chain(ctx.gradients.iter()) {
            ctx.log(
                format!("chatty/{}", param.name()),
                param.l2() / param.std() + param.mean(),
            );
        }
        Ok(())
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        ctx.log("chatty/clipped", ctx.gradients.l2());
        ctx.log(
            "chatty/norm",
            ctx.grad_norm.expect("clipping is on").clone(),
        );
        ctx.log(
            "chatty/factor",
            ctx.clip_coefficient.expect("clipping is on").clone(),
        );
        Ok(())
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        ctx.log("chatty/update", ctx.updates.l2());
        ctx.log("chatty/broken", ctx.weights.non_finite());
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.log("chatty/end", ctx.loss.clone());
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
fn all_logged_values_of_a_step_cost_one_read() {
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
fn steps_without_logged_values_cost_no_read() {
    let run = tiny::run(10).log(never()).eval(never()).clip_grad_norm(0.1);
    let looks = tiny::after_backward(|ctx| {
        let _ = (ctx.weights.l2(), ctx.gradients.non_finite());
        Ok(())
    });
    assert_eq!(overhead(run.callback(looks)).reads, 0);
}

/// A sink that collects records and notices.
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

    fn message(&mut self, message: &Message) {
        self.0.push(message.to_string());
    }
}

#[test]
fn a_notice_follows_its_record_without_a_read_of_its_own() {
    let listener = Listener(tiny::Seen::new());
    let notifies = tiny::after_backward(|ctx| {
        let step = ctx.step();
        Ok(
            ctx.notice_with([ctx.loss.clone(), ctx.weights.l2()], move |[loss, norm]| {
                format!("{step}:{}", loss > 0.0 && norm > 0.0)
            }),
        )
    });
    let run = tiny::run(4)
        .eval(never())
        .log(every(2))
        .sink(listener.clone());
    assert_eq!(overhead(run.callback(notifies)).reads, 4);
    assert_eq!(
        listener.0.text(),
        "1:true record 2 2:true 3:true record 4 4:true"
    );
}

#[test]
fn awaited_values_are_known_at_the_next_read_or_checkpoint() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seen = tiny::Seen::new();
    let (kept, note) = (tiny::Seen::new(), seen.clone());
    let keeps = tiny::after_backward(move |ctx| {
        let norm = ctx.gradients.l2();
        ctx.read_along(&norm);
        kept.push(norm);
        let known = kept
            .all()
            .iter()
            .filter(|norm| norm.value().is_some())
            .count();
        Ok(note.push(format!("{}:{known}", ctx.step())))
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
    let greedy = tiny::on_step(|ctx| {
        let loss = ctx.read(ctx.loss)?;
        ctx.read(ctx.loss)?; // known by now
        ctx.log("greedy/loss", loss);
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
