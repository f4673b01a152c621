//! stub
#![allow(missing_docs, clippy::all, unused)]
use std::sync::Mutex;
use std::sync::atomic::*;
#[derive(Default)]
pub struct Doorbell {
    w: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
    parked: AtomicBool,
}
impl Doorbell {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn set_waker(&self, f: impl Fn() + Send + Sync + 'static) {
        *self.w.lock().unwrap() = Some(Box::new(f));
    }
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.parked.swap(false, Ordering::SeqCst) {
            if let Some(f) = &*self.w.lock().unwrap() {
                f()
            }
        }
    }
    pub fn announce(&self) {
        self.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
    pub fn retract(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }
}
