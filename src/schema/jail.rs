//! One run of a command: what is appended to the spool, and what `--json` shows.

use serde::{Deserialize, Serialize};

use crate::base::id::Id;

/// Version of the spool payloads and of the rows made from them. An older `aj` refuses a newer one.
pub const FORMAT: u32 = 1;

/// Appended before the command runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Version of this record: [`FORMAT`].
    pub format: u32,
    /// Id of the jail.
    pub id: Id,
    /// What made the jail: `exec`.
    pub kind: String,
    /// Wall time, milliseconds since the epoch.
    pub started_ms: u64,
    /// Boot id of the machine, to tell a process of an earlier boot from a live one.
    pub boot_id: String,
    /// Pid of the supervising `aj`.
    pub pid: u32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`): pid reuse guard.
    pub pid_start: u64,
    /// The command, each argument made printable.
    pub argv: Vec<String>,
    /// Directory the command started in, printable.
    pub cwd: String,
    /// Host directory shown as the workspace, printable.
    pub base: String,
    /// What the three above stand for, when making them printable changed any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Box<Exact>>,
    /// Whether the changes of this jail may be kept in an overlay tree.
    pub overlay: bool,
    /// The jail whose tree this one went on in; `None` when it has its own, under `trees/<id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Id>,
    /// Pid of the jail's pid 1, as this machine numbers it: what a killed `aj` leaves may take a moment
    /// to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<u32>,
    /// The jail of a workspace that the command has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Id>,
    /// The policy as enforced.
    pub policy: Effective,
}

/// The exact bytes, in base64, of what a record shows as printable text. Each `None` where the text is
/// exact: text alone cannot tell an ESC from the four characters that stand for one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exact {
    /// Every argument, when one of them had to be escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Directory the command started in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Host directory shown as the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Appended when the jail has ended, however it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Version of this record: [`FORMAT`].
    pub format: u32,
    /// Id of the jail.
    pub id: Id,
    /// Wall time, milliseconds since the epoch.
    pub ended_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Layers that were in force, in the order they were applied.
    pub layers: Vec<String>,
    /// The mode that it ran in, when that is another than its start allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// Files changed in the overlay, `null` when not counted.
    pub files_changed: Option<u64>,
    /// The limit that it was killed for, where `outcome` cannot say so: `disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_for: Option<String>,
    /// What it wrote to stdout.
    pub stdout: Excerpt,
    /// What it wrote to stderr (empty when stderr was the same file as stdout).
    pub stderr: Excerpt,
}

/// The policy that was enforced, as recorded and shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Effective {
    /// Preset, if one was named.
    pub preset: Option<String>,
    /// `full`, `nested` or `lite`: the one that it ran in; while that is not known, the weakest allowed.
    pub mode: String,
    /// `overlay`, `rw` or `ro`.
    pub workspace: String,
    /// Where what it wrote to an overlay was while it ran: `disk`, `memory` or `copy`; empty without an overlay.
    pub storage: String,
    /// `none` or `host`.
    pub net: String,
    /// `standard`, `strict` or `log`.
    pub seccomp: String,
    /// Wall-clock limit.
    pub timeout_ms: Option<u64>,
    /// Memory limit in bytes.
    pub mem: Option<u64>,
    /// CPU limit in thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Limit of processes and threads.
    pub pids: Option<u64>,
    /// Limit of open files per process.
    pub nofile: Option<u64>,
    /// Size of the jail's tmpfs (`/tmp`, home, `/dev/shm` together) in bytes.
    pub tmp: u64,
    /// How limits are enforced: `rlimit`, `rlimit+poll` (memory is watched), `cgroup2`, `systemd-scope`, `cgroup1`; with
    /// `+poll` where memory is watched all the same.
    pub limits_by: String,
    /// Limit of what is written to disk, in bytes.
    pub disk: Option<u64>,
    /// How that is enforced: `quota` (of the file system: writes fail), `tmpfs` (what is written is in a tmpfs of that
    /// size), `watched` (the jail is killed), `tmpfs+watched`; empty without one.
    pub disk_by: String,
    /// Limit of bytes read in a second.
    pub io_read: Option<u64>,
    /// Limit of bytes written in a second.
    pub io_write: Option<u64>,
    /// Uid inside.
    pub uid: u32,
    /// Nested user namespaces allowed.
    pub nested_userns: bool,
    /// The caller's tool chains that were shown, by name.
    pub tools: Vec<String>,
    /// Host directories and files of theirs, read-only, printable.
    pub tool_dirs: Vec<String>,
    /// Parts of the project beside the directory that it ran over, printable: see
    /// [`Diff::parts`](crate::schema::changes::Diff::parts).
    pub parts: Vec<String>,
    /// The caller's package caches that were shown, by name.
    pub caches: Vec<String>,
    /// Host directories of theirs, each below an upper layer of the run's own, printable.
    pub cache_dirs: Vec<String>,
    /// What was hidden of the workspace, below its top, printable.
    pub hidden: Vec<String>,
    /// Further host directories shown read-only, printable.
    pub ro: Vec<String>,
    /// Further host directories shown writable, printable.
    pub rw: Vec<String>,
    /// Device nodes of GPUs that were shown.
    pub gpu: Vec<String>,
    /// Volumes, as `--vol` takes them.
    pub volumes: Vec<String>,
    /// Names (never values) of the variables the caller added.
    pub env: Vec<String>,
}

/// How a jail ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Outcome {
    /// The command exited by itself.
    Exited {
        /// Its status, 0–255.
        code: i32,
    },
    /// The command was killed by a signal nobody here sent.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// `--timeout` expired (exit code 124).
    TimedOut,
    /// The user or a signal to `aj` ended it.
    Interrupted {
        /// Signal number.
        signal: i32,
    },
    /// The memory limit was reached (exit code 137).
    OutOfMemory,
    /// The jail could not be started (exit code 125, 126 or 127).
    Failed {
        /// Step that failed, for example `mount proc`.
        step: String,
        /// Errno by name, for example `EPERM`; empty when there was none.
        errno: String,
        /// The exit code `aj` returned.
        code: i32,
    },
}

/// What a jail used. Integers, 0 when unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Wall time.
    pub wall_ms: u64,
    /// User CPU time of the whole tree.
    pub user_ms: u64,
    /// System CPU time of the whole tree.
    pub system_ms: u64,
    /// Largest resident set of one process of the tree, bytes.
    pub peak_rss: u64,
    /// Most memory of all processes together, bytes: with page cache and tmpfs where a control group
    /// counted it; as far as it was seen where it was only watched.
    pub peak_memory: u64,
}

/// First and last 64 KiB of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Excerpt {
    /// Bytes the stream carried in all.
    pub total: u64,
    /// The first bytes, at most 64 KiB. Base64 in JSON.
    #[serde(with = "bytes64")]
    pub head: Vec<u8>,
    /// The last bytes, at most 64 KiB, never overlapping `head`. Base64 in JSON.
    #[serde(with = "bytes64")]
    pub tail: Vec<u8>,
}

impl Excerpt {
    /// Whether `text` occurs in what was kept.
    pub fn has(&self, text: &[u8]) -> bool {
        [&self.head, &self.tail].into_iter().any(|part| part.windows(text.len()).any(|w| w == text))
    }
}

/// Bytes as standard base64 with padding, as `base64 -d` and every library read it.
pub mod bytes64 {
    use serde::{Deserialize, Deserializer, Serializer};

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// Encode.
    pub fn encode(bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let n = u32::from(chunk[0]) << 16
                | u32::from(*chunk.get(1).unwrap_or(&0)) << 8
                | u32::from(*chunk.get(2).unwrap_or(&0));
            for i in 0..=chunk.len() {
                out.push(ALPHABET[(n >> (18 - 6 * i) & 63) as usize] as char);
            }
            out.extend(std::iter::repeat_n('=', 3 - chunk.len()));
        }
        out
    }

    /// Decode; `None` for what is no base64. The padding may be missing.
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len() * 3 / 4);
        let digits = match text.len() % 4 {
            0 => text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text),
            _ => text,
        };
        for chunk in digits.as_bytes().chunks(4) {
            if chunk.len() == 1 {
                return None;
            }
            let mut n = 0u32;
            for i in 0..4 {
                let digit = match chunk.get(i) {
                    Some(b) => ALPHABET.iter().position(|a| a == b)? as u32,
                    None => 0,
                };
                n = n << 6 | digit;
            }
            out.extend_from_slice(&n.to_be_bytes()[1..chunk.len()]);
        }
        Some(out)
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("not base64"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn base64_round_trips_at_every_length() {
            assert_eq!(encode(b"Man"), "TWFu");
            assert_eq!((encode(b"Ma").as_str(), encode(b"M").as_str()), ("TWE=", "TQ=="));
            assert_eq!((decode("TWE"), decode("TQ")), (Some(b"Ma".to_vec()), Some(b"M".to_vec())));
            for n in 0..70u8 {
                let bytes: Vec<u8> = (0..n).map(|b| b.wrapping_mul(37)).collect();
                assert_eq!(decode(&encode(&bytes)), Some(bytes));
            }
            assert_eq!(decode("A"), None);
            for bad in ["A!==", "A===", "TWE==", "=", "TQ=", "T=E="] {
                assert_eq!(decode(bad), None, "{bad}");
            }
        }
    }
}
