//! Callbacks by name from configuration files. Naming the crate is enough to link its callbacks.

// The only mention of the crate in this test.
use bdh_callbacks as _;

use bdh::{Callback, ConfigError, registry};
use std::error::Error;

const TOML: &str = r#"
[[callback]]
use = "norms"
on = "every 100 steps | last"
per_parameter = true

[[callback]]
use = "throughput"
name = "speed"
peak_flops = 989.4e12
warmup_steps = 5
on_error = "abort"

[[callback]]
use = "early_checkpoints"
on = "at 10%,50%"
"#;

const YAML: &str = "
callback:
  - use: norms
    on: every 100 steps | last
    per_parameter: true
  - use: throughput
    name: speed
    peak_flops: 989.4e12
    warmup_steps: 5
    on_error: abort
  - use: early_checkpoints
    on: at 10%,50%
";

/// Returns name, cadence, error policy and keys of each callback.
fn describe(callbacks: &[Box<dyn Callback>]) -> Vec<String> {
    let line = |callback: &dyn Callback| {
        let (name, cadence) = (callback.name(), callback.cadence());
        format!(
            "{name}; {cadence}; {:?}; {}",
            callback.error_policy(),
            callback.keys().join(" ")
        )
    };
    callbacks.iter().map(|callback| line(&**callback)).collect()
}

fn known() -> Vec<&'static str> {
    registry::all().iter().map(|entry| entry.name).collect()
}

#[test]
fn every_callback_reports_its_default_settings() {
    for entry in registry::all() {
        let default = entry.default().expect("each can be built without settings");
        let config = default.config();
        let config = config
            .as_object()
            .unwrap_or_else(|| panic!("`{}` reports no settings", entry.name));
        let options: Vec<_> = config.keys().map(String::as_str).collect();
        assert_eq!(options, (entry.options)(), "{}", entry.name);
        let again = (entry.build)(default.config()).expect("valid settings");
        assert_eq!(again.config(), default.config(), "{}", entry.name);
    }
}

#[test]
fn every_callback_is_registered_under_its_name() {
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
        "names are not unique: {known:?}"
    );
}

#[test]
fn toml_and_yaml_build_the_same_callbacks() {
    let callbacks = registry::from_toml(TOML).expect("a valid configuration");
    let described = describe(&callbacks);
    assert_eq!(
        described[0],
        "norms; every 100 steps | last; Disable; \
         train/weight_norm train/grad_norm norm/weight/* norm/grad/*"
    );
    assert!(described[1].starts_with("speed; every step | at 5 steps; Abort; train/*_per_sec"));
    assert!(
        described[2].starts_with("early_checkpoints; at 10%,50%; Disable"),
        "{described:?}"
    );
    assert_eq!(callbacks[2].files(80)[0], "checkpoints/ckpt_early_step_8");

    let from_yaml = registry::from_yaml(YAML).expect("a valid configuration");
    assert_eq!(describe(&from_yaml), described);
}

#[test]
fn unknown_callback_is_refused_with_the_known_names() {
    let error = registry::from_toml("[[callback]]\nuse = \"norm\"")
        .err()
        .expect("a typing error");
    assert!(matches!(error, ConfigError::UnknownCallback { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with("unknown callback `norm`: registered are "),
        "{text}"
    );
    let known = known().join(", ");
    assert!(
        known.contains("norms") && text.contains(&format!("registered are {known}; ")),
        "{text}"
    );
    assert!(
        text.ends_with("`use the_crate as _;`"),
        "a crate that no code names: {text}"
    );
}

#[test]
fn unknown_key_is_refused_with_the_valid_keys() {
    for (settings, valid) in [
        (
            "use = \"norms\"\nper_param = true",
            &["on", "per_parameter"][..],
        ),
        (
            "use = \"throughput\"\npeak = 1.0",
            &["on", "warmup_steps", "peak_flops"],
        ),
        ("use = \"early_checkpoints\"\nsteps = 5", &["on"]),
    ] {
        let error = registry::from_toml(&format!("[[callback]]\n{settings}"));
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
fn files_without_a_list_of_callbacks_are_refused() {
    for text in [
        "[[callbak]]\nuse = \"norms\"",
        "[[callback]]\non = 5",
        "callback = 3",
        "==",
    ] {
        let error = registry::from_toml(text).err().expect("no configuration");
        assert!(matches!(error, ConfigError::Syntax(_)), "{error:?}");
    }
    let cadence = "[[callback]]\nuse = \"norms\"\non = \"every now and then\"";
    let error = registry::from_toml(cadence).err().expect("no cadence");
    assert!(
        error.source().expect("a cause").to_string().contains("now"),
        "{error:?}"
    );
}
