//! Where the configuration and the state lie, and whether they can be trusted.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::{Login, Place};
use crate::config::{Account, Config, Peer, Server};
use crate::durable::{self, Dir};
use crate::error::{Error, Kind, Result};

/// A configuration that was read, or an empty one where there is no file, and the state directory's place.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What stands in the file.
    pub config: Config,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Where the state lies; made when first written to.
    pub state: PathBuf,
}

impl Settings {
    /// Reads the configuration: `-c`, else `$MAILLOOP_CONFIG`, else `$XDG_CONFIG_HOME/mailloop/config.toml`.
    ///
    /// A file that was named must be there (66); the usual one may be missing. 78 where it is wrong, where others
    /// can write to it or its directory, or where it holds a password and others can read it.
    pub fn load(place: &Place) -> Result<Settings> {
        let named = place.config.clone().or_else(|| path_from("MAILLOOP_CONFIG"));
        let state = state_dir(place)?;
        let Some(file) = named.clone().or_else(usual_file) else {
            return Ok(Settings { state, ..Settings::default() });
        };
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(why) if named.is_none() && why.kind() == io::ErrorKind::NotFound => {
                return Ok(Settings { state, ..Settings::default() });
            }
            Err(why) => return Err(Error::reading(&file, why).hint("`mail-loop init` writes one")),
        };
        check_place(&file)?;
        let text = String::from_utf8(bytes).map_err(|why| {
            Error::new(Kind::Config, format!("cannot use {}", file.display()), why.utf8_error())
        })?;
        let config = Config::parse(&text, &file, home().as_deref())?;
        check_password(&file, &config)?;
        Ok(Settings { config, file: Some(file), state })
    }

    /// Only where the state lies, for what can be told without a configuration.
    pub fn without_file(place: &Place) -> Result<Settings> {
        Ok(Settings { state: state_dir(place)?, ..Settings::default() })
    }

    /// The state directory, made if it was not there (0700); 78 if others can write to it.
    pub fn state(&self) -> Result<Dir> {
        let dir = Dir::create(&self.state, 0o700)?;
        durable::check_private(&self.state)?;
        Ok(dir)
    }

    /// The Maildir for notices of what was given up: `dead_letters`, else `dead-letters` in the state directory.
    pub fn dead_letters(&self) -> PathBuf {
        self.config.dead_letters.clone().unwrap_or_else(|| self.state.join("dead-letters"))
    }

    /// An account, and how to reach one of its servers.
    pub fn peer(
        &self,
        name: &str,
        server: impl FnOnce(&Account) -> Option<&Server>,
        login: &Login,
    ) -> Result<Peer> {
        let account = self.config.account(name)?;
        Peer::of_account(name, account, server(account), login)
    }
}

/// The file where the configuration is looked for and written when none is named.
pub fn usual_file() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("mailloop/config.toml"))
}

/// The home directory.
pub fn home() -> Option<PathBuf> {
    path_from("HOME")
}

fn state_dir(place: &Place) -> Result<PathBuf> {
    if let Some(dir) = &place.state {
        return Ok(dir.clone());
    }
    xdg("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("mailloop")).ok_or_else(|| {
        Error::plain(Kind::Config, "cannot tell where the state lies: HOME is not set")
            .hint("set it, or use --state")
    })
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    // The XDG base directory specification wants relative paths ignored.
    path_from(variable).filter(|path| path.is_absolute()).or_else(|| home().map(|home| home.join(below_home)))
}

fn path_from(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn check_place(file: &Path) -> Result<()> {
    durable::check_private(file)?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::check_private(dir)
}

fn check_password(file: &Path, config: &Config) -> Result<()> {
    let readable = std::fs::metadata(file).map_err(|why| Error::reading(file, why))?.mode() & 0o044 != 0;
    if readable && config.account.values().any(|account| account.password.is_some()) {
        let what = format!("{} holds a password and can be read by others", file.display());
        return Err(Error::plain(Kind::Config, what).hint(format!("chmod 600 {}", file.display())));
    }
    Ok(())
}
