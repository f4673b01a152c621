//! stub
#![allow(missing_docs, clippy::all, unused)]
use crate::model::*;
use crate::observe::*;
use crate::policy::*;
use crate::stage::*;
use std::hash::Hash;
use std::marker::PhantomData;
pub fn hash_key<K: Hash>(k: &K) -> u64 {
    use std::hash::BuildHasher;
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(k)
}
pub trait Accumulator<In>: 'static {
    type Key: Hash + Eq + Clone + 'static;
    type State: 'static;
    type Out: 'static;
    fn key(&self, item: &In) -> Self::Key;
}
pub struct AccumulateOp<A>(A);
impl<A> AccumulateOp<A> {
    pub fn new(a: A, _p: AccumulatorPolicy, _s: &StageSite) -> Self {
        Self(a)
    }
}
impl<In: 'static, A: Accumulator<In>> Operator<In> for AccumulateOp<A> {
    type Out = A::Out;
    fn run<I: Iterator<Item = In>, D: Chain<A::Out>>(&mut self, i: I, d: &mut D, cx: &StepCx) {}
    fn account(&self, a: &mut StageAccount) {}
}
pub struct FoldByKeyOp<K, A, F, I, G>(std::collections::HashMap<K, A>, F, I, G, u64, u64);
impl<K, A, F, I, G> FoldByKeyOp<K, A, F, I, G> {
    pub fn new(f: F, i: I, g: G, _s: &StageSite) -> Self {
        Self(Default::default(), f, i, g, 0, 0)
    }
}
impl<
    In: 'static,
    K: Hash + Eq + 'static,
    A: 'static,
    F: FnMut(&In) -> K + 'static,
    I: FnMut() -> A + 'static,
    G: FnMut(&mut A, In) + 'static,
> Operator<In> for FoldByKeyOp<K, A, F, I, G>
{
    type Out = (K, A);
    fn run<J: Iterator<Item = In>, D: Chain<(K, A)>>(&mut self, i: J, d: &mut D, cx: &StepCx) {
        for x in i {
            self.4 += 1;
            let k = (self.1)(&x);
            let a = self.0.entry(k).or_insert_with(&mut self.2);
            (self.3)(a, x);
        }
    }
    fn signal<D: Chain<(K, A)>>(&mut self, s: Signal, d: &mut D, cx: &StepCx) {
        if s == Signal::End {
            self.5 = self.0.len() as u64;
            d.run(self.0.drain(), cx);
        }
        d.signal(s, cx)
    }
    fn account(&self, a: &mut StageAccount) {
        a.absorbed = self.4;
        if self.5 > 0 {
            a.items_complete = self.4;
        } else {
            a.items_open = self.4;
        }
        a.emitted = self.5;
    }
}
