//! What each step comes to on the little data that `cargo test` gives it: lines that depend on nothing but the generator. Decides when a bench is
//! wrong. If the meaning of lines moves on purpose, these move with it, as `tests/golden` does.

/// Step and checksum, in order.
const CHECKS: [(&str, &str); 21] = [
    ("parse", "7229d14e2b0647ff"),
    ("bare copy", "000000000000005d"),
    ("pack", "000000742219c7bf"),
    ("fold", "c9f0003a82e90cee"),
    ("fold, lz4", "c9f0003a82e90cee"),
    ("fold, zstd -1", "c9f0003a82e90cee"),
    ("end-to-end, 1 shard(s)", "2145cf5e53785df7b460ec1d02781742"),
    ("replay", "2145cf5e53785df7b460ec1d02781742"),
    ("query requests &statistics=sum", "2322 61d683d7ba4570a2"),
    ("query latency &statistics=p50,p95,p99", "2322 6cc327f97a5f54dd"),
    ("query latency", "2322 315f5da3f745db0c"),
    ("2 commits: as memory asks", "2145cf5e53785df7b460ec1d02781742"),
    ("2 commits: each 530 batches", "2145cf5e53785df7b460ec1d02781742"),
    ("2 commits: each 53 batches", "2145cf5e53785df7b460ec1d02781742"),
    ("pack, none", "0000000000000003"),
    ("unpack, none", "0000000000200bd2"),
    ("pack, lz4", "0000000000000003"),
    ("unpack, lz4", "0000000000200bd2"),
    ("pack, zstd -1", "0000000000000003"),
    ("unpack, zstd -1", "0000000000200bd2"),
    ("count lines", "0000000000001de5"),
];

/// Panics where a step came to something else.
pub fn compare(found: &[(String, String)]) {
    let found = found.iter().map(|(step, check)| (step.as_str(), check.as_str()));
    // Those of packed bytes are another library's.
    let found: Vec<_> = found.filter(|(step, _)| !step.starts_with("checksum, ")).collect();
    assert_eq!(found, CHECKS, "the steps came to other results than before");
    println!("all {} checksums are as they were", CHECKS.len());
}
