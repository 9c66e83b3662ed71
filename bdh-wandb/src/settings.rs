//! W&B's settings, read from settings files, the environment, the builder and a sweep.
//!
//! Each source overrides those before it: defaults, `~/.config/wandb/settings`, `wandb/settings` (in `WANDB_DIR`, or in
//! the current directory), the environment, the builder. In a sweep, the sweep's run id, project and entity override
//! the builder's. An empty variable counts as unset.

mod key;
mod lookup;
mod rules;
mod sweep;

pub(crate) use key::ApiKey;
pub use lookup::SettingsError;
#[cfg(feature = "online")]
pub(crate) use rules::escape;
pub use sweep::sweep_values;

use lookup::{Found, Lookup};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Destination of a run's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Log on disk, uploaded to the server during the run.
    Online,
    /// Log on disk, for a later `wandb sync`.
    Offline,
    /// No logging.
    Disabled,
}

/// Treatment of a run whose id already exists on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Continues the run if it exists.
    Allow,
    /// Continues the run, and fails if it does not exist.
    Must,
    /// Begins a new run, and fails if it exists.
    Never,
    /// Continues this machine's last run in the same directory, if it is unfinished.
    Auto,
}

/// Values given to the builder, which override files and the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) mode: Option<Mode>,
    pub(crate) base_url: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) entity: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) resume: Option<Resume>,
    pub(crate) dir: Option<PathBuf>,
}

/// Settings of a run, merged from all sources and checked.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one of W&B's variables"
)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// Set if the mode is online.
    pub(crate) api_key: Option<ApiKey>,
    /// Address of the server, without a slash at the end. Defaults to `https://api.wandb.ai`.
    pub(crate) base_url: String,
    /// Address of the server's web pages.
    pub(crate) app_url: String,
    /// Defaults to `uncategorized`.
    pub(crate) project: String,
    /// Chosen by the server for the key when unset.
    pub(crate) entity: Option<String>,
    /// Chosen by the sink when unset.
    pub(crate) run_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) resume: Option<Resume>,
    pub(crate) sweep_id: Option<String>,
    /// Values of the sweep by key, which override the run's own configuration.
    pub(crate) sweep_params: Map<String, Value>,
    /// Name of the machine, if the user set one.
    pub(crate) host: Option<String>,
    /// Folder in which `wandb/` is created, if the user set one.
    pub(crate) dir: Option<PathBuf>,
    /// Whether notices are left out: `WANDB_QUIET`.
    pub(crate) quiet: bool,
    /// Whether notices are left out: `WANDB_SILENT`.
    pub(crate) silent: bool,
    /// Whether the program's output is logged.
    pub(crate) console: bool,
    /// Time that the run may wait for the server before it begins. Defaults to 90 s.
    pub(crate) init_timeout: Duration,
    /// Time that one request may take. Defaults to 30 s.
    pub(crate) http_timeout: Duration,
    /// Certificates of trusted authorities as PEM, in place of the public ones: `SSL_CERT_FILE`.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Whether the git commit and remote are left out.
    pub(crate) disable_git: bool,
    pub(crate) git_commit: Option<String>,
    pub(crate) git_remote_url: Option<String>,
    /// Requests of the user that were not followed, to be reported once each.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Merges the sources; `env` looks up a variable of the environment.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names the first invalid value, its place, and what would work.
    pub(crate) fn resolve(
        given: &Given,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let look = Lookup::new(&env)?;
        let mut warnings = Vec::new();
        let sweep_id = check(look.env("WANDB_SWEEP_ID"), rules::sweep_id)?;
        let given = match &sweep_id {
            Some(_) => &sweep::without_path(given, &mut warnings),
            None => given,
        };
        let base_url = base_url(given, &look)?;
        let (mode, api_key) = mode_and_key(given.mode, &look, &base_url, &mut warnings)?;
        Ok(Self {
            mode,
            api_key,
            app_url: look
                .text("WANDB_APP_URL")
                .unwrap_or_else(|| rules::app_url(&base_url)),
            base_url,
            project: project(given, &look)?,
            entity: check(look.of(given.entity.as_ref(), "entity"), rules::entity)?,
            run_id: check(look.of(given.run_id.as_ref(), "run_id"), rules::run_id)?,
            name: look.text_or(given.name.as_ref(), "WANDB_NAME"),
            notes: look.text_or(given.notes.as_ref(), "WANDB_NOTES"),
            group: look.text_or(given.group.as_ref(), "WANDB_RUN_GROUP"),
            job_type: look.text_or(given.job_type.as_ref(), "WANDB_JOB_TYPE"),
            tags: tags(given.tags.as_deref(), &look)?,
            resume: resume(given, &look)?,
            sweep_id,
            sweep_params: check(look.env(sweep::PARAMS), sweep::params)?.unwrap_or_default(),
            host: look.text("WANDB_HOST"),
            dir: dir(given, &look),
            quiet: look.flag("WANDB_QUIET")?,
            silent: look.flag("WANDB_SILENT")?,
            console: check(look.env("WANDB_CONSOLE"), rules::console)?.unwrap_or(true),
            init_timeout: look.seconds("WANDB_INIT_TIMEOUT", Duration::from_secs(90))?,
            http_timeout: look.seconds("WANDB_HTTP_TIMEOUT", Duration::from_secs(30))?,
            authorities: authorities(mode, &look, &mut warnings),
            disable_git: look.flag("WANDB_DISABLE_GIT")?,
            git_commit: look.text("WANDB_GIT_COMMIT"),
            git_remote_url: look.text("WANDB_GIT_REMOTE_URL"),
            warnings,
        })
    }

    /// Returns the address of a run's page; `entity` and `project` are those of the server's answer.
    pub(crate) fn run_url(&self, entity: &str, project: &str, run_id: &str) -> String {
        let [entity, project, run_id] = [entity, project, run_id].map(rules::escape);
        format!("{}/{entity}/{project}/runs/{run_id}", self.app_url)
    }
}

/// Whether a text is a valid id of a run.
pub(crate) fn is_run_id(text: &str) -> bool {
    let found = Found {
        place: String::new(),
        text: text.to_owned(),
    };
    rules::run_id(&found).is_ok()
}

/// Returns the folder of all runs in `root`: `.wandb` if it exists, else `wandb`.
pub(crate) fn wandb_dir(root: &Path) -> PathBuf {
    let hidden = root.join(".wandb");
    if hidden.exists() {
        hidden
    } else {
        root.join("wandb")
    }
}

/// Applies a rule to a value, if one was found.
fn check<T>(
    found: Option<Found>,
    rule: impl Fn(&Found) -> Result<T, SettingsError>,
) -> Result<Option<T>, SettingsError> {
    match found {
        Some(found) => rule(&found).map(Some),
        None => Ok(None),
    }
}

fn base_url(given: &Given, look: &Lookup<'_>) -> Result<String, SettingsError> {
    match look.of(given.base_url.as_ref(), "base_url") {
        Some(found) => rules::base_url(&found),
        None => Ok(rules::BASE_URL.to_owned()),
    }
}

fn project(given: &Given, look: &Lookup<'_>) -> Result<String, SettingsError> {
    match look.of(given.project.as_ref(), "project") {
        Some(found) => rules::project(&found),
        None => Ok(rules::PROJECT.to_owned()),
    }
}

fn resume(given: &Given, look: &Lookup<'_>) -> Result<Option<Resume>, SettingsError> {
    match given.resume {
        Some(resume) => Ok(Some(resume)),
        None => check(look.env("WANDB_RESUME"), rules::resume),
    }
}

fn dir(given: &Given, look: &Lookup<'_>) -> Option<PathBuf> {
    match &given.dir {
        Some(dir) => Some(dir.clone()),
        None => Some(look.expand(&look.text("WANDB_DIR")?)),
    }
}

fn tags(given: Option<&[String]>, look: &Lookup<'_>) -> Result<Vec<String>, SettingsError> {
    if let Some(tags) = given {
        return rules::tags("the builder's `tags`", tags.iter().map(String::as_str));
    }
    match look.env("WANDB_TAGS") {
        Some(found) => rules::tags(&found.place, found.text.split(',')),
        None => Ok(Vec::new()),
    }
}

/// Warning of an online run in a build without the upload.
const NO_UPLOAD: &str = "the feature `wandb-online` is not compiled in: the run is logged offline";

/// Returns the mode and the key for it.
///
/// A run without a key, or without the feature `online`, is offline; a warning reports it.
fn mode_and_key(
    given: Option<Mode>,
    look: &Lookup<'_>,
    base_url: &str,
    warnings: &mut Vec<String>,
) -> Result<(Mode, Option<ApiKey>), SettingsError> {
    let requested = requested_mode(given, look)?;
    let mode = requested.unwrap_or(Mode::Online);
    if mode != Mode::Online {
        return Ok((mode, None));
    }
    if !cfg!(feature = "online") {
        if requested.is_some() || key::find(look, base_url)?.is_some() {
            warnings.push(NO_UPLOAD.to_owned());
        }
        return Ok((Mode::Offline, None));
    }
    let Some(key) = key::find(look, base_url)? else {
        warnings.push(no_key(base_url));
        return Ok((Mode::Offline, None));
    };
    Ok((Mode::Online, Some(key)))
}

/// Returns the warning of an online run without a key.
fn no_key(base_url: &str) -> String {
    format!(
        "there is no API key for {base_url}: the run is logged offline; set WANDB_API_KEY, or run `wandb login`"
    )
}

fn requested_mode(given: Option<Mode>, look: &Lookup<'_>) -> Result<Option<Mode>, SettingsError> {
    if given.is_some() {
        return Ok(given);
    }
    if look.flag("WANDB_DISABLED")? {
        return Ok(Some(Mode::Disabled));
    }
    check(look.of(None, "mode"), rules::mode)
}

/// Returns the content of the file that `SSL_CERT_FILE` names.
///
/// A missing file is a warning and not an error, because other programs ignore it too.
fn authorities(mode: Mode, look: &Lookup<'_>, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    if mode != Mode::Online {
        return None;
    }
    let found = look.env("SSL_CERT_FILE")?;
    let why = match lookup::read_chosen(&look.expand(&found.text)) {
        Ok(pem) if holds_certificate(&pem) => return Some(pem),
        Ok(_) => "contains no readable certificate in PEM".to_owned(),
        Err(error) => format!("cannot be read ({error})"),
    };
    warnings.push(format!(
        "SSL_CERT_FILE is `{}`, which {why}: the built-in authorities are used",
        found.text
    ));
    None
}

/// Whether the uploader will find a certificate.
#[cfg(feature = "online")]
fn holds_certificate(pem: &[u8]) -> bool {
    use ureq::tls::{PemItem, parse_pem};

    parse_pem(pem).any(|item| match item {
        Ok(PemItem::Certificate(of)) => of.der().starts_with(&[0x30]), // DER's tag of a sequence
        _ => false,
    })
}

#[cfg(not(feature = "online"))]
fn holds_certificate(_: &[u8]) -> bool {
    true // nothing is sent
}

#[cfg(test)]
mod tests;
