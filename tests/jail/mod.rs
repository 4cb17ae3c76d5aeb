//! The layers of a jail, each seen from inside by the probe, and what shows that it is this layer.

mod gpu;
mod identity;
mod privileges;
mod view;
