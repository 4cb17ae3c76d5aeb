//! `aj config`: what holds, where it is written, whether it is right.

use std::path::{Path, PathBuf};

use clap_complete::engine::ArgValueCandidates;

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::policy_flags::policy_error;
use super::ui::Ui;
use crate::base::text::os;
use crate::ops::config;
use crate::ops::project::{self, Choice};
use crate::policy::keep;
use crate::policy::key::Key;
use crate::policy::{Layer, Resolved};
use crate::schema::policy::{
    Caches, Check, Document, FORMAT, Hidden, LeftOut, Limits, Location, Paths, Tools, Tree, Volume,
};

const EXAMPLES: &str = "\
Examples:
  aj config list
  aj config list --preset agent
  aj config get mem
  aj config check aj.toml";

/// Show and check the settings that jails start from
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Show every setting that would hold here, and where it comes from
    #[command(visible_aliases = ["ls", "show"])]
    List(Sources),
    /// Print the value of one setting
    Get {
        /// Its name, as files spell it
        #[arg(value_name = "KEY", add = ArgValueCandidates::new(complete::settings))]
        key: String,
        #[command(flatten)]
        sources: Sources,
    },
    /// Print the path of the user's config.toml, whether it exists or not
    Path {
        /// Print the path of aj.toml instead
        #[arg(long)]
        project: bool,
    },
    /// Read the files and report what is wrong or would be ignored
    ///
    /// Ends with 1 when there is anything to report. Without FILE, the files that hold here are read. A
    /// FILE named aj.toml is judged as a project's, any other as a user's config.toml.
    Check {
        /// The file to read
        file: Option<PathBuf>,
    },
}

#[derive(clap::Args, Debug, Default)]
struct Sources {
    /// As if this preset was chosen with `aj exec --preset`
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::presets))]
    preset: Option<String>,
}

/// Run `aj config`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    // Where the files are that hold for a command started here.
    let cwd = project::find(&Choice::Project)
        .map_err(|e| CommandError::new(exit::FAILED, "no_cwd", e.to_string()))?
        .root;
    match args.command.unwrap_or_else(|| Command::List(Sources::default())) {
        Command::List(sources) => list(ui, &cwd, sources),
        Command::Get { key, sources } => get(ui, &cwd, &key, sources),
        Command::Path { project } => path(ui, &cwd, project),
        Command::Check { file } => check(ui, &cwd, file.as_deref()),
    }
}

fn resolve(cwd: &Path, sources: Sources) -> Result<Resolved, CommandError> {
    let flags = Layer { preset: sources.preset.map(Into::into), ..Layer::default() };
    config::policy(cwd, cwd, flags, &[]).map_err(|e| shown(&e))
}

fn shown(e: &config::Error) -> CommandError {
    let code = match e {
        config::Error::Policy(crate::policy::Error::UnknownPreset { .. }) => exit::NOT_FOUND,
        _ => exit::FAILED,
    };
    policy_error(e, code)
}

fn list(ui: &Ui, cwd: &Path, sources: Sources) -> CmdResult {
    show(ui, &resolve(cwd, sources)?, None);
    Ok(Exit(exit::OK))
}

/// What a run would find beside its settings.
pub(super) struct Found {
    pub(super) tree: Tree,
    pub(super) tools: Vec<Tools>,
    pub(super) path_left_out: Vec<LeftOut>,
    pub(super) caches: Vec<Caches>,
    pub(super) hidden: Vec<Hidden>,
    pub(super) limits: Limits,
    pub(super) gpu: Vec<String>,
    pub(super) volumes: Vec<Volume>,
}

/// Every setting with its origin: `aj config list`, and what `aj exec --dry-run` says about policy.
pub(super) fn show(ui: &Ui, resolved: &Resolved, found: Option<Found>) {
    let document = match found {
        Some(found) => Document {
            tree: Some(found.tree),
            tools: Some(found.tools),
            path_left_out: Some(found.path_left_out),
            caches: Some(found.caches),
            hidden: Some(found.hidden),
            limits: Some(found.limits),
            gpu: Some(found.gpu),
            volumes: Some(found.volumes),
            ..resolved.document()
        },
        None => resolved.document(),
    };
    if ui.json {
        ui.document(&document);
        return;
    }
    let Document { tree, tools, path_left_out, caches, hidden, limits, gpu, volumes, .. } = document;
    let part = |path| vec!["part".to_owned(), path, ".git".to_owned()];
    let tree = tree.map(|t| {
        let top = vec!["tree".to_owned(), t.path, t.found_by.to_owned()];
        std::iter::once(top).chain(t.parts.into_iter().map(part))
    });
    let rows = resolved.rows().into_iter().map(|r| vec![r.key.to_owned(), r.text, r.origin]);
    let rows: Vec<Vec<String>> = tree.into_iter().flatten().chain(rows).collect();
    ui.table(&["setting", "value", "origin"], &rows);
    if let Some(limits) = limits {
        let group = |g| vec!["group".to_owned(), g];
        let why = |why: String| format!(": {why}");
        let why = limits.disk_why.map(why).unwrap_or_default();
        let disk = limits.disk_by.map(|by| vec!["disk".to_owned(), by + &why]);
        let by = std::iter::once(vec!["by".to_owned(), limits.by]);
        let rows: Vec<Vec<String>> = by.chain(limits.groups.into_iter().map(group)).chain(disk).collect();
        ui.table(&["limits", "held"], &rows);
    }
    if let Some(nodes) = gpu.filter(|nodes| !nodes.is_empty()) {
        let rows: Vec<Vec<String>> = nodes.into_iter().map(|node| vec![node]).collect();
        ui.table(&["gpu"], &rows);
    }
    if let Some(volumes) = volumes.filter(|volumes| !volumes.is_empty()) {
        let way = |v: &Volume| if v.read_only { "read-only" } else { "writable" };
        let row = |v: Volume| vec![way(&v).to_owned(), v.name, v.path, v.origin];
        let rows: Vec<Vec<String>> = volumes.into_iter().map(row).collect();
        ui.table(&["volumes", "name", "shown at", "origin"], &rows);
    }
    if let Some(tools) = tools.filter(|tools| !tools.is_empty()) {
        let row = |t: Tools| places(&t.name, t.shows, &t.found_by, t.hides);
        let rows: Vec<Vec<String>> = tools.into_iter().flat_map(row).collect();
        ui.table(&["tools", "shown read-only", "found by"], &rows);
    }
    if let Some(left) = path_left_out.filter(|left| !left.is_empty()) {
        let name = |entry: String| if entry.is_empty() { "''".to_owned() } else { entry };
        let rows: Vec<Vec<String>> = left.into_iter().map(|l| vec![name(l.entry), l.why]).collect();
        ui.table(&["left out of PATH", "why"], &rows);
    }
    if let Some(caches) = caches.filter(|caches| !caches.is_empty()) {
        let row = |c: Caches| places(&c.name, c.shows, &c.found_by, c.hides);
        let rows: Vec<Vec<String>> = caches.into_iter().flat_map(row).collect();
        ui.table(&["caches", "shown, writes stay in the run", "found by"], &rows);
    }
    if let Some(hidden) = hidden.filter(|hidden| !hidden.is_empty()) {
        let rows: Vec<Vec<String>> =
            hidden.into_iter().map(|h| vec![h.path, h.how.to_owned(), h.by]).collect();
        ui.table(&["hidden", "what", "by"], &rows);
    }
    for warning in resolved.warnings.iter().chain(&resolved.weakened) {
        ui.warn(warning);
    }
}

/// Rows of what is shown of the caller's, and of what is not seen in it.
fn places(name: &str, shows: Vec<String>, by: &str, hides: Vec<String>) -> Vec<Vec<String>> {
    let row = |path: String, why: &str| vec![name.to_owned(), path, why.to_owned()];
    let shows = shows.into_iter().map(|path| row(path, by));
    shows.chain(hides.into_iter().map(|path| row(path, "seen empty"))).collect()
}

fn get(ui: &Ui, cwd: &Path, name: &str, sources: Sources) -> CmdResult {
    let names: Vec<&str> = Key::ALL.iter().map(|k| k.name()).chain(keep::NAMES).collect();
    if !names.contains(&name) {
        return Err(CommandError::new(
            exit::NOT_FOUND,
            "setting_not_found",
            format!("there is no setting `{}`", os(name)),
        )
        .hint(format!("settings: {}", names.join(", "))));
    }
    let mut document: Document = resolve(cwd, sources)?.document();
    document.settings.retain(|row| row.key == name);
    if ui.json {
        ui.document(&document);
    } else {
        for row in document.settings {
            ui.line(&row.text);
        }
    }
    Ok(Exit(exit::OK))
}

fn path(ui: &Ui, cwd: &Path, project: bool) -> CmdResult {
    let user = config::user_path().map_err(|e| shown(&e))?;
    let of_project = config::project_path(cwd);
    if ui.json {
        let location = |p: &Path| Location { path: os(p), exists: config::exists(p) };
        ui.document(&Paths {
            format_version: FORMAT,
            user: user.as_deref().map(location),
            project: location(&of_project),
        });
        return Ok(Exit(exit::OK));
    }
    let path = if project { Some(of_project) } else { user };
    let path = path.ok_or_else(|| {
        CommandError::new(exit::NOT_FOUND, "no_home", "there is no home directory to hold config.toml")
            .hint("set HOME, XDG_CONFIG_HOME or AJ_CONFIG_DIR")
    })?;
    ui.line(&os(&path));
    Ok(Exit(exit::OK))
}

fn check(ui: &Ui, cwd: &Path, file: Option<&Path>) -> CmdResult {
    let Some(found) = config::check(cwd, file).map_err(|e| shown(&e))? else {
        let name = file.map(os).unwrap_or_default();
        return Err(CommandError::new(
            exit::NOT_FOUND,
            "file_not_found",
            format!("there is no file `{name}`"),
        ));
    };
    let code = if found.warnings.is_empty() { exit::OK } else { exit::FAILED };
    if ui.json {
        ui.document(&Check { format_version: FORMAT, files: found.files, warnings: found.warnings });
        return Ok(Exit(code));
    }
    for warning in &found.warnings {
        ui.warn(warning);
    }
    match (found.files.is_empty(), found.warnings.is_empty()) {
        (true, _) => ui.status("there is no configuration file here; built-in values hold"),
        (false, true) => ui.status(&format!("{}: nothing to report", found.files.join(", "))),
        (false, false) => {}
    }
    Ok(Exit(code))
}
