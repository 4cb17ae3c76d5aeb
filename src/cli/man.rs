//! `aj man DIR`: the manual pages, for packagers and for the test that keeps `man/` up to date.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use super::commands;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::topics;
use super::ui::Ui;
use crate::base::text;
use crate::ops;

const EXAMPLES: &str = "\
Examples:
  aj man ~/.local/share/man/man1";

/// Write the manual pages of aj into a directory
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory; it must exist
    dir: PathBuf,
}

pub(super) fn run(ui: &Ui, args: Args) -> CmdResult {
    let mut tree = commands::tree();
    tree.build();
    let count = ops::with_umask(|| write(&tree, &args.dir)).map_err(|e| {
        let message = format!("could not write the manual pages to `{}`", text::os(&args.dir));
        CommandError::new(exit::FAILED, "man_failed", message).caused_by(&e)
    })?;
    ui.status(&format!("wrote {count} pages to `{}`", text::os(&args.dir)));
    Ok(Exit(exit::OK))
}

/// One page for the command and for everything below it.
fn write(command: &Command, dir: &Path) -> std::io::Result<usize> {
    let page = page(command)?;
    std::fs::write(dir.join(format!("{}.1", name(command))), page)?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        count += write(below, dir)?;
    }
    Ok(count)
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let root = name(command) == "aj";
    // The root's own template lists commands by group; a page has a section for them.
    let man =
        Man::new(command.clone()).title(name(command)).source(concat!("aj ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if root {
        for topic in topics::ALL {
            section(&mut page, topic.title, &(topic.text)());
        }
    } else if let Some(more) = command.get_after_long_help() {
        let more = more.to_string();
        section(&mut page, "Examples", more.strip_prefix("Examples:\n").unwrap_or(&more));
        section(&mut page, "See also", "aj(1)");
    }
    Ok(once(&page))
}

/// Each rendered section begins with the same definitions; one copy is enough.
fn once(page: &[u8]) -> Vec<u8> {
    const DEFINITIONS: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let text = String::from_utf8_lossy(page);
    format!("{DEFINITIONS}{}", text.replace(DEFINITIONS, "")).into_bytes()
}

/// A section of text that is already laid out.
fn section(page: &mut Vec<u8>, title: &str, body: &str) {
    let mut text = format!(".SH {}\n.nf\n", title.to_uppercase());
    for line in body.trim_end().lines() {
        // A leading dot or quote would be an order to roff.
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        text.push_str(&format!("{guard}{escaped}\n"));
    }
    text.push_str(".fi\n");
    page.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_does_not_take_text_for_orders() {
        let mut page = Vec::new();
        section(&mut page, "Examples", ".TH x\n  aj exec -- printf '\\n'\n");
        let page = String::from_utf8(page).unwrap();
        assert_eq!(page, ".SH EXAMPLES\n.nf\n\\&.TH x\n  aj exec \\-\\- printf '\\en'\n.fi\n");
    }
}
