//! Conversion of flags to one spelling, before clap parses them.
//!
//! Users write `--max-iterations 10`. nanochat's scripts write `--num_iterations=-1` for the default. A sweep agent
//! writes Python values: an unset parameter is `--lr_override=None`, and a switch is `--dry_run=True`. After the
//! conversion every flag is `--flag=value` or `--flag`, or is left out.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::iter::Peekable;

use clap::Command;

/// Settings with a default that is decided elsewhere, by the scaling laws, the device, the data or another flag, if
/// nanochat's scripts write -1.
const DECIDED_AT_MINUS_ONE: [&str; 14] = [
    "num_iterations",
    "target_flops",
    "target_param_data_ratio",
    "device_batch_size",
    "total_batch_size",
    "resume_from_step",
    "init_step",
    "num_shards",
    "n_embd_override",
    "head_dim",
    "max_seq_len",
    "short_seq_len",
    "vocab_size",
    "eval_tokens",
];

/// Settings that are decided elsewhere if their value is empty, as in nanochat's `--device-type=`.
const DECIDED_IF_EMPTY: [&str; 1] = ["device"];

/// Converts an argument list that starts with the program name to the spelling that clap parses.
///
/// Flags with a value become `--flag=value`, with hyphens. A flag with the value `None` is left out if it has no
/// default; a flag with a default, such as a prompt, may have the text `None`. `True` keeps a switch, and `False`
/// leaves it out. Words without a flag come first. Unknown flags keep their spelling, so that errors show what was
/// typed. Converting a list twice gives the same result as once.
#[must_use]
pub fn normalize(argv: Vec<OsString>, command: Command) -> Vec<OsString> {
    let known = Known::of(command);
    let mut words = argv.into_iter().peekable();
    let program = words.next();
    // Separate from the flags, so that a stray word never becomes the value of a flag.
    let (mut strays, mut flags) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        if word == "--" {
            flags.push(word);
            flags.extend(words);
            break;
        } else if is_value(&word) {
            strays.push(word);
        } else {
            flags.extend(known.rewrite(word, &mut words));
        }
    }
    let mut converted: Vec<OsString> = program.into_iter().collect();
    converted.extend(strays);
    converted.extend(flags);
    converted
}

/// Flags of the program, by each of their names.
struct Known(HashMap<String, Flag>);

#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
struct Flag {
    takes_value: bool,
    unset_by_none: bool,
    decided_at_minus_one: bool,
    decided_if_empty: bool,
}

impl Known {
    fn of(mut command: Command) -> Self {
        command.build(); // adds --help and --version
        let mut flags = HashMap::new();
        for arg in command.get_arguments() {
            let flag = Flag {
                takes_value: arg.get_action().takes_values(),
                unset_by_none: arg.get_default_values().is_empty(),
                decided_at_minus_one: DECIDED_AT_MINUS_ONE.contains(&arg.get_id().as_str()),
                decided_if_empty: DECIDED_IF_EMPTY.contains(&arg.get_id().as_str()),
            };
            let mut names = arg.get_all_aliases().unwrap_or_default();
            names.extend(arg.get_long());
            for name in names {
                flags.insert(name.to_owned(), flag);
            }
        }
        Self(flags)
    }

    /// Returns one flag with its value in the right spelling, or `None` if it is left out.
    fn rewrite(
        &self,
        word: OsString,
        rest: &mut Peekable<impl Iterator<Item = OsString>>,
    ) -> Option<OsString> {
        let Some(text) = word.to_str() else {
            return Some(word);
        };
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (text, None),
        };
        let hyphenated = name.replace('_', "-");
        let flag = hyphenated
            .strip_prefix("--")
            .and_then(|name| self.0.get(name));
        match flag {
            None if inline.is_some() => Some(word),
            None => Some(join(name, rest.next_if(|next| is_value(next)))),
            Some(flag) if flag.takes_value => {
                let value = inline.or_else(|| rest.next_if(|next| is_value(next)));
                flag.with_value(&hyphenated, value)
            }
            Some(_) => {
                let value = inline.or_else(|| rest.next_if(|next| switch(next).is_some()));
                rewrite_switch(&hyphenated, value)
            }
        }
    }
}

/// Returns a switch, or `None` if its value turns it off.
fn rewrite_switch(name: &str, value: Option<OsString>) -> Option<OsString> {
    match value.as_deref().map(switch) {
        None | Some(Some(true)) => Some(name.into()),
        Some(Some(false)) => None,
        Some(None) => Some(join(name, value)), // clap reports the wrong value
    }
}

impl Flag {
    /// Returns the flag with its value, or `None` if the value means that it is not set.
    fn with_value(self, name: &str, value: Option<OsString>) -> Option<OsString> {
        if value.as_deref().is_some_and(|value| self.is_unset(value)) {
            return None;
        }
        Some(join(name, value))
    }

    /// Returns whether a value means that the flag is not set.
    fn is_unset(self, value: &OsStr) -> bool {
        (self.unset_by_none && value == "None")
            || (self.decided_at_minus_one && (value == "-1" || value == "-1.0"))
            || (self.decided_if_empty && value.is_empty())
    }
}

/// Returns whether a word is not a flag: it has no leading hyphen, or is a negative number.
fn is_value(word: &OsStr) -> bool {
    !word.as_encoded_bytes().starts_with(b"-")
        || word
            .to_str()
            .is_some_and(|text| text.parse::<f64>().is_ok())
}

/// Parses Python's value of a switch: on, or off and unset.
fn switch(word: &OsStr) -> Option<bool> {
    match word.to_str()? {
        "True" | "true" => Some(true),
        "False" | "false" | "None" => Some(false),
        _ => None,
    }
}

fn join(name: &str, value: Option<OsString>) -> OsString {
    let mut word = OsString::from(name);
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Converts words separated by spaces.
    fn read(words: &str) -> String {
        let argv = std::iter::once("program")
            .chain(words.split_whitespace())
            .map(OsString::from);
        let read: Vec<_> = normalize(argv.collect(), super::super::command())
            .into_iter()
            .skip(1)
            .filter_map(|word| word.into_string().ok())
            .collect();
        read.join(" ")
    }

    #[test]
    fn underscores_and_separate_values_become_one_spelling() {
        let expected = "--depth=2 --n-embd-override=64 --device=cpu --max-iterations=10";
        assert_eq!(
            read("--depth 2 --n_embd_override 64 --device cpu --max-iterations 10"),
            expected
        );
        assert_eq!(
            read("--depth=2 --n-embd-override=64 --device=cpu --max_iterations=10"),
            expected
        );
        assert_eq!(
            read("--name=a_b --name c_d"),
            "--name=a_b --name=c_d",
            "values keep their underscores"
        );
    }

    #[test]
    fn python_values_are_converted() {
        assert_eq!(
            read("--lr_override=None --n_embd_override None --depth=8"),
            "--depth=8"
        );
        assert_eq!(
            read("--dry_run=True --quiet True --resume"),
            "--dry-run --quiet --resume"
        );
        assert_eq!(read("--dry_run=False --quiet None --resume=false"), "");
        assert_eq!(
            read("--dry_run=maybe"),
            "--dry-run=maybe",
            "clap reports the wrong value"
        );
        assert_eq!(read("--lr_override=1e-05"), "--lr-override=1e-05");
    }

    #[test]
    fn none_unsets_only_flags_without_a_default() {
        assert_eq!(
            read("--head_dim=None --early_save None --device None --tokenizer=None"),
            ""
        );
        for flag in [
            "--name",
            "--data",
            "--core_bundle",
            "--log-backend",
            "--callbacks",
        ] {
            assert_eq!(
                read(&format!("{flag}=None")),
                "",
                "a sweep writes a null like this"
            );
        }
        let prompt = clap::Arg::new("prompt")
            .long("prompt")
            .default_value("To be or not to be");
        let argv = ["program", "--prompt", "None"].map(OsString::from).to_vec();
        let argv = normalize(argv, Command::new("program").arg(prompt));
        assert_eq!(argv, ["program", "--prompt=None"], "the text may be None");
        assert_eq!(
            read("--depth None --seed=None"),
            "--depth=None --seed=None",
            "clap reports the wrong value"
        );
    }

    #[test]
    fn negative_numbers_are_values() {
        assert_eq!(
            read("--max-iterations -5 --seed -1"),
            "--max-iterations=-5 --seed=-1"
        );
        assert_eq!(read("--eval-every -1"), "--eval-every=-1");
    }

    #[test]
    fn minus_one_unsets_settings_of_the_scaling_laws() {
        assert_eq!(
            read("--num_iterations=-1 --steps -1 --target-flops=-1.0 --total-batch-size -1"),
            ""
        );
    }

    #[test]
    fn minus_one_unsets_every_setting_that_is_decided_elsewhere() {
        for name in DECIDED_AT_MINUS_ONE {
            assert_eq!(
                read(&format!("--{name}=-1 --depth=2")),
                "--depth=2",
                "{name}"
            );
            let is_flag = super::super::command()
                .get_arguments()
                .any(|arg| arg.get_id() == name);
            assert!(is_flag, "{name}");
        }
        assert_eq!(
            read("--core-metric-max-per-task=-1 --weight-decay -1"),
            "--core-metric-max-per-task=-1 --weight-decay=-1",
            "-1 is a value there, right or wrong"
        );
    }

    #[test]
    fn empty_device_is_found_like_in_nanochat() {
        assert_eq!(read("--device-type= --device="), "");
        assert_eq!(read("--name="), "--name=", "clap reports the wrong value");
    }

    #[test]
    fn stray_word_is_not_used_as_a_missing_value() {
        assert_eq!(read("--depth --quiet 5"), "5 --depth --quiet");
        assert_eq!(read("--depth --lr=None 5"), "5 --depth --lr=None");
        assert_eq!(
            read("--quiet -- --depth_x True"),
            "--quiet -- --depth_x True"
        );
    }

    #[test]
    fn unknown_flags_keep_their_spelling() {
        assert_eq!(
            read("--n_embd 64 --foo=None -depth 8"),
            "--n_embd=64 --foo=None -depth=8"
        );
    }

    proptest! {
        #[test]
        fn converting_twice_changes_nothing(
            words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..8),
        ) {
            let argv = std::iter::once("program").chain(words).map(OsString::from).collect();
            let once = normalize(argv, super::super::command());
            prop_assert_eq!(normalize(once.clone(), super::super::command()), once);
        }
    }

    /// Words for the property test, in any order.
    const WORDS: [&str; 24] = [
        "--depth",
        "--depth=2",
        "--n_embd_override",
        "--n-embd-override=None",
        "--steps",
        "--steps=-1",
        "--dry_run",
        "--dry-run=True",
        "--dry_run=maybe",
        "--quiet=False",
        "--help",
        "--unknown_flag",
        "--unknown=1",
        "--name=a_b=c",
        "--",
        "-h",
        "-5",
        "-x",
        "-",
        "64",
        "None",
        "True",
        "False",
        "1e-05",
    ];
}
