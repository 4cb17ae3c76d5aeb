//! `aj top`.

use std::time::{Duration, Instant};

use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::state;
use super::top_view::{self as view, Order};
use super::ui::Ui;
use crate::base::duration;
use crate::monitor::Silent;
use crate::ops::screen::{self, Event, Screen};
use crate::ops::top::{Error, Watch};

/// Watch the jails that run: processor, memory, tasks and I/O
///
/// On a terminal the table is drawn anew every second until q is pressed; c, m, t, i and a sort it by
/// processor time, memory, tasks, I/O and age. Otherwise, and with --once, it is printed once: tab-separated,
/// in bytes, without headers. With --json and --interval an object is printed again and again, one a line.
///
/// Memory and tasks are shown with their limits. `by` says who counted: `cgroup2` or `cgroup1`, a control group
/// of the jail's own, or `processes`: without one, what the processes of the jail have at that moment is added
/// up, so that what is in its /tmp is missing, and what came and went between two looks. 100 % is one processor. A narrow
/// window shows fewer columns.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj top
  aj top --sort mem --interval 5s
  aj top --once
  aj top --json | jq -r '.jails[] | select(.memory > 1e9) | .id'")]
pub struct Args {
    /// Print the table once, on a terminal, too
    #[arg(long)]
    once: bool,
    /// Time between two looks, 100ms at least [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    interval: Option<Duration>,
    /// What the jails are sorted by
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    sort: Order,
}

/// The shortest time between two looks: those read the files of every process.
const SHORTEST: Duration = Duration::from_millis(100);
/// Time between two looks.
const USUAL: Duration = Duration::from_secs(1);
/// The same where somebody waits for the rates of one table.
const BRIEF: Duration = Duration::from_millis(500);

fn interval(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(time) if time < SHORTEST => Err("it must be 100ms at least".to_owned()),
        Ok(time) => Ok(time),
        Err(e) => Err(e.to_string()),
    }
}

/// Run `aj top`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let mut watch = Watch::default();
    if !args.once && !ui.json && screen::is_one() {
        return live(ui, &mut watch, args.interval.unwrap_or(USUAL), args.sort);
    }
    let stream = ui.json && args.interval.is_some() && !args.once;
    let every = args.interval.unwrap_or(BRIEF);
    let mut top = watch.look(ui)?;
    loop {
        // Rates need two looks; without jails there are none to wait for.
        if !top.jails.is_empty() || stream {
            std::thread::sleep(every);
            top = watch.look(ui)?;
        }
        args.sort.sort(&mut top.jails);
        if !stream {
            break;
        }
        if !ui.stream(&top) {
            return Ok(Exit(exit::OK));
        }
    }
    if ui.json {
        ui.document(&top);
    } else if top.jails.is_empty() {
        ui.status("no jails run");
    } else {
        let terminal = ui.stdout_is_terminal();
        let rows: Vec<_> = top.jails.iter().map(|j| view::cells(j, terminal)).collect();
        ui.listing(&view::HEADERS, &rows);
    }
    Ok(Exit(exit::OK))
}

/// Until q is pressed. What the ledger has to say is said before the screen is taken.
fn live(ui: &Ui, watch: &mut Watch, every: Duration, mut order: Order) -> CmdResult {
    let mut top = watch.look(ui)?;
    let mut screen = Screen::open().map_err(|e| {
        CommandError::new(exit::FAILED, "no_screen", "could not take the terminal")
            .caused_by(&e)
            .hint("print the table once: `aj top --once`")
    })?;
    // The first rates come soon.
    let mut next = Instant::now() + every.min(BRIEF);
    loop {
        order.sort(&mut top.jails);
        let (rows, columns) = screen.size();
        screen.draw(&view::lines(&top, order, rows, columns));
        match screen.wait(next) {
            Event::Elapsed => {
                top = watch.look(&Silent)?;
                next = Instant::now() + every;
            }
            Event::Key(b'q' | b'Q') => return Ok(Exit(exit::OK)),
            Event::Key(key) => order = Order::of_key(key).unwrap_or(order),
            Event::Redraw => {}
            Event::End(signal) => {
                drop(screen);
                screen::die_of(signal);
                // Somebody has made it harmless.
                return Ok(Exit(exit::OK));
            }
        }
    }
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        state::error(&e)
    }
}
