//! Test of the program `gan`: the generated numbers come to resemble the data's, and both losses are recorded.

#[allow(
    dead_code,
    reason = "`main` is not called; its own test is, that each loss trains its own network only"
)]
#[path = "../gan.rs"]
mod gan;
#[path = "support/program.rs"]
mod program;

use program::Ended;

type Place = program::Place<Gan>;

/// Program under test.
struct Gan;

impl program::Name for Gan {
    const NAME: &'static str = "gan";
}

#[test]
fn generator_learns_the_mean_and_the_spread_of_the_data() {
    let place = Place::new();
    let mut command = place.command("");
    // The run is `gan-<process>` in the temporary directory.
    for name in ["TMPDIR", "TMP", "TEMP"] {
        command.env(name, place.0.path());
    }
    let process = command.spawn().expect("the program starts");
    let run = format!("gan-{}", process.id());
    let ended = Ended::from(process.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);

    let records = place.metrics(&run);
    let value = |step: usize, key: &str| records[step][key].as_f64().expect(key);
    assert!(value(0, "val/mean") < 1.0, "untrained");
    assert!(
        (value(2_000, "val/mean") - 4.0).abs() < 0.6,
        "{}",
        ended.err
    );
    assert!((value(2_000, "val/std") - 1.5).abs() < 0.6, "{}", ended.err);

    for step in 1..=2_000 {
        let [sum, discriminator, generator] = ["", "/discriminator", "/generator"]
            .map(|part| value(step, &format!("train/loss{part}")));
        assert!(
            (sum - discriminator - generator).abs() < 1e-5,
            "step {step}"
        );
    }
    let rates = ["lr/generator", "lr/discriminator"].map(|key| value(1, key));
    assert_eq!(rates, [2e-3, 4e-3], "an optimizer for each network");
}
