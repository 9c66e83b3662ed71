//! Lines of `log.txt`.

use bdh::Record;

/// Returns the index of the update that a record of training belongs to, from 0.
pub(super) fn update(record: &Record) -> u64 {
    record.clock.step.saturating_sub(1)
}

/// Returns the lines of a record, each with its line break.
pub(super) fn of(record: &Record) -> String {
    let (update, step) = (update(record), record.clock.step);
    let mut lines = String::new();
    if let Some(loss) = record.scalar("train/loss") {
        lines += &format!("{update} train {loss:.6}\n");
    }
    if let Some(loss) = record.scalar("val/loss") {
        lines += &format!("{step} val {loss:.4}\n");
    }
    if let Some(share) = record.scalar("hella") {
        lines += &format!("{step} hella {share:.4}\n");
    }
    lines
}

/// Returns a log up to a step, whose own lines come from its record in the checkpoint if it has one.
///
/// The record may be missing in the log after a crash.
pub(super) fn until(text: &str, step: u64, record: Option<&Record>) -> String {
    // Without a record, nothing was logged on the step itself.
    let end = step + u64::from(record.is_none());
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        // A torn last line of a machine that died has no line break.
        if line.ends_with('\n') && number(line).is_some_and(|number| number < end) {
            kept += line;
        }
    }
    kept + &record.map(of).unwrap_or_default()
}

/// Returns the number of completed updates when a line was written.
fn number(line: &str) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let step: u64 = fields.next()?.parse().ok()?;
    match fields.next()? {
        "train" => Some(step.saturating_add(1)),
        _ => Some(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::{Clock, Value};

    fn record(step: u64, values: &[(&str, f64)]) -> Record {
        let mut record = Record {
            clock: Clock {
                step,
                ..Clock::default()
            },
            values: Vec::new(),
        };
        for &(key, value) in values {
            record.values.push((key.to_owned(), Value::Scalar(value)));
        }
        record
    }

    #[test]
    fn training_has_the_index_of_the_update_and_an_eval_that_of_the_next_one() {
        let start = record(0, &[("val/loss", 10.5), ("hella", 0.25)]);
        assert_eq!(of(&start), "0 val 10.5000\n0 hella 0.2500\n");
        let third = record(3, &[("train/loss", 2.0), ("val/loss", 1.5), ("lr", 0.1)]);
        assert_eq!(of(&third), "2 train 2.000000\n3 val 1.5000\n");
        assert_eq!(of(&record(1, &[("lr", 0.1)])), "");
    }

    #[test]
    fn a_resumed_log_ends_with_the_record_of_its_checkpoint() {
        let second = record(2, &[("train/loss", 2.0), ("val/loss", 1.5)]);
        let head = "0 val 9.0000\n0 train 3.000000\n";
        let own = "1 train 2.000000\n2 val 1.5000\n";
        for behind in [
            "",
            own,
            "1 train 2.000000\n",
            "1 train 2.0",
            "1 train 7.000000\n2 train 1.000000\n3 val 1.0000\n",
        ] {
            let text = format!("{head}{behind}");
            assert_eq!(
                until(&text, 2, Some(&second)),
                format!("{head}{own}"),
                "{behind}"
            );
        }
        let text = format!("{head}{own}2 train 1.000000\n");
        assert_eq!(until(&text, 2, None), format!("{head}{own}"));
        assert_eq!(until("words\n", 2, None), "");
    }
}
