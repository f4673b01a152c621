//! stub
#![allow(missing_docs, clippy::all, unused)]
use crate::model::Signal;
use crate::sync::Doorbell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct RingError;
struct S<T> {
    items: VecDeque<T>,
    sig: VecDeque<(u64, Signal)>,
    popped: u64,
    discarded: u64,
    pushed: u64,
    bell_c: Option<Arc<Doorbell>>,
    bell_p: Option<Arc<Doorbell>>,
}
pub struct Producer<T> {
    s: Arc<Mutex<S<T>>>,
    cap: usize,
}
pub struct Consumer<T> {
    s: Arc<Mutex<S<T>>>,
    cap: usize,
    peeked: Option<T>,
}
pub fn ring<T>(c: usize) -> Result<(Producer<T>, Consumer<T>), RingError> {
    let s = Arc::new(Mutex::new(S {
        items: VecDeque::new(),
        sig: VecDeque::new(),
        popped: 0,
        discarded: 0,
        pushed: 0,
        bell_c: None,
        bell_p: None,
    }));
    let cap = c.next_power_of_two();
    Ok((Producer { s: s.clone(), cap }, Consumer { s, cap, peeked: None }))
}
impl<T> Producer<T> {
    pub fn free_for(&mut self, _w: usize) -> usize {
        self.cap.saturating_sub(self.s.lock().unwrap().items.len())
    }
    pub fn push(&mut self, t: T) -> Result<(), T> {
        let mut s = self.s.lock().unwrap();
        if s.items.len() >= self.cap {
            return Err(t);
        }
        s.items.push_back(t);
        s.pushed += 1;
        Ok(())
    }
    pub fn extend(&mut self, i: &mut impl Iterator<Item = T>) -> usize {
        let mut n = 0;
        while self.free_for(1) > 0 {
            match i.next() {
                Some(t) => {
                    let _ = self.push(t);
                    n += 1
                }
                None => break,
            }
        }
        n
    }
    pub fn publish(&mut self) {
        let b = self.s.lock().unwrap().bell_c.clone();
        if let Some(b) = b {
            b.ring()
        }
    }
    pub fn signal(&mut self, s: Signal) -> Result<(), Signal> {
        let mut g = self.s.lock().unwrap();
        if g.sig.len() >= 16 {
            return Err(s);
        }
        let p = g.pushed;
        g.sig.push_back((p, s));
        drop(g);
        self.publish();
        Ok(())
    }
    pub fn discard_oldest(&mut self, n: usize) -> usize {
        let mut g = self.s.lock().unwrap();
        let mut k = 0;
        while k < n {
            if g.items.pop_front().is_some() {
                g.discarded += 1;
                k += 1
            } else {
                break;
            }
        }
        k
    }
    pub fn pushed(&self) -> u64 {
        self.s.lock().unwrap().pushed
    }
    pub fn attach_doorbell(&mut self, d: Arc<Doorbell>) {
        self.s.lock().unwrap().bell_c = Some(d)
    }
}
pub struct Chunk<'a, T> {
    items: VecDeque<T>,
    c: &'a mut Consumer<T>,
}
impl<T> Iterator for Chunk<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        let t = self.items.pop_front()?;
        self.c.s.lock().unwrap().popped += 1;
        Some(t)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.items.len(), Some(self.items.len()))
    }
}
impl<T> ExactSizeIterator for Chunk<'_, T> {}
impl<T> Drop for Chunk<'_, T> {
    fn drop(&mut self) {
        let mut g = self.c.s.lock().unwrap();
        while let Some(t) = self.items.pop_back() {
            g.items.push_front(t)
        }
        let b = g.bell_p.clone();
        drop(g);
        if let Some(b) = b {
            b.ring()
        }
    }
}
impl<T> Consumer<T> {
    fn avail(&self) -> usize {
        let g = self.s.lock().unwrap();
        let pos = g.popped + g.discarded;
        let lim = g.sig.front().map_or(usize::MAX, |x| (x.0.saturating_sub(pos)) as usize);
        g.items.len().min(lim)
    }
    pub fn pretouch(&mut self) {}
    pub fn available(&mut self) -> usize {
        self.avail() + self.peeked.is_some() as usize
    }
    pub fn read(&mut self, m: usize) -> Chunk<'_, T> {
        if let Some(t) = self.peeked.take() {
            let mut g = self.s.lock().unwrap();
            g.items.push_front(t)
        }
        let n = self.avail().min(m);
        let items = self.s.lock().unwrap().items.drain(..n).collect();
        Chunk { items, c: self }
    }
    pub fn peek(&mut self) -> Option<&T> {
        if self.peeked.is_none() && self.avail() > 0 {
            self.peeked = self.s.lock().unwrap().items.pop_front();
        }
        self.peeked.as_ref()
    }
    pub fn next_signal(&mut self) -> Option<Signal> {
        if self.peeked.is_some() {
            return None;
        }
        let mut g = self.s.lock().unwrap();
        let pos = g.popped + g.discarded;
        if g.sig.front().map_or(false, |x| x.0 <= pos) { g.sig.pop_front().map(|x| x.1) } else { None }
    }
    pub fn is_empty(&mut self) -> bool {
        let g = self.s.lock().unwrap();
        self.peeked.is_none() && g.items.is_empty() && g.sig.is_empty()
    }
    pub fn len(&self) -> usize {
        self.s.lock().unwrap().items.len()
    }
    pub fn popped(&self) -> u64 {
        self.s.lock().unwrap().popped
    }
    pub fn discarded(&self) -> u64 {
        self.s.lock().unwrap().discarded
    }
    pub fn attach_doorbell(&mut self, d: Arc<Doorbell>) {
        self.s.lock().unwrap().bell_p = Some(d)
    }
}
