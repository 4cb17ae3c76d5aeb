//! What a program needs of an NVIDIA driver: device nodes, and libraries that lie elsewhere than in `/usr`.
//! Pure: decided from a listing, which tests record from machines that have one.

use std::path::{Path, PathBuf};

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// What is in `/dev` whose name begins with `nvidia`, and in `/dev/nvidia-caps`.
    pub nodes: Vec<Node>,
    /// `/proc/driver/nvidia/version` is there: the driver is loaded.
    pub loaded: bool,
    /// `/etc/ld.so.cache`.
    pub ld_cache: Vec<u8>,
}

/// Something in `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Below `/dev`.
    pub name: String,
    /// A character device.
    pub device: bool,
    /// The jail's user may read and write it; of a capability: read it.
    pub usable: bool,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Below `/dev`, in the order of their names.
    pub devices: Vec<String>,
    /// Libraries by the names that the loader has for them. Not all of them lie outside of `/usr`.
    pub libraries: Vec<PathBuf>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No driver.
    #[error("there is no NVIDIA driver: neither `/dev/nvidiactl` nor `/proc/driver/nvidia/version` is there")]
    Driver,
    /// A driver that has made no nodes yet.
    #[error("the NVIDIA driver is loaded, but `/dev/{0}` is not there")]
    Node(String),
    /// This one is not there.
    #[error("there is no `/dev/nvidia{number}`; there is {}", listed(.there))]
    Number {
        /// As asked for.
        number: u32,
        /// Those that are.
        there: Vec<u32>,
    },
    /// It may not be opened.
    #[error("`/dev/{0}` may not be read and written by the user that the jail has")]
    NotAllowed(String),
    /// It is something else.
    #[error("`/dev/{0}` is no character device")]
    NoDevice(String),
}

fn listed(there: &[u32]) -> String {
    match there {
        [] => "none".to_owned(),
        there => there.iter().map(|n| format!("`/dev/nvidia{n}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Nodes that every program needs, whichever GPU it has.
const NEEDED: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
/// Those that some need.
const WANTED: [&str; 2] = ["nvidia-uvm-tools", "nvidia-modeset"];
/// Where the nodes of capabilities are (parts of a GPU, and the like).
const CAPABILITIES: &str = "nvidia-caps/";

/// The nodes and libraries for these GPUs, by the numbers of their nodes; `None`: for all of them.
pub fn find(listing: &Listing, numbers: Option<&[u32]>) -> Result<Found, Missing> {
    let node = |name: &str| listing.nodes.iter().find(|n| n.name == name);
    if node(NEEDED[0]).is_none() {
        return Err(if listing.loaded { Missing::Node(NEEDED[0].to_owned()) } else { Missing::Driver });
    }
    let mut there: Vec<u32> = listing.nodes.iter().filter_map(|n| number(&n.name)).collect();
    there.sort_unstable();
    let chosen = match numbers {
        None if there.is_empty() => return Err(Missing::Node("nvidia0".to_owned())),
        None => &there,
        Some(numbers) => numbers,
    };
    let mut devices = Vec::new();
    for number in chosen {
        if !there.contains(number) {
            return Err(Missing::Number { number: *number, there });
        }
        devices.push(usable(node(&format!("nvidia{number}")), &format!("nvidia{number}"))?);
    }
    for name in NEEDED {
        devices.push(usable(node(name), name)?);
    }
    // What only an administrator may open is of no use inside, and no reason to refuse.
    let more = |n: &&Node| WANTED.contains(&n.name.as_str()) || is_capability(&n.name);
    let more = listing.nodes.iter().filter(|n| n.device && n.usable).filter(more);
    devices.extend(more.map(|n| n.name.clone()));
    devices.sort();
    devices.dedup();
    Ok(Found { devices, libraries: libraries(&listing.ld_cache) })
}

fn usable(node: Option<&Node>, name: &str) -> Result<String, Missing> {
    match node {
        None => Err(Missing::Node(name.to_owned())),
        Some(node) if !node.device => Err(Missing::NoDevice(name.to_owned())),
        Some(node) if !node.usable => Err(Missing::NotAllowed(name.to_owned())),
        Some(_) => Ok(name.to_owned()),
    }
}

/// `nvidia7`, as the driver writes it.
fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("nvidia")?;
    let number = digits.parse().ok()?;
    (digits == format!("{number}")).then_some(number)
}

/// `nvidia-caps/nvidia-cap7`.
fn is_capability(name: &str) -> bool {
    let digits = name.strip_prefix(CAPABILITIES).and_then(|n| n.strip_prefix("nvidia-cap"));
    digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

/// Libraries of the driver: those that come with it and fit no other version of it.
fn is_driver(soname: &str) -> bool {
    const STARTS: [&str; 9] = [
        "libcuda.so",
        "libcudadebugger.so",
        "libnvidia-",
        "libnvcuvid.so",
        "libnvoptix.so",
        "libGLX_nvidia.so",
        "libEGL_nvidia.so",
        "libGLESv1_CM_nvidia.so",
        "libGLESv2_nvidia.so",
    ];
    // A part of a container's start, not of the driver.
    STARTS.iter().any(|s| soname.starts_with(s)) && !soname.starts_with("libnvidia-container")
}

/// Those in the loader's cache, whose format is that of glibc 2.2 and later, perhaps behind an older one.
/// What is not understood is left out: then a program says what it misses.
fn libraries(cache: &[u8]) -> Vec<PathBuf> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEAD: usize = 48;
    const ENTRY: usize = 24;
    /// Entries that are looked at.
    const MOST: usize = 100_000;
    let Some(cache) = cache.windows(MAGIC.len()).position(|w| w == MAGIC).and_then(|at| cache.get(at..))
    else {
        return Vec::new();
    };
    let number =
        |at: usize| Some(u32::from_le_bytes(cache.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize);
    let text = |at: usize| {
        let rest = cache.get(at..)?;
        std::str::from_utf8(rest.get(..rest.iter().position(|b| *b == 0)?)?).ok()
    };
    let count = number(MAGIC.len()).unwrap_or(0).min(MOST);
    let mut found = Vec::new();
    for entry in (0..count).map(|n| HEAD + n * ENTRY) {
        let (Some(name), Some(path)) = (number(entry + 4).and_then(text), number(entry + 8).and_then(text))
        else {
            continue;
        };
        let path = Path::new(path);
        if is_driver(name) && path.is_absolute() {
            found.push(path.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded by `ls -l`: a name, and `!` for what the user may not open.
    fn nodes(text: &str) -> Vec<Node> {
        let node = |word: &str| Node {
            name: word.trim_end_matches('!').to_owned(),
            device: true,
            usable: !word.ends_with('!'),
        };
        text.split_whitespace().map(node).collect()
    }

    /// A machine with two GPUs and a recent driver, its capabilities as they are by default.
    const TWO: &str = "nvidia-caps/nvidia-cap1! nvidia-caps/nvidia-cap2 nvidia-modeset nvidia-uvm \
                       nvidia-uvm-tools nvidia0 nvidia1 nvidiactl";
    /// One that is cut into parts (MIG), each with capabilities.
    const PARTS: &str = "nvidia-caps/nvidia-cap1! nvidia-caps/nvidia-cap2 nvidia-caps/nvidia-cap30 \
                         nvidia-caps/nvidia-cap31 nvidia-uvm nvidia-uvm-tools nvidia0 nvidiactl nvidia-nvswitchctl";

    fn listing(text: &str) -> Listing {
        Listing { nodes: nodes(text), loaded: true, ld_cache: cache(&[]) }
    }

    /// A cache as `ldconfig` writes it.
    fn cache(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.extend([0; 24]);
        let (mut table, mut strings) = (Vec::new(), Vec::new());
        let start = 48 + entries.len() * 24;
        let mut put = |text: &str| {
            let at = (start + strings.len()) as u32;
            strings.extend(text.bytes().chain([0]));
            at
        };
        for (name, path) in entries {
            table.extend(0x303u32.to_le_bytes());
            table.extend(put(name).to_le_bytes());
            table.extend(put(path).to_le_bytes());
            table.extend([0; 12]);
        }
        bytes.extend(table);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn all_gpus_come_with_what_every_program_needs() {
        let found = find(&listing(TWO), None).unwrap();
        let shown =
            "nvidia-caps/nvidia-cap2 nvidia-modeset nvidia-uvm nvidia-uvm-tools nvidia0 nvidia1 nvidiactl";
        assert_eq!(found.devices.join(" "), shown);
        let found = find(&listing(PARTS), None).unwrap();
        assert!(found.devices.iter().any(|d| d == "nvidia-caps/nvidia-cap31"), "{found:?}");
        assert!(!found.devices.iter().any(|d| d.contains("nvswitch")), "{found:?}");
    }

    #[test]
    fn of_several_gpus_only_those_that_are_named_are_shown() {
        let found = find(&listing(TWO), Some(&[1])).unwrap();
        assert!(
            found.devices.contains(&"nvidia1".to_owned()) && !found.devices.contains(&"nvidia0".to_owned())
        );
        let e = find(&listing(TWO), Some(&[0, 2])).unwrap_err().to_string();
        assert_eq!(e, "there is no `/dev/nvidia2`; there is `/dev/nvidia0`, `/dev/nvidia1`");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(find(&Listing::default(), None), Err(Missing::Driver));
        assert_eq!(find(&listing(""), None), Err(Missing::Node("nvidiactl".to_owned())));
        assert_eq!(find(&listing("nvidiactl nvidia-uvm"), None), Err(Missing::Node("nvidia0".to_owned())));
        assert_eq!(find(&listing("nvidiactl nvidia0"), None), Err(Missing::Node("nvidia-uvm".to_owned())));
        let e = find(&listing("nvidiactl nvidia0! nvidia-uvm"), None);
        assert_eq!(e, Err(Missing::NotAllowed("nvidia0".to_owned())));
        let mut odd = listing("nvidiactl nvidia0 nvidia-uvm");
        odd.nodes[1].device = false;
        assert_eq!(find(&odd, None), Err(Missing::NoDevice("nvidia0".to_owned())));
        // Names that only look like one.
        for name in ["nvidia", "nvidia00", "nvidia+1", "nvidia-1", "nvidia4294967296"] {
            assert_eq!(number(name), None, "{name}");
        }
        assert!(!is_capability("nvidia-caps/../sda") && !is_capability("nvidia-caps/nvidia-cap"));
    }

    #[test]
    fn the_drivers_libraries_are_found_in_the_loaders_cache_and_no_others() {
        let bytes = cache(&[
            ("libcuda.so.1", "/opt/nvidia/lib64/libcuda.so.1"),
            ("libcudart.so.12", "/usr/local/cuda/lib64/libcudart.so.12"),
            ("libnvidia-ml.so.1", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"),
            ("libnvidia-container.so.1", "/usr/lib/libnvidia-container.so.1"),
            ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
            ("libcuda.so", "relative"),
        ]);
        let shown = ["/opt/nvidia/lib64/libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"];
        assert_eq!(libraries(&bytes), shown.map(PathBuf::from));
        // Behind a cache of the older format, as some distributions still write it.
        let both = [b"ld.so-1.7.0\0\x01\0\0\0".to_vec(), bytes.clone()].concat();
        assert_eq!(libraries(&both).len(), 2);
        for cut in 0..bytes.len() {
            drop(libraries(&bytes[..cut]));
        }
        let mut broken = bytes;
        broken[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        drop(libraries(&broken));
    }
}
