//! `weir promote`: from now on this generation counts. To go back is the same with the other's name.

use bytes::Bytes;
use hyper::Method;

use super::{
    Answer, Failure, Where,
    client::{Client, Purpose, escaped},
    held_up,
    output::say,
};

/// Options of `weir promote`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The generation
    #[arg(value_name = "NAME")]
    generation: String,
    /// One object instead of a sentence
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let client = Client::connect(&options.of, Purpose::Verify).await?;
    let path = format!("/promote?generation={}", escaped(&options.generation));
    let promoted = held_up::beside_answer(&client, client.json(Method::POST, &path, Bytes::new())).await;
    client.close().await?;
    let promoted = promoted?;
    if options.json {
        say(&promoted.to_string())?;
    } else if promoted["already"] == true {
        say(&format!("{} counts already: nothing was changed", options.generation))?;
    } else {
        let before = promoted["before"].as_str().unwrap_or("?");
        say(&format!(
            "{} counts; {before} is folded on for a day, and until then `weir promote {before}` goes back",
            options.generation
        ))?;
    }
    Ok(Answer::Yes)
}
