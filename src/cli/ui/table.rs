//! Tables for eyes: no borders, two spaces, fitted to the terminal. Piped: tab-separated, no header.

use std::ffi::OsStr;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table};

use super::Ui;
use crate::base::env;

/// What becomes of a last column that is wider than its room. The others are never broken: an id in
/// two halves can be neither read nor copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It goes on in further lines: all of it matters.
    Wraps,
    /// It ends in `…`: a row is one line.
    IsCut,
}

/// The last column has this much room, however narrow the terminal: the lines are then broken by it.
const LEAST: u16 = 16;
/// What terminals are when they do not say.
const USUAL: u16 = 80;

impl Ui {
    /// Print rows under upper-case headers. Cells are made printable by the caller.
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) {
        self.rows(headers, rows, Last::Wraps);
    }

    /// The same, each row on one line.
    pub fn listing(&self, headers: &[&str], rows: &[Vec<String>]) {
        self.rows(headers, rows, Last::IsCut);
    }

    fn rows(&self, headers: &[&str], rows: &[Vec<String>], last: Last) {
        if !self.stdout_is_terminal() {
            for row in rows {
                self.line(&row.join("\t"));
            }
            return;
        }
        let width = width(Table::new().width(), env::COLUMNS.get().as_deref());
        self.line(&laid_out(headers, rows, last, width));
    }
}

/// Columns of the terminal. One that reports none does not know: a serial line, some `script`s, a
/// terminal that no program has sized.
fn width(reported: Option<u16>, columns: Option<&OsStr>) -> u16 {
    let told = || columns.and_then(|c| c.to_str()?.trim().parse().ok());
    reported.filter(|&n| n > 0).or_else(|| told().filter(|&n| n > 0)).unwrap_or(USUAL)
}

fn laid_out(headers: &[&str], rows: &[Vec<String>], last: Last, width: u16) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_truncation_indicator("…");
    table.set_header(headers.iter().map(|h| h.to_uppercase()));
    for cells in rows {
        let mut row = Row::from(cells);
        if last == Last::IsCut {
            row.max_height(1);
        }
        table.add_row(row);
    }
    let fixed = headers.len().saturating_sub(1);
    let mut room = table.column_max_content_widths();
    room.truncate(fixed);
    let taken = room.iter().fold(0u16, |sum, n| sum.saturating_add(n.saturating_add(2)));
    for (n, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if n < fixed { 2 } else { 0 }));
        if n < fixed {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.set_width(width.max(taken.saturating_add(LEAST)));
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_reports_no_columns_is_as_wide_as_the_environment_says() {
        let of = |reported, columns: Option<&str>| width(reported, columns.map(OsStr::new));
        assert_eq!(of(Some(132), Some("40")), 132);
        assert_eq!(of(Some(0), Some("40")), 40);
        assert_eq!(of(None, Some(" 40 ")), 40);
        for none in [None, Some("0"), Some("wide"), Some("-1"), Some("99999999")] {
            assert_eq!(of(Some(0), none), 80, "{none:?}");
        }
    }

    #[test]
    fn a_row_is_one_line_with_its_id_whole() {
        let rows: Vec<Vec<String>> = [
            ["jl-7k3m", "exited", "npm install --prefix=/a --no-audit --no-fund"],
            ["jl-9000000000000000", "running", "ls"],
        ]
        .map(|row| row.map(str::to_owned).to_vec())
        .into();
        let at = |width| laid_out(&["id", "status", "command"], &rows, Last::IsCut, width);
        assert_eq!(
            at(80),
            "ID                   STATUS   COMMAND\n\
             jl-7k3m              exited   npm install --prefix=/a --no-audit --no-fund\n\
             jl-9000000000000000  running  ls"
        );
        for width in [0, 1, 20, 46, 60] {
            let text = at(width);
            assert_eq!(text.lines().count(), 3, "{width}:\n{text}");
            assert!(text.contains("jl-9000000000000000  running  ls"), "{width}:\n{text}");
            assert!(text.lines().nth(1).unwrap().ends_with('…'), "{width}:\n{text}");
            let longest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(longest <= usize::from(width).max(46), "{width}: {longest}\n{text}");
        }
    }

    #[test]
    fn what_wraps_is_shown_whole() {
        let rows = [vec!["fail".to_owned(), "one two three four five six seven eight".to_owned()]];
        let text = laid_out(&["status", "evidence"], &rows, Last::Wraps, 30);
        assert_eq!(text, "STATUS  EVIDENCE\nfail    one two three four\n        five six seven eight",);
    }
}
