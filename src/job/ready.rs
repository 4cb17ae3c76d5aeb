//! When a job is ready: a port that it listens on, an answer over HTTP, or a line of its log.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use super::frame::{Entry, Stream};
use crate::base::text;

/// Memory of a compiled pattern at most.
const PATTERN: usize = 1 << 20;
/// Bytes of a line that a pattern is tried on at most: a longer one is tried in pieces.
const LINE: usize = 64 * 1024;

/// What is waited for.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Something in its jail listens on this TCP port.
    Port(u16),
    /// A GET of this path, on this port or on any that is listened on, is answered with 2xx or 3xx.
    Http {
        /// The port.
        port: Option<u16>,
        /// The path, with its `/`.
        path: String,
    },
    /// A line of its output matches.
    Log(Regex),
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotACondition {
    /// It is of no kind that there is.
    #[error("`{0}` is nothing to wait for: write `port:3000`, `http:3000/path` or `log:REGEX`")]
    Kind(String),
    /// The port is none.
    #[error("`{0}` is not a port: a number from 1 to 65535")]
    Port(String),
    /// The address is another machine's.
    #[error("`{0}` is not in the jail: write `http:PORT/path`, or `http://localhost:PORT/path`")]
    Host(String),
    /// The path is none.
    #[error("`{0}` is not a path of an address: it has blanks or control characters in it")]
    Path(String),
    /// The pattern is none.
    #[error("`{pattern}` is not a pattern: {why}")]
    Pattern {
        /// As given, printable.
        pattern: String,
        /// What is wrong with it, one line.
        why: String,
    },
}

impl FromStr for Condition {
    type Err = NotACondition;

    fn from_str(given: &str) -> Result<Condition, NotACondition> {
        let shown = |text: &str| text::brief(&text::printable(text.as_bytes()));
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
            _ => Err(NotACondition::Port(shown(text))),
        };
        match given.split_once(':') {
            Some(("port", rest)) => Ok(Condition::Port(port(rest)?)),
            Some(("http", rest)) => {
                // As an address is written: of this machine, which inside is the jail.
                let (rest, whole) = match rest.strip_prefix("//") {
                    Some(address) => {
                        let own = ["localhost", "127.0.0.1", "[::1]"];
                        let after = own.iter().find_map(|host| address.strip_prefix(host));
                        let after = after.ok_or_else(|| NotACondition::Host(shown(address)))?;
                        (after.strip_prefix(':').unwrap_or(after), Some(after.starts_with(':')))
                    }
                    None => (rest, None),
                };
                if whole == Some(false) && !rest.starts_with('/') {
                    return Err(NotACondition::Host(shown(given)));
                }
                let at = rest.find('/').ok_or_else(|| NotACondition::Kind(shown(given)))?;
                let (number, path) = rest.split_at(at);
                if path.len() > 2048 || !path.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(NotACondition::Path(shown(path)));
                }
                let port = match (number, whole) {
                    ("", None) => None,
                    ("", Some(false)) => Some(80),
                    (number, _) => Some(port(number)?),
                };
                Ok(Condition::Http { port, path: path.to_owned() })
            }
            Some(("log", pattern)) => Ok(Condition::Log(compile(pattern)?)),
            _ => Err(NotACondition::Kind(shown(given))),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Port(port) => write!(f, "port:{port}"),
            Condition::Http { port: Some(port), path } => write!(f, "http:{port}{path}"),
            Condition::Http { port: None, path } => write!(f, "http:{path}"),
            Condition::Log(pattern) => write!(f, "log:{pattern}"),
        }
    }
}

/// A pattern with bounds: what it can cost grows with what it is tried on, and with nothing else.
fn compile(pattern: &str) -> Result<Regex, NotACondition> {
    RegexBuilder::new(pattern).size_limit(PATTERN).dfa_size_limit(PATTERN).build().map_err(|e| {
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default();
        NotACondition::Pattern {
            pattern: text::brief(&text::printable(pattern.as_bytes())),
            why: text::printable(why.trim_start_matches("error: ").as_bytes()),
        }
    })
}

/// Looks for a line in what goes by.
#[derive(Debug)]
pub struct Seeker {
    pattern: Regex,
    /// The line that has not ended, of stdout and of stderr.
    lines: [Vec<u8>; 2],
}

impl Seeker {
    /// For `pattern`.
    pub fn new(pattern: Regex) -> Seeker {
        Seeker { pattern, lines: Default::default() }
    }

    /// Take in the next record; whether a line has matched. A line may match before it has ended: prompts have
    /// no end.
    pub fn see(&mut self, entry: &Entry) -> bool {
        let line = match entry.stream {
            Stream::Out => &mut self.lines[0],
            Stream::Err => &mut self.lines[1],
            Stream::System => return false,
        };
        for piece in entry.bytes.split_inclusive(|b| *b == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            line.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            let whole = line.strip_suffix(b"\r").unwrap_or(line);
            if self.pattern.is_match(whole) {
                return true;
            }
            if ended || line.len() > LINE {
                line.clear();
            }
        }
        false
    }
}

/// TCP ports on which something listens in the network of process `pid`, as the kernel lists them in its
/// `/proc`, lowest first. Empty when that cannot be read.
pub fn listening(pid: i32) -> Vec<u16> {
    /// Bytes of a list that are looked at: a jail may open many sockets.
    const MOST: u64 = 4 << 20;
    let mut ports = std::collections::BTreeSet::new();
    for name in ["tcp", "tcp6"] {
        let Ok(file) = std::fs::File::open(format!("/proc/{pid}/net/{name}")) else { continue };
        let mut table = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST), &mut table).ok();
        ports.extend(String::from_utf8_lossy(&table).lines().filter_map(listener));
    }
    ports.into_iter().collect()
}

/// The port of a line that is a listening socket's: `0: 0100007F:0BB8 00000000:0000 0A …`.
fn listener(line: &str) -> Option<u16> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (_, local, _, state) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if state != LISTEN {
        return None;
    }
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: Stream, bytes: &[u8]) -> Entry {
        Entry { end: 0, time_ms: 0, stream, bytes: bytes.to_vec() }
    }

    #[test]
    fn conditions_are_read_and_shown_alike() {
        for text in ["port:3000", "http:/", "http:8080/healthz?a=b", "log:listening on .*:\\d+", "log:"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        for (address, same) in [
            ("http://localhost:3000/a", "http:3000/a"),
            ("http://127.0.0.1:3000/", "http:3000/"),
            ("http://[::1]:3000/", "http:3000/"),
            ("http://localhost/a//b", "http:80/a//b"),
        ] {
            assert_eq!(address.parse::<Condition>().unwrap().to_string(), same);
        }
        for bad in [
            "",
            "port",
            "port:",
            "port:0",
            "port:65536",
            "port:+1",
            "http:",
            "http:3000",
            "http:x/",
            "http:/a b",
            "http:/\u{1b}",
            "https:/",
            "http://example.org/",
            "http://localhost.example.org/",
            "http://localhost@x/",
            "http://localhost:/",
            "http://localhost",
            "http://127.0.0.1:0/",
            "log",
            "log:(",
            "log:\u{1b}[",
            "file:x",
            "log:a{1000}{1000}{1000}",
        ] {
            let e = bad.parse::<Condition>().unwrap_err().to_string();
            assert!(!e.contains('\u{1b}') && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn a_line_is_found_however_it_is_cut_and_streams_are_not_mixed() {
        let seeker = || Seeker::new(compile("^ready in \\d+ms$").unwrap());
        let seen = |pieces: &[(Stream, &[u8])]| {
            let mut seeker = seeker();
            pieces.iter().any(|(stream, bytes)| seeker.see(&entry(*stream, bytes)))
        };
        use Stream::{Err, Out, System};
        assert!(seen(&[(Out, b"x\nready in 5ms\r\ny")]));
        assert!(seen(&[(Err, b"ready "), (Out, b"noise\n"), (Err, b"in 5ms\n")]));
        assert!(!seen(&[(Out, b"ready "), (Err, b"in 5ms\n")]));
        assert!(!seen(&[(System, b"ready in 5ms\n")]));
        assert!(!seen(&[(Out, b"already in 5ms\n")]));
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut seeker = Seeker::new(compile("never").unwrap());
        for _ in 0..1000 {
            assert!(!seeker.see(&entry(Stream::Out, &[b'x'; 64 * 1024])));
        }
        assert!(seeker.lines[0].capacity() < 1 << 20);
    }

    #[test]
    fn who_listens_is_seen_in_the_table_and_who_is_connected_is_not() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(listening(me).contains(&port));
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(!listening(me).contains(&client.local_addr().unwrap().port()));
        drop(socket);
        assert!(!listening(me).contains(&port));
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(listener(" 0: 00000000000000000000000000000000:1F90 0:0 0A"), Some(8080));
    }
}
