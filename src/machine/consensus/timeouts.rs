//! Random intervals as functions of a seed: no source of randomness, and no run that cannot be repeated.

/// A number in `from..to` that only its arguments decide (SplitMix64 over them in turn).
fn spread(parts: [u64; 4], from: u64, to: u64) -> u64 {
    assert!(from < to, "an interval is not empty");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for part in parts {
        state = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    from + state % (to - from)
}

/// The election timeout in ticks, at least `election` and less than twice that.
pub(super) fn election(seed: u64, raft_id: u64, term: u64, role: u64, election: usize) -> usize {
    let election = election as u64;
    spread([seed, raft_id, term, role], election, 2 * election) as usize
}

/// How long to wait in milliseconds, `max` included, before campaigning against a leader whose process is gone.
pub(super) fn proof_delay(seed: u64, raft_id: u64, term: u64, max: u64) -> u64 {
    spread([seed, raft_id, term, u64::MAX], 0, max + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_repeat_and_spread() {
        let of = |node, term| election(1, node, term, 0, 30);
        assert_eq!(of(1, 1), of(1, 1));
        let all: std::collections::BTreeSet<_> = (1..200).map(|term| of(1, term)).collect();
        assert!(
            all.iter().all(|t| (30..60).contains(t)) && all.len() == 30,
            "every value of the range is met"
        );
        let same = (1..1000).filter(|term| of(1, *term) == of(2, *term)).count();
        assert!((10..60).contains(&same), "two nodes meet about once in thirty terms, not {same} in 1000");
        assert!((1..200).all(|term| proof_delay(1, 2, term, 100) <= 100));
        assert_eq!(proof_delay(1, 2, 3, 0), 0);
    }
}
