//! A configuration file composes callbacks by name; naming the crate is enough to link them.

// Nothing else of the crate is named here.
use bdh_callbacks as _;

use bdh::{Callback, ConfigError, callbacks_from_toml, callbacks_from_yaml, registered_callbacks};
use std::error::Error;

const TOML: &str = r#"
[[callback]]
use = "norms"
every = "every 100 steps | last"
per_parameter = true

[[callback]]
use = "throughput"
name = "speed"
peak_flops = 989.4e12
warmup_steps = 5
on_error = "abort"

[[callback]]
use = "early_checkpoints"
at = "at 10%,50%"
"#;

const YAML: &str = "
callback:
  - use: norms
    every: every 100 steps | last
    per_parameter: true
  - use: throughput
    name: speed
    peak_flops: 989.4e12
    warmup_steps: 5
    on_error: abort
  - use: early_checkpoints
    at: at 10%,50%
";

/// Name, cadence, policy and keys of each.
fn describe(callbacks: &[Box<dyn Callback>]) -> Vec<String> {
    let line = |callback: &dyn Callback| {
        let (name, cadence) = (callback.name(), callback.cadence());
        format!(
            "{name}; {cadence}; {:?}; {}",
            callback.on_error(),
            callback.keys().join(" ")
        )
    };
    callbacks.iter().map(|callback| line(&**callback)).collect()
}

fn known() -> Vec<&'static str> {
    registered_callbacks()
        .iter()
        .map(|entry| entry.name)
        .collect()
}

#[test]
fn every_callback_tells_its_settings_and_what_they_are_by_default() {
    for entry in registered_callbacks() {
        let default = entry
            .default()
            .expect("each of ours can do without settings");
        let config = default.config();
        let config = config
            .as_object()
            .unwrap_or_else(|| panic!("`{}` tells no settings", entry.name));
        let told: Vec<_> = config.keys().map(String::as_str).collect();
        assert_eq!(told, (entry.options)(), "{}", entry.name);
        let again = (entry.build)(default.config()).expect("its own settings");
        assert_eq!(again.config(), default.config(), "{}", entry.name);
    }
}

#[test]
fn every_callback_of_the_crate_is_registered_under_its_name() {
    let known = known();
    for name in [
        "activations",
        "clipping",
        "early_checkpoints",
        "histograms",
        "norms",
        "overlay",
        "ratios",
        "throughput",
    ] {
        assert!(known.contains(&name), "{name} is not among {known:?}");
    }
    assert!(
        known.is_sorted_by(|name, next| name < next),
        "no two have one name: {known:?}"
    );
}

#[test]
fn callbacks_are_built_by_name_from_toml_and_yaml_alike() {
    let callbacks = callbacks_from_toml(TOML).expect("a valid configuration");
    let described = describe(&callbacks);
    assert_eq!(
        described[0],
        "norms; every 100 steps | last; Disable; \
         train/weight_norm train/grad_norm norm/weight/* norm/grad/*"
    );
    assert!(described[1].starts_with("speed; every step | at 5 steps; Abort; train/tok_per_sec"));
    assert!(
        described[2].starts_with("early_checkpoints; at 10%,50%; Disable"),
        "{described:?}"
    );
    assert_eq!(callbacks[2].files(80)[0], "checkpoints/ckpt_early_step_8");

    let from_yaml = callbacks_from_yaml(YAML).expect("a valid configuration");
    assert_eq!(describe(&from_yaml), described);
}

#[test]
fn an_unknown_callback_is_told_the_known_ones() {
    let error = callbacks_from_toml("[[callback]]\nuse = \"norm\"")
        .err()
        .expect("a typing error");
    assert!(matches!(error, ConfigError::UnknownCallback { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("unknown callback `norm`; known are "),
        "{text}"
    );
    let known = known().join(", ");
    assert!(
        known.contains("norms") && text.contains(&format!("known are {known}; ")),
        "{text}"
    );
    assert!(
        text.ends_with("`use the_crate as _;`"),
        "a crate that no code names: {text}"
    );
}

#[test]
fn an_unknown_key_is_told_the_valid_ones() {
    for (settings, valid) in [
        (
            "use = \"norms\"\nper_param = true",
            &["cadence", "per_parameter"][..],
        ),
        (
            "use = \"throughput\"\npeak = 1.0",
            &["every", "warmup_steps", "peak_flops"],
        ),
        ("use = \"early_checkpoints\"\nsteps = 5", &["at"]),
    ] {
        let error = callbacks_from_toml(&format!("[[callback]]\n{settings}"));
        let error = error.err().expect("an unknown key");
        let cause = error.source().expect("a cause").to_string();
        assert!(cause.contains("unknown field"), "{cause}");
        assert!(
            valid.iter().all(|key| cause.contains(&format!("`{key}`"))),
            "{cause}"
        );
        assert!(
            error.to_string().starts_with("the settings of callback `"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_list_of_callbacks_is_refused() {
    for text in [
        "[[callbak]]\nuse = \"norms\"",
        "[[callback]]\nevery = 5",
        "callback = 3",
        "==",
    ] {
        let error = callbacks_from_toml(text).err().expect("no configuration");
        assert!(matches!(error, ConfigError::Syntax(_)), "{error:?}");
    }
    let cadence = "[[callback]]\nuse = \"norms\"\nevery = \"every now and then\"";
    let error = callbacks_from_toml(cadence).err().expect("no cadence");
    assert!(
        error.source().expect("a cause").to_string().contains("now"),
        "{error:?}"
    );
}
