//! For how long a pair keeps rows: looked up, or changed for all of its processes. Decides how few days are too few, and what is said where rows are
//! kept by time and DynamoDB will not remove them.

use events::kinesis::Kinesis;
use projections::{
    dynamodb::DynamoDb,
    store::{ReadError, WriteError},
};

use super::{OpenError, Pair, configuration, open::missing};

/// How long rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Days after the last record that touched a row; `None`: as long as the tables.
    pub days: Option<u16>,
    /// What is wrong about it, in words.
    pub wrong: Vec<String>,
}

/// It could not be looked up or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The pair could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What can be folded again must not have expired.
    #[error(
        "{days} days are too few: the stream {stream} keeps its records for {stream_days}, and a row has to stay for as long as the records that it is made \
         of, else a replay or `weir verify` tells of rows that are gone. Give at least {stream_days}d, or shorten the stream's retention"
    )]
    TooFew {
        /// What was asked for.
        days: u16,
        /// The stream.
        stream: String,
        /// Days for which it keeps records.
        stream_days: u16,
    },
    /// It could not be read.
    #[error("how long rows are kept could not be read: {0}")]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error("how long rows are kept could not be changed: {0}")]
    Write(#[from] WriteError),
}

impl Pair {
    /// How long rows are kept; or, with `change`, has them kept for so many days from now on (`None`: for as long as the tables). `create`: tables that
    /// are missing are made, and TTL that is off is enabled.
    pub async fn keep(&self, change: Option<Option<u16>>, create: bool) -> Result<Kept, KeepError> {
        let config = configuration().await?;
        // It says what is wrong with the stream.
        let stream = self.open_stream(&config, None, |_| {}).await?;
        let (rows, _) = self.open_rows(&config, create, &stream, |_| {}).await?;
        let without_expiry = rows.see_to_expiry(missing(create)).await;
        let stream_days = days_kept(&stream);
        if let Some(days) = change {
            if let (Some(days), Some(stream_days)) = (days, stream_days)
                && days < stream_days
            {
                return Err(KeepError::TooFew { days, stream: self.stream.clone(), stream_days });
            }
            rows.keep(days).await?;
        }
        let days = rows.kept().await?;
        Ok(Kept { days, wrong: wrong(days, stream_days, &without_expiry) })
    }
}

/// What is wrong about the rows of a stream, in words; TTL that is off is enabled if tables may be made.
pub(super) async fn wrong_with(rows: &DynamoDb, stream: &Kinesis, create: bool) -> Vec<String> {
    let without_expiry = rows.see_to_expiry(missing(create)).await;
    match rows.known_to_keep() {
        None if !create => without_expiry,
        kept => wrong(kept, days_kept(stream), &without_expiry),
    }
}

/// For how many days a stream keeps its records, as whole ones.
fn days_kept(stream: &Kinesis) -> Option<u16> {
    let hours = stream.retention()?.as_secs() / 3600;
    u16::try_from(hours.div_ceil(24)).ok()
}

/// What is wrong where rows are kept for so many days.
fn wrong(days: Option<u16>, stream_days: Option<u16>, without_expiry: &[String]) -> Vec<String> {
    let Some(days) = days else { return vec![] };
    let mut wrong: Vec<String> = without_expiry
        .iter()
        .map(|why| format!("{why}; rows past their time are shown to nobody meanwhile, and stay, and are paid for"))
        .collect();
    if let Some(stream_days) = stream_days.filter(|stream_days| *stream_days > days) {
        wrong.push(format!(
            "the stream keeps its records for {stream_days} days and rows are kept for {days}: a replay or `weir verify` may tell of rows that are gone; run \
             `weir keep {stream_days}d`"
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_only_where_rows_are_kept_by_time() {
        let off = ["TTL of table x-state is off".to_owned()];
        assert_eq!(wrong(None, Some(7), &off), [] as [String; 0]);
        assert_eq!(wrong(Some(7), Some(7), &[]), [] as [String; 0]);
        let said = wrong(Some(6), Some(7), &off);
        assert!(said[0].starts_with("TTL of table x-state is off; rows past") && said[1].ends_with("`weir keep 7d`"));
    }
}
