//! Where a replay is to begin, as people write it. Decides what the text means, and nothing of whether it can be had.

use events::position::ShardId;
use processor::generations::Start;
use projections::when;

/// The word for all that there is.
pub(crate) const OLDEST: &str = "oldest";

/// The word for all that the archive has, and the stream behind it.
pub(crate) const ARCHIVE: &str = "archive";

/// A time, `oldest`, `archive`, or a shard and a position.
pub(crate) fn parse(text: &str, now_ms: i64) -> Result<Start, String> {
    if text == OLDEST {
        return Ok(Start::Oldest);
    }
    if text == ARCHIVE {
        return Ok(Start::Archive);
    }
    // Times have colons too, and no time begins like a shard.
    if let Some((shard, position)) = text.rsplit_once(':')
        && shard.starts_with(SHARDS)
    {
        let position =
            position.parse().map_err(|_| format!("--start {text}: `{position}` is no position of a record"))?;
        return Ok(Start::Position(ShardId::named(shard), position));
    }
    when::parse(text, now_ms).map(Start::Time).map_err(|error| {
        format!("--start {text} is neither a time ({error}) nor `{OLDEST}` nor `{ARCHIVE}` nor SHARD:POSITION with the name of a shard, as {SHARDS}-000000000000:1")
    })
}

/// Refuses a text that says no such place. Asks nobody.
pub fn check(text: &str) -> Result<(), String> {
    parse(text, crate::now_ms()).map(drop)
}

/// How the names of shards begin.
const SHARDS: &str = "shardId";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::position::SequenceNumber;

    use super::*;

    #[test]
    fn times_positions_and_the_oldest_record_are_told_apart() {
        assert_eq!(parse("oldest", 0), Ok(Start::Oldest));
        assert_eq!(parse("archive", 0), Ok(Start::Archive));
        assert_eq!(parse("1970-01-01T00:02:00Z", 0), Ok(Start::Time(120_000)));
        assert_eq!(parse("-1m", 90_000), Ok(Start::Time(30_000)));
        let position = Start::Position(ShardId::numbered(3), SequenceNumber::from_parts(0, 7));
        assert_eq!(parse("shardId-000000000003:7", 0), Ok(position));
        assert!(parse("shardId-000000000003:x", 0).unwrap_err().contains("no position"));
        assert!(parse("yesterday", 0).unwrap_err().contains("SHARD:POSITION"));
    }
}
