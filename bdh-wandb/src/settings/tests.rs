use super::*;
use std::collections::HashMap;
use std::fs;

#[cfg(feature = "online")]
const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// Test machine with its own home, folder of runs and environment.
struct Machine {
    dir: tempfile::TempDir,
    env: HashMap<String, String>,
}

impl Machine {
    fn new(env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut machine = Self {
            dir,
            env: HashMap::new(),
        };
        let root = machine.dir.path().to_string_lossy().into_owned();
        for (name, value) in [("HOME", &*root), ("WANDB_DIR", &root)].iter().chain(env) {
            machine.env.insert((*name).to_owned(), (*value).to_owned());
        }
        machine
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        fs::write(path, text).expect("a new file");
        self
    }

    fn resolve(&self, given: &Given) -> Result<Settings, SettingsError> {
        Settings::resolve(given, |name| self.env.get(name).cloned())
    }

    fn settings(&self) -> Settings {
        self.resolve(&Given::default()).expect("good settings")
    }

    fn error(&self) -> String {
        self.resolve(&Given::default())
            .expect_err("settings that cannot work")
            .to_string()
    }
}

fn with(env: &[(&str, &str)]) -> Settings {
    Machine::new(env).settings()
}

#[test]
fn run_without_settings_is_offline_with_one_warning() {
    let settings = with(&[]);
    assert_eq!((settings.mode, settings.api_key), (Mode::Offline, None));
    assert_eq!(settings.base_url, "https://api.wandb.ai");
    assert_eq!(settings.project, "uncategorized");
    assert_eq!(settings.entity, None);
    assert_eq!(settings.init_timeout, Duration::from_secs(90));
    assert_eq!(settings.http_timeout, Duration::from_secs(30));
    assert!(settings.console && !settings.quiet && !settings.silent && !settings.disable_git);
    let expected: &[&str] = if cfg!(feature = "online") {
        &[
            "there is no API key for https://api.wandb.ai: the run is logged offline; set WANDB_API_KEY, or run \
             `wandb login`",
        ]
    } else {
        &[]
    };
    assert_eq!(settings.warnings, expected);
}

#[test]
fn every_variable_is_read() {
    let settings = with(&[
        ("WANDB_MODE", "offline"),
        ("WANDB_BASE_URL", "http://127.0.0.1:8080/"),
        ("WANDB_PROJECT", "birds"),
        ("WANDB_ENTITY", "team"),
        ("WANDB_RUN_ID", "abc123"),
        ("WANDB_NAME", "a run"),
        ("WANDB_NOTES", "why"),
        ("WANDB_RUN_GROUP", "group"),
        ("WANDB_JOB_TYPE", "train"),
        ("WANDB_TAGS", "a, b,,a"),
        ("WANDB_RESUME", "must"),
        ("WANDB_HOST", "box"),
        ("WANDB_SILENT", "true"),
        ("WANDB_QUIET", "1"),
        ("WANDB_CONSOLE", "off"),
        ("WANDB_INIT_TIMEOUT", "2.5"),
        ("WANDB_HTTP_TIMEOUT", "7"),
        ("WANDB_GIT_COMMIT", "c0ffee"),
        ("WANDB_GIT_REMOTE_URL", "ssh://somewhere"),
        ("WANDB_DISABLE_GIT", "yes"),
    ]);
    assert_eq!(settings.mode, Mode::Offline);
    assert_eq!(settings.base_url, "http://127.0.0.1:8080");
    assert_eq!(settings.project, "birds");
    assert_eq!(settings.entity.as_deref(), Some("team"));
    assert_eq!(settings.run_id.as_deref(), Some("abc123"));
    assert_eq!(settings.name.as_deref(), Some("a run"));
    assert_eq!(settings.notes.as_deref(), Some("why"));
    assert_eq!(settings.group.as_deref(), Some("group"));
    assert_eq!(settings.job_type.as_deref(), Some("train"));
    assert_eq!(settings.tags, ["a", "b"]);
    assert_eq!(settings.resume, Some(Resume::Must));
    assert_eq!(settings.host.as_deref(), Some("box"));
    assert!(settings.silent && settings.quiet && !settings.console && settings.disable_git);
    assert_eq!(settings.init_timeout, Duration::from_millis(2_500));
    assert_eq!(settings.http_timeout, Duration::from_secs(7));
    assert_eq!(settings.git_commit.as_deref(), Some("c0ffee"));
    assert_eq!(settings.git_remote_url.as_deref(), Some("ssh://somewhere"));
    assert!(settings.dir.is_some());
}

#[test]
fn error_names_the_value_its_place_and_what_would_work() {
    let long = "x".repeat(129);
    let tag = "t".repeat(65);
    for (name, value, expected) in [
        (
            "WANDB_MODE",
            "shared",
            "use online, offline or disabled (or run, dryrun, their old names)",
        ),
        ("WANDB_DISABLED", "maybe", "use true or false"),
        (
            "WANDB_BASE_URL",
            "api.wandb.ai",
            "use an address such as https://api.wandb.ai",
        ),
        (
            "WANDB_BASE_URL",
            "ftp://x",
            "use an address such as https://api.wandb.ai",
        ),
        (
            "WANDB_BASE_URL",
            "http://api.wandb.ai",
            "use https://api.wandb.ai",
        ),
        (
            "WANDB_BASE_URL",
            "https://wandb.ai",
            "use https://api.wandb.ai",
        ),
        (
            "WANDB_PROJECT",
            "a/b",
            r"use 1 to 128 characters, none of them one of `/\#?%:`",
        ),
        (
            "WANDB_PROJECT",
            &long,
            r"use 1 to 128 characters, none of them one of `/\#?%:`",
        ),
        ("WANDB_ENTITY", "a/b", "use the name of a user or of a team"),
        (
            "WANDB_RUN_ID",
            "a:b",
            r"use a text without any of `:;,#?/'\`, and without spaces at its ends",
        ),
        (
            "WANDB_RUN_ID",
            " a",
            r"use a text without any of `:;,#?/'\`, and without spaces at its ends",
        ),
        (
            "WANDB_SWEEP_ID",
            "a ",
            "use the sweep's name, without spaces at its ends",
        ),
        ("WANDB_RESUME", "yes", "use allow, must, never or auto"),
        ("WANDB_CONSOLE", "loud", "use auto or off"),
        ("WANDB_SILENT", "2", "use true or false"),
        ("WANDB_QUIET", "-", "use true or false"),
        ("WANDB_DISABLE_GIT", "maybe", "use true or false"),
        (
            "WANDB_INIT_TIMEOUT",
            "soon",
            "use a number of seconds from 0.001 to 1000000, such as 30",
        ),
        (
            "WANDB_INIT_TIMEOUT",
            "0",
            "use a number of seconds from 0.001 to 1000000, such as 30",
        ),
        (
            "WANDB_HTTP_TIMEOUT",
            "-1",
            "use a number of seconds from 0.001 to 1000000, such as 30",
        ),
        (
            "WANDB_HTTP_TIMEOUT",
            "NaN",
            "use a number of seconds from 0.001 to 1000000, such as 30",
        ),
        (
            "WANDB_HTTP_TIMEOUT",
            "1e300",
            "use a number of seconds from 0.001 to 1000000, such as 30",
        ),
    ] {
        let error = Machine::new(&[(name, value)]).error();
        assert_eq!(error, format!("{name} is `{value}`; {expected}"));
    }
    let error = Machine::new(&[("WANDB_TAGS", &tag)]).error();
    assert_eq!(
        error,
        "WANDB_TAGS is `tttttttttttttttttttt…`; use tags of at most 64 characters, this one has 65"
    );
    let error = Machine::new(&[("WANDB_SWEEP_PARAM_PATH", "/no/such/file")]).error();
    assert!(
        error.starts_with("WANDB_SWEEP_PARAM_PATH is `/no/such/file`; No such file"),
        "{error}"
    );
}

#[test]
fn values_of_the_builder_are_checked_too() {
    let machine = Machine::new(&[]);
    let given = Given {
        project: Some("a/b".to_owned()),
        ..Given::default()
    };
    let error = machine
        .resolve(&given)
        .expect_err("a bad project")
        .to_string();
    assert!(
        error.starts_with("the builder's `project` is `a/b`; use 1 to 128"),
        "{error}"
    );
    let given = Given {
        tags: Some(vec!["t".repeat(65)]),
        ..Given::default()
    };
    let error = machine.resolve(&given).expect_err("a bad tag").to_string();
    assert!(error.starts_with("the builder's `tags` is `ttt"), "{error}");
}

#[test]
fn environment_overrides_files_and_builder_overrides_both() {
    let machine = Machine::new(&[("WANDB_MODE", "offline")])
        .file(
            ".config/wandb/settings",
            "[default]\nproject = a\nentity: one\nbase_url = http://first:1\n",
        )
        .file(
            "wandb/settings",
            "# mine\n[other]\nproject = no\n[default]\nproject = b\nmode = disabled\n",
        );
    let settings = machine.settings();
    assert_eq!(settings.project, "b");
    assert_eq!(settings.entity.as_deref(), Some("one"));
    assert_eq!(settings.base_url, "http://first:1");
    assert_eq!(settings.mode, Mode::Offline);

    let given = Given {
        project: Some("c".to_owned()),
        mode: Some(Mode::Disabled),
        tags: Some(vec!["mine".to_owned()]),
        ..Given::default()
    };
    let settings = machine.resolve(&given).expect("good settings");
    assert_eq!(
        (settings.project.as_str(), settings.mode),
        ("c", Mode::Disabled)
    );
    assert_eq!(settings.tags, ["mine"]);
}

#[test]
fn error_names_the_file_of_a_bad_value() {
    let machine = Machine::new(&[]).file("wandb/settings", "[default]\nmode = sideways\n");
    let path = machine.dir.path().join("wandb/settings");
    let start = format!("`mode` in `{}` is `sideways`; use online", path.display());
    assert!(machine.error().starts_with(&start), "{}", machine.error());
}

#[test]
fn existing_hidden_folder_is_used() {
    let machine = Machine::new(&[("WANDB_MODE", "offline")])
        .file(".wandb/settings", "[default]\nproject = hidden\n");
    assert_eq!(machine.settings().project, "hidden");
    assert_eq!(
        wandb_dir(machine.dir.path()),
        machine.dir.path().join(".wandb")
    );
}

#[test]
fn old_names_of_modes_are_accepted() {
    for (value, mode) in [("dryrun", Mode::Offline), ("disabled", Mode::Disabled)] {
        assert_eq!(with(&[("WANDB_MODE", value)]).mode, mode);
    }
    assert_eq!(
        with(&[("WANDB_DISABLED", "true"), ("WANDB_MODE", "run")]).mode,
        Mode::Disabled
    );
    assert_eq!(
        with(&[("WANDB_DISABLED", "false"), ("WANDB_MODE", "offline")]).mode,
        Mode::Offline
    );
}

#[cfg(feature = "online")]
#[test]
fn key_makes_a_run_online_and_is_never_shown() {
    let on_premises = format!("local-{KEY}");
    for key in [KEY, &on_premises, "aaa.bbb-1.ccc_2"] {
        let settings = with(&[("WANDB_API_KEY", key), ("WANDB_MODE", "run")]);
        assert_eq!((settings.mode, settings.warnings.len()), (Mode::Online, 0));
        assert!(!format!("{settings:?}").contains(key));
        assert_eq!(format!("{:?}", settings.api_key), "Some(***)");
    }
    let settings = with(&[("WANDB_API_KEY", KEY), ("WANDB_MODE", "offline")]);
    assert_eq!((settings.mode, settings.api_key), (Mode::Offline, None));
}

#[cfg(feature = "online")]
#[test]
fn bad_key_is_described_and_not_shown() {
    let short = Machine::new(&[("WANDB_API_KEY", "s3cret")]).error();
    assert_eq!(
        short,
        "WANDB_API_KEY is a text of 6 characters; use a key of 40 or more letters and digits, as the page \
         `/authorize` of the server shows it"
    );
    let strange = Machine::new(&[("WANDB_API_KEY", &format!("{KEY}?"))]).error();
    assert!(
        strange.starts_with("WANDB_API_KEY is a text with other characters than"),
        "{strange}"
    );
    let machine =
        Machine::new(&[]).file(".netrc", "machine api.wandb.ai login user password s3cret");
    assert!(
        machine
            .error()
            .starts_with("the password of `api.wandb.ai` in `"),
        "{}",
        machine.error()
    );
    assert!(!machine.error().contains("s3cret"));
}

#[cfg(feature = "online")]
#[test]
fn key_is_read_from_netrc_by_host() {
    let netrc = format!(
        "# machine localhost:1 password no\nmachine other login user password {}\n\
         machine localhost:1\n  login user\n  password \"{KEY}\"\ndefault login anonymous password x\n",
        "9".repeat(40)
    );
    let env = [("WANDB_BASE_URL", "http://localhost:1")];
    let expected = ("Basic ".to_owned(), Mode::Online);
    for name in [".netrc", "_netrc"] {
        let settings = Machine::new(&env).file(name, &netrc).settings();
        let header = settings.api_key.as_ref().expect("a key").authorization();
        assert_eq!((header[..6].to_owned(), settings.mode), expected);
        assert_eq!(
            header[6..],
            *"YXBpOjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc="
        );
    }
    let elsewhere = Machine::new(&[("WANDB_BASE_URL", "http://nowhere")]).file(".netrc", &netrc);
    assert_eq!(elsewhere.settings().mode, Mode::Offline);

    let named = Machine::new(&[("NETRC", "~/keys"), env[0]]).file("keys", &netrc);
    assert_eq!(named.settings().mode, Mode::Online);
}

#[cfg(feature = "online")]
#[test]
fn netrc_may_have_either_name_of_the_public_server() {
    let netrc = format!("machine api.forge.coreweave.com login user password {KEY}");
    assert_eq!(
        Machine::new(&[]).file(".netrc", &netrc).settings().mode,
        Mode::Online
    );
}

#[test]
fn password_in_the_address_is_refused_without_showing_it() {
    let error = Machine::new(&[("WANDB_BASE_URL", "https://user:s3cret@host")]).error();
    assert!(
        error.starts_with("WANDB_BASE_URL is `https://…@…`; leave user and password out"),
        "{error}"
    );
}

#[test]
fn sweep_decides_run_id_project_entity_and_parameters() {
    let machine = Machine::new(&[
        ("WANDB_MODE", "offline"),
        ("WANDB_SWEEP_ID", "swp1"),
        ("WANDB_RUN_ID", "trial1"),
        ("WANDB_PROJECT", "swept"),
    ])
    .file("config.yaml", "wandb_version: 1\n\nlr:\n  value: 1.0e-05\nmodel:\n  value:\n    depth: 2\nbias:\n  value: null\n");
    let path = machine.dir.path().join("config.yaml");
    let mut machine = machine;
    machine.env.insert(
        "WANDB_SWEEP_PARAM_PATH".to_owned(),
        path.to_string_lossy().into_owned(),
    );
    let given = Given {
        project: Some("mine".to_owned()),
        entity: Some("me".to_owned()),
        run_id: Some("my/own".to_owned()),
        name: Some("named".to_owned()),
        ..Given::default()
    };
    let settings = machine.resolve(&given).expect("good settings");
    assert_eq!(settings.sweep_id.as_deref(), Some("swp1"));
    assert_eq!(settings.run_id.as_deref(), Some("trial1"));
    assert_eq!(
        (settings.project.as_str(), settings.entity),
        ("swept", None)
    );
    assert_eq!(settings.name.as_deref(), Some("named"));
    let params = serde_json::json!({ "lr": 1e-5, "model": { "depth": 2 }, "bias": null });
    assert_eq!(Value::Object(settings.sweep_params), params);
    assert_eq!(
        settings.warnings,
        [
            "project `mine` is ignored: the run belongs to a sweep",
            "entity `me` is ignored: the run belongs to a sweep",
            "run_id `my/own` is ignored: the run belongs to a sweep",
        ]
    );
}

#[test]
fn error_describes_the_format_of_a_parameter_file() {
    for (text, why) in [
        ("lr: 3", "`lr` has no `value`"),
        ("wandb_version: 2", "its version is 2"),
        ("- a", "invalid type: sequence"),
    ] {
        let machine = Machine::new(&[]).file("config.yaml", text);
        let path = machine.dir.path().join("config.yaml");
        let mut machine = machine;
        machine.env.insert(
            "WANDB_SWEEP_PARAM_PATH".to_owned(),
            path.to_string_lossy().into_owned(),
        );
        let error = machine.error();
        assert!(
            error.contains(why) && error.ends_with("for each parameter"),
            "{error}"
        );
    }
    let empty = Machine::new(&[("WANDB_MODE", "offline")]).file("config.yaml", "wandb_version: 1");
    let path = empty.dir.path().join("config.yaml");
    let mut empty = empty;
    empty.env.insert(
        "WANDB_SWEEP_PARAM_PATH".to_owned(),
        path.to_string_lossy().into_owned(),
    );
    assert!(empty.settings().sweep_params.is_empty());
}

#[test]
fn address_of_a_page_depends_on_the_server() {
    for (base, page) in [
        ("https://api.wandb.ai", "https://wandb.ai/e/p%20q/runs/r"),
        (
            "https://api.forge.coreweave.com",
            "https://forge.coreweave.com/wandb/e/p%20q/runs/r",
        ),
        (
            "https://api.example.com",
            "https://app.example.com/e/p%20q/runs/r",
        ),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/e/p%20q/runs/r"),
    ] {
        let settings = with(&[("WANDB_BASE_URL", base), ("WANDB_MODE", "offline")]);
        assert_eq!(settings.run_url("e", "p q", "r"), page);
    }
}

#[test]
fn extreme_times_are_refused() {
    for name in ["WANDB_INIT_TIMEOUT", "WANDB_HTTP_TIMEOUT"] {
        for value in [
            "1e19",
            "1e7",
            "inf",
            "1e-300",
            "0.0001",
            "-0",
            "18446744073709551616",
            "0x10",
        ] {
            let error = Machine::new(&[(name, value)]).error();
            let expected = "use a number of seconds from 0.001 to 1000000, such as 30";
            assert_eq!(error, format!("{name} is `{value}`; {expected}"));
        }
        assert_eq!(
            Machine::new(&[("WANDB_MODE", "offline"), (name, "1000000")])
                .settings()
                .mode,
            Mode::Offline
        );
    }
}

#[test]
fn byte_order_mark_before_settings_is_skipped() {
    let machine = Machine::new(&[("WANDB_MODE", "offline")])
        .file("wandb/settings", "\u{feff}[default]\nproject = marked\n");
    assert_eq!(machine.settings().project, "marked");
}

#[cfg(feature = "online")]
#[test]
fn byte_order_mark_before_a_netrc_is_skipped() {
    let netrc = format!("\u{feff}machine api.wandb.ai login user password {KEY}\r\n");
    assert_eq!(
        Machine::new(&[]).file(".netrc", &netrc).settings().mode,
        Mode::Online
    );
}

#[cfg(unix)]
#[test]
fn settings_must_be_a_regular_file_or_a_link_to_one() {
    use std::os::unix::fs::symlink;
    let machine = Machine::new(&[("WANDB_MODE", "offline")])
        .file("elsewhere", "[default]\nproject = linked\n")
        .file("wandb/x", "");
    let path = machine.dir.path().join("wandb/settings");
    symlink(machine.dir.path().join("elsewhere"), &path).expect("a link");
    assert_eq!(machine.settings().project, "linked");
    fs::remove_file(&path).expect("the link");
    symlink("/dev/zero", &path).expect("a link");
    assert!(
        machine.error().contains("is not a regular file"),
        "{}",
        machine.error()
    );
    fs::remove_file(&path).expect("the link");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .expect("mkfifo");
    assert!(made.success() && machine.error().contains("is not a regular file"));
}

#[cfg(feature = "online")]
#[test]
fn unusable_file_of_authorities_is_a_warning() {
    let env = [
        ("WANDB_API_KEY", KEY),
        ("SSL_CERT_FILE", "~/authorities.pem"),
    ];
    let warning = |machine: &Machine| machine.settings().warnings.join("\n");
    let machine = Machine::new(&env);
    assert!(
        warning(&machine).contains("cannot be read"),
        "{}",
        warning(&machine)
    );
    let machine = machine.file("authorities.pem", "none");
    assert!(
        warning(&machine).contains("contains no readable certificate in PEM"),
        "{}",
        warning(&machine)
    );
    for body in [
        "",
        "\nnot base64!\n-----END CERTIFICATE-----\n",
        "\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let pem = format!("-----BEGIN CERTIFICATE-----{body}");
        let machine = Machine::new(&env).file("authorities.pem", &pem);
        assert!(
            warning(&machine).contains("contains no readable certificate in PEM"),
            "{body}"
        );
        assert!(
            machine.settings().authorities.is_none(),
            "the built-in ones are used"
        );
    }
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let machine = Machine::new(&env).file("authorities.pem", pem);
    assert_eq!(warning(&machine), "");
}
