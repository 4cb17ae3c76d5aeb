//! Filters of git (`git-lfs`, `git-crypt`) that the caller's own configuration has: no jail gets programs from
//! there, and without them git commits the raw content, without a word.

use nix::libc;

use crate::base::text::brief;
use crate::jail::spec::Spec;
use crate::ops::config;
use crate::policy::settings::Access;
use crate::workspace::gitconfig;

/// A warning, when `.gitattributes` of the tree asks for one of `filters` and the repository's own configuration
/// does not have it. Nothing is read unless the caller has any.
pub(super) fn line(spec: &Spec, filters: &[String]) -> Option<String> {
    if filters.is_empty() || spec.access == Access::Ro {
        return None;
    }
    // Of a tree that nobody trusts: a plain file of a bounded size, or none.
    let read =
        |name: &str| config::read_regular(&spec.workspace.join(name), name, libc::O_NOFOLLOW).ok().flatten();
    let wanted = wanted(&read(".gitattributes")?, filters)?;
    let own = read(".git/config").unwrap_or_default();
    if ["clean", "process"].iter().any(|key| gitconfig::value(&own, "filter", key).is_some()) {
        return None;
    }
    let way = if wanted == "lfs" {
        "`git lfs install --local`".to_owned()
    } else {
        format!("`git config --local filter.{wanted}.clean …`")
    };
    Some(format!(
        ".gitattributes names the filter `{wanted}`, which git does not have inside: `git add` takes such files \
         as they are; to have it, put it into the repository's own configuration: {way}"
    ))
}

/// The first of `filters` that the attributes give to any file.
fn wanted(attributes: &[u8], filters: &[String]) -> Option<String> {
    let lines = attributes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().starts_with(b"#"));
    let words = lines.flat_map(|line| line.split(u8::is_ascii_whitespace).skip(1));
    let mut names = words.filter_map(|word| word.strip_prefix(b"filter="));
    let name = names.find(|name| filters.iter().any(|f| f.as_bytes() == *name))?;
    Some(brief(&String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_caller_has_and_a_file_is_given_counts() {
        let lfs = ["lfs".to_owned()];
        assert_eq!(wanted(b"*.txt text\n*.bin filter=lfs diff=lfs -text\n", &lfs).as_deref(), Some("lfs"));
        for text in ["", "# *.bin filter=lfs", "*.bin filter=crypt", "*.bin -filter", "filter=lfs text"] {
            assert_eq!(wanted(text.as_bytes(), &lfs), None, "{text}");
        }
    }
}
