//! The value of `--gpu`. No file has it: whoever starts a jail says that it has one.

use std::fmt;

use crate::base::text;

/// GPUs by the numbers of their nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// All that there are.
    All,
    /// Those of `/dev/nvidiaN`.
    Only(Vec<u32>),
}

impl fmt::Display for Gpus {
    /// As [`parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gpus::All => f.write_str("all"),
            Gpus::Only(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

/// Parse `all`, `0`, `0,1`.
pub fn parse(text: &str) -> Result<Gpus, String> {
    if text == "all" {
        return Ok(Gpus::All);
    }
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|n| n.trim().parse::<u32>()).collect();
    match numbers {
        Ok(mut numbers) => {
            numbers.sort_unstable();
            numbers.dedup();
            Ok(Gpus::Only(numbers))
        }
        Err(_) => {
            Err(format!("`{}` is neither `all` nor numbers like `0,1`", text::printable(text.as_bytes())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_all_or_some_by_number() {
        assert_eq!(parse("all"), Ok(Gpus::All));
        assert_eq!(parse("1, 0,1"), Ok(Gpus::Only(vec![0, 1])));
        for good in ["all", "0", "0,1"] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "none", "0,", "-1", "0x1", "4294967296", "all,0"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
