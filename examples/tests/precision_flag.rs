//! `--precision` sets the precision of the programs' models.

#[path = "support/program.rs"]
mod program;

use program::{Place, contains};

/// Programs with models.
struct Gpt2Histograms;
struct BdhShakespeare;
struct NanochatSweep;

impl program::Name for Gpt2Histograms {
    const NAME: &'static str = "gpt2_histograms";
}

impl program::Name for BdhShakespeare {
    const NAME: &'static str = "bdh_shakespeare";
}

impl program::Name for NanochatSweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn programs_use_the_precision_of_the_flag() {
    const ALL: &str = "--device cpu --precision bf16 --data text.txt --log_backend none";
    let place = Place::<Gpt2Histograms>::new();
    let words = ALL.replace(
        "--log_backend none",
        "--n_embd 8 --block_size 8 --batch_size 2 --max_steps 2",
    );
    contains(&place.succeeds(&words), &["on cpu in bf16"]);
    assert_eq!(
        place.json("log/run.json")["config"]["user"]["model"]["precision"],
        "bf16"
    );

    let place = Place::<BdhShakespeare>::new();
    let words = "--n_layer 1 --n_embd 16 --mlp-internal-dim-multiplier 4 --block_size 16 --max_iters 2 --name a";
    contains(
        &place.succeeds(&format!("{ALL} {words}")),
        &["on cpu in bf16"],
    );
    assert_eq!(
        place.json("runs/a/run.json")["config"]["user"]["model"]["precision"],
        "bf16"
    );

    let place = Place::<NanochatSweep>::new();
    let words = "--depth=2 --n-embd-override=64 --max-seq-len=32 --micro-batch=2 --eval-tokens=64 --steps 2 --name a";
    contains(
        &place.succeeds(&format!("{ALL} {words}")),
        &["on cpu in bf16"],
    );
    let config = &place.json("runs/a/run.json")["config"];
    assert_eq!(config["user"]["recipe"]["config"]["precision"], "bf16");
}
