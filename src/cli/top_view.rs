//! The table of `aj top`: its order and its lines, without a terminal.

use std::cmp::Reverse;
use std::time::Duration;

use crate::base::quote::command_line;
use crate::base::text::printable;
use crate::base::{duration, size};
use crate::schema::ledger::Status;
use crate::schema::top::{Jail, Top};

/// What the jails are sorted by, the largest first.
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    // No doc comments: clap would print them, and the words say it.
    #[default]
    Cpu,
    Mem,
    Tasks,
    Io,
    Age,
}

impl Order {
    /// The one that a key means.
    pub(super) fn of_key(key: u8) -> Option<Order> {
        match key.to_ascii_lowercase() {
            b'c' => Some(Order::Cpu),
            b'm' => Some(Order::Mem),
            b't' => Some(Order::Tasks),
            b'i' => Some(Order::Io),
            b'a' => Some(Order::Age),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Order::Cpu => "cpu",
            Order::Mem => "memory",
            Order::Tasks => "tasks",
            Order::Io => "I/O",
            Order::Age => "age",
        }
    }

    /// Sort; jails that are equal stay in the order in which they began.
    pub(super) fn sort(self, jails: &mut [Jail]) {
        let io = |j: &Jail| j.read_rate.unwrap_or(0).saturating_add(j.write_rate.unwrap_or(0));
        jails.sort_by_key(|j| {
            Reverse(match self {
                Order::Cpu => j.cpu_millis.unwrap_or(0),
                Order::Mem => j.memory.unwrap_or(0),
                Order::Tasks => j.tasks.unwrap_or(0),
                Order::Io => io(j),
                Order::Age => j.age_ms,
            })
        });
    }
}

/// The columns.
pub(super) const HEADERS: [&str; 10] =
    ["id", "state", "age", "cpu%", "memory", "tasks", "read/s", "write/s", "by", "command"];
/// Those whose cells stand at the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=7;
/// Columns that are left out of a narrow window, the first of them first.
const LEFT_OUT: [usize; 5] = [8, 7, 6, 2, 5];
/// Characters of a command that are worth more than those.
const COMMAND: usize = 16;
/// Digits of an id: enough to tell any two jails of a ledger apart.
const DIGITS: usize = 8;

/// The cells of a jail: for people short, piped whole and in plain units.
pub(super) fn cells(jail: &Jail, people: bool) -> Vec<String> {
    let bytes = |n: u64| if people { size::human(n) } else { n.to_string() };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let of = |n: Option<String>, limit: Option<String>| match (n, limit) {
        (n, Some(limit)) => format!("{}/{limit}", or_dash(n)),
        (n, None) => or_dash(n),
    };
    let short = jail.id.get(.."jl-".len() + DIGITS).filter(|_| people).unwrap_or(&jail.id);
    vec![
        printable(short.as_bytes()),
        jail.status.as_str().to_owned(),
        if people { age(jail.age_ms) } else { format!("{}ms", jail.age_ms) },
        or_dash(jail.cpu_millis.map(|n| format!("{}.{}", n / 10, n % 10))),
        of(jail.memory.map(bytes), jail.memory_limit.map(bytes)),
        of(jail.tasks.map(|n| n.to_string()), jail.tasks_limit.map(|n| n.to_string())),
        or_dash(jail.read_rate.map(bytes)),
        or_dash(jail.write_rate.map(bytes)),
        by(jail),
        printable(command_line(&jail.argv).as_bytes()),
    ]
}

fn age(ms: u64) -> String {
    duration::human(Duration::from_millis(if ms < 60_000 { ms / 1000 * 1000 } else { ms }))
}

/// Who counted processor time and memory.
fn by(jail: &Jail) -> String {
    let (cpu, memory) = (jail.counted_by.cpu, jail.counted_by.memory);
    if cpu == memory { memory.to_owned() } else { format!("{memory}+{cpu}") }
}

/// What a screen of `rows` lines shows.
pub(super) fn lines(top: &Top, order: Order, rows: usize, columns: usize) -> Vec<String> {
    let paused = top.jails.iter().filter(|j| j.status == Status::Paused).count();
    let many = |n: usize| format!("{n} jail{}", if n == 1 { "" } else { "s" });
    let mut head = format!("aj top: {}", many(top.jails.len()));
    if paused > 0 {
        head.push_str(&format!(", {paused} paused"));
    }
    head.push_str(&format!(", by {}; order: c m t i a, end: q", order.word()));
    let mut lines = vec![cut(&head, columns)];
    let room = rows.saturating_sub(2);
    let mut table = vec![HEADERS.map(str::to_uppercase).to_vec()];
    // One line less when one has to say that there is more.
    let fits = if top.jails.len() > room { room.saturating_sub(1) } else { room };
    table.extend(top.jails.iter().take(fits).map(|j| cells(j, true)));
    for (n, line) in laid_out(&table, columns).into_iter().enumerate() {
        let line = cut(&line, columns);
        lines.push(if n == 0 { format!("\x1b[7m{line:columns$}") } else { line });
    }
    if top.jails.len() > fits {
        lines.push(cut(&format!("… {} more", top.jails.len() - fits), columns));
    }
    lines.truncate(rows.max(1));
    lines
}

/// Columns as wide as their widest cell, two spaces apart. What a window is too narrow for beside the command
/// is left out.
fn laid_out(table: &[Vec<String>], columns: usize) -> Vec<String> {
    let width = |n: usize| {
        table.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADERS.len()).map(width).collect();
    let last = HEADERS.len() - 1;
    let mut shown: Vec<usize> = (0..last).collect();
    for least in LEFT_OUT {
        if shown.iter().filter_map(|n| widths.get(*n)).map(|width| width + 2).sum::<usize>() + COMMAND
            <= columns
        {
            break;
        }
        shown.retain(|n| *n != least);
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for n in &shown {
            let (Some(cell), Some(width)) = (row.get(*n), widths.get(*n)) else { continue };
            match NUMBERS.contains(n) {
                true => line.push_str(&format!("{cell:>width$}  ")),
                false => line.push_str(&format!("{cell:width$}  ")),
            }
        }
        line.push_str(row.get(last).map_or("", String::as_str));
        line
    };
    table.iter().map(line).collect()
}

/// The start of a line, `…` at its end when something is missing.
fn cut(line: &str, columns: usize) -> String {
    super::jail_view::shorten(line, columns.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::top::CountedBy;

    fn jail(n: u64) -> Jail {
        Jail {
            id: format!("jl-{n:0>16}"),
            kind: "exec".to_owned(),
            status: if n == 2 { Status::Paused } else { Status::Running },
            started_at: String::new(),
            age_ms: 61_000 * n,
            pid: 7,
            argv: vec!["sh".to_owned(), "-c".to_owned(), format!("\u{1b}[2J {}", "x".repeat(300))],
            cwd: String::new(),
            base: String::new(),
            cpu_ms: Some(n),
            cpu_millis: Some(1505),
            cpu_millis_limit: None,
            memory: Some(n << 20),
            memory_limit: Some(64 << 20),
            tasks: Some(100 - n),
            tasks_limit: None,
            read: Some(0),
            read_rate: None,
            written: None,
            write_rate: Some(2048),
            limits_by: "cgroup2".to_owned(),
            counted_by: CountedBy { cpu: "cgroup2", memory: "cgroup2", tasks: "cgroup2", io: "processes" },
        }
    }

    fn top(n: u64) -> Top {
        Top { jails: (1..=n).map(jail).collect(), ..Top::default() }
    }

    #[test]
    fn a_screen_is_never_more_than_the_window_and_says_what_is_missing() {
        for (jails, rows, columns) in [
            (0, 24, 80),
            (3, 24, 80),
            (30, 24, 80),
            (30, 3, 10),
            (30, 1, 1),
            (5, 7, 200),
            (5, 6, 200),
            (9, 0, 0),
        ] {
            let shown = lines(&top(jails), Order::Cpu, rows, columns);
            assert!(shown.len() <= rows.max(1), "{jails} {rows}: {}", shown.len());
            for line in &shown {
                let line = line.strip_prefix("\x1b[7m").unwrap_or(line);
                assert!(line.chars().count() <= columns.max(1), "{columns}: {line:?}");
                assert!(!line.contains('\u{1b}'), "{line:?}");
            }
        }
        let shown = lines(&top(30), Order::Mem, 24, 80);
        assert_eq!(shown[0], "aj top: 30 jails, 1 paused, by memory; order: c m t i a, end: q");
        assert!(shown[1].contains("ID") && shown[1].contains("COMMAND"), "{}", shown[1]);
        // A narrow window shows less, and a wide one all.
        assert!(!shown[1].contains("BY") && shown[2].contains("sh -c '"), "{shown:#?}");
        assert!(lines(&top(1), Order::Cpu, 24, 120)[1].contains("BY       COMMAND"));
        assert_eq!((shown.len(), shown[23].as_str()), (24, "… 9 more"));
        assert_eq!(lines(&top(5), Order::Cpu, 7, 200).len(), 7, "all of them fit");
    }

    #[test]
    fn a_row_is_short_for_people_and_whole_when_piped() {
        let mut jail = jail(2);
        jail.argv = vec!["a b".to_owned()];
        let people = cells(&jail, true);
        assert_eq!(
            people,
            [
                "jl-00000000",
                "paused",
                "2m 02s",
                "150.5",
                "2 MiB/64 MiB",
                "98",
                "-",
                "2 KiB",
                "cgroup2",
                "'a b'"
            ]
        );
        jail.counted_by.cpu = "processes";
        let piped = cells(&jail, false);
        assert_eq!(piped[0], "jl-0000000000000002");
        assert_eq!(
            piped[2..9],
            ["122000ms", "150.5", "2097152/67108864", "98", "-", "2048", "cgroup2+processes"]
        );
    }

    #[test]
    fn the_largest_come_first_and_equals_stay_as_they_began() {
        let order = |order: Order| {
            let mut jails = top(4).jails;
            order.sort(&mut jails);
            jails.iter().map(|j| j.cpu_ms.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(order(Order::Cpu), [1, 2, 3, 4]);
        assert_eq!(order(Order::Mem), [4, 3, 2, 1]);
        assert_eq!(order(Order::Tasks), [1, 2, 3, 4]);
        assert_eq!(order(Order::Age), [4, 3, 2, 1]);
        assert_eq!([b'c', b'M', b't', b'i', b'a', b'q'].map(Order::of_key)[5], None);
    }
}
