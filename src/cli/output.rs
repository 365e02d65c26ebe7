//! What goes to standard output: tables for people, JSON for programs. Everything else goes to stderr.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::failure::Failure;

/// Prints one JSON document on one line.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print_line(&value.to_string())
}

/// Prints one line.
pub fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// Whether nobody can read our standard output any more (`ringlog consume t | head` after `head` has ended).
/// A write would say so too, but a consumer at the end of its log has nothing to write.
pub fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    // Errors and hang-ups are reported whatever is asked for, and nothing else is.
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents().is_some_and(|found| found.intersects(gone))
}

/// A table with a header, columns as wide as their widest cell, numbers to the right.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these column names.
    pub fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has one cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has one cell for each column");
        self.rows.push(cells);
    }

    /// Prints the table.
    pub fn print(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let text = self.render();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::of_stdout(&e))
    }

    fn render(&self) -> String {
        let columns = self.header.len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.header[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let right: Vec<bool> = (0..columns)
            .map(|c| !self.rows.is_empty() && self.rows.iter().all(|r| is_number(&r[c])))
            .collect();
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column] - cell.chars().count());
                let (before, after) = if right[column] { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push_str(&format!("{}{before}{cell}{after}", if column == 0 { "" } else { "  " }));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Whether a cell is set to the right: a number, or the dash that stands for "none".
fn is_number(cell: &str) -> bool {
    cell == "-" || (!cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || ".-".contains(c)))
}

/// A progress bar (a spinner where the total is not known) on a terminal; invisible when stderr is none.
pub fn progress(total: Option<u64>, template: &str) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(template).expect("the templates are constants of this program");
    ProgressBar::with_draw_target(total, target).with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["TOPIC", "PARTITIONS"]);
        table.row(vec!["a-long-name".into(), "3".into()]);
        table.row(vec!["b".into(), "12".into()]);
        assert_eq!(
            table.render(),
            "TOPIC        PARTITIONS\na-long-name           3\nb                    12\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(Table::new(&["A", "B"]).render(), "A  B\n");
    }
}
