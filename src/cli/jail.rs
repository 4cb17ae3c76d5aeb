//! `aj jail list` and `aj jail show`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::jail_view as view;
use super::state;
use super::ui::Ui;
use crate::base::{clock, duration, size, text};
use crate::ops::ledger::{self, Error, Filter, Listed};
use crate::schema::ledger::{JailDetail, KINDS, Output, Status};

/// Look at what ran: one record per jail, newest first
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj jail list
  aj jail show @
  aj jail list --status failed --since 2h")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[command(visible_alias = "get")]
    Show(ShowArgs),
}

/// List jails, newest first
///
/// `kept` is what the changes of a jail take on the disk, as long as `aj diff` can show them (bytes when
/// piped; `yes` where nobody measured them). Runs that went on in the same changes show the same.
///
/// With -q only full ids are printed, one a line. Piped, columns are separated by tabs and nothing
/// is shortened but commands of more than 1024 characters; --json and `aj jail show` have them whole.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj jail list
  aj jail list --status lost --status killed
  aj jail list --since 2h --search 'npm install'
  aj jail list --json | jq -r '.jails[] | select(.exit_code == 1) | .id'")]
struct ListArgs {
    /// Only jails with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
    status: Vec<String>,
    /// Only jails made by this command; `unknown` are those whose start was lost
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS))]
    kind: Option<String>,
    /// Only jails started since then: `2h`, `2026-11-21`, `2026-11-21T14:05:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Only jails started before then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Only jails whose command or directory contains this text, in either case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most so many; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
}

/// Show one jail: its command, policy, layers, usage and output
///
/// Of each output stream the first and the last 64 KiB are kept. What the jail wrote is escaped, so
/// that it cannot control the terminal.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj jail show @
  aj jail show 7k3m --output=stderr
  aj jail show @ --output=stdout --raw > out.bin
  aj jail show jl-7k3m --json | jq .policy")]
struct ShowArgs {
    /// Id, the start of one (with or without `jl-`), or `@` for the newest
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::jails))]
    id: String,
    /// Print only what it wrote
    #[arg(long, value_name = "STREAM", num_args = 0..=1, require_equals = true,
          default_missing_value = "both", value_enum)]
    output: Option<Stream>,
    /// Print the bytes as they were; not to a terminal
    #[arg(long, requires = "output")]
    raw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
    Both,
}

/// Run `aj jail`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.command {
        Command::List(args) => list(ui, args),
        Command::Show(args) => show(ui, &args),
    }
}

fn list(ui: &Ui, args: ListArgs) -> CmdResult {
    let filter = Filter {
        status: args.status.iter().filter_map(|s| Status::from_name(s)).collect(),
        kind: args.kind,
        since_ms: args.since,
        until_ms: args.until,
        text: args.search,
        limit: Some(args.limit).filter(|&n| n > 0),
    };
    let report = ledger::list(&filter, ui)?;
    if ui.json {
        ui.document(&report.into_json());
    } else if ui.quiet > 0 {
        report.jails.iter().for_each(|j| ui.line(&text::printable(j.summary.id.as_bytes())));
    } else if report.jails.is_empty() {
        ui.status("no jails to show");
    } else {
        let terminal = ui.stdout_is_terminal();
        let now = clock::now_ms();
        let rows: Vec<_> = report.jails.iter().map(|j| row(j, terminal, now)).collect();
        ui.listing(&["id", "status", "exit", "age", "duration", "kept", "command"], &rows);
    }
    Ok(Exit(exit::OK))
}

/// Characters of a command in a listing, at most.
const LONGEST_COMMAND: usize = 1024;

/// On a terminal short and relative; piped whole and absolute.
fn row(jail: &Listed, terminal: bool, now: u64) -> Vec<String> {
    let s = &jail.summary;
    let dash = || "-".to_owned();
    let started = |ms: u64| if terminal { view::age(ms, now) } else { clock::rfc3339(ms) };
    let took = |ms: u64| {
        if terminal { duration::human(Duration::from_millis(ms)) } else { format!("{ms}ms") }
    };
    vec![
        if terminal { jail.short.clone() } else { text::printable(s.id.as_bytes()) },
        s.status.as_str().to_owned(),
        s.exit_code.map_or_else(dash, |c| c.to_string()),
        jail.started_ms.map_or_else(dash, started),
        s.duration_ms.map_or_else(dash, took),
        match s.kept_bytes {
            Some(bytes) if terminal => size::human(bytes),
            Some(bytes) => bytes.to_string(),
            None if s.changes_kept => "yes".to_owned(),
            None => dash(),
        },
        // A line is for people and their tools; arguments may be as long as the kernel takes.
        view::shorten(&jail.command, LONGEST_COMMAND),
    ]
}

fn show(ui: &Ui, args: &ShowArgs) -> CmdResult {
    if args.raw && ui.stdout_is_terminal() {
        let message = "`--raw` would let what the jail wrote control this terminal";
        return Err(CommandError::new(exit::USAGE, "raw_to_terminal", message)
            .hint("redirect it to a file, or leave `--raw` out"));
    }
    let jail = ledger::show(&args.id, ui)?;
    if ui.json {
        ui.document(&jail);
        return Ok(Exit(exit::OK));
    }
    match args.output {
        None => ui.out(&view::detail(&jail, clock::now_ms())),
        Some(stream) => {
            for output in chosen(&jail, stream) {
                if args.raw { raw(ui, output) } else { ui.out(&view::output(output)) }
            }
        }
    }
    Ok(Exit(exit::OK))
}

fn chosen(jail: &JailDetail, stream: Stream) -> Vec<&Output> {
    match stream {
        Stream::Stdout => vec![&jail.stdout],
        Stream::Stderr => vec![&jail.stderr],
        Stream::Both => vec![&jail.stdout, &jail.stderr],
    }
}

fn raw(ui: &Ui, output: &Output) {
    ui.bytes(&output.head_bytes);
    ui.bytes(&output.tail_bytes);
    if output.truncated {
        ui.warn(&format!("{} bytes in the middle were not kept", output.omitted()));
    }
}

/// A time: so long ago, RFC 3339, or a date (and time) of the local time zone. Milliseconds since
/// the epoch.
pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let at = |t: jiff::Timestamp| u64::try_from(t.as_millisecond()).unwrap_or(0);
    if let Ok(ago) = duration::parse(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(clock::now_ms().saturating_sub(ago));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(at(instant));
    }
    text.parse::<jiff::civil::DateTime>()
        .and_then(|local| local.to_zoned(jiff::tz::TimeZone::system()))
        .map(|zoned| at(zoned.timestamp()))
        .map_err(|_| "write it like `2h`, `2026-11-21` or `2026-11-21T14:05:00Z`".to_owned())
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        match e {
            Error::State(e) => state::error(&e),
            Error::NotFound(_) => CommandError::new(exit::NOT_FOUND, "jail_not_found", e.to_string())
                .hint("`aj jail list` shows what there is"),
            Error::Ambiguous { ref candidates, .. } => {
                let error = CommandError::new(exit::NOT_FOUND, "jail_ambiguous", e.to_string());
                candidates.iter().fold(error, |error, c| {
                    let id = text::printable(c.id.as_bytes());
                    error.hint(format!("`aj jail show {id}`: {}", view::shorten(&c.command, 60)))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        let matches = Args::augment_args(clap::Command::new("jail"))
            .try_get_matches_from(std::iter::once(&"jail").chain(words))?;
        Args::from_arg_matches(&matches).map(|a| a.command)
    }

    #[test]
    fn the_command_line_is_sound_and_every_page_has_examples() {
        let mut command = Args::augment_args(clap::Command::new("jail"));
        command.clone().debug_assert();
        command.build();
        for page in std::iter::once(&command).chain(command.get_subcommands()) {
            if page.get_name() != "help" {
                let examples = page.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                assert!((2..=4).contains(&examples.matches("\n  aj ").count()), "{}", page.get_name());
            }
        }
    }

    #[test]
    fn filters_and_selectors_are_read_as_written() {
        let Command::List(list) = parse(&["ls", "--status", "lost,oom", "--status", "exited"]).unwrap()
        else {
            panic!("list")
        };
        assert_eq!(list.status, ["lost", "oom", "exited"]);
        assert_eq!((list.limit, list.since), (50, None));
        assert!(parse(&["list", "--status", "dead"]).is_err());
        assert!(parse(&["list", "--kind", "exec"]).is_ok());
        let e = parse(&["list", "--kind", "foo"]).unwrap_err().to_string();
        assert!(e.contains("[possible values: exec, shell, live, unknown]"), "{e}");
        let Command::Show(show) = parse(&["get", "@", "--output"]).unwrap() else { panic!("show") };
        assert_eq!((show.id.as_str(), show.output, show.raw), ("@", Some(Stream::Both), false));
        let Command::Show(show) = parse(&["show", "--output=stderr", "--raw", "7k3m"]).unwrap() else {
            panic!("show")
        };
        assert_eq!((show.id.as_str(), show.output, show.raw), ("7k3m", Some(Stream::Stderr), true));
        assert!(parse(&["show", "--raw", "@"]).is_err(), "raw without output");
        assert!(parse(&["show"]).is_err());
    }

    #[test]
    fn times_are_relative_absolute_or_local() {
        let now = clock::now_ms();
        let ago = now - parse_time("2h").unwrap();
        assert!((7_195_000..=7_200_000).contains(&ago), "{ago}");
        assert_eq!(parse_time("2026-11-21T10:35:02.005Z"), Ok(1_795_257_302_005));
        assert_eq!(parse_time("2026-11-21T11:35:02.005+01:00"), Ok(1_795_257_302_005));
        let day = parse_time("2026-11-21").unwrap();
        assert!(day.abs_diff(1_795_219_200_000) <= 14 * 3_600_000, "{day}: midnight somewhere");
        assert_eq!(parse_time("2026-11-21T14:05").unwrap() - day, 14 * 3_600_000 + 5 * 60_000);
        assert_eq!(parse_time("1960-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse_time("99999999999d"), Ok(0));
        for bad in ["", "soon", "2026-13-01", "-2h"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ambiguous_id_names_its_candidates_in_hints() {
        let candidate = |n: u8| ledger::Candidate {
            id: format!("jl-7k3{n}000000000000"),
            command: "\u{1b}[31m".repeat(40).replace('\u{1b}', "\\x1b"),
        };
        let e = CommandError::from(Error::Ambiguous {
            selector: "7k3".to_owned(),
            count: 12,
            candidates: (0..8).map(candidate).collect(),
        });
        assert_eq!((e.exit, e.code, e.hints.len()), (3, "jail_ambiguous", 8));
        assert_eq!(e.message, "`7k3` is the start of the ids of 12 jails");
        assert!(e.hints[1].starts_with("`aj jail show jl-7k31000000000000`: "), "{}", e.hints[1]);
        let e = CommandError::from(Error::NotFound("x".to_owned()));
        assert_eq!((e.exit, e.code), (3, "jail_not_found"));
    }
}
