//! The one item type of random graphs, and the pure functions that stages compute on it.

/// What flows through a random graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// Its number at its source.
    pub id: u64,
    /// What it is grouped by.
    pub key: u64,
    /// What it is worth.
    pub value: u64,
    /// A hash over the stages it has come through, in order.
    pub lineage: u64,
}

/// A hash of two numbers.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(b | 1) ^ b.rotate_left(31);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Item {
    /// Item `id` of the source `salt`. Half of the keys fall on one key: keys are skewed in life, too.
    pub fn at_source(id: u64, keys: u64, salt: u64) -> Self {
        let h = mix(id, salt);
        let key = if h & 1 == 0 { 0 } else { (h >> 8) % keys };
        Self { id, key, value: h >> 40, lineage: h }
    }

    /// What stage `salt` makes of it.
    pub fn through(self, salt: u64) -> Self {
        let lineage = mix(self.lineage, salt);
        Self { value: self.value.wrapping_add(lineage >> 50), lineage, ..self }
    }

    /// Whether stage `salt` treats it specially: about one in `every`; none if `every` is 0.
    pub fn hits(&self, salt: u64, every: u64) -> bool {
        every > 0 && mix(self.lineage, salt ^ 0xA5A5).is_multiple_of(every)
    }

    /// A number below `n` that depends on the item and the stage.
    pub fn draw(&self, salt: u64, n: u64) -> u64 {
        mix(self.lineage, salt ^ 0x5A5A) % n
    }

    /// What a stage that answers up to `upto` items makes of it.
    pub fn expand(self, salt: u64, upto: u64) -> Vec<Self> {
        (0..self.draw(salt, upto + 1)).map(|i| self.through(salt ^ i << 32)).collect()
    }
}

/// A dead letter as an item; `mark` tells the letters of one stage from those of others.
pub fn lettered(item: Option<Item>, mark: u64) -> Item {
    match item {
        Some(item) => item.through(mark),
        None => Item { id: 0, key: 0, value: 0, lineage: mark },
    }
}

/// One step of a fold over the items of a key: count and digest. `by_order` makes the digest depend on their order.
pub fn fold_step(state: &mut (u64, u64), item: &Item, by_order: bool) {
    state.0 += 1;
    state.1 = if by_order { mix(state.1, item.lineage) } else { state.1.wrapping_add(item.lineage) };
}

/// A group of `size` items of a key as an item.
pub fn grouped(key: u64, size: u64) -> Item {
    Item { id: key, key, value: size, lineage: mix(key, size) }
}

/// The result of a fold as an item.
pub fn folded(key: u64, (count, digest): (u64, u64)) -> Item {
    Item { id: key, key, value: count, lineage: digest }
}
