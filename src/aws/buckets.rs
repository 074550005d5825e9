//! A way to buckets, by the SDK's own configuration. Decides only how an endpoint that is not AWS's is asked.

use aws_sdk_s3::{Client, config::Builder};
use processor::s3::Bucket;

use super::{OpenError, configuration, place, whom};

/// Reaches buckets of one account.
#[derive(Debug, Clone)]
pub struct Buckets {
    client: Client,
    place: String,
}

impl Buckets {
    /// Finds region and credentials; asks no bucket.
    pub async fn open() -> Result<Self, OpenError> {
        let config = configuration().await?;
        // Behind another endpoint there is seldom a name for each bucket.
        let is_elsewhere = whom::endpoint(&config, "S3").is_some();
        let settings = Builder::from(&config).force_path_style(is_elsewhere).build();
        Ok(Self { client: Client::from_conf(settings), place: place(&config, "S3") })
    }

    /// The bucket of this name.
    pub fn named(&self, name: &str) -> Bucket {
        Bucket::new(self.client.clone(), name)
    }

    /// Region, and endpoint where it is not AWS's.
    pub fn place(&self) -> &str {
        &self.place
    }
}
