//! What a function is told by its environment. Decides nothing but which variables there are; account, region and endpoints are the SDK's.
//!
//! | variable | what |
//! | --- | --- |
//! | `WEIR_STREAM` | `kinesis://NAME`, as everywhere |
//! | `WEIR_STORE` | `dynamodb://PREFIX`, as everywhere |
//! | `WEIR_SERVICE` | S3's notifications: the service of lines that name none, instead of the one that their object's name tells |
//! | `WEIR_TOKENS` | api: the text of a file of tokens, a line `TENANT TOKEN` for each credential |
//! | `WEIR_TOKENS_FILE` | api: the path of such a file in the function's package or in a layer, instead |
//! | `WEIR_BASE_PATH` | api: what stands before the routes where a custom domain has a base path, such as `/weir` |

use std::{path::PathBuf, sync::Arc};

use weir::{
    System,
    aws::{FAILOVER, OpenError, Options, Pair, Role, announced::Announced},
};

/// The function cannot work as it was deployed.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// A variable is not set.
    #[error("the variable {name} is not set: give the function {form}")]
    Missing {
        /// Which.
        name: &'static str,
        /// What it holds.
        form: &'static str,
    },
    /// The pair cannot be opened.
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    /// The list of tokens cannot be read.
    #[error("the file of tokens {path}, which WEIR_TOKENS_FILE names, cannot be read: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The list of tokens holds what no list may.
    #[error("{place}: {source}")]
    Tokens {
        /// Which of the two.
        place: &'static str,
        /// The cause, which shows nothing of a line.
        source: api::access::BadAccess,
    },
}

/// A variable; one that is empty is not set.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn needed(name: &'static str, form: &'static str) -> Result<String, BadSettings> {
    set(name).ok_or(BadSettings::Missing { name, form })
}

fn stream() -> Result<String, BadSettings> {
    needed("WEIR_STREAM", "kinesis://NAME with the name of the stream")
}

/// The stream onto which announced objects go, where it is kept how far they are, and buckets. No rows of metrics are looked at.
pub async fn announced() -> Result<Announced, BadSettings> {
    Ok(Announced::open(&pair()?, set("WEIR_SERVICE")).await.map_err(Box::new)?)
}

/// The pair that the environment names.
pub fn pair() -> Result<Pair, BadSettings> {
    let stream = stream()?;
    let store = needed("WEIR_STORE", "dynamodb://PREFIX with the beginning of the tables' names")?;
    Ok(Pair::parse(&stream, &store).map_err(Box::new)?)
}

/// Opens the pair, without threads. What is missing is refused: a function is deployed beside its tables, and may not make any.
pub async fn open() -> Result<Arc<System>, BadSettings> {
    let options = Options { create: false, shards: None, role: Role::Reader, failover: FAILOVER, fan_out: false };
    // The only folder that a function can write to. Nothing of value is put there.
    let cache = std::env::temp_dir().join("weir");
    let system = System::open_on_aws(&pair()?, options, &cache, |_| {}).await.map_err(Box::new)?;
    Ok(Arc::new(system))
}

/// Who may ask the API: whoever has a token. A function has an address that all the world can reach, so that none is served without.
pub fn access() -> Result<api::Access, BadSettings> {
    let (place, text) = match (set("WEIR_TOKENS"), set("WEIR_TOKENS_FILE").map(PathBuf::from)) {
        (Some(text), _) => ("the variable WEIR_TOKENS", text),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path).map_err(|source| BadSettings::File { path, source })?;
            ("the file that WEIR_TOKENS_FILE names", text)
        }
        (None, None) => {
            let form = "a line `TENANT TOKEN` for each client, or WEIR_TOKENS_FILE with the path of a file of them in the package";
            return Err(BadSettings::Missing { name: "WEIR_TOKENS", form });
        }
    };
    api::Access::tokens(&text).map_err(|source| BadSettings::Tokens { place, source })
}

/// What stands before the routes, without a slash at its end.
pub fn base_path() -> String {
    let base = set("WEIR_BASE_PATH").unwrap_or_default();
    let base = base.trim_matches('/');
    if base.is_empty() { String::new() } else { format!("/{base}") }
}
