//! Parts of a snapshot as items of their own: put, read, found and removed. Decides nothing of which a resume point names.

use aws_sdk_dynamodb::{
    operation::{delete_item::DeleteItemError, put_item::PutItemError},
    types::ReturnConsumedCapacity,
};
use bytes::Bytes;
use events::position::{SequenceNumber, ShardId};
use futures_util::stream::{self, StreamExt};

use super::{
    super::{
        DynamoDb, READS_AT_ONCE_MAX, WRITES_AT_ONCE_MAX,
        call::{Answer, Failed, call},
        item::{self, POSITION},
        layout::{self, Place, Sort, Table},
        walk::{Bounds, Merged, Only},
    },
    part,
};
use crate::store::{Generation, PartName, ReadError};

/// Names of parts of a page.
const NAMES_AT_ONCE: usize = 1_000;

impl DynamoDb {
    /// Puts parts. One that stands already, from this commit or a later one of these names, is the same.
    pub(super) async fn put_parts(
        &self,
        (generation, shard): &(Generation, ShardId),
        at: SequenceNumber,
        parts: Vec<(PartName, Bytes)>,
    ) -> Result<(), Failed> {
        let table = self.name(Table::Checkpoints);
        let put = |(name, body): (PartName, Bytes)| async move {
            let item = item::part(&part(*generation, shard, &name), at, &body);
            let request = self
                .client
                .put_item()
                .table_name(table)
                .set_item(Some(item))
                .condition_expression("attribute_not_exists(#k) OR #k < :k")
                .expression_attribute_names("#k", POSITION)
                .expression_attribute_values(":k", item::text(item::position_text(at)))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let stands = PutItemError::is_conditional_check_failed_exception;
            if let Answer::Done(answer) = call(self.pace, ("PutItem", table), stands, || request.clone().send()).await?
            {
                self.meter.write(answer.consumed_capacity());
            }
            Ok(())
        };
        let mut putting = stream::iter(parts).map(put).buffer_unordered(WRITES_AT_ONCE_MAX);
        while let Some(put) = putting.next().await {
            put?;
        }
        Ok(())
    }

    /// Returns what could not be removed: nothing depends on it.
    pub(super) async fn remove_parts(
        &self,
        (generation, shard): &(Generation, ShardId),
        through: SequenceNumber,
        names: Vec<PartName>,
    ) -> Vec<PartName> {
        let table = self.name(Table::Checkpoints);
        let remove = |name: PartName| async move {
            let request = self
                .client
                .delete_item()
                .table_name(table)
                .set_key(Some(item::key(&part(*generation, shard, &name))))
                .condition_expression("#k <= :k")
                .expression_attribute_names("#k", POSITION)
                .expression_attribute_values(":k", item::text(item::position_text(through)))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let gone = DeleteItemError::is_conditional_check_failed_exception;
            match call(self.pace, ("DeleteItem", table), gone, || request.clone().send()).await {
                Ok(Answer::Done(answer)) => self.meter.write(answer.consumed_capacity()),
                Ok(Answer::Refused { .. }) => {}
                Err(_) => return Some(name),
            }
            None
        };
        let left: Vec<_> = stream::iter(names).map(remove).buffer_unordered(WRITES_AT_ONCE_MAX).collect().await;
        left.into_iter().flatten().collect()
    }

    /// The bodies of some parts, in their order; `None`: one is gone.
    pub(super) async fn read_parts(
        &self,
        (generation, shard): &(Generation, ShardId),
        names: &[PartName],
    ) -> Result<Option<Vec<Bytes>>, ReadError> {
        let places: Vec<Place> = names.iter().map(|name| part(*generation, shard, name)).collect();
        let read = |place: Place| async move { self.get(&place).await };
        let mut reading = stream::iter(places).map(read).buffered(READS_AT_ONCE_MAX);
        let mut bodies = Vec::with_capacity(names.len());
        while let Some(item) = reading.next().await {
            let Some(mut item) = item? else { return Ok(None) };
            let body = item::body(&mut item);
            bodies.push(body.map_err(|flaw| ReadError::Damaged(self.damaged(*generation, shard, flaw)))?);
        }
        Ok(Some(bodies))
    }

    /// The names of all parts of a shard, whether a resume point names them or not.
    pub(in crate::dynamodb) async fn part_names(
        &self,
        (generation, shard): &(Generation, ShardId),
    ) -> Result<Vec<PartName>, Failed> {
        let partitions = layout::part_partitions(*generation, shard);
        let only = Only {
            projection: Some("#p, #k".to_owned()),
            names: vec![("#k".into(), Table::Checkpoints.keys().1.into())],
            ..Only::default()
        };
        let mut parts = Merged::new(self, Table::Checkpoints, partitions, Bounds::default(), NAMES_AT_ONCE).only(only);
        let mut names = vec![];
        while let Some((sort, _)) = parts.next().await? {
            if let Sort::Text(name) = sort {
                names.push(PartName(name));
            }
        }
        Ok(names)
    }
}
