//! What the callbacks that measure parameters and activations promise, beside the suite.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Callback, Fitted, Histogram, MemorySink, Value, callbacks_from_toml, every, never};
use bdh_callbacks::Histograms;

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build().expect("a valid run").fit().expect("a run that completes")
}

fn from_toml(settings: &str) -> Box<dyn Callback> {
    let text = format!("[[callback]]\n{settings}");
    callbacks_from_toml(&text).expect("a valid configuration").remove(0)
}

/// What the first record has under a key.
fn first(memory: &MemorySink, key: &str) -> Value {
    let values = memory.records().remove(0).values;
    values.into_iter().find(|(known, _)| known == key).expect("a recorded key").1
}

#[test]
fn a_histogram_counts_the_weights_before_the_update() {
    let memory = MemorySink::default();
    let histograms = Histograms::builder().cadence(every(1)).build().expect("valid settings");
    let fitted = fit(tiny::run(2).eval(never()).sink(memory.clone()).callback(histograms));
    let embed = &tiny::weights(&tiny::Tiny::new(0.0))[0];
    let embed: Vec<f32> = embed.iter().map(|bits| f32::from_bits(*bits)).collect();
    let expected = Value::Histogram(Histogram::of(&embed, 64));
    assert_eq!(first(&memory, "weights/embed.weight"), expected);
    assert_eq!(fitted.overhead.reads, 2, "one read a step");
}

#[test]
fn a_pattern_that_matches_nothing_is_told_and_the_run_goes_on() {
    let settings = "use = \"histograms\"\nparams = [\"*embed*\", \"*attn*\"]";
    let fitted = fit(tiny::run(2).callback(from_toml(settings)));
    let told = fitted.problems[0].to_string();
    let expected = "no parameter matches `*attn*`; there are embed.weight, head.weight, head.bias";
    assert!(told.contains(expected), "{told}");
}
