//! Finds and loads the configuration: `--config`, `$UPCALLD_CONFIG`, the default file, or the built-in default.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::mistake::{Mistakes, Report};
use super::parse::{MAX_FILE, parse, too_large};
use super::types::Config;

/// The file that is read if it exists and no other is named.
pub const DEFAULT_PATH: &str = "/etc/upcalld/upcalld.toml";

/// The source of a configuration. Displays as the file's name, or `built-in default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource(Option<PathBuf>);

impl ConfigSource {
    /// The file; `None` for the built-in default.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str("built-in default"),
        }
    }
}

/// Chooses the source: the value of `--config`, else that of `$UPCALLD_CONFIG`, else [`DEFAULT_PATH`] if it exists,
/// else the built-in default. A named file has to exist; if it does not, [`load`] fails.
pub fn locate(option: Option<&Path>, environment: Option<OsString>) -> ConfigSource {
    locate_with(option, environment, Path::new(DEFAULT_PATH))
}

fn locate_with(option: Option<&Path>, environment: Option<OsString>, default: &Path) -> ConfigSource {
    let environment = environment.filter(|value| !value.is_empty()).map(PathBuf::from);
    ConfigSource(option.map(PathBuf::from).or(environment).or_else(|| exists(default).then(|| default.into())))
}

/// Whether there is a file, even if it cannot be read: to ignore such a file would hide the mistake.
fn exists(path: &Path) -> bool {
    match path.symlink_metadata() {
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        Ok(_) => true,
    }
}

/// Reads, parses and validates a configuration.
pub fn load(source: &ConfigSource) -> Result<Config, Mistakes> {
    let Some(path) = &source.0 else { return Ok(Config::default()) };
    let name = path.display().to_string();
    let bytes = read(path).map_err(|error| Mistakes::of_file(&name, format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_FILE {
        return Err(Mistakes::of_file(&name, too_large()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text),
        Err(error) => Err(not_utf8(&name, &bytes, error.valid_up_to())),
    }
}

/// Reads at most one byte more than the limit, so that a huge file or an endless pipe does no harm.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(name: &str, bytes: &[u8], offset: usize) -> Mistakes {
    let reason = format!("byte 0x{:02x} is not UTF-8", bytes[offset]);
    let text = String::from_utf8_lossy(&bytes[..offset]);
    let mut report = Report::new(name, &text);
    report.wrong(offset, reason.clone());
    report.finish().unwrap_or_else(|| Mistakes::of_file(name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_order() {
        let directory = tempfile::tempdir().unwrap();
        let usual = directory.path().join("upcalld.toml");
        let find = |option: Option<&str>, environment: Option<&str>| {
            locate_with(option.map(Path::new), environment.map(OsString::from), &usual).to_string()
        };
        assert_eq!(find(None, None), "built-in default");
        assert_eq!(find(None, Some("")), "built-in default");
        std::fs::write(&usual, "").unwrap();
        assert_eq!(find(None, Some("")), usual.display().to_string());
        assert_eq!(find(None, Some("/env")), "/env");
        assert_eq!(find(Some("/option"), Some("/env")), "/option");
        std::fs::remove_file(&usual).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", &usual).unwrap();
        assert_eq!(find(None, None), usual.display().to_string(), "a dangling link is a mistake, not an absence");
        assert_eq!(locate_with(None, None, &usual.join("below")).path(), None);
    }

    #[test]
    fn an_unreadable_file_is_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let load = || load(&ConfigSource(Some(path.clone()))).unwrap_err().to_string();
        let shown = path.display();
        assert!(load().starts_with(&format!("{shown}: cannot be read: No such file")));
        std::fs::write(&path, b"[log]\nsize = \"\xff\"\n").unwrap();
        assert_eq!(load(), format!("{shown}:2:9: byte 0xff is not UTF-8"));
        File::create(&path).unwrap().set_len(10 << 20).unwrap();
        assert_eq!(load(), format!("{shown}: the file is larger than 1MiB, the limit of a configuration file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load().contains("cannot be read: Is a directory"));
    }

    #[test]
    fn the_built_in_default_needs_no_file() {
        assert_eq!(load(&ConfigSource(None)), Ok(Config::default()));
    }
}
