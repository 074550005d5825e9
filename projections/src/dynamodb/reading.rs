//! How far objects are that readers without a disk put onto the stream: a readers' list (law 1) of those that are read for longer than one call.
//! Decides nothing that counts: an object is known to the stream by what it is, so who finds no entry reads it from its first byte, and all that is there
//! already is a duplicate. An entry saves that, and tells whether more may be on the stream than it says.
//!
//! | step | the entry | at the same time, and twice |
//! | --- | --- | --- |
//! | a reader begins, before its first append | stands, and names the reader as under way | each names itself; once more changes nothing |
//! | some of it is durable | its end grows | the highest stays |
//! | the reader ends, and knows what became of all that it has sent | as before, and the reader is not named any more | the others still are |
//! | the reader dies, or does not know | the reader stays named: bytes behind the end may be on the stream | |
//! | it is read to its end | says so for good, and names nobody | whoever is still on it appends duplicates |
//!
//! Entries expire (TTL) some days after the last of this, which is longer than a queue keeps a message.

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValue},
};
use events::identity::Origin;

use super::{
    DAY_SECS, DynamoDb,
    call::{Answer, Failed, call},
    item::{self, EXPIRES_AT, Item, NAME},
    layout::{Place, Sort, Table},
};
use crate::store::{ReadError, WriteError};

/// First byte that is not known to be durable, or `READ_WHOLE`.
const END: &str = "End";
const READ_WHOLE: u64 = u64::MAX;
/// Readers that have not said how they ended.
const UNDER_WAY: &str = "UnderWay";
/// SQS keeps a message for 14 days at most (quotas page).
const KEPT_DAYS: i64 = 15;

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// All before this byte, after decompression, is durable on the stream.
    Byte(u64),
    /// All of it is.
    End,
}

/// An object's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How far it is at least.
    pub reached: Reached,
    /// Readers that have not said how they ended: bytes behind may be on the stream too.
    pub under_way: Vec<String>,
}

/// No row's partition: these have a number or a day where this has a word.
fn place(tenant: &str, object: &Origin) -> Place {
    let partition = format!("{tenant}/objects being read/{}/object/{}", object.name, tenant.len());
    // A key is never empty.
    Place { table: Table::State, partition, sort: Sort::Bytes([b"=", object.version.as_bytes()].concat()) }
}

fn entry(item: &Item) -> Entry {
    let reached = match item::read_number(item, END) {
        Some(READ_WHOLE) => Reached::End,
        end => Reached::Byte(end.unwrap_or(0)),
    };
    let under_way = item.get(UNDER_WAY).and_then(|names| names.as_ss().ok()).cloned().unwrap_or_default();
    Entry { reached, under_way }
}

impl DynamoDb {
    /// A reader begins. How far the object is; `End`: nothing is to be done. Called again by the same reader: the same.
    pub async fn begin_object(&self, tenant: &str, object: &Origin, reader: &str) -> Result<Reached, WriteError> {
        let request = self
            .entry_update(tenant, object, "SET #end = if_not_exists(#end, :zero), #x = :x, #n = :n ADD #r :me")
            .condition_expression("attribute_not_exists(#end) OR #end < :whole")
            .expression_attribute_names("#n", NAME)
            .expression_attribute_names("#r", UNDER_WAY)
            .expression_attribute_values(":n", item::text(object.to_string()))
            .expression_attribute_values(":zero", item::number(0))
            .expression_attribute_values(":whole", item::number(READ_WHOLE))
            .expression_attribute_values(":me", AttributeValue::Ss(vec![reader.to_owned()]))
            .return_values(ReturnValue::AllOld);
        let old = self.update_entry(self.expiring(request)).await?;
        Ok(old.map_or(Reached::End, |item| entry(&item).reached))
    }

    /// The entry of an object; `None`: nobody has begun, or it has expired.
    pub async fn object(&self, tenant: &str, object: &Origin) -> Result<Option<Entry>, ReadError> {
        Ok(self.get(&place(tenant, object)).await?.as_ref().map(entry))
    }

    /// All before `end` is durable.
    pub async fn object_is_durable(&self, tenant: &str, object: &Origin, end: u64) -> Result<(), WriteError> {
        let request = self
            .entry_update(tenant, object, "SET #end = :end, #x = :x")
            .condition_expression("#end < :end")
            .expression_attribute_values(":end", item::number(end));
        // Whoever is further, or has read it to its end, is right.
        self.update_entry(self.expiring(request)).await.map(drop).map_err(WriteError::from)
    }

    /// A reader has ended, all before `end` is durable, and nothing that it has sent lies behind.
    pub async fn leave_object(&self, tenant: &str, object: &Origin, reader: &str, end: u64) -> Result<(), WriteError> {
        self.object_is_durable(tenant, object, end).await?;
        let request = self
            .entry_update(tenant, object, "DELETE #r :me")
            .condition_expression("attribute_exists(#end)")
            .expression_attribute_names("#r", UNDER_WAY)
            .expression_attribute_values(":me", AttributeValue::Ss(vec![reader.to_owned()]));
        self.update_entry(request).await.map(drop).map_err(WriteError::from)
    }

    /// It is read to its end, and all of it is durable.
    pub async fn finish_object(&self, tenant: &str, object: &Origin) -> Result<(), WriteError> {
        let request = self
            .entry_update(tenant, object, "SET #end = :end, #x = :x REMOVE #r")
            .expression_attribute_names("#r", UNDER_WAY)
            .expression_attribute_values(":end", item::number(READ_WHOLE));
        self.update_entry(self.expiring(request)).await.map(drop).map_err(WriteError::from)
    }

    fn entry_update(&self, tenant: &str, object: &Origin, update: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(self.name(Table::State))
            .set_key(Some(item::key(&place(tenant, object))))
            .update_expression(update)
            .expression_attribute_names("#end", END)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    fn expiring(&self, request: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
        let at = (i64::from((self.today)().0) + KEPT_DAYS + 1) * DAY_SECS;
        request.expression_attribute_names("#x", EXPIRES_AT).expression_attribute_values(":x", item::number(at))
    }

    /// What was asked of the item, if anything; `None`: the condition does not hold.
    async fn update_entry(&self, request: UpdateItemFluentBuilder) -> Result<Option<Item>, Failed> {
        let refused = UpdateItemError::is_conditional_check_failed_exception;
        let what = ("UpdateItem", self.name(Table::State));
        match call(self.pace, what, refused, || request.clone().send()).await? {
            Answer::Done(answer) => {
                self.meter.write(answer.consumed_capacity());
                Ok(Some(answer.attributes.unwrap_or_default()))
            }
            Answer::Refused { .. } => Ok(None),
        }
    }
}
