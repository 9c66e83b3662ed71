//! One spelling for every flag, before clap sees it.
//!
//! Three parties write these command lines. People type `--max-iterations 10`; nanochat's scripts say
//! `--num_iterations=-1` for "decide yourself"; and a sweep agent prints Python values, so that an unset
//! parameter arrives as `--lr_override=None` and a switch as `--dry_run=True`. After this pass all of them read
//! `--flag=value`, `--flag`, or nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::iter::Peekable;

use clap::Command;

/// Settings for which nanochat writes -1 when the scaling laws are to decide.
const DECIDED_AT_MINUS_ONE: [&str; 3] = ["num_iterations", "target_flops", "total_batch_size"];

/// Rewrites an argument list, program name first, into the spelling that clap parses.
///
/// Flags with a value become `--flag=value`, with hyphens; `None` takes its flag away where that can only mean that
/// nothing is set: not where a default stands in its place, as for a prompt, which may be any text. `True` and `False`
/// turn a switch on and away; words that belong to no flag come first. Unknown flags keep their spelling, so that the
/// message about them shows what was typed. Doing it twice changes nothing more.
#[must_use]
pub fn normalize(argv: Vec<OsString>, command: Command) -> Vec<OsString> {
    let known = Known::of(command);
    let mut words = argv.into_iter().peekable();
    let program = words.next();
    // Apart from the flags, so that a word left over from one flag is never taken for the value of another.
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
    program.into_iter().chain(strays).chain(flags).collect()
}

/// The flags that the program has, by each of their names.
struct Known(HashMap<String, Flag>);

struct Flag {
    takes_value: bool,
    unset_by_none: bool,
    decided_at_minus_one: bool,
}

impl Known {
    fn of(mut command: Command) -> Self {
        command.build(); // adds --help and --version
        let flags = command.get_arguments().flat_map(|arg| {
            let names = arg
                .get_long()
                .into_iter()
                .chain(arg.get_all_aliases().into_iter().flatten());
            names.map(|name| {
                let flag = Flag {
                    takes_value: arg.get_action().takes_values(),
                    unset_by_none: arg.get_default_values().is_empty(),
                    decided_at_minus_one: DECIDED_AT_MINUS_ONE.contains(&arg.get_id().as_str()),
                };
                (name.to_owned(), flag)
            })
        });
        Self(flags.collect())
    }

    /// One flag with its value, as it should have been written; `None` if it should not have been.
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
        match hyphenated
            .strip_prefix("--")
            .and_then(|name| self.0.get(name))
        {
            None if inline.is_some() => Some(word),
            None => Some(join(name, rest.next_if(|next| is_value(next)))),
            Some(flag) if flag.takes_value => {
                let value = inline.or_else(|| rest.next_if(|next| is_value(next)));
                let given = value
                    .as_deref()
                    .is_none_or(|value| !flag.leaves_open(value));
                given.then(|| join(&hyphenated, value))
            }
            Some(_) => {
                let value = inline.or_else(|| rest.next_if(|next| switch(next).is_some()));
                match value.as_deref().map_or(Some(true), switch) {
                    Some(on) => on.then(|| hyphenated.into()),
                    None => Some(join(&hyphenated, value)),
                }
            }
        }
    }
}

impl Flag {
    /// Whether a value says that there is none.
    fn leaves_open(&self, value: &OsStr) -> bool {
        (self.unset_by_none && value == "None")
            || (self.decided_at_minus_one && (value == "-1" || value == "-1.0"))
    }
}

/// Whether a word is no flag: anything without a leading hyphen, or a negative number.
fn is_value(word: &OsStr) -> bool {
    !word.as_encoded_bytes().starts_with(b"-")
        || word
            .to_str()
            .is_some_and(|text| text.parse::<f64>().is_ok())
}

/// Python's word for a switch that is on, off or unset.
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

    /// Normalises words separated by spaces.
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
            "values keep theirs"
        );
    }

    #[test]
    fn python_values_are_understood() {
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
            "clap says what is wrong"
        );
        assert_eq!(read("--lr_override=1e-05"), "--lr-override=1e-05");
    }

    #[test]
    fn none_unsets_only_what_python_leaves_at_none() {
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
                "as a sweep writes a null"
            );
        }
        let prompt = clap::Arg::new("prompt")
            .long("prompt")
            .default_value("To be or not to be");
        let argv = ["program", "--prompt", "None"].map(OsString::from).to_vec();
        let argv = normalize(argv, Command::new("program").arg(prompt));
        assert_eq!(
            argv,
            ["program", "--prompt=None"],
            "a text can be called so"
        );
        assert_eq!(
            read("--depth None --seed=None"),
            "--depth=None --seed=None",
            "clap says what is wrong"
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
    fn minus_one_leaves_what_the_laws_decide_to_them() {
        assert_eq!(
            read("--num_iterations=-1 --steps -1 --target-flops=-1.0 --total-batch-size -1"),
            ""
        );
    }

    #[test]
    fn a_missing_value_is_not_taken_from_elsewhere() {
        assert_eq!(read("--depth --quiet 5"), "5 --depth --quiet");
        assert_eq!(read("--depth --lr=None 5"), "5 --depth --lr=None");
        assert_eq!(
            read("--quiet -- --depth_x True"),
            "--quiet -- --depth_x True"
        );
    }

    #[test]
    fn unknown_flags_stay_as_they_were_typed() {
        assert_eq!(
            read("--n_embd 64 --foo=None -depth 8"),
            "--n_embd=64 --foo=None -depth=8"
        );
    }

    proptest! {
        #[test]
        fn doing_it_twice_changes_nothing(
            words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..8),
        ) {
            let argv = std::iter::once("program").chain(words).map(OsString::from).collect();
            let once = normalize(argv, super::super::command());
            prop_assert_eq!(normalize(once.clone(), super::super::command()), once);
        }
    }

    /// Words whose every order must come to rest after one pass.
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
