//! Damages valid inputs: bits, bytes, numbers at their edges, cut, grown, and grafted from one into another.

use super::check::Target;

/// What an input is made of.
pub(crate) type Seed = (Target, Vec<u8>);

/// Numbers at which things go wrong: nothing, one, the sizes of the arrays and one beside them, the ends of the types.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    6,
    7,
    11,
    12,
    13,
    15,
    16,
    17,
    47,
    48,
    63,
    64,
    95,
    96,
    127,
    128,
    255,
    256,
    257,
    511,
    512,
    513,
    1 << 16,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    u64::MAX / 2,
    u64::MAX / 2 + 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Most damages done to one input.
const MOST: u64 = 6;

/// Numbers that depend on the seed and the input's number alone (SplitMix64, Steele, Lea and Flood 2014).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ number);
        dice.0 = dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 when there is nothing below it.
    fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        let roll = if end == 0 { 0 } else { self.next() % end };
        usize::try_from(roll).unwrap_or(0)
    }

    fn edge(&mut self) -> u64 {
        EDGES.get(self.below(EDGES.len())).copied().unwrap_or_default()
    }
}

/// One of the seeds, damaged. What was a record may come back as an address: bytes are bytes.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Seed]) -> Seed {
    let (mut target, mut bytes) = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.next() % MOST {
        damage(dice, &mut bytes, seeds);
    }
    if dice.below(16) == 0 {
        target = Target::Address;
        bytes.truncate(dice.below(130));
        if let (Some(family), true) = (bytes.get_mut(..2), dice.below(4) != 0) {
            // UNIX, IPv4, IPv6: nearly all others are one and the same answer.
            family.copy_from_slice(&[[1, 0], [2, 0], [10, 0]][dice.below(3)]);
        }
    }
    (target, bytes)
}

fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, seeds: &[Seed]) {
    let at = dice.below(bytes.len());
    match dice.below(10) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        1 => overwrite(bytes, at, &[dice.next().to_le_bytes()[0]]),
        2 => overwrite(bytes, at & !3, &dice.edge().to_le_bytes()[..4]),
        3 => overwrite(bytes, at & !7, &dice.edge().to_le_bytes()),
        4 => bytes.truncate(at),
        5 => bytes.extend(std::iter::repeat_n(dice.next().to_le_bytes()[0], dice.below(64))),
        6 => {
            let noise: Vec<u8> = (0..dice.below(64)).map(|_| dice.next().to_le_bytes()[0]).collect();
            overwrite(bytes, at, &noise);
        }
        // A run of one byte: no zero at the end of a string, or nothing but zeroes.
        7 => {
            let byte = [0, 0, b'/', b'a', 0xff, 0x1b][dice.below(6)];
            overwrite(bytes, at, &vec![byte; dice.below(300)]);
        }
        // The kind, so that one kind's bytes are read as another's.
        8 => overwrite(bytes, 0, &(dice.next() % 16).to_le_bytes()[..4]),
        _ => {
            let (_, other) = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len());
            let graft = other[from..].iter().copied().take(dice.below(512)).collect::<Vec<u8>>();
            overwrite(bytes, at, &graft);
        }
    }
}

/// Writes over what stands there, as far as it goes.
fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes.iter_mut().skip(at).zip(with).for_each(|(byte, new)| *byte = *new);
}
