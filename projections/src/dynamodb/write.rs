//! Rows are put, each on its own condition, many at once. It never puts a row that does not go further than what stands.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure},
};
use bytes::Bytes;
use events::position::SequenceNumber;
use futures_util::stream::{self, StreamExt};

use super::{
    DynamoDb, WRITES_AT_ONCE_MAX,
    call::{Answer, Failed, call},
    item::{self, APPLIED_THROUGH, Item},
    layout::{self, Place, Scope},
    listed::Wanted,
};
use crate::store::{ROW_BYTES_MAX, Row, WriteError, Written};

/// A row that lost is offered again so often when what it lost to is gone.
const LOST_TO_NOTHING_MAX: u32 = 4;

/// A row that can be stored, with its place among the rows that were offered.
pub(super) struct Offered {
    row: Row,
    place: Place,
    index: usize,
}

/// The rows with their places, or why one of them cannot be stored.
pub(super) fn offer(rows: Vec<Row>) -> Result<Vec<Offered>, WriteError> {
    let refuse = |why: String| WriteError::NotWritten(why);
    let check = |(index, row): (usize, Row)| {
        let place = layout::place(&row.key).map_err(|error| refuse(error.to_string()))?;
        let bytes = row.body.len();
        if bytes > ROW_BYTES_MAX {
            return Err(refuse(format!("the row with {} has {bytes} bytes, {ROW_BYTES_MAX} are allowed", row.key)));
        }
        Ok(Offered { row, place, index })
    };
    rows.into_iter().enumerate().map(check).collect()
}

impl DynamoDb {
    /// Puts rows. Those of one key one after the other, all others in no order, so that no partition gets many at once because they came so.
    pub(super) async fn put_rows(&self, offered: Vec<Offered>) -> Result<Vec<Written>, Failed> {
        let count = offered.len();
        let (mut wanted, mut chains) = (Wanted::default(), HashMap::<Place, Vec<Offered>>::new());
        for offered in offered {
            let Row { key, folded_on, .. } = &offered.row;
            wanted.add(Scope::of(&key.subject), &key.subject.name, key.at, *folded_on);
            chains.entry(offered.place.clone()).or_default().push(offered);
        }
        // No row stands yet, so whatever became of this, nothing was written.
        let nothing = |failed| Failed { may_have_happened: false, ..failed };
        self.see_to_keep().await.map_err(nothing)?;
        let old = self.of_old_days(&wanted);
        self.list(wanted).await.map_err(nothing)?;
        let random = chains.hasher().clone();
        let mut chains: Vec<_> = chains.into_values().collect();
        chains.sort_by_cached_key(|chain| random.hash_one(&chain[0].place));
        let stopped = &AtomicBool::new(false);
        let mut putting =
            stream::iter(chains).map(|chain| self.put_chain(chain, stopped)).buffer_unordered(WRITES_AT_ONCE_MAX);
        let (mut written, mut failed) = (vec![None; count], None::<Failed>);
        let mut some_stands = false;
        while let Some((answers, failure)) = putting.next().await {
            for (index, answer) in answers {
                some_stands |= answer == Written::Stored;
                written[index] = Some(answer);
            }
            if let Some(failure) = failure {
                some_stands |= failure.may_have_happened;
                failed.get_or_insert(failure);
            }
        }
        drop(putting);
        if let Err(failure) = self.list_again(old).await {
            some_stands = true;
            failed.get_or_insert(failure);
        }
        match failed {
            Some(failed) => Err(Failed { may_have_happened: some_stands, ..failed }),
            None => Ok(written.into_iter().flatten().collect()),
        }
    }

    /// Rows of one key. After a failure, of this or of others, none is put any more; what is on its way is waited for.
    async fn put_chain(&self, chain: Vec<Offered>, stopped: &AtomicBool) -> (Vec<(usize, Written)>, Option<Failed>) {
        let mut answers = Vec::with_capacity(chain.len());
        for offered in chain {
            if stopped.load(Ordering::Relaxed) {
                return (answers, None);
            }
            match self.put_row(&offered).await {
                Ok(written) => answers.push((offered.index, written)),
                Err(failed) => {
                    stopped.store(true, Ordering::Relaxed);
                    return (answers, Some(failed));
                }
            }
        }
        (answers, None)
    }

    async fn put_row(&self, Offered { row, place, .. }: &Offered) -> Result<Written, Failed> {
        let table = self.name(place.table);
        let expires_at = self.expires_at(row.key.subject.kind, row.folded_on);
        let request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item::row(place, row, expires_at)))
            .condition_expression("attribute_not_exists(#t) OR #t < :t")
            .expression_attribute_names("#t", APPLIED_THROUGH)
            .expression_attribute_values(":t", item::position(row.applied_through))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let lost = PutItemError::is_conditional_check_failed_exception;
        let mut doubt = false;
        for _ in 0..LOST_TO_NOTHING_MAX {
            match call(self.pace, ("PutItem", table), lost, || request.clone().send()).await? {
                Answer::Done(answer) => {
                    self.meter.write(answer.consumed_capacity());
                    return Ok(Written::Stored);
                }
                Answer::Refused { error, after_doubt } => {
                    doubt |= after_doubt;
                    let standing = self.standing(place, &error).await;
                    let standing = standing.map_err(|failed| Failed { may_have_happened: doubt, ..failed })?;
                    match standing {
                        // One of this call's own tries is what stood in the way. A row of the fold is the same whoever made it; of the list of
                        // generations, whose position is a version, two may say different things.
                        Some((at, body)) if doubt && at == row.applied_through && body == row.body => {
                            return Ok(Written::Stored);
                        }
                        Some((at, _)) if at >= row.applied_through => return Ok(Written::Lost(at)),
                        // What it lost to has expired meanwhile.
                        _ => {}
                    }
                }
            }
        }
        Err(Failed { may_have_happened: doubt, why: format!("{} in table {table} comes and goes; again", row.key) })
    }

    /// The position and the body of the row that stood in the way. Not every emulator, and no service of before 2023, returns it.
    async fn standing(&self, place: &Place, error: &PutItemError) -> Result<Option<(SequenceNumber, Bytes)>, Failed> {
        // A body that cannot be read is no row of this call's.
        let read = |mut item: Item| {
            Some((item::read_position(&item, APPLIED_THROUGH)?, item::body(&mut item).unwrap_or_default()))
        };
        if let PutItemError::ConditionalCheckFailedException(failed) = error
            && let Some(standing) = failed.item().cloned().and_then(read)
        {
            return Ok(Some(standing));
        }
        Ok(self.get(place).await?.and_then(read))
    }
}
