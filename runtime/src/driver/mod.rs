//! Placeholder: this module is being written.

mod pin;

pub use pin::{PinError, current_affinity, pin_current_thread};
