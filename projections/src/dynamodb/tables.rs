//! The tables: found, made where they may be, and waited for. Of a table that it did not make it changes nothing but TTL that is off, and that only where
//! it may make tables.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    operation::{create_table::CreateTableError, describe_table::DescribeTableError},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType, Projection,
        ProjectionType, ScalarAttributeType, TableDescription, TableStatus, Tag, TimeToLiveSpecification,
        TimeToLiveStatus,
    },
};

use super::{
    DynamoDb,
    call::{Answer, Failed, call, done},
    item::{EXPIRES_AT, TIME_BUCKET},
    layout::Table,
};

/// Name of the index of `ApplicationMetrics`.
pub(super) const TIMESTAMP_INDEX: &str = "TimestampIndex";
/// One try of a request may take so long: a page of a megabyte takes less.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A new table is looked at so often before it is given up, and so long apart: five minutes together.
const LOOKS_MAX: u32 = 310;
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_MOST: Duration = Duration::from_secs(1);

/// What to do about missing tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Make them, paid by request.
    Missing,
    /// Refuse: who describes tables elsewhere (Terraform) wants none that is not described.
    Refuse,
}

/// The store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A prefix that no table's name can begin with.
    #[error(
        "`{prefix}` cannot begin the names of tables: they consist of letters, digits, `_`, `-` and `.`, and have at most 255 characters, so it has 1 to 236"
    )]
    Prefix {
        /// The prefix.
        prefix: String,
    },
    /// Creation was refused.
    #[error("there are no DynamoDB tables {} in this account and region", .tables.join(", "))]
    Missing {
        /// Their names.
        tables: Vec<String>,
    },
    /// It was not made for this.
    #[error("table {table} is not one of this program's: {found}; choose another prefix")]
    Foreign {
        /// The table.
        table: String,
        /// What is different.
        found: String,
    },
    /// They hold rows of another stream.
    #[error(
        "the tables of prefix {prefix} hold rows of the stream `{holds}`, and this is the stream `{asked}`; choose another prefix for it, or delete these three tables if their rows are not needed any more"
    )]
    OtherStream {
        /// The prefix.
        prefix: String,
        /// Whose rows they hold.
        holds: String,
        /// Whose rows were to be written.
        asked: String,
    },
    /// A request failed.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("table {table} is still {status} after five minutes; try again later, or see why in the DynamoDB console")]
    NotActive {
        /// The table.
        table: String,
        /// Its status.
        status: String,
    },
}

impl From<Failed> for OpenError {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed.why)
    }
}

/// The same client, whose requests are tried once and not for ever.
pub(super) fn without_retries(client: &Client) -> Client {
    let limits = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).operation_attempt_timeout(ATTEMPT_MAX).build();
    let config = client.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(limits);
    Client::from_conf(config.build())
}

impl DynamoDb {
    /// The names of those that it made. A table that can be used is looked at once: that is what a function waits for before it does anything.
    pub(super) async fn open_tables(&self, create: Create) -> Result<Vec<String>, OpenError> {
        let prefix = self.state.strip_suffix("-state").unwrap_or_default();
        let fits = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !fits || prefix.is_empty() || self.metrics.len() > 255 {
            return Err(OpenError::Prefix { prefix: prefix.to_owned() });
        }
        let (mut missing, mut unready) = (vec![], vec![]);
        for table in Table::ALL {
            match self.described(table).await? {
                Some(described) if is_active(&described) => {}
                Some(_) => unready.push(table),
                None => missing.push(table),
            }
        }
        let names = |tables: &[Table]| tables.iter().map(|table| self.name(*table).to_owned()).collect();
        if create == Create::Refuse && !missing.is_empty() {
            return Err(OpenError::Missing { tables: names(&missing) });
        }
        for table in &missing {
            self.create(*table, prefix).await?;
        }
        for table in missing.iter().chain(&unready) {
            self.wait_for(*table).await?;
        }
        Ok(names(&missing))
    }

    /// Enables TTL where it is off, if tables may be made: whoever made these may have died before it. Tables on which it stays off, and why: rows of
    /// `keep` then stay until `expire` removes them.
    pub async fn see_to_expiry(&self, create: Create) -> Vec<String> {
        let mut without_expiry = vec![];
        for table in [Table::Metrics, Table::State] {
            if let Err(failed) = self.see_to_expiry_of(table, create).await {
                without_expiry.push(failed.why);
            }
        }
        without_expiry
    }

    async fn described(&self, table: Table) -> Result<Option<TableDescription>, OpenError> {
        let name = self.name(table);
        let missing = DescribeTableError::is_resource_not_found_exception;
        let request = self.client.describe_table().table_name(name);
        let described = match call(self.pace, ("DescribeTable", name), missing, || request.clone().send()).await? {
            Answer::Done(answer) => answer.table,
            Answer::Refused { .. } => None,
        };
        if let Some(described) = &described {
            check(table, name, described)?;
        }
        Ok(described)
    }

    async fn create(&self, table: Table, prefix: &str) -> Result<(), OpenError> {
        let name = self.name(table);
        let bad = |error: aws_sdk_dynamodb::error::BuildError| OpenError::Failed(error.to_string());
        let tag = Tag::builder().key("weir:store").value(prefix).build().map_err(bad)?;
        let mut request =
            self.client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest).tags(tag);
        for (attribute, is_text) in attributes(table) {
            let kind = if is_text { ScalarAttributeType::S } else { ScalarAttributeType::B };
            let defined = AttributeDefinition::builder().attribute_name(attribute).attribute_type(kind).build();
            request = request.attribute_definitions(defined.map_err(bad)?);
        }
        let key = |name: &str, kind: KeyType| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(bad)
        };
        let (partition, sort) = table.keys();
        request = request.key_schema(key(partition, KeyType::Hash)?).key_schema(key(sort, KeyType::Range)?);
        if table == Table::Metrics {
            let index = GlobalSecondaryIndex::builder()
                .index_name(TIMESTAMP_INDEX)
                .key_schema(key(TIME_BUCKET, KeyType::Hash)?)
                .key_schema(key(partition, KeyType::Range)?)
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
            request = request.global_secondary_indexes(index.build().map_err(bad)?);
        }
        // Somebody else may make it at the same time.
        let in_use = CreateTableError::is_resource_in_use_exception;
        call(self.pace, ("CreateTable", name), in_use, || request.clone().send()).await?;
        Ok(())
    }

    async fn wait_for(&self, table: Table) -> Result<(), OpenError> {
        let (mut status, mut wait) = (String::from("missing"), LOOK_FIRST);
        for _ in 0..LOOKS_MAX {
            if let Some(described) = self.described(table).await? {
                if is_active(&described) {
                    return Ok(());
                }
                status = described.table_status().map_or("of no status", |status| status.as_str()).to_owned();
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_MOST);
        }
        Err(OpenError::NotActive { table: self.name(table).to_owned(), status })
    }

    async fn see_to_expiry_of(&self, table: Table, create: Create) -> Result<(), Failed> {
        let name = self.name(table);
        let request = self.client.describe_time_to_live().table_name(name);
        let answer = done(self.pace, ("DescribeTimeToLive", name), || request.clone().send()).await?;
        let described = answer.time_to_live_description;
        let attribute = described.as_ref().and_then(|described| described.attribute_name());
        match described.as_ref().and_then(|described| described.time_to_live_status()) {
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) if attribute == Some(EXPIRES_AT) => Ok(()),
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => Err(Failed::before(format!(
                "TTL of table {name} goes by {}, not by {EXPIRES_AT}; change it in the DynamoDB console",
                attribute.unwrap_or("no attribute")
            ))),
            _ if create == Create::Refuse => Err(Failed::before(format!(
                "TTL of table {name} is off; enable it on {EXPIRES_AT}, where the table is described"
            ))),
            _ => self.enable_expiry(table).await,
        }
    }

    async fn enable_expiry(&self, table: Table) -> Result<(), Failed> {
        let name = self.name(table);
        let what = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES_AT).build();
        let what = what.map_err(|error| Failed::before(error.to_string()))?;
        let request = self.client.update_time_to_live().table_name(name).time_to_live_specification(what);
        done(self.pace, ("UpdateTimeToLive", name), || request.clone().send()).await.map(|_| ())
    }
}

/// It can be read and written, and so can its index.
fn is_active(described: &TableDescription) -> bool {
    let mut indexes = described.global_secondary_indexes().iter();
    described.table_status() == Some(&TableStatus::Active)
        && indexes.all(|index| index.index_status().is_none_or(|status| *status == IndexStatus::Active))
}

/// Attributes that are keys, and whether they are text.
fn attributes(table: Table) -> Vec<(&'static str, bool)> {
    let (partition, sort) = table.keys();
    let mut attributes = vec![(partition, true), (sort, table.sorts_text())];
    if table == Table::Metrics {
        attributes.push((TIME_BUCKET, true));
    }
    attributes
}

fn check(table: Table, name: &str, described: &TableDescription) -> Result<(), OpenError> {
    let foreign = |found: String| Err(OpenError::Foreign { table: name.to_owned(), found });
    let (partition, sort) = table.keys();
    let keys: Vec<&str> = described.key_schema().iter().map(|key| key.attribute_name()).collect();
    if keys != [partition, sort] {
        return foreign(format!("its keys are {}, not {partition} and {sort}", keys.join(" and ")));
    }
    for (attribute, is_text) in attributes(table) {
        let wanted = if is_text { ScalarAttributeType::S } else { ScalarAttributeType::B };
        let mut defined = described.attribute_definitions().iter();
        if let Some(found) = defined.find(|defined| defined.attribute_name() == attribute)
            && *found.attribute_type() != wanted
        {
            return foreign(format!("{attribute} is of type {}, not {wanted}", found.attribute_type()));
        }
    }
    Ok(())
}
