//! Tests of the program `compare_models`.

#[path = "support/program.rs"]
mod program;

use program::contains;
use std::fs;

/// Program under test.
struct Compare;

impl program::Name for Compare {
    const NAME: &'static str = "compare_models";
}

#[test]
fn three_models_are_compared_in_a_table_and_a_chart() {
    let place = program::Place::<Compare>::new();
    let out = place.succeeds("--data text.txt --steps 40 --out curves.svg");
    let row = |model: &str| {
        let line = out
            .lines()
            .find(|line| line.starts_with(&format!("| {model} | ")));
        line.expect(model)
            .split(" | ")
            .map(|cell| cell.trim_matches('|').trim().to_owned())
            .collect::<Vec<_>>()
    };
    let rows = ["BDH", "GPT-2", "nanochat"].map(row);
    for cells in &rows {
        let parameters: f64 = cells[1].parse().expect("a count");
        assert!((parameters / 425_984.0 - 1.0).abs() < 0.02, "{cells:?}");
        let loss: f64 = cells[2].parse().expect("a loss");
        // A uniform prediction of 256 bytes costs 5.545 nats, so each model has learned something. (In a dozen steps
        // there would be no warm-up, and nanochat's rates would be too high.)
        assert!((0.1..5.5).contains(&loss), "{cells:?}");
    }
    assert_eq!(
        rows[0][5].split(", ").count(),
        3,
        "a share of zeros for each layer: {:?}",
        rows[0]
    );

    let svg = fs::read_to_string(place.at("curves.svg")).expect("a picture");
    contains(
        &svg,
        &[
            "<svg ",
            ">BDH</text>",
            ">GPT-2</text>",
            ">nanochat</text>",
            "</svg>",
        ],
    );
    assert_eq!(svg.matches("<polyline ").count(), 3);
}
