//! Fuzz targets: plain functions of bytes that must end, whatever the bytes, and may not panic.
//!
//! Three ways to drive them:
//!
//! - `cargo +nightly fuzz run --features libfuzzer NAME` (cargo-fuzz): guided by coverage.
//! - `cargo run --manifest-path fuzz/Cargo.toml --bin smoke -- --seconds 60`: all of them, with what is in
//!   `corpus/` and mutations of it. Not guided by coverage: it finds what is near what it was given, and
//!   what a change broke. It is what `.ci/run fuzz` does.
//! - `… --bin smoke -- NAME FILE`: one input, as a failure names it.

pub mod mutate;
pub mod targets;

/// A target.
pub type Target = fn(&[u8]);

macro_rules! all {
    ($($name:ident),* $(,)?) => {
        /// Every target by its name, which is that of its directory in `corpus/`.
        pub const ALL: &[(&str, Target)] = &[$((stringify!($name), targets::$name as Target)),*];
    };
}

all![
    answer,
    arguments,
    beside_a_tree,
    credentials,
    envfile,
    flavor,
    frame,
    git_config,
    git_settings,
    globs,
    message,
    mountinfo,
    pack_index,
    path,
    plan,
    policy,
    record,
    repository,
    screen,
    spool,
    stat,
    status,
    step,
    text,
    values,
];
