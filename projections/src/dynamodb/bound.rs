//! Which stream the tables belong to: one item names it. Shards of two streams have the same names, so without it the rows and resume points of one would
//! pass for the other's. It never changes the name that stands.

use aws_sdk_dynamodb::{operation::put_item::PutItemError, types::ReturnConsumedCapacity};

use super::{
    DynamoDb, OpenError,
    call::{Answer, Failed, TRIES_MAX, call},
    item::{self, STREAM},
    keep::{self, PARTITION},
    layout::{Place, Sort, Table},
};

impl DynamoDb {
    /// Binds the tables to a stream for good, or refuses them if they are another's. `stream`: what tells it from every other, and from one that was
    /// deleted and made again under its name, such as its ARN and the time of its creation. From then on it is known how long rows are kept.
    pub async fn bind(&self, stream: &str) -> Result<(), OpenError> {
        let place =
            Place { table: Table::Checkpoints, partition: PARTITION.into(), sort: Sort::Text(PARTITION.into()) };
        for _ in 0..TRIES_MAX {
            // One request for both: whoever binds them writes rows, or hides those past their time.
            let found = self.read_batch(vec![place.clone(), keep::place()]).await?;
            let item_of = |wanted: &Place| found.iter().find(|(place, _)| place == wanted).map(|(_, item)| item);
            if let Some(item) = item_of(&place) {
                let holds = item.get(STREAM).and_then(|holds| holds.as_s().ok()).map_or("", String::as_str);
                if holds == stream {
                    self.learn_keep(item_of(&keep::place()));
                    return Ok(());
                }
                return Err(OpenError::OtherStream {
                    prefix: self.state.strip_suffix("-state").unwrap_or_default().to_owned(),
                    holds: holds.to_owned(),
                    asked: stream.to_owned(),
                });
            }
            // Once more around, whoever put it.
            self.put_stream(&place, stream).await?;
        }
        Err(OpenError::Failed(format!("the name of the stream in table {} comes and goes; again", self.checkpoints)))
    }

    async fn put_stream(&self, place: &Place, stream: &str) -> Result<(), Failed> {
        let table = self.name(Table::Checkpoints);
        let mut item = item::key(place);
        item.insert(STREAM.to_owned(), item::text(stream));
        let request = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#s)")
            .expression_attribute_names("#s", STREAM)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let stands = PutItemError::is_conditional_check_failed_exception;
        if let Answer::Done(answer) = call(self.pace, ("PutItem", table), stands, || request.clone().send()).await? {
            self.meter.write(answer.consumed_capacity());
        }
        Ok(())
    }
}
