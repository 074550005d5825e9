//! The table of leases on DynamoDB, with the attribute names that the Kinesis Client Library uses, so that its tools can read it. Decides how a step of
//! the plan becomes a conditional write; never which step.
//!
//! | attribute | type | what |
//! | --- | --- | --- |
//! | `leaseKey` | S | partition key: the shard, or the name of a task |
//! | `leaseOwner` | S | the worker; absent: nobody |
//! | `leaseCounter` | N | grows with each renewal and change of owner; every write is on condition of it |
//! | `checkpoint` | S | `TRIM_HORIZON`, a sequence number, or `SHARD_END`. For people and tools: the resume point is in the store, with its rows |
//! | `checkpointSubSequenceNumber` | N | 0: resume points stand between records |
//! | `ownerSwitchesSinceCheckpoint` | N | grows with each change of owner, 0 after a checkpoint |
//! | `parentShardId`, `childShardIds` | SS | lineage; absent without any, and before the shard's end |
//! | `startingHashKey`, `endingHashKey` | S | decimal |
//! | `entityType` | S | of a task: `WEIR_TASK`, which the library passes over as it does with its own rows of other kinds; absent: a lease of a shard |
//! | `weirWantedThrough` | S | ours: a sequence number up to which somebody in another process waits for rows; absent: nobody |
//!
//! The table is small (a row a shard) and read whole, consistently, by each worker every few seconds: for 100 shards some 5 read units, where one renewal
//! of each costs 100 write units. A write whose answer was lost may be tried again by the SDK and then lose to itself: the next reading shows whose the lease
//! is, so this is as harmless as losing.

use std::{error::Error, fmt::Debug, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
        Tag,
    },
};
use events::{
    position::{SequenceNumber, ShardId},
    sdk,
    stream::Shard,
};

use super::{Lease, Noted, Step};

/// Most pages of one reading, each of up to 1 MB. Beyond: the reading fails.
const PAGES_MAX: usize = 100;
/// How often a table that is being made is looked at, and how often at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 240;
const SHARD_END: &str = "SHARD_END";
/// What a task's row says that it is.
const TASK: &str = "WEIR_TASK";

/// The table could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It does not exist, and is not to be made.
    #[error("there is no DynamoDB table {0} in this account and region")]
    Missing(String),
    /// A call failed.
    #[error("DynamoDB table {table} could not be {what}: {why}")]
    Failed {
        /// The table.
        table: String,
        /// Described, created, read, written.
        what: &'static str,
        /// The cause.
        why: String,
    },
}

/// The leases of one stream and one group of workers.
#[derive(Debug, Clone)]
pub struct Table {
    client: Client,
    name: String,
}

impl Table {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the table, or makes it (on demand, tagged) if it is missing and `create` says so; returns with whether it was made, once it can be used.
    pub async fn open(client: Client, name: &str, create: bool) -> Result<(Self, bool), TableError> {
        let table = Self { client, name: name.to_owned() };
        let mut created = false;
        for _ in 0..LOOKS_MAX {
            match table.client.describe_table().table_name(name).send().await {
                Ok(answer) => {
                    let status = answer.table.and_then(|table| table.table_status);
                    if matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
                        return Ok((table, created));
                    }
                }
                Err(error) if error.code() != Some("ResourceNotFoundException") => {
                    return Err(table.failed("described", &error));
                }
                Err(_) if !create => return Err(TableError::Missing(name.to_owned())),
                Err(_) if created => {}
                Err(_) => {
                    created = table.create().await?;
                    continue;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(TableError::Failed { table: table.name, what: "used", why: "it did not become active".to_owned() })
    }

    /// False: somebody else made it meanwhile.
    async fn create(&self) -> Result<bool, TableError> {
        let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build();
        let attribute =
            AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S);
        let tag = Tag::builder().key("created-by").value("weir").build();
        let call = self
            .client
            .create_table()
            .table_name(&self.name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key.expect("a key with name and type is complete"))
            .attribute_definitions(attribute.build().expect("an attribute with name and type is complete"))
            .tags(tag.expect("a tag with key and value is complete"));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(self.failed("created", &error)),
        }
    }

    /// All leases. Rows of other kinds, which newer libraries keep in the same table, are passed over.
    pub async fn read(&self) -> Result<Vec<Lease>, TableError> {
        let (mut leases, mut from) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let call = self.client.scan().table_name(&self.name).consistent_read(true).set_exclusive_start_key(from);
            let answer = call.send().await.map_err(|error| self.failed("read", &error))?;
            leases.extend(answer.items.unwrap_or_default().iter().filter_map(lease));
            from = answer.last_evaluated_key;
            if from.is_none() {
                return Ok(leases);
            }
        }
        let why = format!("it has more than {PAGES_MAX} pages");
        Err(TableError::Failed { table: self.name.clone(), what: "read", why })
    }

    /// Carries a step out. False: the row was not as it was read, and nothing was changed.
    pub async fn carry_out(&self, me: &str, step: &Step) -> Result<bool, TableError> {
        match step {
            Step::Create(shard) => self.put(shard).await,
            Step::CreateTask(task) => self.put_task(task).await,
            Step::Renew(lease) => self.renew(lease, None).await,
            Step::Take { lease, .. } => {
                let update = "SET leaseOwner = :me, leaseCounter = :next ADD ownerSwitchesSinceCheckpoint :one";
                let me = AttributeValue::S(me.to_owned());
                let next = (":next", number(lease.counter + 1));
                self.write(lease, update, vec![(":me", me), next, (":one", number(1))]).await
            }
            Step::End { lease, children } => self.end(lease, children).await,
            Step::Remove(lease) | Step::Lose(lease) => {
                let call = self.client.delete_item().table_name(&self.name).key("leaseKey", key(&lease.shard));
                let call = call.condition_expression("leaseCounter = :counter");
                self.won(call.expression_attribute_values(":counter", number(lease.counter)).send().await)
            }
        }
    }

    /// Keeps a lease, and notes how far its owner has come, if that is new. False: the lease is another's by now.
    pub async fn renew(&self, lease: &Lease, through: Option<SequenceNumber>) -> Result<bool, TableError> {
        let next = (":next", number(lease.counter + 1));
        let Some(through) = through else { return self.write(lease, "SET leaseCounter = :next", vec![next]).await };
        let mut update =
            "SET leaseCounter = :next, checkpoint = :checkpoint, ownerSwitchesSinceCheckpoint = :zero".to_owned();
        if lease.wanted <= through {
            update.push_str(" REMOVE weirWantedThrough");
        }
        let checkpoint = (":checkpoint", AttributeValue::S(through.to_string()));
        self.write(lease, &update, vec![next, checkpoint, (":zero", number(0))]).await
    }

    async fn end(&self, lease: &Lease, children: &[ShardId]) -> Result<bool, TableError> {
        let mut update = "SET leaseCounter = :next, checkpoint = :end, ownerSwitchesSinceCheckpoint = :zero".to_owned();
        let end = (":end", AttributeValue::S(SHARD_END.to_owned()));
        let mut values = vec![(":next", number(lease.counter + 1)), end, (":zero", number(0))];
        if !children.is_empty() {
            update.push_str(", childShardIds = :children");
            values.push((":children", AttributeValue::Ss(children.iter().map(|id| id.as_str().to_owned()).collect())));
        }
        update.push_str(" REMOVE leaseOwner, weirWantedThrough");
        self.write(lease, &update, values).await
    }

    /// Tells a shard's owner that somebody waits until its rows can be read up to here. Of two who want something one may be forgotten: who waits looks,
    /// and asks again. False: there is no such row any more.
    pub async fn want(&self, shard: &ShardId, through: SequenceNumber) -> Result<bool, TableError> {
        let call = self.client.update_item().table_name(&self.name).key("leaseKey", key(shard));
        let call = call
            .update_expression("SET weirWantedThrough = :through")
            .condition_expression("attribute_exists(leaseKey)")
            .expression_attribute_values(":through", AttributeValue::S(through.to_string()));
        self.won(call.send().await)
    }

    /// Gives a lease back, so that nobody waits for its owner to be silent, and notes how far it has come. False: it was another's already.
    pub async fn release(&self, lease: &Lease, through: Option<SequenceNumber>) -> Result<bool, TableError> {
        let mut update = "SET leaseCounter = :next".to_owned();
        let mut values = vec![(":next", number(lease.counter + 1))];
        if let Some(through) = through {
            update.push_str(", checkpoint = :checkpoint, ownerSwitchesSinceCheckpoint = :zero");
            values.extend([(":checkpoint", AttributeValue::S(through.to_string())), (":zero", number(0))]);
        }
        update.push_str(" REMOVE leaseOwner");
        self.write(lease, &update, values).await
    }

    async fn put(&self, shard: &Shard) -> Result<bool, TableError> {
        let mut call = self
            .client
            .put_item()
            .table_name(&self.name)
            .item("leaseKey", key(&shard.id))
            .item("leaseCounter", number(0))
            .item("checkpoint", AttributeValue::S("TRIM_HORIZON".to_owned()))
            .item("checkpointSubSequenceNumber", number(0))
            .item("ownerSwitchesSinceCheckpoint", number(0))
            .item("startingHashKey", AttributeValue::S(shard.range.from.0.to_string()))
            .item("endingHashKey", AttributeValue::S(shard.range.through.0.to_string()));
        if !shard.parents.is_empty() {
            let parents = shard.parents.iter().map(|parent| parent.as_str().to_owned()).collect();
            call = call.item("parentShardId", AttributeValue::Ss(parents));
        }
        self.won(call.condition_expression("attribute_not_exists(leaseKey)").send().await)
    }

    async fn put_task(&self, task: &ShardId) -> Result<bool, TableError> {
        let call = self.client.put_item().table_name(&self.name).item("leaseKey", key(task));
        let call = call.item("leaseCounter", number(0)).item("entityType", AttributeValue::S(TASK.to_owned()));
        self.won(call.condition_expression("attribute_not_exists(leaseKey)").send().await)
    }

    /// An update on condition that owner and counter are as they were read.
    async fn write(
        &self,
        lease: &Lease,
        update: &str,
        values: Vec<(&str, AttributeValue)>,
    ) -> Result<bool, TableError> {
        let mut call = self.client.update_item().table_name(&self.name).key("leaseKey", key(&lease.shard));
        call = call.update_expression(update).expression_attribute_values(":counter", number(lease.counter));
        for (name, value) in values {
            call = call.expression_attribute_values(name, value);
        }
        call = match &lease.owner {
            Some(owner) => call
                .condition_expression("leaseCounter = :counter AND leaseOwner = :owner")
                .expression_attribute_values(":owner", AttributeValue::S(owner.clone())),
            None => call.condition_expression("leaseCounter = :counter AND attribute_not_exists(leaseOwner)"),
        };
        self.won(call.send().await)
    }

    fn won<T, E, R>(&self, answer: Result<T, SdkError<E, R>>) -> Result<bool, TableError>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Debug + 'static,
        SdkError<E, R>: ProvideErrorMetadata,
    {
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(self.failed("written", &error)),
        }
    }

    fn failed<E, R>(&self, what: &'static str, error: &SdkError<E, R>) -> TableError
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Debug + 'static,
    {
        let why = match (sdk::credentials(error), error.as_service_error()) {
            (Some(why), _) => format!("there are no usable AWS credentials: {why}"),
            (None, Some(refused)) => sdk::said(refused.code().unwrap_or("no code"), refused.message()),
            (None, None) => sdk::chain(error),
        };
        TableError::Failed { table: self.name.clone(), what, why }
    }
}

fn key(shard: &ShardId) -> AttributeValue {
    AttributeValue::S(shard.as_str().to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// `None`: another kind of row.
fn lease(item: &std::collections::HashMap<String, AttributeValue>) -> Option<Lease> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    if text("entityType").is_some_and(|kind| kind != "LEASE" && kind != TASK) {
        return None;
    }
    Some(Lease {
        shard: ShardId::named(&text("leaseKey")?),
        owner: text("leaseOwner"),
        counter: item.get("leaseCounter")?.as_n().ok()?.parse().ok()?,
        noted: match text("checkpoint") {
            Some(end) if end == SHARD_END => Noted::End,
            Some(text) => text.parse().map_or(Noted::Nothing, Noted::Through),
            None => Noted::Nothing,
        },
        wanted: text("weirWantedThrough").and_then(|through| through.parse().ok()).unwrap_or(SequenceNumber::ZERO),
    })
}

#[cfg(test)]
mod tests;
