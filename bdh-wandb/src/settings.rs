//! What W&B honours, and from where: settings files, the environment, the builder, a sweep.
//!
//! A later source wins: defaults, `~/.config/wandb/settings`, `wandb/settings` (of `WANDB_DIR`, or of the
//! current directory), the environment, the builder. Inside a sweep the sweep's run id, project and entity
//! win over the builder's. An empty variable counts as unset.

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

/// Where the records of a run go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To the log on disk, and from there to the server.
    Online,
    /// To the log on disk, for `wandb sync` to send later.
    Offline,
    /// Nowhere.
    Disabled,
}

/// What to do about a run of the same id that the server has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Continue it if it is there.
    Allow,
    /// Continue it; it has to be there.
    Must,
    /// Begin; it must not be there.
    Never,
    /// Continue this machine's last run in the same directory, if it did not finish.
    Auto,
}

/// What the builder was given; beats files and the environment.
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

/// What a run goes by, every source taken together and checked.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a variable of W&B's own"
)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// Only where the mode is online.
    pub(crate) api_key: Option<ApiKey>,
    /// The server, without a slash at the end. Defaults to `https://api.wandb.ai`.
    pub(crate) base_url: String,
    /// Where its pages are.
    pub(crate) app_url: String,
    /// Defaults to `uncategorized`.
    pub(crate) project: String,
    /// The server's default for the key when unset.
    pub(crate) entity: Option<String>,
    /// For the sink to make up when unset.
    pub(crate) run_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) resume: Option<Resume>,
    pub(crate) sweep_id: Option<String>,
    /// The sweep's choices, by key; they win over the run's own configuration.
    pub(crate) sweep_params: Map<String, Value>,
    /// The machine's name, if it is not to be asked.
    pub(crate) host: Option<String>,
    /// What holds the folder `wandb/`, if somebody said so.
    pub(crate) dir: Option<PathBuf>,
    /// Whether to say less: `WANDB_QUIET`, or nothing at all: `WANDB_SILENT`.
    pub(crate) quiet: bool,
    pub(crate) silent: bool,
    /// Whether the program's output belongs to the run.
    pub(crate) console: bool,
    /// How long the run may wait for the server before it begins. Defaults to 90 s.
    pub(crate) init_timeout: Duration,
    /// How long one request may take. Defaults to 30 s.
    pub(crate) http_timeout: Duration,
    /// Certificates of the authorities that are trusted, as PEM, if they are not the public ones: `SSL_CERT_FILE`.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Whether the state of a git checkout is left out.
    pub(crate) disable_git: bool,
    pub(crate) git_commit: Option<String>,
    pub(crate) git_remote_url: Option<String>,
    /// What was decided differently from what was asked; to be told once each.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Puts the sources together. `env` looks up a variable of the environment.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names the first value that cannot work, where it stands, and what would work.
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
        let base_url = check(
            look.of(given.base_url.as_ref(), "base_url"),
            rules::base_url,
        )?;
        let base_url = base_url.unwrap_or_else(|| rules::BASE_URL.to_owned());
        let (mode, api_key) = mode_and_key(given.mode, &look, &base_url, &mut warnings)?;
        let project = check(look.of(given.project.as_ref(), "project"), rules::project)?;
        let sweep_params = check(look.env(sweep::PARAMS), sweep::params)?;
        let text = |name| look.env(name).map(|found: Found| found.text);
        Ok(Self {
            mode,
            api_key,
            app_url: text("WANDB_APP_URL").unwrap_or_else(|| rules::app_url(&base_url)),
            base_url,
            project: project.unwrap_or_else(|| rules::PROJECT.to_owned()),
            entity: check(look.of(given.entity.as_ref(), "entity"), rules::entity)?,
            run_id: check(look.of(given.run_id.as_ref(), "run_id"), rules::run_id)?,
            name: given.name.clone().or_else(|| text("WANDB_NAME")),
            notes: given.notes.clone().or_else(|| text("WANDB_NOTES")),
            group: given.group.clone().or_else(|| text("WANDB_RUN_GROUP")),
            job_type: given.job_type.clone().or_else(|| text("WANDB_JOB_TYPE")),
            tags: tags(given.tags.as_deref(), &look)?,
            resume: match given.resume {
                Some(resume) => Some(resume),
                None => check(look.env("WANDB_RESUME"), rules::resume)?,
            },
            sweep_id,
            sweep_params: sweep_params.unwrap_or_default(),
            host: text("WANDB_HOST"),
            dir: given
                .dir
                .clone()
                .or_else(|| text("WANDB_DIR").map(|dir| look.expand(&dir))),
            quiet: look.flag("WANDB_QUIET")?,
            silent: look.flag("WANDB_SILENT")?,
            console: check(look.env("WANDB_CONSOLE"), rules::console)?.unwrap_or(true),
            init_timeout: look.seconds("WANDB_INIT_TIMEOUT", Duration::from_secs(90))?,
            http_timeout: look.seconds("WANDB_HTTP_TIMEOUT", Duration::from_secs(30))?,
            authorities: authorities(mode, &look, &mut warnings),
            disable_git: look.flag("WANDB_DISABLE_GIT")?,
            git_commit: text("WANDB_GIT_COMMIT"),
            git_remote_url: text("WANDB_GIT_REMOTE_URL"),
            warnings,
        })
    }

    /// The page of a run. Entity and project are those that the server answered with.
    pub(crate) fn run_url(&self, entity: &str, project: &str, run_id: &str) -> String {
        let [entity, project, run_id] = [entity, project, run_id].map(rules::escape);
        format!("{}/{entity}/{project}/runs/{run_id}", self.app_url)
    }
}

/// Whether a text can be the id of a run.
pub(crate) fn is_run_id(text: &str) -> bool {
    rules::run_id(&Found {
        place: String::new(),
        text: text.to_owned(),
    })
    .is_ok()
}

/// The folder of all runs in `root`: `wandb`, or `.wandb` where there is one.
pub(crate) fn wandb_dir(root: &Path) -> PathBuf {
    let hidden = root.join(".wandb");
    if hidden.exists() {
        hidden
    } else {
        root.join("wandb")
    }
}

/// What a rule makes of a value that was found.
fn check<T>(
    found: Option<Found>,
    rule: impl Fn(&Found) -> Result<T, SettingsError>,
) -> Result<Option<T>, SettingsError> {
    match found {
        Some(found) => rule(&found).map(Some),
        None => Ok(None),
    }
}

fn tags(given: Option<&[String]>, look: &Lookup<'_>) -> Result<Vec<String>, SettingsError> {
    if let Some(tags) = given {
        return rules::tags("the builder's `tags`", tags.iter().map(String::as_str));
    }
    let found = look.env("WANDB_TAGS");
    let rule = |found: &Found| rules::tags(&found.place, found.text.split(','));
    Ok(check(found, rule)?.unwrap_or_default())
}

/// Online needs a key, and the code that sends; without them a run is offline, and is told so.
fn mode_and_key(
    given: Option<Mode>,
    look: &Lookup<'_>,
    base_url: &str,
    warnings: &mut Vec<String>,
) -> Result<(Mode, Option<ApiKey>), SettingsError> {
    let asked = match given {
        Some(mode) => Some(mode),
        None if look.flag("WANDB_DISABLED")? => Some(Mode::Disabled),
        None => check(look.of(None, "mode"), rules::mode)?,
    };
    let mode = asked.unwrap_or(Mode::Online);
    if mode != Mode::Online {
        return Ok((mode, None));
    }
    if !cfg!(feature = "online") {
        if asked.is_some() || key::find(look, base_url)?.is_some() {
            warnings.push(
                "the feature `wandb-online` is not compiled in: the run is kept offline".to_owned(),
            );
        }
        return Ok((Mode::Offline, None));
    }
    let Some(key) = key::find(look, base_url)? else {
        warnings.push(format!(
            "there is no API key for {base_url}: the run is kept offline; set WANDB_API_KEY, or log in with \
             `wandb login`"
        ));
        return Ok((Mode::Offline, None));
    };
    Ok((Mode::Online, Some(key)))
}

/// What `SSL_CERT_FILE` names. Other programs pass over a file that is missing, so that is no error here.
fn authorities(mode: Mode, look: &Lookup<'_>, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let found = look.env("SSL_CERT_FILE").filter(|_| mode == Mode::Online)?;
    let why = match lookup::read_chosen(&look.expand(&found.text)) {
        Ok(pem) if holds_certificate(&pem) => return Some(pem),
        Ok(_) => "holds no certificate in PEM that can be read".to_owned(),
        Err(error) => format!("cannot be read ({error})"),
    };
    warnings.push(format!(
        "SSL_CERT_FILE is `{}`, which {why}: the authorities that are built in are used",
        found.text
    ));
    None
}

/// Whether the uploader will find a certificate. In DER each one begins as a sequence.
#[cfg(feature = "online")]
fn holds_certificate(pem: &[u8]) -> bool {
    use ureq::tls::{PemItem, parse_pem};

    let is_usable =
        |item| matches!(item, Ok(PemItem::Certificate(of)) if of.der().starts_with(&[0x30]));
    parse_pem(pem).any(is_usable)
}

#[cfg(not(feature = "online"))]
fn holds_certificate(_: &[u8]) -> bool {
    true // nothing is sent
}

#[cfg(test)]
mod tests;
