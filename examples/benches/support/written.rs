//! Synthetic runs on disk.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Writes a run of `records` steps with the files of `nanochat_sweep`: its keys, one record per step, 20 evals. Returns
/// its size in bytes.
pub(crate) fn run(dir: &Path, number: u64, records: u64) -> usize {
    let eval_every = records.div_ceil(20);
    fs::create_dir(dir).expect("a directory");
    let lr = 1e-4 * (1.0 + number as f64);
    let config = format!(
        "{{\"steps\":{records},\"status\":\"completed\",\"config\":{{\"user\":{{\"args\":{{\"depth\":{},\"lr\":{lr}}}}}}}}}",
        number % 5
    );
    fs::write(dir.join("run.json"), config).expect("a file");
    let groups = [
        "matrix",
        "lm_head",
        "wte",
        "value_embeds",
        "resid_lambdas",
        "x0_lambdas",
        "smear",
    ];
    let mut text = String::new();
    for step in 0..records {
        let loss = 2.0 + 3.0 / (1.0 + step as f64).sqrt() + lr;
        let _ = write!(text, "{{\"train/loss\":{loss},\"lr\":{lr}");
        for group in groups {
            let _ = write!(text, ",\"lr/{group}\":{}", lr * 1.234_567_891);
        }
        let _ = write!(
            text,
            ",\"train/grad_norm\":{},\"train/weight_norm\":{},\"train/tokens\":{},\"train/flops\":{}",
            loss / 3.1,
            loss * 33.3,
            step * 512,
            step as f64 * 4.1e8
        );
        let _ = write!(
            text,
            ",\"train/tok_per_sec\":25083.058236,\"train/step_time\":0.020412184,\"train/data_wait\":0.00137"
        );
        if step.is_multiple_of(eval_every) {
            let _ = write!(
                text,
                ",\"val/loss\":{loss},\"val/bpb\":{loss},\"val_bpb\":{loss}"
            );
        }
        let _ = writeln!(
            text,
            ",\"step\":{step},\"tokens\":{},\"elapsed\":{}}}",
            step * 512,
            step as f64 * 0.02
        );
    }
    fs::write(dir.join("metrics.jsonl"), &text).expect("a file");
    text.len()
}
