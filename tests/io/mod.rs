//! Byte for byte: stdin, stdout, stderr, and what machines read.

mod machine;
mod stdin;
mod stdout;
