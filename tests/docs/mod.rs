//! The documents and the rules of the source tree: each is checked against the code, and each check
//! is shown to fail on a bad input.

mod flavors;
mod layers;
mod pages;
mod source;
mod tidy;
