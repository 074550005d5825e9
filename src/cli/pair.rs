//! Which stream and store a command means that are not in a data folder. Decides what was meant where options and environment say several things.

use clap::Args as ClapArgs;

use super::{Failure, set};

/// Stream and rows on AWS.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Pair {
    /// Stream on AWS, with the rows of --store: kinesis://NAME [env: WEIR_STREAM]. The data folder is then only a cache
    #[arg(long, value_name = "URL")]
    stream: Option<String>,
    /// Rows on AWS, of the stream of --stream: dynamodb://PREFIX, the beginning of the tables' names [env: WEIR_STORE]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Refuse where the stream or a table is missing, rather than make it
    #[arg(long)]
    no_create: bool,
}

/// What was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The stream, as it was given.
    pub stream: String,
    /// The rows, as they were given.
    pub store: String,
    /// What is missing may be made.
    pub create: bool,
}

impl Pair {
    /// One of the two was typed for this command.
    pub fn is_typed(&self) -> bool {
        self.stream.is_some() || self.store.is_some()
    }

    /// The pair that is meant; `None`: that of a data folder. What was typed comes before the environment.
    pub fn named(&self) -> Result<Option<Named>, Failure> {
        let of = |given: &Option<String>, variable| {
            let of_environment = || set(variable).map(|url| url.to_string_lossy().into_owned());
            given.clone().filter(|given| !given.is_empty()).or_else(of_environment)
        };
        let create = !self.no_create;
        match (of(&self.stream, "WEIR_STREAM"), of(&self.store, "WEIR_STORE")) {
            (Some(stream), Some(store)) => Ok(Some(Named { stream, store, create })),
            (None, None) if self.is_typed() => {
                Err(Failure::new("--stream and --store are empty: give both, or neither"))
            }
            (None, None) if self.no_create => Err(Failure::new(
                "--no-create is for a pair on AWS: give --stream kinesis://NAME --store dynamodb://PREFIX, or leave it out",
            )),
            (None, None) => Ok(None),
            (Some(stream), None) => Err(Failure::new(format!(
                "the stream is {stream}, and nothing says where its rows are: give --store dynamodb://PREFIX too (or WEIR_STORE)"
            ))),
            (None, Some(store)) => Err(Failure::new(format!(
                "the rows are {store}, and nothing says of which stream: give --stream kinesis://NAME too (or WEIR_STREAM)"
            ))),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {}", self.stream, self.store)
    }
}
