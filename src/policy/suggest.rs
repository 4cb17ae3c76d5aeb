//! "Did you mean": the known name nearest to a mistyped one.

/// Longer names are never a slip of a known one; the bound also keeps hostile files cheap.
const LONGEST: usize = 40;

/// The name of `known` that `given` most likely meant.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > LONGEST {
        return None;
    }
    let given = given.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|k| (distance(&given, k), k))
        // A third of the letters may differ: `tiemout`, `memory` for `mem` is a known synonym below.
        .filter(|(d, k)| *d <= (k.len() / 3).max(1))
        .min()
        .map(|(_, k)| k)
}

/// Words of other tools for one of ours.
pub(super) fn synonym(given: &str) -> Option<&'static str> {
    Some(match given.to_ascii_lowercase().replace('-', "_").as_str() {
        "memory" | "memory_mb" | "memorymb" | "ram" => "mem",
        "cpu" | "cpu_cores" | "cpucores" | "cpu_percent" | "cores" => "cpus",
        "network" | "net_mode" => "net",
        "kill_after" => "grace",
        "processes" | "max_pids" | "nproc" => "pids",
        "open_files" | "ulimit" => "nofile",
        "access" => "workspace",
        "environment" => "env",
        "read_only" | "readonly" => "ro",
        "writable" | "write" => "rw",
        "tmpfs" | "tmp_size" => "tmp",
        "root" => "as_root",
        "userns" => "nested_userns",
        _ => return None,
    })
}

/// Edits between two short names; a swap of neighbours counts once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let swap = usize::from(a[i - 1] != b[j - 1]);
            next[j] = (row[j] + 1).min(next[j - 1] + 1).min(row[j - 1] + swap);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["timeout", "mem", "pids", "best_effort", "net"];

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        for (given, want) in [
            ("tiemout", Some("timeout")),
            ("time_out", Some("timeout")),
            ("Mem", Some("mem")),
            ("pid", Some("pids")),
            ("best-effort", Some("best_effort")),
            ("nte", Some("net")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, KNOWN), want, "{given}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), KNOWN), None);
        assert_eq!(synonym("memory"), Some("mem"));
    }
}
