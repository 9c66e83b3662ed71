//! One CNN and the same images, trained by burn-train's `Learner` and by bdh's `Trainer`, in turns.

mod data;
mod learner;
mod model;
mod passes;
mod settings;
mod side;
mod trainer;

use side::{Measured, Side};
use std::path::Path;
use std::time::Instant;

fn main() -> bdh::Result {
    let began = Instant::now();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["run", "learner", dir] => Side::Learner.run(Path::new(dir), began)?,
        ["run", "trainer", dir] => Side::Trainer.run(Path::new(dir), began)?,
        [] => compare(5)?,
        [rounds] => compare(rounds.parse()?)?,
        _ => return Err("the only argument is the number of rounds, 5 by default".into()),
    }
    Ok(())
}

/// Runs both sides in turns, every other round in reverse order, and prints a table.
fn compare(rounds: usize) -> bdh::Result {
    let (mut learner, mut trainer) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut order = Side::BOTH;
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            eprintln!("round {} of {rounds}: {}", round + 1, side.name());
            match side {
                Side::Learner => learner.push(side.measure()?),
                Side::Trainer => trainer.push(side.measure()?),
            }
        }
    }
    let [ours, theirs] = [Side::Trainer, Side::Learner].map(Side::num_lines);
    println!("| medians of {rounds} rounds | bdh's Trainer | burn-train's Learner | ratio |");
    println!("|---|---|---|---|");
    let print = |what: &str, value: fn(&Measured) -> f64, decimals: usize| {
        let [ours, theirs]: [Vec<f64>; 2] =
            [&trainer, &learner].map(|side| side.iter().map(value).collect());
        let ratio = median(ratios(&ours, &theirs));
        let (ours, theirs) = (median(ours), median(theirs));
        println!("| {what} | {ours:.decimals$} | {theirs:.decimals$} | {ratio:.2} |");
    };
    print("images a second", |measured| measured.speed, 0);
    print(
        "seconds to the end of the first step",
        |measured| measured.first_step,
        2,
    );
    print("peak memory, MB", |measured| measured.memory, 0);
    print("accuracy on new images", |measured| measured.accuracy, 3);
    println!(
        "| lines of code | {ours} | {theirs} | {:.2} |",
        ours as f64 / theirs as f64
    );
    Ok(())
}

/// Returns the ratio of each round.
fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
