//! What reads bytes of strangers, given bytes that nobody would write. Each target is a function of bytes that checks what must hold of
//! whatever comes; `fuzz/` gives the same functions to libFuzzer, and here they get the files of `data/fuzz/<target>/` (what
//! libFuzzer finds is added there) and the same number of changed copies of them in every run. What needs a database (`imports.rs`) is only replayed.

pub mod form;
mod imports;
pub mod orders;
pub mod token;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One change to some bytes.
#[derive(Debug, Clone)]
enum Edit {
    /// Something is put in.
    Insert(Index, Vec<u8>),
    /// So many are taken out.
    Delete(Index, usize),
    /// A part of another file is put in.
    Splice(Index, Index, Index, usize),
    /// A bit is turned.
    Flip(Index, u8),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Self::Insert(at, new) => {
                let at = place(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Delete(at, n) => {
                let at = place(at, bytes);
                bytes.drain(at..(at + n).min(bytes.len()));
            }
            Self::Splice(at, which, from, n) => {
                let other = &seeds[which.index(seeds.len())];
                let from = place(from, other);
                let part = other[from..(from + n).min(other.len())].to_vec();
                let at = place(at, bytes);
                bytes.splice(at..at, part);
            }
            Self::Flip(at, bit) => {
                let at = place(at, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    // What means something to one of the readers, and any bytes.
    let telling: Vec<Vec<u8>> = [
        "\0", "\r", "\n", "\r\n", "\"", "\"\"", ",", ";", "\t", "=", "&", "%", "%00", "+", "\u{feff}", "é",
        "|", "\u{85}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([vec![0xff, 0xfe], vec![0xc3], vec![b'x'; 300], b"-1".to_vec(), b"99999999999999999999".to_vec()])
    .collect();
    let new = prop_oneof![prop::sample::select(telling), prop::collection::vec(any::<u8>(), 1..8)];
    prop_oneof![
        (any::<Index>(), new).prop_map(|(at, new)| Edit::Insert(at, new)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, n)| Edit::Delete(at, n)),
        (any::<Index>(), any::<Index>(), any::<Index>(), 1..60_usize)
            .prop_map(|(at, which, from, n)| Edit::Splice(at, which, from, n)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
    ]
}

/// The files of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/fuzz").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no files");
    seeds
}

/// Changed copies of these files.
fn changed(seeds: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), prop::collection::vec(edit(), 1..6)).prop_map(|(seed, edits)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for edit in &edits {
            edit.apply(&mut bytes, seeds);
        }
        bytes
    })
}

/// The same changes in every run.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// The files of a target as they are, and `cases` changed ones.
fn replay(target: &str, cases: u32, run: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        run(seed);
    }
    let result = runner(cases).run(&changed(&seeds), |bytes| {
        run(&bytes);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn whatever_a_form_holds() {
    replay("form", 5_000, form::run);
}

#[test]
fn whatever_a_link_holds() {
    replay("token", 20_000, token::run);
}

#[test]
fn whatever_a_file_of_orders_holds() {
    replay("orders", 3_000, orders::run);
}
