//! Mutations of known inputs, from a seed: the same seed tries the same inputs.

/// Longest input that is made.
const LONGEST: usize = 16 << 10;

/// Numbers without a pattern (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed and a name, so that each target has numbers of its own.
    pub fn new(seed: u64, name: &str) -> Random {
        // FNV-1a; never 0, from which nothing follows.
        let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        Random(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, hash) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 for an `end` of 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.number() % end as u64) as usize }
    }
}

/// A new input from the known ones.
pub fn input(known: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = known.get(random.below(known.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(6) {
        change(&mut bytes, known, random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, known: &[Vec<u8>], random: &mut Random) {
    const ODD: &[&[u8]] = &[
        b"\0",
        b"\n",
        b"\r\n",
        b"\xff",
        b"\\",
        b"\"",
        b"'",
        b"/",
        b"..",
        b"**",
        b"[",
        b"]",
        b"{",
        b"=",
        b"#",
        b"~/",
        b"--",
        b"$",
        b" ",
        b"\t",
        b"\x1b[2J",
        b"\xe2\x80\xae",
        b"\xc2\x9b",
        b"9999999999999999999999",
        b"-1",
        b"0",
        b"18446744073709551615",
        b"1e9",
        b"\xef\xbb\xbf",
        b"://a:b@c",
    ];
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(16)).min(bytes.len());
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.number() as u8,
        2 if at < end => drop(bytes.drain(at..end)),
        3 => {
            let odd = ODD[random.below(ODD.len())];
            bytes.splice(at..at, odd.iter().copied());
        }
        4 if at < end => {
            let again = bytes[at..end].repeat(1 + random.below(4));
            bytes.splice(at..at, again);
        }
        5 => {
            // A piece of another one.
            let other = known.get(random.below(known.len())).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len() + 1);
            let to = (from + 1 + random.below(64)).min(other.len());
            if let Some(piece) = other.get(from..to) {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        6 => bytes.truncate(at),
        7 => {
            // A number of some width, small or at an edge.
            let edges = [0, 1, 0x7f, 0xff, 0x7fff_ffff, u64::from(u32::MAX), u64::MAX, 1 << 63];
            let number = edges[random.below(edges.len())].to_le_bytes();
            let width = 1 << random.below(4);
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, number[..width].iter().copied());
        }
        // One line in the place of another, or a long one.
        _ => {
            let lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let line = lines[random.below(lines.len())].clone();
            let line = if random.below(8) == 0 { line.repeat(1 + random.below(300)) } else { line };
            bytes.push(b'\n');
            bytes.extend(line);
        }
    }
}
