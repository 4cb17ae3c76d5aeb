//! Tables for eyes: no borders, two spaces, fitted to the terminal. Piped: tab-separated, no header.

use comfy_table::{ContentArrangement, Table};

use super::Ui;

impl Ui {
    /// Print rows under upper-case headers. Cells are made printable by the caller.
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) {
        if !self.stdout_is_terminal() {
            for row in rows {
                self.line(&row.join("\t"));
            }
            return;
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(headers.iter().map(|h| h.to_uppercase()));
        for row in rows {
            table.add_row(row);
        }
        self.line(&table.trim_fmt());
    }
}
