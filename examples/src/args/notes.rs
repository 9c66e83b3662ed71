//! Notes about flags without effect, and about smaller defaults.

use super::{Args, Every, ON_GPU};
use crate::nanochat_home::NanochatHome;
use bdh_models::nanochat::NanochatVersion;

impl Args {
    /// Returns one line for each setting that has no effect in this run. The run starts all the same.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let home = NanochatHome::given();
        let notes = [
            self.fp8_note(),
            self.core_note(),
            self.window_note(),
            home.and_then(|home| self.home_note(&home)),
        ];
        notes.into_iter().flatten().collect()
    }

    fn fp8_note(&self) -> Option<String> {
        let precision = self.hardware.precision();
        self.fp8
            .then(|| format!("--fp8 is not available: the run trains in {precision}"))
    }

    fn core_note(&self) -> Option<String> {
        match (self.core_metric_every, &self.core_bundle) {
            (Every::Steps(steps), None) => Some(format!(
                "--core-metric-every {steps} has no effect: CORE is not evaluated without --core-bundle DIR, a \
                 directory with its tasks"
            )),
            _ => None,
        }
    }

    fn window_note(&self) -> Option<String> {
        let tokens = self.short_seq_len?;
        (self.nanochat_version != NanochatVersion::Next).then(|| {
            format!(
                "--short-seq-len {tokens} has no effect: with --nanochat-version master a short window is a quarter of \
                 the context"
            )
        })
    }

    /// Returns a note if nanochat's home is given, and has no data to train on.
    fn home_note(&self, home: &NanochatHome) -> Option<String> {
        self.data.is_none().then(|| {
            format!(
                "NANOCHAT_BASE_DIR has no effect on --data: there is no directory `{}`",
                home.data_dir().display()
            )
        })
    }

    /// Returns a note about defaults that are smaller than nanochat's on this device, with the flags for nanochat's.
    #[must_use]
    pub fn reduced(&self) -> Option<String> {
        let (here, nanochat) = (self.defaults(), ON_GPU);
        let mut lines = Vec::new();
        if self.max_seq_len.is_none() && here.max_seq_len < nanochat.max_seq_len {
            lines.push(format!(
                "context {} (--max-seq-len {})",
                here.max_seq_len, nanochat.max_seq_len
            ));
        }
        if self.total_batch_size.is_none() && here.one_micro_batch {
            lines
                .push("one micro-batch per device and step (--total-batch-size 524288)".to_owned());
        }
        if self.tokenizer.is_none() && here.has_bytes {
            lines.push("bytes as tokens (--tokenizer bpe)".to_owned());
        }
        if self.eval_tokens.is_none() && here.eval_tokens < nanochat.eval_tokens {
            lines.push(format!(
                "evaluation on {} tokens (--eval-tokens {})",
                here.eval_tokens, nanochat.eval_tokens
            ));
        }
        if lines.is_empty() {
            return None;
        }
        Some(format!(
            "defaults on the CPU are smaller than nanochat's: {}",
            lines.join(", ")
        ))
    }
}
