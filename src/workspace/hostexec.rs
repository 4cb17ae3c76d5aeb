//! Which changed files would run code on the host, or steer tools that do: the class that `aj apply`
//! withholds until the user allows it. Pure.
//!
//! The class is about files that act *without being called by name*: `git status` runs what
//! `.git/config` names, a shell prompt loads `.envrc`, an editor runs `.vscode/tasks.json`, `make` and
//! CI read theirs. It cannot be complete: source code is run by its tests, dependencies by whoever
//! imports them, programs of a virtual environment or of `node_modules/.bin` by whoever calls them, and
//! none of these is in the class. What it promises is that a file of the table never
//! reaches the host unannounced.
//!
//! Three more kinds of files are in the class for what the base holds: those that git or cargo is told to run
//! there (`gitbase`), those that make a directory a git repository, and manifests with other scripts
//! than before (`manifest`).
//!
//! Inside `.git` the rule is turned round: a list of what is harmless (objects, refs, HEAD, index,
//! logs …), and everything else is in the class. Names are compared after folding case and dropping
//! invisible characters, since some file systems take `.GIT/config` or `.g\u{200c}it` for `.git`.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::patterns::{Reach, TABLE};

const COMPLETES: &str = "makes the directory a git repository";

/// Follows a walk down the tree and answers for the entries of the current directory.
#[derive(Debug, Default)]
pub struct Classifier {
    parts: Vec<Part>,
    /// Indices into `parts` where a pattern of the table may begin.
    starts: Vec<usize>,
}

#[derive(Debug)]
struct Part {
    folded: String,
    /// The directory is a repository under another name than `.git`.
    disguised: bool,
    /// Entries that the base lacks and that make it one.
    completed_by: Vec<&'static str>,
    /// It is, or is inside, a directory of installed dependencies.
    installed: bool,
    /// Whether it was pushed to `starts`.
    start: bool,
}

impl Classifier {
    /// Descend into `name`. `repository`: the directory is laid out as a git repository, whatever
    /// its name: git commands run inside it obey its `config`.
    pub fn enter(&mut self, name: &[u8], repository: bool) {
        let folded = fold(name);
        let disguised = repository && folded != ".git";
        let installed = self.parts.last().is_some_and(|p| p.installed)
            || matches!(folded.as_str(), "node_modules" | "site-packages" | "dist-packages");
        let start = index().first.contains_key(folded.as_str());
        if start {
            self.starts.push(self.parts.len());
        }
        let folded = if disguised { ".git".to_owned() } else { folded };
        self.parts.push(Part { folded, disguised, completed_by: Vec::new(), installed, start });
    }

    /// The directory entered last becomes a repository by its entries of these names: they are in the
    /// class with all that is in them. The rest of it may have come when it was none.
    pub fn completed_by(&mut self, names: Vec<&'static str>) {
        if let Some(part) = self.parts.last_mut() {
            part.completed_by = names;
        }
    }

    /// The directory entered last is a repository on the host already: where it stands (`HEAD`) is its own
    /// business, as in a `.git`.
    pub fn settled(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.disguised = false;
        }
    }

    /// Why the new directory `name` of the current directory is in the class: it makes a directory
    /// above it a git repository, be it empty.
    pub fn completes(&self, name: &[u8]) -> Option<&'static str> {
        let at = self.parts.iter().rposition(|p| p.folded == ".git")?;
        let leaf = fold(name);
        let first = self.parts.get(at + 1).map_or(leaf.as_str(), |p| p.folded.as_str());
        self.parts[at].completed_by.contains(&first).then_some(COMPLETES)
    }

    /// Back to the parent.
    pub fn leave(&mut self) {
        if self.parts.pop().is_some_and(|p| p.start) {
            self.starts.pop();
        }
    }

    /// Why the entry `name` of the current directory is in the class, `None` when it is not.
    /// `stays_directory`: it is a directory after the change; what matters then are its entries.
    pub fn reason(&self, name: &[u8], stays_directory: bool) -> Option<&'static str> {
        if stays_directory { None } else { self.removal_reason(name, false) }
    }

    /// The same for an entry that is removed. A `directory` is not the file that a pattern names, such as one
    /// called `build`; what the pattern names may be in it.
    pub fn removal_reason(&self, name: &[u8], directory: bool) -> Option<&'static str> {
        let leaf = fold(name);
        if let Some(reason) = self.inside_git(&leaf) {
            return reason;
        }
        if leaf == ".git" {
            return Some("decides which repository git commands here use");
        }
        let installed = self.installed();
        let hit = |&(pattern, reason, reach): &Entry, start: usize| {
            let above = self.parts[start..].iter().map(|p| p.folded.as_str());
            let fits = matches(pattern, above.chain([leaf.as_str()]), directory);
            (fits && !(installed && reach == Reach::Project)).then_some(reason)
        };
        let index = index();
        for &start in &self.starts {
            let entries = index.first.get(self.parts[start].folded.as_str()).map_or(&[][..], Vec::as_slice);
            if let Some(reason) = entries.iter().find_map(|e| hit(e, start)) {
                return Some(reason);
            }
        }
        let here = index.first.get(leaf.as_str()).map_or(&[][..], Vec::as_slice);
        here.iter().chain(&index.starred).find_map(|e| hit(e, self.parts.len()))
    }

    /// Why other permission bits of the directory `name` of the current directory are in the class: it is, or is
    /// in, a git directory, and git keeps these as they are.
    pub fn directory_reason(&self, name: &[u8]) -> Option<&'static str> {
        let git = fold(name) == ".git" || self.parts.iter().any(|p| p.folded == ".git");
        git.then_some("says who may use the git directory")
    }

    /// Whether the entry `name` of the current directory is, or lies in, the object store of a git
    /// directory.
    pub fn in_object_store(&self, name: &[u8]) -> bool {
        let Some(at) = self.parts.iter().rposition(|p| p.folded == ".git") else { return false };
        let leaf = fold(name);
        let mut rest = self.parts[at + 1..].iter().map(|p| p.folded.as_str()).chain([leaf.as_str()]);
        match rest.next() {
            Some("objects") => true,
            // That of a submodule, whose name may have slashes, but no branch of that name.
            Some("modules" | "worktrees") => {
                rest.take_while(|part| !matches!(*part, "refs" | "logs")).any(|part| part == "objects")
            }
            _ => false,
        }
    }

    /// Whether the file `name` of the current directory is a lock of git's. One that a git left behind when it was
    /// killed keeps every other git from writing; no ref may have such a name.
    pub fn is_git_lock(&self, name: &[u8]) -> bool {
        self.parts.iter().any(|p| p.folded == ".git") && fold(name).ends_with(".lock")
    }

    /// Why a link in the current directory is in the class, whatever its name: through one in a git
    /// directory git writes (logs, messages) and takes objects and refs where it leads.
    pub fn link_reason(&self) -> Option<&'static str> {
        self.parts.iter().any(|p| p.folded == ".git").then_some("leads git elsewhere")
    }

    /// Whether the current directory belongs to installed dependencies.
    pub fn installed(&self) -> bool {
        self.parts.last().is_some_and(|p| p.installed)
    }

    /// `Some(answer)` when the current directory is in a git directory.
    fn inside_git(&self, leaf: &str) -> Option<Option<&'static str>> {
        let at = self.parts.iter().rposition(|p| p.folded == ".git")?;
        if self.parts[at].disguised && at + 1 == self.parts.len() && leaf == "head" {
            return Some(Some(COMPLETES));
        }
        let mut rest: Vec<&str> = self.parts[at + 1..].iter().map(|p| p.folded.as_str()).collect();
        rest.push(leaf);
        if self.parts[at].completed_by.contains(&rest[0]) {
            return Some(Some(COMPLETES));
        }
        Some(git_reason(&rest))
    }
}

/// `rest`: the parts below a git directory, at least one.
fn git_reason(rest: &[&str]) -> Option<&'static str> {
    const PLAIN_DIRS: &[&str] = &["objects", "refs", "logs", "reftable", "lfs"];
    const PLAIN_FILES: &[&str] = &[
        "head",
        "index",
        "packed-refs",
        "description",
        "shallow",
        "commit_editmsg",
        "orig_head",
        "fetch_head",
        "merge_head",
        "merge_msg",
        "merge_mode",
        "merge_rr",
        "merge_autostash",
        "auto_merge",
        "squash_msg",
        "tag_editmsg",
        "cherry_pick_head",
        "revert_head",
        "rebase_head",
        "gc.log",
        "gc.pid",
    ];
    // Repositories of submodules and linked worktrees; a submodule's name may have slashes.
    if matches!(rest[0], "modules" | "worktrees") && rest.len() > 1 {
        let last = rest[rest.len() - 1];
        let config = ["config", "config.worktree", "commondir", "gitdir", "attributes", ".git"];
        let alternates = ["alternates", "http-alternates"];
        if rest.contains(&"hooks")
            || config.contains(&last)
            || alternates.contains(&last)
            || last.starts_with("git-rebase-todo")
        {
            return Some("git runs it or takes commands from it");
        }
        // All that git knows of a worktree, which may be where the jail sees none and `prune` removes it.
        if let [before @ .., "worktrees", _] = rest
            && !before.iter().any(|part| matches!(*part, "objects" | "refs" | "logs"))
        {
            return Some("a worktree elsewhere stands or falls with it");
        }
        return None;
    }
    let plain = match rest {
        [one] => {
            let one = one.strip_suffix(".lock").unwrap_or(one);
            PLAIN_FILES.contains(&one) || PLAIN_DIRS.contains(&one) || one.starts_with("bisect_")
        }
        // The objects of other repositories, which a later jail would be shown as well.
        ["objects", "info", file] => !file.contains("alternates"),
        ["info", file] => matches!(*file, "exclude" | "refs" | "sparse-checkout" | "grafts"),
        [first, ..] => PLAIN_DIRS.contains(first),
        [] => true,
    };
    if plain { None } else { Some("git runs it or takes commands from it") }
}

type Entry = (&'static [&'static str], &'static str, Reach);

struct Index {
    /// By the first part of the pattern.
    first: HashMap<&'static str, Vec<Entry>>,
    /// Patterns whose first part holds a `*`.
    starred: Vec<Entry>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index { first: HashMap::new(), starred: Vec::new() };
        for &(patterns, reason, reach) in TABLE {
            for pattern in patterns {
                let parts: Vec<&'static str> = pattern.split('/').collect();
                let first = parts[0];
                let entry: Entry = (Vec::leak(parts), reason, reach);
                if first.contains('*') {
                    index.starred.push(entry);
                } else {
                    index.first.entry(first).or_default().push(entry);
                }
            }
        }
        index
    })
}

/// Whether `path` is what the pattern names, or a directory above it that is no directory any more
/// (a link or a file in its place redirects or removes everything that the pattern names).
/// `directory`: it was one, and what is named is a file.
fn matches<'a>(pattern: &[&str], path: impl Iterator<Item = &'a str>, directory: bool) -> bool {
    let mut parts = pattern.iter();
    for name in path {
        match parts.next() {
            Some(&"**") => return true,
            Some(part) if part_matches(part, name) => {}
            _ => return false,
        }
    }
    !directory || parts.len() > 0
}

fn part_matches(part: &str, name: &str) -> bool {
    if let Some((start, end)) = part.split_once('*') {
        let (end, middle) = match end.split_once('*') {
            // `a*.y*`: the text between the stars must occur.
            Some((middle, "")) => ("", middle),
            _ => (end, ""),
        };
        return name.len() >= start.len() + middle.len() + end.len()
            && name.starts_with(start)
            && name.ends_with(end)
            && name[start.len()..].contains(middle);
    }
    part == name
}

/// A name as the most lenient file system compares it.
pub(super) fn fold(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'-' | b'_' | b'0'..=b'9')) {
        return text.into_owned();
    }
    text.chars()
        .filter(|c| {
            !matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
        })
        .flat_map(|c| {
            match c {
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                c => c,
            }
            .to_lowercase()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(path: &str, stays_directory: bool) -> Option<&'static str> {
        let mut c = Classifier::default();
        let mut parts: Vec<&str> = path.split('/').collect();
        let leaf = parts.pop().unwrap();
        for p in &parts {
            c.enter(p.as_bytes(), false);
        }
        let got = c.reason(leaf.as_bytes(), stays_directory);
        for _ in &parts {
            c.leave();
        }
        assert!(c.parts.is_empty() && c.starts.is_empty());
        got
    }

    fn flagged(path: &str) -> bool {
        reason_of(path, false).is_some()
    }

    #[test]
    fn what_the_host_would_execute_is_flagged_at_any_depth() {
        for path in [
            ".git/hooks/pre-commit",
            ".git/config",
            ".git/config.worktree",
            ".git/commondir",
            ".git/info/attributes",
            ".git/modules/sub/config",
            ".git/modules/deep/name/hooks/post-checkout",
            ".git/worktrees/w/config.worktree",
            ".git/worktrees/w/gitdir",
            ".git/worktrees/w",
            ".git/modules/a/b/worktrees/w",
            ".git/rebase-merge/git-rebase-todo",
            ".git/something-new",
            ".git/objects/info/alternates",
            ".git/objects/info/http-alternates",
            ".git/modules/sub/objects/info/alternates",
            ".git",
            "vendor/lib/.git",
            "vendor/lib/.git/config",
            ".gitattributes",
            "a/b/c/.gitattributes",
            ".gitmodules",
            ".envrc",
            "deep/er/.envrc",
            ".vscode/tasks.json",
            ".vscode/settings.json",
            "x.code-workspace",
            ".idea/workspace.xml",
            ".idea/runConfigurations/evil.xml",
            ".claude/settings.local.json",
            ".claude/hooks/deep/x.sh",
            ".cursor/mcp.json",
            ".mcp.json",
            ".codex/config.toml",
            "AGENTS.md",
            "CLAUDE.md",
            "Makefile",
            "sub/GNUmakefile",
            "justfile",
            "Taskfile.yml",
            "Taskfile.yaml",
            ".npmrc",
            ".yarnrc.yml",
            ".pnpmfile.cjs",
            ".cargo/config",
            "crates/x/.cargo/config.toml",
            "rust-toolchain",
            "rust-toolchain.toml",
            "build.rs",
            "pkg/BUILD.bazel",
            "rules/x.bzl",
            "Gemfile",
            "x.gemspec",
            "Podfile",
            "mix.exs",
            "Package.swift",
            "rebar.config",
            "project.clj",
            "Setup.hs",
            "configure",
            "Makefile.in",
            "Directory.Build.props",
            "Directory.Build.targets",
            "Guardfile",
            "Brewfile",
            "project/plugins.sbt",
            "build.sbt",
            "conftest.py",
            "tests/conftest.py",
            "setup.py",
            "tox.ini",
            "noxfile.py",
            ".pre-commit-config.yaml",
            ".husky/pre-commit",
            ".husky/_/husky.sh",
            "gradlew",
            "gradle/wrapper/gradle-wrapper.jar",
            "mvnw",
            ".mvn/jvm.config",
            ".github/workflows/ci.yml",
            ".gitlab-ci.yml",
            ".circleci/config.yml",
            "Jenkinsfile",
            "azure-pipelines.yml",
            ".bashrc",
            ".profile",
            ".zshrc",
            ".bash_profile",
            ".direnv/x",
            "mise.toml",
            ".devcontainer/devcontainer.json",
            "vite.config.ts",
            "aj.toml",
            ".jj/repo/config.toml",
            ".jj/repo",
            ".helix/languages.toml",
            ".helix/config.toml",
            ".theia/tasks.json",
            ".theia/launch.json",
            ".Rprofile",
            ".ghci",
            ".ocamlinit",
            ".pdbrc",
            ".pylintrc",
            "pylintrc",
            ".rubocop.yml",
            ".sbtopts",
            ".jvmopts",
            ".ycm_extra_conf.py",
            ".autoenv",
            ".autoenv.zsh",
        ] {
            assert!(flagged(path), "{path}");
        }
    }

    #[test]
    fn ordinary_files_and_git_data_are_not() {
        for path in [
            "src/main.rs",
            "README.md",
            "Cargo.toml",
            "Dockerfile",
            "build/out.js",
            "Makefile.txt",
            "my.git/x",
            "gradle/libs.versions.toml",
            ".github/CODEOWNERS",
            "vscode/tasks.json",
            "workflows/ci.yml",
            ".git/objects/ab/cdef",
            ".git/refs/heads/main",
            ".git/HEAD",
            ".git/index",
            ".git/index.lock",
            ".git/logs/HEAD",
            ".git/packed-refs",
            ".git/COMMIT_EDITMSG",
            ".git/ORIG_HEAD",
            ".git/FETCH_HEAD",
            ".git/MERGE_MSG",
            ".git/info/exclude",
            ".git/modules/sub/objects/aa/bb",
            ".git/modules/sub/HEAD",
            "node_modules/left-pad/Makefile",
            "node_modules/x/webpack.config.js",
            ".venv/lib/python3/site-packages/p/setup.py",
            ".venv/lib/python3/site-packages/p/pylintrc",
            ".venv/bin/activate",
            "venv/bin/python",
            "node_modules/.bin/tsc",
            ".jj/repo/op_store/operations/ab",
            "config",
            "hooks/pre-commit",
        ] {
            assert_eq!(reason_of(path, false), None, "{path}");
        }
        assert!(flagged("node_modules/x/.git/config"), "dependencies hide no repositories");
        assert!(flagged("node_modules/x/.envrc"));
    }

    #[test]
    fn case_twins_and_invisible_characters_do_not_hide_a_file() {
        for path in [
            ".GIT/config",
            ".git/Config",
            ".git/HOOKS/pre-commit",
            ".g\u{200c}it/config",
            ".\u{feff}git/config",
            ".v\u{17f}code/tasks.json",
            ".hu\u{17f}\u{212a}y/pre-commit",
            "MAKEFILE",
            ".EnvRC",
        ] {
            assert!(flagged(path), "{path}");
        }
    }

    #[test]
    fn a_link_in_place_of_a_directory_above_is_flagged_and_the_directory_is_not() {
        for path in
            [".git", ".git/hooks", ".vscode", ".github", ".github/workflows", ".cargo", ".husky", "gradle"]
        {
            assert!(flagged(path), "{path} as a link");
            assert!(reason_of(path, true).is_none(), "{path} as a directory");
        }
    }

    #[test]
    fn a_removed_directory_is_not_the_file_of_its_name() {
        let c = Classifier::default();
        for name in ["configure", "rakefile"] {
            assert!(c.removal_reason(name.as_bytes(), false).is_some(), "{name} as a file");
            assert_eq!(c.removal_reason(name.as_bytes(), true), None, "{name} as a directory");
        }
        for name in [".vscode", ".cargo", ".git"] {
            assert!(c.removal_reason(name.as_bytes(), true).is_some(), "{name}: what is named is in it");
        }
    }

    #[test]
    fn a_repository_under_another_name_is_one() {
        let mut c = Classifier::default();
        c.enter(b"fixtures", false);
        assert_eq!(c.reason(b"config", false), None);
        c.enter(b"innocent", true);
        assert!(c.reason(b"config", false).is_some());
        assert_eq!(c.reason(b"HEAD", false), Some("makes the directory a git repository"));
        assert_eq!(c.reason(b"packed-refs", false), None);
        c.enter(b"hooks", false);
        assert!(c.reason(b"post-checkout", false).is_some());
    }

    #[test]
    fn object_stores_are_told_from_branches_of_that_name() {
        let is = |path: &str| {
            let mut c = Classifier::default();
            let (dirs, leaf) = path.rsplit_once('/').unwrap();
            dirs.split('/').for_each(|d| c.enter(d.as_bytes(), false));
            c.in_object_store(leaf.as_bytes())
        };
        for path in [".git/objects", "a/.git/objects/ab/c", ".git/modules/a/b/objects/pack/x.idx"] {
            assert!(is(path), "{path}");
        }
        for path in ["a/objects/ab", ".git/refs/heads/objects", ".git/modules/a/refs/objects/x", ".git/HEAD"]
        {
            assert!(!is(path), "{path}");
        }
    }

    #[test]
    fn every_pattern_is_written_folded() {
        for (patterns, _, _) in TABLE {
            for p in *patterns {
                assert_eq!(fold(p.replace(['*', '/'], "").as_bytes()), p.replace(['*', '/'], ""), "{p}");
                assert!(p.matches('*').count() <= 2 && !p.starts_with('/'), "{p}");
                assert!(!p[..p.len() - 2].contains("**"), "{p}");
            }
        }
    }
}
