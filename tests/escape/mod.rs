//! Known ways out of a jail, tried. Each test shows that the attempt is refused inside, and that the
//! same program gets further outside, under a weaker tool, or with the layer left out; where this
//! machine cannot show that, it says SKIP and why.

mod caches;
mod calls;
mod descriptors;
mod files;
mod mounts;
mod peers;
mod processes;
mod repositories;
mod secrets;
mod setid;
mod sockets;
mod terminal;
mod tools;
