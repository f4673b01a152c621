//! Keeps the panics that tests plan out of their output.

use std::sync::Once;

/// What every planned panic begins with.
pub const PLANNED: &str = "planned";

/// From now on, planned panics print nothing; all others print as always.
pub fn planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            if !text.is_some_and(|text| text.starts_with(PLANNED)) {
                usual(info);
            }
        }));
    });
}
