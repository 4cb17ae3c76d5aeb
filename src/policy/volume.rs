//! The value of `--vol`: `NAME[:/path][:ro]`. No file of a project has it: whoever starts a jail says what
//! lasts longer than it.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::base::text;

/// Where a volume is seen when nobody says it.
pub const PLACE: &str = "/volumes";

/// The longest path, far below the kernel's: the jail makes it below another directory.
const LONGEST: usize = 1024;
/// The longest name in a path.
const LONGEST_PART: usize = 255;

/// A volume and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its name, its id, or the start of that.
    pub volume: String,
    /// Where it is seen; `None`: below [`PLACE`], by its name.
    pub path: Option<PathBuf>,
    /// It cannot be written.
    pub read_only: bool,
}

impl fmt::Display for Mount {
    /// As [`parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.volume)?;
        if let Some(path) = &self.path {
            write!(f, ":{}", path.display())?;
        }
        f.write_str(if self.read_only { ":ro" } else { "" })
    }
}

/// Parse `data`, `data:/srv/data`, `data:ro`, `data:/srv/data:ro`.
pub fn parse(value: &str) -> Result<Mount, String> {
    let mut parts = value.split(':');
    let volume = parts.next().unwrap_or_default();
    let shown = |text: &str| text::brief(&text::printable(text.as_bytes()));
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if volume.is_empty() || !volume.bytes().all(word) {
        return Err(format!(
            "`{}` is not NAME[:/path][:ro]: it begins with the name of a volume",
            shown(value)
        ));
    }
    let mut mount = Mount { volume: volume.to_owned(), path: None, read_only: false };
    for part in parts {
        match part {
            "ro" if !mount.read_only => mount.read_only = true,
            "rw" if !mount.read_only => {}
            path if path.starts_with('/') && mount.path.is_none() && !mount.read_only => {
                if path.len() > LONGEST || path.split('/').any(|part| part.len() > LONGEST_PART) {
                    return Err(format!("`{}` is too long for a path of a jail", shown(path)));
                }
                mount.path = Some(plain(path).ok_or_else(|| {
                    format!(
                        "`{}` is not an absolute path without `.`, `..` and control characters",
                        shown(path)
                    )
                })?);
            }
            other => {
                return Err(format!("`{}` of `{}` is neither a path nor `ro`", shown(other), shown(value)));
            }
        }
    }
    Ok(mount)
}

fn plain(path: &str) -> Option<PathBuf> {
    let dots = path.split('/').any(|part| part == "." || part == "..");
    let whole: PathBuf = Path::new(path).components().collect();
    let deep = whole.components().any(|part| matches!(part, Component::Normal(_)));
    (deep && !dots && !path.chars().any(char::is_control)).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_name_a_path_and_whether_it_is_written() {
        let mount = |volume: &str, path: Option<&str>, read_only| {
            Ok(Mount { volume: volume.to_owned(), path: path.map(PathBuf::from), read_only })
        };
        assert_eq!(parse("data"), mount("data", None, false));
        assert_eq!(parse("data:ro"), mount("data", None, true));
        assert_eq!(parse("data:/srv//d/"), mount("data", Some("/srv/d"), false));
        assert_eq!(parse("data:/srv/d:ro"), mount("data", Some("/srv/d"), true));
        for good in ["data", "data:ro", "data:/a b", "vl-0123:/a:ro"] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":/a",
            "/a",
            "data:",
            "data:a",
            "data:/",
            "data:/a/../b",
            "data:/a/./b",
            "data:ro:/a",
            "a b",
            "data:/a:/b",
            "data:ro:ro",
            "data:/a:RO",
            "d\u{1b}",
            "data:/\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
