//! `weir keep`: for how long rows on AWS are kept. One value of the pair, which each of its processes reads, so none has an option of its own.

use super::{Answer, Failure, Keep};

/// Runs the command.
pub async fn run(options: Keep) -> Result<Answer, Failure> {
    let Some(pair) = options.of.pair()? else {
        return Err(Failure::new(
            "everything is kept in a data folder; rows on AWS can be kept for some days: give --stream kinesis://NAME --store dynamodb://PREFIX",
        ));
    };
    on_aws(options, &pair).await
}

#[cfg(feature = "aws")]
async fn on_aws(options: Keep, pair: &super::Named) -> Result<Answer, Failure> {
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
async fn on_aws(options: Keep, pair: &super::Named) -> Result<Answer, Failure> {
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
