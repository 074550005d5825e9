//! `weir keep`: for how long rows on AWS are kept. One value of the pair, which each of its processes reads, so none has an option of its own.

use super::{Answer, Failure, Where};

/// Thirty years.
const KEEP_DAYS_MAX: u16 = 10_950;

/// Days for which rows are kept; `None`: for as long as the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeepTime(Option<u16>);

/// `forever`, or days.
fn keep_time(text: &str) -> Result<KeepTime, String> {
    let days =
        text.strip_suffix('d').and_then(|days| days.parse().ok()).filter(|days| (1..=KEEP_DAYS_MAX).contains(days));
    match (text, days) {
        ("forever", _) => Ok(KeepTime(None)),
        (_, Some(days)) => Ok(KeepTime(Some(days))),
        _ => Err(format!("give days, such as 400d, at least 1d and at most {KEEP_DAYS_MAX}d, or forever")),
    }
}

/// Options of `weir keep`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// From now on: days, such as 400d, or forever. Without it, only what is in force is said
    #[arg(value_name = "TIME", value_parser = keep_time)]
    time: Option<KeepTime>,
    #[command(flatten)]
    of: Where,
}

/// Runs the command.
pub async fn run(options: Args) -> Result<Answer, Failure> {
    let Some(pair) = options.of.pair()? else {
        return Err(Failure::new(
            "everything is kept in a data folder; rows on AWS can be kept for some days: give --stream kinesis://NAME --store dynamodb://PREFIX",
        ));
    };
    on_aws(options, &pair).await
}

#[cfg(feature = "aws")]
async fn on_aws(options: Args, pair: &super::pair::Named) -> Result<Answer, Failure> {
    let named = weir::aws::Pair::parse(&pair.stream, &pair.store).map_err(|error| Failure::of(&error))?;
    let kept = named.keep(options.time.map(|time| time.0), pair.create).await.map_err(|error| Failure::of(&error))?;
    let changes = options.time.is_some();
    super::output::say(&match kept.days {
        None => "rows are kept for as long as the tables".to_owned(),
        Some(days) => format!(
            "rows are kept for {days} days after they were last folded into, and what is known of lines that were read for {}",
            2 * u32::from(days)
        ),
    })?;
    if changes {
        super::output::say(
            "running processes know within ten minutes; rows that stand in the tables already keep the time they were written with, or none: those past \
             it are shown to nobody",
        )?;
    }
    kept.wrong.iter().for_each(|wrong| eprintln!("warning: {wrong}"));
    Ok(Answer::Yes)
}

#[cfg(not(feature = "aws"))]
async fn on_aws(options: Args, pair: &super::pair::Named) -> Result<Answer, Failure> {
    let _ = options.time.map(|time| time.0);
    super::elsewhere::open(
        pair,
        std::path::Path::new(""),
        super::elsewhere::How::default(),
        super::client::Purpose::Read,
    )
    .await
    .map(|_| Answer::Yes)
}
