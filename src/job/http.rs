//! Whether a server answers: one GET over loopback, of which the first line of the answer is read and no more.
//!
//! The server is hostile: it may answer byte by byte, without end, or not at all. All of it together has until a
//! deadline, and what is kept of its answer is a line of bounded length, of which a number is used.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of the first line at most.
const LINE: usize = 1024;

/// What was seen of a server that was not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unready {
    /// Where; `None`: on any port.
    pub port: Option<u16>,
    /// What came.
    pub came: Came,
}

/// What came of a GET, but for one that is answered as by a server that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// This status.
    Status(u16),
    /// Nothing listened there.
    Nobody,
    /// The connection was refused.
    Refused,
    /// No answer while there was time.
    Late,
    /// The connection ended without an answer.
    Closed,
    /// An answer that is none of HTTP.
    Garbled,
}

/// The words for what has no number.
const WORDS: [(Came, &str); 5] = [
    (Came::Nobody, "nobody"),
    (Came::Refused, "refused"),
    (Came::Late, "late"),
    (Came::Closed, "closed"),
    (Came::Garbled, "garbled"),
];

impl Unready {
    /// As one process tells another: `3000 503`, `0 nobody`.
    pub fn wire(&self) -> String {
        let port = self.port.unwrap_or(0);
        match self.came {
            Came::Status(status) => format!("{port} {status}"),
            came => {
                let word = WORDS.iter().find(|(known, _)| *known == came).map_or("", |(_, word)| word);
                format!("{port} {word}")
            }
        }
    }

    /// The reverse. It may come from a jail: what is nothing that `wire` writes is nothing.
    pub fn read(text: &str) -> Option<Unready> {
        let (port, word) = text.split_once(' ')?;
        let port = port.parse::<u16>().ok()?;
        let named = WORDS.iter().find(|(_, known)| *known == word).map(|(came, _)| *came);
        let status = || word.parse().ok().filter(|status| (0..1000).contains(status)).map(Came::Status);
        Some(Unready { port: (port > 0).then_some(port), came: named.or_else(status)? })
    }

    /// The status that it answered with.
    pub fn status(&self) -> Option<u16> {
        match self.came {
            Came::Status(status) => Some(status),
            Came::Nobody | Came::Refused | Came::Late | Came::Closed | Came::Garbled => None,
        }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map_or_else(|| "any port".to_owned(), |port| format!("port {port}"));
        match self.came {
            Came::Status(status) => write!(f, "{port} answered with {status}"),
            Came::Nobody => write!(f, "nothing listened on {port}"),
            Came::Refused => write!(f, "{port}: connection refused"),
            Came::Late => write!(f, "{port} did not answer in time"),
            Came::Closed => write!(f, "{port} closed the connection without an answer"),
            Came::Garbled => write!(f, "the answer of {port} is none of HTTP"),
        }
    }
}

/// Whether one of `ports`, tried in their order until `deadline`, answers a GET of `path` with a status that
/// [`is_ready`]; what was seen last, otherwise, a status before all else. `path` has no blanks and no control
/// characters, so that nothing else can be asked by it.
pub fn answers(ports: &[u16], path: &str, deadline: Instant) -> Result<(), Option<Unready>> {
    let mut seen: Option<Unready> = None;
    for port in ports {
        let came = match status(*port, path, deadline) {
            Ok(status) if is_ready(status) => return Ok(()),
            Ok(status) => Came::Status(status),
            Err(_) if seen.is_some_and(|seen| seen.status().is_some()) => continue,
            Err(e) => match e.kind() {
                io::ErrorKind::ConnectionRefused => Came::Refused,
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Came::Late,
                io::ErrorKind::InvalidData => Came::Garbled,
                _ => Came::Closed,
            },
        };
        seen = Some(Unready { port: Some(*port), came });
    }
    Err(seen)
}

/// Whether an answer with this status says that the server is ready.
pub fn is_ready(status: u16) -> bool {
    (200..400).contains(&status)
}

/// The status that a GET of `path` on `port` is answered with.
pub fn status(port: u16, path: &str, deadline: Instant) -> io::Result<u16> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut last = io::Error::from(io::ErrorKind::NotConnected);
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), left(deadline)?) {
            Ok(stream) => return ask(stream, (port, path), deadline),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn ask(mut stream: TcpStream, (port, path): (u16, &str), deadline: Instant) -> io::Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: aj\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let n = stream.write(rest)?;
        rest = rest.get(n..).filter(|_| n > 0).ok_or(io::ErrorKind::WriteZero)?;
    }
    let mut line = Vec::new();
    let mut piece = [0; LINE];
    loop {
        // Set anew each time: one that sends a byte now and then has no more time than others.
        stream.set_read_timeout(Some(left(deadline)?))?;
        let n = match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        line.extend_from_slice(piece.get(..n).unwrap_or_default());
        if let Some(end) = line.iter().position(|b| *b == b'\n') {
            return parse(line.get(..end).unwrap_or_default())
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if line.len() > LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// `HTTP/1.1 200 OK`
pub(super) fn parse(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', a, b, c, after @ ..] = rest else { return None };
    let ends = matches!(after.first(), None | Some(b' ' | b'\r'));
    let digits = [a, b, c].iter().all(|d| d.is_ascii_digit());
    let number = |d: &u8| u16::from(d - b'0');
    (ends && digits).then(|| number(a) * 100 + number(b) * 10 + number(c))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What comes of a server that does `serve` with its one connection, within 300 ms.
    fn asked(serve: impl FnOnce(TcpStream) + Send + 'static) -> io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        status(port, "/healthz?a=b", Instant::now() + Duration::from_millis(300))
    }

    #[test]
    fn the_first_line_says_it() {
        let answer = |text: &'static [u8]| {
            asked(move |mut stream| {
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).unwrap();
                assert!(request[..n].starts_with(b"GET /healthz?a=b HTTP/1.1\r\nHost: localhost:"));
                stream.write_all(text).unwrap();
            })
        };
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), 204);
        assert_eq!(answer(b"HTTP/1.0 503\r\n").unwrap(), 503);
        assert_eq!(answer(b"HTTP/1.1 301 \x1b[31m\n").unwrap(), 301);
        for bad in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 20\r\n",
            b"HTTP/1.1 2000\r\n",
            b"HTTP/2 200\r\n",
            b"HTTP/1.1 200",
            b"\n",
        ] {
            assert!(answer(bad).is_err(), "{bad:?}");
        }
        assert_eq!([199, 200, 399, 400].map(is_ready), [false, true, true, false]);
    }

    #[test]
    fn what_was_seen_goes_from_process_to_process_and_nothing_else_does() {
        let all = WORDS.map(|(came, _)| came).into_iter().chain([Came::Status(503), Came::Status(0)]);
        for came in all {
            for port in [None, Some(1), Some(65_535)] {
                let seen = Unready { port, came };
                assert_eq!(Unready::read(&seen.wire()), Some(seen));
            }
        }
        for bad in [
            "",
            "3000",
            "3000 ",
            "3000 x",
            "3000 1000",
            "3000 -1",
            "65536 503",
            "x 503",
            "3000 503 ",
            "1 a\x1b",
        ] {
            assert_eq!(Unready::read(bad), None, "{bad:?}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (busy, soon) = (listener.local_addr().unwrap().port(), Duration::from_millis(300));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 503 No\r\n\r\n").unwrap();
        });
        let said = answers(&[busy, free], "/", Instant::now() + soon).unwrap_err().unwrap();
        assert_eq!((said.port, said.status()), (Some(busy), Some(503)), "a status is more than a refusal");
        let said = answers(&[free], "/", Instant::now() + soon).unwrap_err().unwrap();
        assert_eq!(said.to_string(), format!("port {free}: connection refused"));
    }

    #[test]
    fn a_hostile_server_takes_no_more_than_the_time_and_a_line() {
        let e = asked(|stream| std::thread::sleep(Duration::from_secs(2 + u64::from(stream.ttl().is_err()))));
        assert!(e.is_err(), "one that says nothing");
        let e = asked(|mut stream| {
            for byte in b"HTTP/1.1 200 OK".iter().cycle() {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        assert!(e.is_err(), "byte by byte");
        let e = asked(|mut stream| while stream.write_all(&[b'H'; 4096]).is_ok() {});
        assert!(e.is_err(), "a line without end");
        let e = asked(|mut stream| while stream.write_all(b"HTTP/1.1 100 Continue\r\nx: y\r\n").is_ok() {});
        assert_eq!(e.unwrap(), 100, "the first line is all that is read");
        assert!(status(1, "/", Instant::now()).is_err(), "the time is up");
    }
}
