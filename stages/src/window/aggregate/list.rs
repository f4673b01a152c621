//! The items themselves.

use super::Aggregate;

/// All items, in the order in which they came. A window's memory is then that of its items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToVec;

impl<In: Clone + Send + 'static> Aggregate<In> for ToVec {
    type Acc = Vec<In>;
    type Out = Vec<In>;

    fn init(&self) -> Vec<In> {
        Vec::new()
    }
    fn add(&self, acc: &mut Vec<In>, item: &In) {
        acc.push(item.clone());
    }
    fn add_owned(&self, acc: &mut Vec<In>, item: In) {
        acc.push(item);
    }
    fn merge(&self, acc: &mut Vec<In>, other: &Vec<In>) {
        acc.extend_from_slice(other);
    }
    fn result(&self, acc: &Vec<In>) -> Vec<In> {
        acc.clone()
    }
    fn finish(&self, acc: Vec<In>) -> Vec<In> {
        acc
    }
}
